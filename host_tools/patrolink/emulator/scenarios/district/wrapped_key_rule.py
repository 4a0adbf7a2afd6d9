"""Checks that each device can open the group keys that the hub sends it."""

from collections.abc import Callable, Mapping

import patrolink_messages as m
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from patrolink_protocol import decode, frame, srtp
from patrolink_protocol.errors import RejectError

from patrolink.core.keys import DeviceKey


class WrappedKeyRule:
    """The rule `wrapped key`: a group key is wrapped under the key epoch that its message is sealed under.

    Args:
        keys: Keys of the devices in their first epoch.
        settled_epoch: Returns the key epoch that the whole hub must know of a device; None while it follows the device.
        violate: Records a violation: rule and text.
    """

    def __init__(
        self,
        keys: Mapping[str, DeviceKey],
        settled_epoch: Callable[[str], int | None],
        violate: Callable[[str, str], None],
    ) -> None:
        self._keys, self._settled_epoch, self._violate = dict(keys), settled_epoch, violate

    def frame_sent_down(self, device: str, payload: bytes) -> None:
        """The hub has published a frame to a device."""
        epoch = self._settled_epoch(device)
        if frame.parse_header(payload)[0] != m.PTT_GROUP or epoch is None:
            return
        key = self._keys[device]._replace(epoch=epoch)
        channel = frame.Channel(key.secret, device.encode(), frame.DOWNLINK, epoch)
        try:
            channel.authenticate(payload)
        except RejectError:
            return  # a frame of a copy, whose counters are not compared, may have begun another epoch
        terms = decode.decode(m.PTT_GROUP, channel.read(payload)[0])
        if terms["rights"] and not _opens(key, terms["wrapped"]):
            self._violate("wrapped key", f"{device} cannot open the key of group {terms['group']} in key epoch {epoch}")


def _opens(key: DeviceKey, wrapped: bytes) -> bool:
    try:
        aes_key_unwrap(key.derive(b"patrolink-ptt-wrap")[: srtp.KEY_BYTES], wrapped)
    except InvalidUnwrap:
        return False
    return True
