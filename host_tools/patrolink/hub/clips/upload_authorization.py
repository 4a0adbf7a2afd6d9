"""Authorization of uploads (protocol/CLIP.md, "Upload"). It is checked before anything else of a request."""

import hmac
import re
from collections.abc import Callable, Mapping

from patrolink.core.clock import Clock
from patrolink.core.keys import EPOCH_MAX, DeviceKey
from patrolink.hub.infra.attempt_limiter import AttemptLimiter, source_network

CLOCK_SKEW_MAX_MS = 300_000
_KEY_LABEL = b"patrolink-upload"
_HEADER = re.compile(r"Patrolink ([A-Za-z0-9_-]{1,32}):([0-9]{1,14}):([0-9a-f]{64})")


class UnauthorizedError(Exception):
    """A request is not authorized; the text gives the reason."""


class UploadAuthorization:
    """Checks which device sent a request.

    Args:
        device_key: Returns a device's key in the epoch of its last frame; None for a device that is not of this site.
        clock: The hub's clock.
    """

    def __init__(self, device_key: Callable[[str], DeviceKey | None], clock: Clock) -> None:
        self._device_key, self._clock = device_key, clock
        self._failures = AttemptLimiter()

    def authorize(self, method: str, path: str, headers: Mapping[str, str], address: str) -> str:
        """Return the device that sent a request.

        A valid request is never delayed: a tag of 256 bits cannot be guessed, and a stranger who shares the address (a
        carrier's NAT) must not keep a device from uploading.

        Args:
            method: The HTTP method.
            path: Path and query.
            headers: The HTTP headers.
            address: The client's IP address, for the rate limit.

        Raises:
            UnauthorizedError: The request is not authorized.
            TooManyAttemptsError: The request is not authorized, and neither were many before it.
        """
        fields = _HEADER.fullmatch(headers.get("Authorization", ""))
        fault = self._fault_of(method, path, headers, fields)
        if fields is not None and not fault:
            return fields[1]
        source = f"{source_network(address)} {fields[1] if fields and self._device_key(fields[1]) else ''}"
        now_s = self._clock.monotonic_ms() / 1000
        self._failures.check(source, now_s)
        self._failures.record_failure(source, now_s)
        raise UnauthorizedError(fault)

    def _fault_of(self, method: str, path: str, headers: Mapping[str, str], fields: "re.Match[str] | None") -> str:
        if fields is None:
            return "the header `Authorization: Patrolink <device>:<unix ms>:<tag>` is missing or malformed"
        device, time_ms, tag = fields.groups()
        length = {"POST": "Upload-Length", "PATCH": "Upload-Offset"}.get(method, "")
        parts = (method, path, time_ms, headers.get(length, ""), headers.get("Upload-Metadata", ""))
        signed = "\n".join(parts).encode(errors="surrogatepass")  # what is not UTF-8 arrives as surrogates
        key = self._device_key(device) or DeviceKey(bytes(32))
        # A device that entered its next key epoch may upload before its first frame of that epoch arrives.
        keys = [key._replace(epoch=epoch) for epoch in (key.epoch, min(key.epoch + 1, EPOCH_MAX))]
        tags = [hmac.digest(k.derive(_KEY_LABEL), signed, "sha256").hex() for k in keys]
        matches = [hmac.compare_digest(expected, tag) for expected in tags]
        if not any(matches) or self._device_key(device) is None:
            return "the tag is wrong, or the device is not of this site"
        if abs(int(time_ms) - self._clock.unix_ms()) > CLOCK_SKEW_MAX_MS:
            return f"the request's time differs from the hub's by more than {CLOCK_SKEW_MAX_MS // 60_000} minutes"
        return ""
