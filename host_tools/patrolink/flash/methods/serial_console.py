"""Method `serial`: an agent image over the console of a board, into a slot, by the receiver in its platform.

The board verifies signature, board, platform and rollback number before anything is erased. Only what it lacks is sent,
deflated, in numbered frames with CRC; it computes the SHA-256 of what it holds. A board that still runs the receiver,
after a broken cable, is used without its REPL.
"""

import contextlib
import hashlib
import secrets
import threading
from collections.abc import Callable
from typing import Any

from patrolink.core.errors import DeadlineError, DeviceError, UserError
from patrolink.core.text import plural
from patrolink.flash import copy_plan, raw_repl
from patrolink.flash.flash_image import FlashImage
from patrolink.flash.link import Link
from patrolink.flash.method import Method, Report
from patrolink.flash.records import Assignment, Identity, Plan
from patrolink.flash.serial_link import SerialLink
from patrolink.flash.serial_session import BLOCK_BYTES, NUMBERS, SerialSession

BAUD = 115_200
# What lies on the file system of the board, or in a slot, must not stand in for the modules of its platform.
_PROGRAM = "import sys; sys.path[:] = ['.frozen']\nfrom app.serial_update import run; run()\n"
_READY = b"receiver ready\r\n"
_ENDED = b"\x04"  # of the raw REPL
_REPL_S, _START_S, _RECEIVER_S = 5.0, 30.0, 2.0
_CONNECT_ATTEMPTS = 2
_RECOVERY_S, _RECOVERY_OPEN_S = 120.0, 0.5  # shorter than the time in which a start waits for a session
_DIGEST_BYTES = 8


