"""Runs the self-test of a board over its console; device/app/self_test.py answers."""

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from patrolink_protocol.key_derivation import derive_key

from patrolink.core.errors import DeviceError
from patrolink.core.keys import DeviceKey
from patrolink.flash import raw_repl
from patrolink.flash.serial_link import SerialLink

PARTS = ("key", "gps", "modem", "indicator", "microphone", "storage")
_KEY_LABEL = b"patrolink-selftest"
# Only frozen modules: a file on the board must not stand in for one of them.
_PROGRAM = "import sys; sys.path[:] = ['.frozen']\nfrom app.self_test import run; run()\n"
_REPL_S, _START_S, _ANSWER_S = 5.0, 15.0, 15.0
_NONCE_BYTES = 16
_END = b"\x04"  # of the program, in the raw REPL


class Result(NamedTuple):
    """Result of a part.

    Attributes:
        part: One of PARTS.
        passed: Whether it passed; None: it is not fitted.
        text: For people.
    """

    part: str
    passed: bool | None
    text: str


class SelfTestSession:
    """The self-test of the board on a line.

    Args:
        link: The line.

    Attributes:
        board: Name of the board.
        unique_id: Unique id of its chip.
        device: Device id of its configuration; empty if that cannot be used.

    Raises:
        DeviceError: There is no self-test on the board.
        DeadlineError: It does not answer.
    """

    def __init__(self, link: SerialLink) -> None:
        self._link = link
        raw_repl.enter(link, _REPL_S)
        raw_repl.start(link, _PROGRAM)
        description = self._answer(_START_S)
        self.board = str(description.get("board", ""))
        self.unique_id = str(description.get("unique_id", ""))
        self.device = str(description.get("device", ""))

    def run(self, limit_s: float, key: DeviceKey | None, confirm: Callable[[], bool] | None) -> Iterator[Result]:
        """Yield the result of each part.

        Args:
            limit_s: Time for a fix, and for the registration of the modem.
            key: Key that the hub has for this device; None: the key is not compared.
            confirm: Asks the operator whether the indicator is on; None: its output is read back only.
        """
        yield self._check_key(key)
        for part in ("gps", "modem"):
            yield self._result(part, str(round(limit_s * 1000)), limit_s + _ANSWER_S)
        yield self._check_indicator(confirm)
        for part in ("microphone", "storage"):
            yield self._result(part, "", _ANSWER_S)

    def end(self) -> None:
        """Start the board again."""
        self._link.ignore_cancel()
        self._link.write(b"end\n")

    def _check_key(self, key: DeviceKey | None) -> Result:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        answer = self._ask("key", nonce.hex(), _ANSWER_S)
        result = _result_of("key", answer)
        if not result.passed or key is None:
            return result
        if answer.get("proof") != derive_key(key.secret, _KEY_LABEL, key.epoch, nonce).hex():
            return result._replace(passed=False, text="is not that of the hub; provision the device again")
        return result._replace(text=f"{result.text}, as in the keys file of the hub")

    def _check_indicator(self, confirm: Callable[[], bool] | None) -> Result:
        result = self._result("indicator", "1", _ANSWER_S)
        if result.passed and confirm is not None and not confirm():
            result = result._replace(passed=False, text="the operator does not see it; check its wiring")
        off = self._result("indicator", "0", _ANSWER_S)
        if not result.passed:
            return result
        return result._replace(text="on and off") if off.passed else off

    def _result(self, part: str, argument: str, limit_s: float) -> Result:
        return _result_of(part, self._ask(part, argument, limit_s))

    def _ask(self, part: str, argument: str, limit_s: float) -> dict[str, Any]:
        self._link.write(f"{part} {argument}\n".encode())
        return self._answer(limit_s)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        """Return the next answer; other output of the board is skipped."""
        output = b""
        while True:
            line = self._link.read_until(b"\n", limit_s, _END)
            if line.startswith(b"=") and line.endswith(b"\n"):
                try:
                    answer = json.loads(line[1:])
                except ValueError:
                    answer = None
                if isinstance(answer, dict):
                    return answer
            output += line
            if _END in line:
                last = (output.strip(_END).decode(errors="replace").strip().splitlines() or ["no output"])[-1]
                raise DeviceError(
                    f"{self._link.port}: the self-test of the board has ended ({last}); flash its platform, then repeat"
                )


def _result_of(part: str, answer: dict[str, Any]) -> Result:
    passed = answer.get("ok")
    return Result(part, passed if isinstance(passed, bool) else None, str(answer.get("text", "")))
