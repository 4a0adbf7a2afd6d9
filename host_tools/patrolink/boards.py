"""Boards: one folder each under boards/, described by a checked board.toml."""

import difflib
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from patrolink import home
from patrolink.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Feature = Literal["gps", "modem", "ptt", "camera", "buttons", "watchdog", "console"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Gps(_Strict):
    """The receiver's line."""

    baud: int = Field(gt=0, le=4_000_000)


class Image(_Strict):
    """A firmware image and the machine that QEMU emulates for it."""

    machine: str
    flash_kb: int = Field(ge=256, le=16_000)


class Board(_Strict):
    """A board.toml."""

    name: str = Field(pattern=r"^[a-z0-9_]{1,24}$")
    title: str
    runtime: Literal["micropython", "cpython"]
    hal: Literal["posix", "baremetal"]
    heap_kb: int | None = Field(default=None, ge=64, le=1_048_576)
    features: list[Feature]
    flash: Literal["none"]
    gps: Gps
    image: Image | None = None
    tools: dict[str, str] = Field(default_factory=dict)

    @property
    def emulated(self) -> str:
        """How it runs on this machine."""
        return f"QEMU {self.image.machine}, firmware in real time or lock-step" if self.image else "a process"

    def missing(self) -> list[str]:
        """Return the Debian packages of the tools that this board needs and this machine lacks."""
        return [package for command, package in self.tools.items() if shutil.which(command) is None]


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def explain(path: Path, error: ValidationError, known: list[str], example: str) -> str:
    """Return a line for each key that is wrong in the file at `path`: which, why, and what to do."""
    lines = []
    for e in error.errors():
        key = _key(e["loc"])
        if e["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(e["loc"][-1]), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(known)}"
            lines.append(f"{path}: {key}: unknown key; {hint}")
        elif e["type"] == "missing":
            lines.append(f"{path}: {key}: is missing; add it ({example} shows how)")
        elif e["type"] == "value_error":
            lines.append(f"{path}: {key}: {e['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(
                f"{path}: {key}: {e['msg'][0].lower()}{e['msg'][1:]}, but it is {e['input']!r}; mend the value"
            )
    return "\n".join(lines)


def load(path: Path) -> Board:
    """Return the checked board.toml at `path`; UserError names each key that is wrong and what it should be."""
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; boards are {', '.join(names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not TOML: {e}") from None
    try:
        return Board.model_validate(raw)
    except ValidationError as e:
        known = [*Board.model_fields, *Gps.model_fields, *Image.model_fields]
        raise UserError(explain(path, e, known, "boards/unix/board.toml")) from None


def names() -> list[str]:
    """Return the names of all boards."""
    return sorted(path.parent.name for path in (home.root() / "boards").glob("*/board.toml"))


def find(name: str) -> Board:
    """Return a board by name, or by the path of its board.toml."""
    if name.endswith(".toml"):
        return load(Path(name))
    board = load(home.root() / "boards" / name / "board.toml")
    if board.name != name:
        raise UserError(f"boards/{name}/board.toml: name: is {board.name!r}; it has to be the folder's, {name!r}")
    return board
