"""Who uploads: the Authorization of protocol/CLIP.md, checked before anything else of a request is looked at."""

import hmac
import re
import time
from collections.abc import Callable, Mapping

from patrolink.core.clock import unix_ms
from patrolink.core.keys import EPOCH_MAX, DeviceKey
from patrolink.hub.dispatch.logins import Tries, network

FRESH_MS = 300_000
_LABEL = b"patrolink-upload"
_FORM = re.compile(r"Patrolink ([A-Za-z0-9_-]{1,32}):([0-9]{1,14}):([0-9a-f]{64})")


class Refused(Exception):
    """A request is not authorized; the text says why."""


class Authorization:
    """
    key_of  the key of a device in the epoch that its frames have shown; None for one that is not of this site
    """

    def __init__(self, key_of: Callable[[str], DeviceKey | None]) -> None:
        self._key_of = key_of
        self._tries = Tries()

    def device(self, method: str, path: str, fields: Mapping[str, str], address: str) -> str:
        """Return the device that a request is of. Refused when it is not; TooMany after many that were not.

        A right one is never kept waiting: nobody guesses a tag of 256 bits, and a stranger who shares its address (a
        carrier's NAT) is not to keep a device from sending.
        """
        form = _FORM.fullmatch(fields.get("Authorization", ""))
        why = self._wrong(method, path, fields, form)
        if form is not None and not why:
            return form[1]
        source = f"{network(address)} {form[1] if form and self._key_of(form[1]) else ''}"
        now_s = time.monotonic()
        self._tries.check(source, now_s)
        self._tries.wrong(source, now_s)
        raise Refused(why)

    def _wrong(self, method: str, path: str, fields: Mapping[str, str], form: "re.Match[str] | None") -> str:
        if form is None:
            return "Authorization: Patrolink <device>:<unix ms>:<hex> is missing"
        device, told_ms, tag = form.groups()
        length = {"POST": "Upload-Length", "PATCH": "Upload-Offset"}.get(method, "")
        parts = (method, path, told_ms, fields.get(length, ""), fields.get("Upload-Metadata", ""))
        said = "\n".join(parts).encode()
        key = self._key_of(device) or DeviceKey(bytes(32))
        # A device that has begun its next key epoch may upload before a frame of it has come.
        keys = [key._replace(epoch=epoch) for epoch in (key.epoch, min(key.epoch + 1, EPOCH_MAX))]
        tags = [hmac.digest(one.derive(_LABEL), said, "sha256").hex() for one in keys]
        right = [hmac.compare_digest(one, tag) for one in tags]
        if not any(right) or self._key_of(device) is None:
            return "the tag is wrong"
        if abs(int(told_ms) - unix_ms()) > FRESH_MS:
            return f"its time is more than {FRESH_MS // 60_000} minutes off"
        return ""
