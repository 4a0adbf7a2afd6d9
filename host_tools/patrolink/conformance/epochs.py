"""Key epoch of a device: the command `rotate_key` of one case changes it for the cases after it."""

from patrolink_protocol.frame import Channel

from patrolink.conformance import reference
from patrolink.conformance.case import DeviceUnderTest
from patrolink.conformance.evidence import Evidence
from patrolink.conformance.frames import UP

_REFUSED_FOR_KEY = ("length", "version", "tag", "critical")


def is_under(device: DeviceUnderTest, epoch: int, text: str) -> bool:
    """Return whether a frame, in hexadecimal digits, is genuine under the device's key of an epoch."""
    channel = Channel(device.secret, device.id.encode(), UP, epoch)
    return reference.read(bytes.fromhex(text), channel).get("reject") not in _REFUSED_FOR_KEY


def after(device: DeviceUnderTest, evidence: Evidence) -> int:
    """Return the epoch of a device at the end of a case: each frame under the next key ends the epoch before it."""
    for answer in evidence.frames():
        device = device._replace(epoch=after_frame(device, answer.text))
    return device.epoch


def after_frame(device: DeviceUnderTest, text: str) -> int:
    """Return the epoch of a device after it has sent a frame."""
    is_next = not is_under(device, device.epoch, text) and is_under(device, device.epoch + 1, text)
    return device.epoch + is_next
