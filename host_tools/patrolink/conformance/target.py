"""Targets of `patrolink validate`: from the text on the command line to a testee and its device."""

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import patrolink_messages as m

from patrolink.conformance.case import CODEC, DEVICE, DeviceUnderTest
from patrolink.conformance.profile import YES, Profile
from patrolink.conformance.report.document import device_fields
from patrolink.conformance.runner import COUNTERS_PER_CASE
from patrolink.conformance.testee.broker_device import BrokerDevice
from patrolink.conformance.testee.codec_pipe import CodecPipe
from patrolink.conformance.testee.device_pipe import DevicePipe
from patrolink.conformance.testee.serial_device import SerialDevice
from patrolink.conformance.testee.testee import Testee
from patrolink.core.errors import UserError
from patrolink.core.keys import DEVICE_ID, DeviceKey

EXEC, SERIAL, BROKER = "exec", "serial", "broker"
_BROKER_SCHEMES = ("mqtt", "mqtts")
_HINT = "write exec:PROGRAM ARGUMENT..., a serial port, or mqtt://host:1883/device-id"
_COUNTER_EPOCH_S = 1_767_225_600  # 2026-01-01: counters of a run begin at the seconds since then
_COUNTER_END = 1 << m.COUNTER_BITS


class Target(NamedTuple):
    """A parsed target.

    Attributes:
        kind: EXEC, SERIAL or BROKER.
        text: As on the command line.
        words: EXEC: program and arguments.
        url: BROKER: URL of the broker.
        device: BROKER: device id.
    """

    kind: str
    text: str
    words: tuple[str, ...] = ()
    url: str = ""
    device: str = ""

    @property
    def tier(self) -> str:
        """The tier that is run if none is named."""
        return CODEC if self.kind == EXEC else DEVICE


def parse(text: str) -> Target:
    """Return a target.

    Raises:
        UserError: The text is none.
    """
    scheme, _, rest = text.partition(":")
    if scheme == EXEC:
        try:
            words = tuple(shlex.split(rest))
        except ValueError as e:
            raise UserError(f"{text}: {e}; {_HINT}") from None
        if words:
            return Target(EXEC, text, words)
    elif scheme in _BROKER_SCHEMES:
        url, _, device = text.rpartition("/")
        if DEVICE_ID.fullmatch(device) and "://" in url:
            return Target(BROKER, text, url=url, device=device)
        raise UserError(f"{text}: a device id must follow the broker; write mqtt://host:1883/device-id")
    elif text.startswith("/dev/") or (scheme.upper().startswith("COM") and not rest) or Path(text).is_char_device():
        return Target(SERIAL, text)
    raise UserError(f"{text}: not a target; {_HINT}")


def testee(target: Target, tier: str, profile: Profile, monotonic_ms: Callable[[], int], timeout_s: float) -> Testee:
    """Return the testee of a target.

    Raises:
        UserError: The target has no such tier.
    """
    if tier == CODEC:
        if target.kind != EXEC:
            raise UserError(f"{target.text}: the tier codec needs a program; write exec:PROGRAM ARGUMENT...")
        return CodecPipe(list(target.words), monotonic_ms, timeout_s)
    if target.kind == EXEC:
        virtual, linked = (profile.claims.get(claim) == YES for claim in ("virtual_clock", "link_control"))
        return DevicePipe(list(target.words), monotonic_ms, profile.stimuli, virtual, linked)
    if target.kind == SERIAL:
        return SerialDevice(target.text, monotonic_ms, profile.stimuli)
    return BrokerDevice(target.url, target.device, monotonic_ms, profile.stimuli)


def device_key(target: Target, device: str | None, keys: Mapping[str, DeviceKey]) -> tuple[str, DeviceKey]:
    """Return id and key of the device of the device tier.

    Raises:
        UserError: Its id or its key is not known.
    """
    name = device or target.device or (next(iter(keys)) if len(keys) == 1 else "")
    if not name:
        raise UserError("whose key is it? Name the device with --device, and its keys file with --keys")
    if name not in keys:
        raise UserError(f"no key of the device {name}; name a keys file with --keys")
    return name, keys[name]


def reserve_counters(state: Path, name: str, key: DeviceKey, cases: int, unix_ms: int) -> DeviceUnderTest:
    """Return the device with downlink counters that no earlier run on this machine has used.

    Args:
        state: File that remembers next counter and key epoch of each device and key.
        name: Device id.
        key: Its key.
        cases: Number of cases.
        unix_ms: Time of day.

    Raises:
        UserError: The counters of this key epoch are used up.
    """
    known = _stored(state)
    device = DeviceUnderTest(name, key.secret, 0, 0)
    device = device._replace(epoch=max(key.epoch, known.get(_epoch_entry(device), 0)))
    fields = device_fields(device)
    assert fields is not None
    entry = f"{name} {device.epoch} {fields['key_sha256']}"
    stored = known.get(entry, 0)
    first = max(stored, unix_ms // 1000 - _COUNTER_EPOCH_S, 1)
    after = first + cases * COUNTERS_PER_CASE
    if after > _COUNTER_END:
        raise UserError(f"{name}: the counters of key epoch {device.epoch} are used up; give the device its next key")
    _store(state, {**known, entry: after})
    return device._replace(counter=first)


def remember_epoch(state: Path, device: DeviceUnderTest) -> None:
    """Store the key epoch that a run has brought a device to; the next run on this machine begins with it."""
    _store(state, {**_stored(state), _epoch_entry(device): device.epoch})


def _epoch_entry(device: DeviceUnderTest) -> str:
    fields = device_fields(device)
    assert fields is not None
    return f"{device.id} epoch {fields['key_sha256']}"


def _stored(state: Path) -> dict[str, int]:
    """Return the state; empty if there is none that can be read."""
    try:
        known = json.loads(state.read_text(encoding="utf-8"))
        return {str(name): int(value) for name, value in known.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _store(state: Path, known: Mapping[str, int]) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps(known, indent=1), encoding="utf-8")
