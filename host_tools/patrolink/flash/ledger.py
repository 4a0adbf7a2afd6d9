"""The ledger: what was done to which device, one event a line of JSON, appended and never changed.

Each line ends in `chain`, the SHA-256 of the chain of the line before it and of the line itself: a line that was
removed or altered is found. A small file beside the ledger (`.head`) has the number of events and the last chain:
missing last lines are found. Whoever can write both files can still forge them; keep a copy elsewhere.

A line that a crash has cut short is no event. It stays where it is, and the next event follows it.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from patrolink.core import durable_files
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.core.posix import require_posix
from patrolink.core.signals import stop_deferred
from patrolink.core.text import csv_cell, plural

STEPS = ("assign", "flash", "verify", "provision", "label", "selftest", "revoke")
OK, FAILED = "ok", "failed"
_LINE_MAX_BYTES = 16_384
_GENESIS = "0" * 64
_ASIDE = "move both files aside to start a new ledger, or restore them from a backup"


@dataclass(frozen=True)
class Event:
    """One step that was done to a device, or that failed.

    Attributes:
        device: Id of the device; empty if it has none yet.
        step: One of STEPS.
        result: OK or FAILED.
        batch: Name of the job.
        serial: Serial number.
        unique_id: Unique id of the chip. An event of step `assign` says that the device is this unit from now on.
        usb_path: Location of the port that it was connected to.
        version: Version of the image, or what the step wrote.
        sha256: SHA-256 of what was written, in hexadecimal.
        epoch: Key epoch; -1 if the step does not concern the key.
        consent: Version of the consent of the wearer.
        reason: Why the step failed, or was done.
    """

    device: str
    step: str
    result: str = OK
    batch: str = ""
    serial: str = ""
    unique_id: str = ""
    usb_path: str = ""
    version: str = ""
    sha256: str = ""
    epoch: int = -1
    consent: str = ""
    reason: str = ""


class Entry(NamedTuple):
    """An event in the ledger, with its number from 1 and its time (RFC 3339, UTC)."""

    number: int
    time: str
    event: Event


class Content(NamedTuple):
    """What a ledger holds.

    Attributes:
        entries: The events, in order.
        torn: Lines that a crash has cut short, in words.
        damage: Lines that were removed, altered or lost, in words.
        number: Number of the last event.
        chain: Chain after the last event.
        tail: Bytes of a last line without an end that is no event; 0 if there is none.
        complete_tail: Whether only the end of the last line is missing.
    """

    entries: list[Entry]
    torn: list[str]
    damage: list[str]
    number: int = 0
    chain: str = _GENESIS
    tail: int = 0
    complete_tail: bool = False

    @property
    def events(self) -> list[Event]:
        """The events, in order."""
        return [entry.event for entry in self.entries]


def read(path: Path) -> Content:
    """Read and verify a ledger. A missing ledger is empty.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
        head = _head_path(path).read_bytes() if _head_path(path).exists() else None
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; correct its owner, or name another ledger") from None
    content = _Reader().read(data)
    _compare_head(content, head, bool(data))
    return content


