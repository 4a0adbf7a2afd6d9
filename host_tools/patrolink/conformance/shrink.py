"""Finds the shortest sequence of requests that a codec answers wrongly, and hands it over as a file.

A file has a request per line, in the order of the case; lines that begin with # are comments.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from patrolink.conformance.evidence import MalformedAnswerError, ask, parse_answer, tell
from patrolink.conformance.expect import mismatch
from patrolink.conformance.reference_session import ReferenceSession
from patrolink.conformance.testee.testee import Testee, TesteeFaultError
from patrolink.core.errors import UserError

_Item = TypeVar("_Item")
ATTEMPTS_MAX = 2000
_FILE_MAX_BYTES = 16 << 20
_LETTERS = "VFRSEBPU"


class Reply(NamedTuple):
    """What a codec answered to a request of a sequence.

    Attributes:
        request: The request.
        answer: Its answer; empty if it has none, or if the codec failed.
        fault: What is wrong with it; empty if nothing, or if the reference has no answer to compare with.
    """

    request: str
    answer: str
    fault: str


def shrink(
    items: Sequence[_Item], fails: Callable[[Sequence[_Item]], bool], attempts: int = ATTEMPTS_MAX
) -> list[_Item]:
    """Return a subsequence that still fails, and does not if any single item of it is left out.

    Halves, quarters and so on are left out first (delta debugging, Zeller and Hildebrandt, 2002), so that the number of
    attempts grows with the length of the result rather than with that of the input.

    Args:
        items: A sequence that fails.
        fails: Whether a sequence fails; it must depend on its argument only.
        attempts: Highest number of calls of `fails`; the shortest sequence so far is returned when they are used up.

    Raises:
        ValueError: The whole sequence does not fail.
    """
    current = list(items)
    if not fails(current):
        raise ValueError("the sequence does not fail")
    size = max(1, len(current) // 2)
    while current:
        start = 0
        removed = False
        while start < len(current):
            if attempts <= 0:
                return current
            attempts -= 1
            rest = current[:start] + current[start + size :]
            if fails(rest):
                current, removed = rest, True
            else:
                start += size
        if size == 1 and not removed:
            break
        size = max(1, size // 2)
    return current


def replies(lines: Sequence[str], testee: Testee) -> Iterator[Reply]:
    """Send requests to a fresh testee; yield its replies up to the first that is wrong, which is the last."""
    session = ReferenceSession()
    line = ""
    testee.start()
    try:
        testee.begin()
        for line in lines:
            expected = session.answer(line)
            if line.startswith("R "):
                testee.perform(tell(line))
                yield Reply(line, "", "")
                continue
            text = testee.perform(ask(line))[0].text
            got = parse_answer(text)
            got.pop("again", None)
            fault = mismatch(got, expected) if expected is not None else ""
            yield Reply(line, text, fault)
            if fault:
                return
        testee.settle()
    except (TesteeFaultError, MalformedAnswerError) as e:
        yield Reply(line, "", str(e))
    finally:
        testee.stop()


def disagreement(lines: Sequence[str], testee: Testee) -> str:
    """Return what a fresh testee answers wrongly in a sequence of requests; empty if nothing."""
    for number, reply in enumerate(replies(lines, testee), 1):
        if reply.fault:
            return f"request {number}: {reply.fault}"
    return ""


def shortest_failing(lines: Sequence[str], testee: Testee) -> tuple[list[str], str]:
    """Return the shortest part of a sequence of requests that a testee answers wrongly, and how.

    Raises:
        ValueError: It answers all of them as the reference does.
    """
    result = shrink(lines, lambda part: bool(disagreement(part, testee)))
    return result, disagreement(result, testee)


def render(lines: Sequence[str], comments: Sequence[str]) -> str:
    """Return the text of a file of requests."""
    return "".join(f"# {comment}\n" for comment in comments) + "".join(f"{line}\n" for line in lines)


def read(path: Path) -> list[str]:
    """Return the requests of a file.

    Raises:
        UserError: It is no file of requests.
    """
    try:
        with path.open("rb") as f:
            data = f.read(_FILE_MAX_BYTES + 1)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a file that --shrink has written") from None
    if len(data) > _FILE_MAX_BYTES:
        raise UserError(f"{path}: more than {_FILE_MAX_BYTES} bytes; name a file that --shrink has written")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8; name a file that --shrink has written") from None
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    for number, line in enumerate(lines, 1):
        if line[0] not in _LETTERS or not _is_request(line):
            raise UserError(
                f"{path}: request {number} is none of the codec on a pipe: {line[:60]!r}; see protocol/vectors"
            )
    if not lines:
        raise UserError(f"{path}: no request; name a file that --shrink has written")
    return lines


def _is_request(line: str) -> bool:
    """Return whether the reference can read a request."""
    session = ReferenceSession()
    try:
        session.answer(line)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return False
    return True
