"""JSON from outside: every malformed document raises the same exception."""

import json
from typing import Any

_DEPTH_MAX = 100


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: It is not JSON, not text, or nested more than 100 levels deep.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Check that whoever walks through the value, to encode it for example, needs no deep stack.

    Raises:
        ValueError: It is nested more than 100 levels deep.
    """
    level = [value]
    for _ in range(_DEPTH_MAX + 1):
        inner = [item for item in level if isinstance(item, dict | list)]
        if not inner:
            return
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
    raise ValueError("nested too deeply")
