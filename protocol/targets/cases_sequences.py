"""Vectors of rules with state: sequences of frames, each accepted, repeated, or refused with a reason.

"accepted" means that the frame passes all steps, its body included.
"""

from typing import Any

import patrolink_messages as m

from .vectors import DEVICE, KEY, OTHER_DEVICE, Vector, seal, time_sync

Step = dict[str, str]
_EPOCH_MAX = 0xFFFFFFFF


def _up(counter: int, expect: str, epoch: int = 0, **over: Any) -> Step:
    return {"frame": seal(m.TIME_SYNC, time_sync(), counter, epoch=epoch, **over).hex(), "expect": expect}


def _down(counter: int, expect: str, epoch: int = 0, **over: Any) -> Step:
    return {"frame": seal(m.TIME_SYNC, time_sync(), counter, 1, epoch, **over).hex(), "expect": expect}


def _forged(step: Step) -> Step:
    """Return the step with a wrong tag."""
    return {"frame": step["frame"][:-2] + format(int(step["frame"][-2:], 16) ^ 1, "02x"), "expect": "tag"}


def _bad(direction: int, counter: int, expect: str, second: str, epoch: int = 0) -> list[Step]:
    """Return a genuine frame that is refused after its counter, and the same frame again."""
    frames = {
        "length": seal(m.TIME_SYNC, b"", counter, direction, epoch),
        "range": seal(m.TEXT_STATE, bytes(13), counter, direction, epoch),
        "type": seal(16, b"", counter, direction, epoch),
        "critical": seal(m.TIME_SYNC, time_sync(), counter, direction, epoch, extensions=[(9, 1, b"")]),
    }
    data = frames[expect].hex()
    return [{"frame": data, "expect": expect}, {"frame": data, "expect": second}]


def _sequence(name: str, req: str | list[str], about: str, direction: int, steps: list[Step], **at: Any) -> Vector:
    """Return a vector; `at` sets key, device and epoch of the receiver."""
    receiver = {"key": KEY.hex(), "device": DEVICE, "direction": direction, "epoch": 0, **at}
    reqs = [req] if isinstance(req, str) else req
    return {"id": name, "req": reqs, "about": about, **receiver, "steps": steps}


def sequences() -> list[Vector]:
    """Return all sequences."""
    return [*_windows(), *_refused_later(), *_epochs(), *_last_epoch(), *_devices()]


def _windows() -> list[Vector]:
    size = m.REPLAY_WINDOW
    window = [
        *(_up(90000, "accepted"), _up(90000, "repeated"), _up(89990, "accepted"), _up(90001, "accepted")),
        *(_up(89990, "repeated"), _up(90002 - size, "accepted"), _up(90001 - size, "replay"), _up(0, "replay")),
        *(_up(500000, "accepted"), _up(90001, "replay"), _up(500001 - size, "accepted"), _up(500000, "repeated")),
    ]
    deep = [
        *(_up(10, "accepted"), _up(5000, "accepted"), _up(10, "repeated"), _up(11, "accepted")),
        *(_up(60000, "accepted"), _up(10, "repeated"), _up(5000, "repeated"), _up(5001, "accepted")),
        *(_up(size, "accepted"), _up(10, "repeated"), _up(12, "accepted"), _up(size + 10, "accepted")),
        *(_up(10, "replay"), _up(11, "repeated"), _up(12, "repeated"), _up(13, "accepted")),
    ]
    top = (1 << m.COUNTER_BITS) - 1
    ends = [
        *(_up(0, "accepted"), _up(0, "repeated"), _up(top, "accepted"), _up(top, "repeated"), _up(0, "replay")),
        *(_up(top - size, "replay"), _up(top - size + 1, "accepted"), _up(top - 1, "accepted")),
    ]
    forged = [_forged(_up(50, "tag")), _up(50, "accepted"), _forged(_up(90000, "tag")), _up(7, "accepted")]
    upwards = [(3, "accepted"), (3, "replay"), (2, "replay"), (9, "accepted"), (8, "replay")]
    leap = [(0, "accepted"), (top, "accepted"), (top, "replay"), (0, "replay"), (top - 1, "replay")]
    return [
        _sequence("replay-host", "REPLAY-1", "a host's window", 0, window),
        _sequence("replay-host-deep", "REPLAY-1", "a host remembers the whole window", 0, deep),
        _sequence("replay-host-ends", "REPLAY-1", "the lowest and the highest counter", 0, ends),
        _sequence("replay-forged", ["REPLAY-3", "FRAME-3"], "forged frames use up no counter", 0, forged),
        _sequence("replay-device", "REPLAY-2", "a device only goes up", 1, [_down(*step) for step in upwards]),
        _sequence(
            "replay-device-ends", "REPLAY-2", "from 0 to the highest counter", 1, [_down(*step) for step in leap]
        ),
    ]


