"""Decode frames to rows: verify, drop repeats, convert to plain units."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from operator import itemgetter
from typing import Any

from patrolink_messages import EVENT, REPLAY_WINDOW
from patrolink_names import BITS, NAMES
from patrolink_protocol import decode, frame, receiver
from patrolink_protocol.errors import RejectError
from patrolink_protocol.replay import ReplayWindow

from patrolink.core.capture import Record
from patrolink.core.keys import DeviceKey
from patrolink.core.tracks import motion, time_ms

# One position, or one other message: "record" is its name, the other keys are fields with a unit in their name.
Row = dict[str, Any]
FLAGS = ("date_suspect", "estimated", "differential")
_DATE_SUSPECT = 1 << FLAGS.index("date_suspect")
POSITION_COLUMNS = (
    "time",
    "lat_deg",
    "lon_deg",
    "alt_m",
    "speed_mps",
    "course_deg",
    "hacc_m",
    "sats",
    "battery_pct",
    "mode",
    *FLAGS,
    "device",
    "counter",
)


def rfc3339(unix_ms: int | None) -> str | None:
    """Return a unix time in milliseconds as RFC 3339 in UTC; None for None and for a time after the year 9999."""
    second = None if unix_ms is None else _rfc3339_second(unix_ms // 1000)
    return None if second is None or unix_ms is None else f"{second}.{unix_ms % 1000:03d}Z"


@functools.lru_cache(maxsize=1024)
def _rfc3339_second(unix_s: int) -> str | None:
    try:
        moment = datetime.fromtimestamp(unix_s, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


@dataclass
class DecoderStats:
    """Counts of a decoder.

    Args:
        frames: all frames, accepted or not.
        bytes: their size.
        fixes: positions in accepted frames.
        fix_bytes: size of the accepted frames with positions.
        duplicates: frames received before.
        rejected: reason → frames that were not accepted.
    """

    frames: int = 0
    bytes: int = 0
    fixes: int = 0
    fix_bytes: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Whether every frame was accepted."""
        return not self.rejected

    def summary(self) -> dict[str, Any]:
        """Return the counts as JSON-ready data."""
        return {
            "frames": self.frames,
            "bytes": self.bytes,
            "fixes": self.fixes,
            "duplicates": self.duplicates,
            "rejected": dict(self.rejected),
            "bytes_per_fix": round(self.fix_bytes / self.fixes, 3) if self.fixes else None,
        }


class Decoder:
    """Verifies and decodes the frames of devices. A frame of a device without a key is rejected.

    Args:
        keys: device id → key.
        repeated_events: True to return the row of a repeated `event` too, with "repeated" set: its device waits for an
            answer that may be lost. If its counter is below the replay window, "expired" is set too: only an event that
            is known may be answered. Other repeated frames give no rows.
        newest_fix: True to return of a batch only the position that is the newest, if the times of all are trusted.
        stats: counts that are updated; None for new ones.

    Attributes:
        reject_reason: why the last frame was rejected (a name of the protocol's reject table), "" if it was not.
        reject_is_genuine: whether the last frame was authentic and its counter was judged: if it was rejected, its
            sender may be sent a `reject`.
        stats: counts so far.
    """

    def __init__(
        self,
        keys: dict[str, DeviceKey],
        repeated_events: bool = False,
        newest_fix: bool = False,
        stats: DecoderStats | None = None,
    ) -> None:
        self._keys = keys
        self._repeated_events, self._newest_fix = repeated_events, newest_fix
        self._receivers = {
            name: receiver.Receiver(key.secret, name.encode(), frame.UPLINK, key.epoch) for name, key in keys.items()
        }
        self.reject_reason = ""
        self.reject_is_genuine = False
        self.stats = DecoderStats() if stats is None else stats

    def restore(self, device: str, epoch: int, highest: int, bitmap: bytes) -> None:
        """Continue where an earlier decoder ended: see `patrolink_protocol.replay.ReplayWindow`."""
        window = ReplayWindow(REPLAY_WINDOW, highest, bytearray(bitmap))
        self._receivers[device] = receiver.Receiver(
            self._keys[device].secret, device.encode(), frame.UPLINK, epoch, window=window
        )

    def epoch(self, device: str) -> int:
        """Return the current key epoch of a device, as its frames have shown."""
        epoch: int = self._receivers[device].epoch
        return epoch

    def rows(self, record: Record) -> list[Row]:
        """Return the rows of one frame: its positions or its one message; empty if it is rejected or repeated."""
        self.stats.frames += 1
        self.stats.bytes += len(record.frame)
        self.reject_reason = ""
        self.reject_is_genuine = False
        repeated = False
        device_receiver = self._receivers.get(record.device)
        try:
            kind, _, counter = frame.parse_header(record.frame)
            if device_receiver is None:
                raise RejectError("key", record.device)
            repeated, expired = self._accept(device_receiver, record.frame)
            self.reject_is_genuine = True
            if repeated:
                self.stats.duplicates += 1
                if kind != EVENT or not self._repeated_events:
                    return []
            body, extensions = device_receiver.read(record.frame)
            message = decode.decode(kind, body)
        except RejectError as e:
            if repeated:
                return []
            self.reject_reason = e.name
            self.reject_is_genuine |= e.name == "replay"
            self.stats.rejected[e.name] += 1
            return []
        if message["message"] == "position_batch":
            self.stats.fixes += len(message["fixes"])
            self.stats.fix_bytes += len(record.frame)
            fixes = _newest(message["fixes"], record.time_ms) if self._newest_fix else message["fixes"]
            return [_position(fix, record.device, counter) for fix in fixes]
        name = message.pop("message")
        row = {"record": name, "device": record.device, "counter": counter, "time": rfc3339(record.time_ms)}
        if repeated:
            row["repeated"] = True
        if expired:
            row["expired"] = True
        for key, value in message.items():
            row[key] = _report_value(name, key, value)
        if extensions:
            row["extensions"] = [{"type": kind, "value": value.hex()} for kind, _, value in extensions]
        return [row]

    def _accept(self, device_receiver: receiver.Receiver, data: bytes) -> tuple[bool, bool]:
        """Return whether a frame is repeated, and whether it is an event whose counter is below the replay window."""
        try:
            _, _, repeated = device_receiver.accept(data)
            return repeated, False
        except RejectError as e:
            if e.name != "replay" or data[0] & 31 != EVENT or not self._repeated_events:
                raise
        return True, True