class SerialMethod(Method):
    """Writes an agent image.

    Args:
        port: Path of the console's port.
        cancel: Set when the operator stops the command.
        image: The image.
        patient: Wait up to _RECOVERY_S for a board that has to be switched off and on, or whose REPL does not answer.
        open_link: Opens the port: path, baud rate, `cancel`. Raises DeviceError.
    """

    def __init__(
        self,
        port: str,
        cancel: threading.Event,
        image: FlashImage,
        patient: bool = False,
        open_link: Callable[[str, int, threading.Event], Link] = SerialLink,
    ) -> None:
        super().__init__(port, cancel)
        self._image, self._patient, self._open_link = image, patient, open_link
        self._link: Link | None = None
        self._session: SerialSession | None = None
        self._present_sha256 = b""

    def identify(self) -> Identity:
        """See `Method.identify`: the receiver answers, and hashes the present content."""
        session = self._session
        if session is None:
            session = self._connect()
            self._present_sha256 = session.digest()[1]
        info = session.info()
        keys = info.get("release_keys")
        return Identity(
            unique_id=str(info.get("unique_id", "")),
            board=str(info.get("board", "")),
            architecture=str(info.get("architecture", "")),
            version=str(info.get("version", "")),
            rollback=_number(info, "rollback"),
            rollback_floor=_number(info, "rollback_floor"),
            platform=_number(info, "platform"),
            release_keys=tuple(map(str, keys)) if isinstance(keys, list) else (),
            content_sha256=self._present_sha256,
            configured=info.get("configured") if isinstance(info.get("configured"), bool) else None,
            device=str(info.get("device", "")),
        )

    def plan(self, identity: Identity) -> Plan:
        """See `Method.plan`."""
        self._image.check_fits(self.port, identity)
        header = self._image.header
        present = f"{identity.version} (rollback number {identity.rollback})" if identity.version else "no agent image"
        text = f"{self._image.label}, {plural(header.size, 'byte')}, over {present}"
        return Plan(
            text,
            header.size,
            unchanged=(identity.content_sha256, identity.rollback) == (header.sha256, header.rollback),
        )

    def write(self, plan: Plan, report: Report) -> None:
        """See `Method.write`: blocks that the board has already written are not sent again."""
        session, content = self._opened(), self._image.content
        source_bytes = session.begin(self._image.header_bytes)
        blocks = copy_plan.block_parts(content, session.index(source_bytes), BLOCK_BYTES)
        written = session.written_digests(len(blocks))
        for number, parts in enumerate(blocks):
            block = content[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
            if hashlib.sha256(block).digest()[:_DIGEST_BYTES] != written[number]:
                session.write_block(number, content, parts)
            report(min(len(content), (number + 1) * BLOCK_BYTES), len(content))
        session.finish()

    def verify(self, plan: Plan) -> None:
        """See `Method.verify`."""
        if self._opened().digest() != (self._image.header.size, self._image.header.sha256):
            raise DeviceError(
                f"{self.port}: the board does not hold the image after writing; its flash may be worn out; repeat the "
                "command"
            )

    def provision(self, assignment: Assignment) -> bool:
        """See `Method.provision`: only digests come back from the board."""
        session, changed = self._opened(), False
        for name, content in assignment.files.items():
            digest = hashlib.sha256(content).digest()
            if session.file_digest(name) != digest:
                session.write_file(name, content)
                changed = True
                if session.file_digest(name) != digest:
                    raise DeviceError(f"{self.port}: the board does not hold {name} after writing; repeat the command")
        return changed

    def release(self) -> None:
        """See `Method.release`."""
        session, self._session = self._opened(), None
        session.restart()

    def close(self) -> None:
        """See `Method.close`: a board that is still in the receiver is started again."""
        session, self._session = self._session, None
        if self._link is not None:
            if session is not None:
                self._link.ignore_cancel()
                with contextlib.suppress(UserError):
                    session.restart()
            self._link.close()

    def _opened(self) -> SerialSession:
        assert self._session is not None, "identify comes first"
        return self._session

    def _connect(self) -> SerialSession:
        if self._link is None:
            self._link = self._open_link(self.port, BAUD, self._cancel)
        if self._patient:
            self._session = self._connect_patiently(self._link)
            return self._session
        silence: DeadlineError | None = None
        for _ in range(_CONNECT_ATTEMPTS):
            session = SerialSession(self._link, secrets.randbelow(NUMBERS))
            try:
                raw_repl.enter(self._link, _REPL_S)
                raw_repl.start(self._link, _PROGRAM)
                if not self._link.read_until(_READY, _START_S, _ENDED).endswith(_READY):
                    raise DeviceError(
                        f"{self.port}: MicroPython answers, but its platform has no receiver of agent images; flash "
                        "the platform image of this board first"
                    )
            except DeadlineError as e:
                silence = silence or e  # unless a receiver runs already
            try:
                session.open(_START_S if silence is None else _RECEIVER_S)
            except (DeadlineError, DeviceError):
                if silence is None:
                    raise
                continue
            self._session = session
            return session
        assert silence is not None
        raise silence

    def _connect_patiently(self, link: Link) -> SerialSession:
        """Return the session with a board that waits for recovery, or whose REPL answers, as soon as it does."""
        deadline_s = link.now_s() + _RECOVERY_S
        while True:
            session = SerialSession(link, secrets.randbelow(NUMBERS))
            with contextlib.suppress(DeadlineError, DeviceError):
                session.open(_RECOVERY_OPEN_S)
                return session
            try:
                raw_repl.enter(link, 0)
                raw_repl.start(link, _PROGRAM)
                link.read_until(_READY, _START_S, _ENDED)
                session.open(_RECEIVER_S)
                return session
            except (DeadlineError, DeviceError) as e:
                if link.now_s() > deadline_s:
                    raise DeviceError(
                        f"{self.port}: no recovery and no REPL within {_RECOVERY_S:.0f} s ({e}); flash the platform of "
                        "the board, then repeat"
                    ) from None


def _number(info: dict[str, Any], name: str) -> int | None:
    value = info.get(name)
    return value if isinstance(value, int) else None