def _refused_later() -> list[Vector]:
    """Counters are taken before tail, type and body are read."""
    host, device = [], []
    for i, reason in enumerate(("length", "range", "type", "critical")):
        host += [*_bad(0, 100 + i, reason, "repeated"), _up(100 + i, "repeated")]
        device += [*_bad(1, 100 + i, reason, "replay"), _down(100 + i, "replay")]
    return [
        _sequence("counter-host", "REPLAY-3", "refused frames use up their counters", 0, [*host, _up(99, "accepted")]),
        _sequence(
            "counter-device", "REPLAY-3", "refused frames use up their counters", 1, [*device, _down(99, "replay")]
        ),
    ]


def _epochs() -> list[Vector]:
    rotation = [
        *(_up(10, "accepted"), _up(11, "tag", 2), _up(0, "accepted", 1), _up(12, "tag"), _up(1, "accepted", 1)),
        *(_up(0, "repeated", 1), _up(5, "accepted", 2), _up(6, "tag", 1)),
    ]
    down = [
        *(_down(10, "accepted"), _down(11, "tag", 2), _down(0, "accepted", 1), _down(12, "tag"), _down(0, "replay", 1)),
        *(_down(1, "accepted", 1), _down(7, "accepted", 2), _down(9, "tag", 1), _down(8, "accepted", 2)),
    ]
    refused = [_up(10, "accepted"), *_bad(0, 20, "type", "repeated", 1), _up(11, "tag"), _up(21, "accepted", 1)]
    flagged = seal(m.TIME_SYNC, time_sync(), 20, epoch=1, flags=1).hex()
    refused_before = [
        *(_up(10, "accepted"), _forged(_up(20, "tag", 1)), _up(11, "accepted")),
        *({"frame": flagged, "expect": "critical"}, _up(12, "accepted"), _up(0, "accepted", 1), _up(13, "tag")),
    ]
    secrets = [
        *(_up(10, "accepted", encrypted=True), _up(11, "accepted"), _up(10, "repeated", encrypted=True)),
        *(_up(9, "accepted", encrypted=True), _up(0, "accepted", 1, encrypted=True), _up(12, "tag", encrypted=True)),
        *(_up(0, "repeated", 1), _up(1, "accepted", 1, encrypted=True)),
    ]
    return [
        _sequence("key-rotation", "KEY-2", "the next epoch ends the one before", 0, rotation),
        _sequence("key-rotation-down", "KEY-2", "the next epoch of a device", 1, down),
        _sequence(
            "key-rotation-refused", ["KEY-2", "REPLAY-3"], "a refused body begins the next epoch, too", 0, refused
        ),
        _sequence(
            "confidential-rotation", "CONFIDENTIAL-2", "encrypted and plain frames, and the next epoch", 0, secrets
        ),
        _sequence("key-rotation-forged", "KEY-2", "what fails before the counter begins no epoch", 0, refused_before),
    ]


def _last_epoch() -> list[Vector]:
    steps = [
        *(
            _up(5, "accepted", _EPOCH_MAX),
            _up(6, "tag", 0),
            _up(6, "accepted", _EPOCH_MAX),
            _up(5, "repeated", _EPOCH_MAX),
        ),
    ]
    last = [_up(5, "accepted", _EPOCH_MAX - 1), _up(6, "accepted", _EPOCH_MAX), _up(7, "tag", _EPOCH_MAX - 1)]
    return [
        _sequence("key-last-epoch", "KEY-2", "no epoch follows the last one", 0, steps, epoch=_EPOCH_MAX),
        _sequence("key-before-last-epoch", "KEY-2", "the last epoch begins", 0, last, epoch=_EPOCH_MAX - 1),
    ]


def _devices() -> list[Vector]:
    other: dict[str, Any] = {"device": OTHER_DEVICE}
    steps = [_up(1, "accepted", **other), _up(2, "tag"), _up(2, "accepted", **other), _up(1, "repeated", **other)]
    malformed = [
        _up(1, "key"),
        _up(2, "key"),
        {"frame": "", "expect": "length"},
        {"frame": "5f" * 13, "expect": "version"},
    ]
    return [
        _sequence("key-two-devices", "KEY-1", "a frame of another device", 0, steps, **other),
        _sequence("no-key", "FRAME-7", "a device whose key is not known", 0, malformed, key=None),
    ]