def add_motion(rows: Iterable[Row]) -> Iterator[Row]:
    """Compute speed and course where a device sent none, from each of its positions to the next."""
    previous: dict[str, tuple[int, float, float]] = {}
    for row in rows:
        if row["record"] == "position" and row["lat_deg"] is not None and row["time"]:
            at_ms, lat, lon = time_ms(row["time"]), row["lat_deg"], row["lon_deg"]
            last = previous.get(row["device"])
            previous[row["device"]] = at_ms, lat, lon
            if last:
                speed, course = motion(lat - last[1], lon - last[2], lat, at_ms - last[0])
                if row["speed_mps"] is None and speed is not None:
                    row["speed_mps"] = round(speed, 3)
                if row["course_deg"] is None and course is not None:
                    row["course_deg"] = round(course, 2)
        yield row


def _report_value(message: str, field: str, value: Any) -> Any:
    """Return a field's value for reports: a name where the schema has one, a list of bit names, or hex digits."""
    if isinstance(value, bytes):
        return value.hex()
    if (message, field) in NAMES:
        return NAMES[message, field].get(value, value)
    if (message, field) in BITS:
        bits = BITS[message, field]
        return [bits[i] if i < len(bits) else f"bit_{i}" for i in range(16) if value >> i & 1]
    return value


def _newest(fixes: list[Row], arrived_ms: int) -> list[Row]:
    """Return the newest position of a batch; all fixes if a time is unknown, suspect or later than the arrival."""
    located = [fix for fix in fixes if fix["lat_e7"] is not None]
    for fix in located:
        if fix["time_ms"] is None or fix["time_ms"] > arrived_ms or fix["flags"] & _DATE_SUSPECT:
            return fixes
    # Of equal times the last one counts, as if the positions came one by one.
    return [max(reversed(located), key=itemgetter("time_ms"))] if located else fixes[-1:]


def _scaled(value: int | None, divisor: int, places: int) -> float | None:
    return None if value is None else round(value / divisor, places)


def _position(fix: Row, device: str, counter: int) -> Row:
    flags = fix["flags"]
    return {
        "record": "position",
        "time": rfc3339(fix["time_ms"]),
        "lat_deg": _scaled(fix["lat_e7"], 10_000_000, 7),
        "lon_deg": _scaled(fix["lon_e7"], 10_000_000, 7),
        "alt_m": _scaled(fix["alt_mm"], 1000, 3),
        "speed_mps": _scaled(fix["speed_mms"], 1000, 3),
        "course_deg": _scaled(fix["course_cd"], 100, 2),
        "hacc_m": _scaled(fix["hacc_mm"], 1000, 3),
        "sats": fix["sats"],
        "battery_pct": fix["battery_pct"],
        "mode": fix["mode"],
        **{name: bool(flags >> i & 1) for i, name in enumerate(FLAGS)},
        "device": device,
        "counter": counter,
    }