class _Reader:
    """Reads the lines of a ledger and follows the chain."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._torn: list[str] = []
        self._damage: list[str] = []
        self._number, self._chain = 0, _GENESIS

    def read(self, data: bytes) -> Content:
        *lines, last = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not self._add(number, line) and line:
                self._torn.append(f"line {number}: {plural(len(line), 'byte')} that a crash has cut short; not counted")
        complete = bool(last) and self._add(len(lines) + 1, last)
        if last and not complete:
            self._torn.append(f"last line: {plural(len(last), 'byte')} that a crash has cut short; not counted")
        tail = 0 if complete else len(last)
        return Content(self._entries, self._torn, self._damage, self._number, self._chain, tail, complete)

    def _add(self, line_number: int, line: bytes) -> bool:
        """Add the event of a line. Returns False if the line is none."""
        try:
            row = json.loads(line)
            number, time_text, chain = row.pop("n"), row.pop("time"), row.pop("chain")
            event = Event(**{"device": "", **row})  # a device may have no id yet
            body = line[: line.rindex(b', "chain"')]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return False
        texts = (time_text, chain, *(row[name] for name in row if name != "epoch"))
        if not all(isinstance(text, str) for text in texts) or {type(number), type(event.epoch)} != {int}:
            return False
        where, after = f"line {line_number}: event {number}", self._number
        if number != after + 1:
            self._damage.append(f"{where} follows event {after}; lines were removed or repeated")
        elif chain != _chain(self._chain, body):
            self._damage.append(f"{where} does not fit the chain; it was altered, or a line before it")
        self._number, self._chain = number, chain
        self._entries.append(Entry(number, time_text, event))
        return True


def _chain(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()


def _head_path(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def _compare_head(content: Content, head: bytes | None, has_data: bool) -> None:
    """Add to the damage what the head says about the end of the ledger. It may be one append behind, after a crash."""
    if head is None:
        if has_data:
            content.damage.append("the .head file is missing, so missing last lines cannot be found; restore it")
        return
    try:
        row = json.loads(head)
        events, chain = int(row["events"]), str(row["chain"])
    except (ValueError, TypeError, KeyError):
        content.damage.append("the .head file cannot be read; restore it")
        return
    if events > content.number:
        content.damage.append(f"{plural(events - content.number, 'event')} missing at the end")
    elif events == content.number and chain != content.chain:
        content.damage.append(f"the last event differs from the .head file; event {events} was altered")


class Ledger:
    """A ledger that is open for one process. Another one is refused meanwhile.

    Args:
        path: The file; it is created if necessary.
        unix_ms: Clock.

    Attributes:
        content: What the ledger held when it was opened.

    Raises:
        UserError: Another process has it open, it is damaged, or it cannot be written.
    """

    def __init__(self, path: Path, unix_ms: Callable[[], int]) -> None:
        require_posix("ledger")
        self._path, self._unix_ms = path, unix_ms
        with contextlib.ExitStack() as undo, self._storage():
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            undo.callback(os.close, self._handle)
            self._lock()
            if not path.stat().st_size and not _head_path(path).exists():
                self._save_head(0, _GENESIS)
            self.content = read(path)
            if self.content.damage:
                raise UserError(f"{path}: {'; '.join(self.content.damage)}. {_ASIDE.capitalize()}")
            if self.content.tail or self.content.complete_tail:
                durable_files.append(path, b"\n", durable=True)
            undo.pop_all()
        self._number, self._chain = self.content.number, self.content.chain

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the ledger."""
        os.close(self._handle)

    def append(self, events: Sequence[Event]) -> None:
        """Append events; they are on storage when this returns. A stop signal takes effect afterwards.

        Raises:
            UserError: Storage failed. No event was appended.
        """
        if not events:
            return
        lines, number, chain, time_text = [], self._number, self._chain, rfc3339(self._unix_ms())
        for event in events:
            number += 1
            body = json.dumps({"n": number, "time": time_text, **_used(event)}).encode()[:-1]
            chain = _chain(chain, body)
            line = body + f', "chain": "{chain}"}}\n'.encode()
            if len(line) > _LINE_MAX_BYTES:
                raise UserError(
                    f"{self._path}: the event of {event.device} is longer than {_LINE_MAX_BYTES} bytes; shorten it"
                )
            lines.append(line)
        with stop_deferred():  # an event on storage that is not counted would break the chain
            with self._storage():
                durable_files.append(self._path, b"".join(lines), durable=True)
            self._number, self._chain = number, chain
            # The events are on storage already. A head that is behind is accepted, and the next append corrects it.
            with contextlib.suppress(OSError):
                self._save_head(number, chain)

    def _save_head(self, events: int, chain: str) -> None:
        document = json.dumps({"events": events, "chain": chain}).encode() + b"\n"
        durable_files.replace(_head_path(self._path), document)

    def _lock(self) -> None:
        import fcntl  # `require_posix` has checked that it exists

        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self._path}: another command has this ledger open; wait until it has ended, or name another ledger"
            ) from None

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise UserError(
                f"{self._path}: {e.strerror}; nothing was entered in the ledger. Free some space, or correct the owner "
                "of the folder"
            ) from None


def _used(event: Event) -> dict[str, Any]:
    """Return the fields of an event that have a value."""
    return {name: value for name, value in asdict(event).items() if value not in ("", -1)}


# --- queries ----------------------------------------------------------------------------------------------------------


def progress(events: Sequence[Event], batch: str = "") -> dict[str, dict[str, Event]]:
    """Return the last event of each step, by device.

    An event without a device id belongs to the device that was last provisioned with its unique id, in any job. If
    there is none, it is listed under the unique id. A step is done if its last event has the result OK.

    Args:
        events: Events in order.
        batch: Name of the job; empty: all jobs.
    """
    owners = {
        event.unique_id: event.device
        for event in events
        if event.step in ("assign", "provision") and event.result == OK
    }
    steps: dict[str, dict[str, Event]] = {}
    for event in events:
        name = event.device or (event.unique_id and owners.get(event.unique_id, event.unique_id))
        if name and batch in ("", event.batch):
            steps.setdefault(name, {})[event.step] = event
    return steps


def units(events: Iterable[Event]) -> dict[str, str]:
    """Return the unique id of the unit that each device is; a device that was revoked is none until it gets one again.

    Args:
        events: Events in order.
    """
    result: dict[str, str] = {}
    for event in events:
        if event.result != OK:
            continue
        if event.step == "revoke":
            result.pop(event.device, None)
        elif event.step in ("assign", "provision") and event.unique_id:
            result[event.device] = event.unique_id
    return result


def unidentified(events: Iterable[Event], batch: str = "") -> list[Event]:
    """Return the events of devices that were never identified: those with neither a device id nor a unique id."""
    return [event for event in events if not event.device and not event.unique_id and batch in ("", event.batch)]


def done_steps(steps: dict[str, Event]) -> list[str]:
    """Return the steps of a device that are done, in the order of STEPS."""
    return [step for step in STEPS if step in steps and steps[step].result == OK]


def export_csv(entries: Iterable[Entry]) -> bytes:
    """Return events as CSV for spreadsheets, UTF-8 with a byte order mark."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = [field.name for field in fields(Event)]
    writer.writerow(["number", "time", *names])
    for entry in entries:
        row = asdict(entry.event)
        row["epoch"] = "" if entry.event.epoch < 0 else entry.event.epoch
        writer.writerow([entry.number, entry.time, *(csv_cell(str(row[name])) for name in names)])
    return out.getvalue().encode("utf-8-sig")
