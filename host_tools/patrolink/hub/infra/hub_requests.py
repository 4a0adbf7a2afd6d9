"""Requests between the hubs of a site: to send a message to a device.

Only the home hub, the one with the lowest shard, seals frames to devices, because frame counters must increase. Other
hubs publish a request on topic `h/<site>/home`: length and text of the device id, then a nonce and AES-GCM under a key
of that device (label `patrolink-hub`) of a JSON object with the sender's shard, the time and the message. The home hub
rejects a request that is older than a minute or not newer than the sender's last one for that device.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from patrolink.core import untrusted_json
from patrolink.core.clock import Clock
from patrolink.hub.config import HubContext

_MAX_AGE_MS = 60_000
_NONCE_BYTES = 12
_LABEL = b"patrolink-hub"

Values = dict[str, Any]


class DeviceMessage(NamedTuple):
    """A message to a device: type and fields as `codec.encode_into` takes them."""

    device: str
    kind: int
    values: Values


class HubRequestError(ValueError):
    """A request between hubs is not authentic or not new. The text is the reason for the metrics."""


class HubRequests:
    """Seals requests of one hub and opens requests of other hubs.

    Args:
        random_bytes: Returns a number of random bytes, for nonces.
    """

    def __init__(self, context: HubContext, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._context, self._clock, self._random_bytes = context, clock, random_bytes
        self._aad = b"patrolink-hub " + context.site.name.encode()
        self._newest_ms: dict[tuple[int, str], int] = {}  # by shard and device

    def _cipher(self, device: str) -> AESGCM:
        return AESGCM(self._context.keys[device].derive(_LABEL))

    def seal(self, message: DeviceMessage) -> bytes:
        """Return the request to send a message to a device."""
        shard, device = self._context.hub.shard, message.device
        time_ms = max(self._clock.unix_ms(), self._newest_ms.get((shard, device), 0) + 1)
        self._newest_ms[shard, device] = time_ms
        values = {
            name: {"hex": value.hex()} if isinstance(value, bytes) else value for name, value in message.values.items()
        }
        text = json.dumps({"shard": shard, "time_ms": time_ms, "kind": message.kind, "values": values}).encode()
        nonce = self._random_bytes(_NONCE_BYTES)
        name = device.encode()
        return bytes([len(name)]) + name + nonce + self._cipher(device).encrypt(nonce, text, self._aad + name)

    def open(self, data: bytes) -> DeviceMessage:
        """Return the message of an authentic and new request.

        Raises:
            HubRequestError: The request is malformed, not authentic, or not new.
        """
        name = data[1 : 1 + data[0]] if data else b""
        nonce, ciphertext = data[1 + len(name) :][:_NONCE_BYTES], data[1 + len(name) + _NONCE_BYTES :]
        try:
            device = name.decode()
            if device not in self._context.keys:
                raise HubRequestError("device")
            request = untrusted_json.parse(self._cipher(device).decrypt(nonce, ciphertext, self._aad + name))
            sender, time_ms = (request["shard"], device), request["time_ms"]
            values = {
                field: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
                for field, value in request["values"].items()
            }
            age_ms = abs(self._clock.unix_ms() - time_ms)
            message = DeviceMessage(device, request["kind"], values)
        except HubRequestError:
            raise
        except InvalidTag:
            raise HubRequestError("tag") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise HubRequestError("format") from None
        if age_ms > _MAX_AGE_MS or time_ms <= self._newest_ms.get(sender, 0):
            raise HubRequestError("replay")
        self._newest_ms[sender] = time_ms
        return message
