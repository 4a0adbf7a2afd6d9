"""HMAC-SHA256 (RFC 2104) and the keys that are derived from a device key. MicroPython subset.

    derived key = HMAC-SHA256(device key, label | epoch, u32 | context)

| label                                     | context                     | use                                        |
|-------------------------------------------|-----------------------------|--------------------------------------------|
| patrolink-up, patrolink-down              |                             | tags of frames (SPEC.md)                   |
| patrolink-up-cipher, patrolink-down-cipher |                            | confidential bodies (SPEC.md), 16 bytes    |
| patrolink-ptt-up, patrolink-ptt-down      |                             | SRTCP of floor control (PTT.md)            |
| patrolink-ptt-wrap                        |                             | wrapping of group keys (PTT.md)            |
| patrolink-live-up, patrolink-live-down    | command id, u32; expiry, u64 | SRTP and SRTCP of a live view (CLIP.md)   |
| patrolink-upload                          |                             | tags of upload requests (CLIP.md)          |
| patrolink-hub                             |                             | requests between shards of one hub         |

A site may derive its device keys, too: device key = derived key of the site's secret, with the label patrolink-device,
the epoch of the device, and its id as the context.
"""

import hashlib
import struct


def hmac_pads(key):
    """Return the inner and the outer pad of HMAC (RFC 2104, section 2) for a key of at most 64 bytes."""
    fill = bytes(64 - len(key))
    return bytes([k ^ 0x36 for k in key + fill]), bytes([k ^ 0x5C for k in key + fill])


def hmac(pads, *parts):
    """Return the 32-byte HMAC-SHA256 of the concatenated parts.

    Args:
        pads: What `hmac_pads` returned for the key.
        *parts: Bytes or views of bytes.
    """
    h = hashlib.sha256(pads[0])
    for part in parts:
        h.update(part)
    o = hashlib.sha256(pads[1])
    o.update(h.digest())
    return o.digest()


def derive_key(device_key, label, epoch, context=b""):
    """Return the 32-byte key for a purpose in a key epoch.

    Args:
        device_key: The 32-byte device key.
        label: Purpose, from the table above.
        epoch: Key epoch, 0 to 2**32 - 1.
        context: Further input, for example `live_view_context`.
    """
    return hmac(hmac_pads(device_key), label, struct.pack(">I", epoch), context)


def live_view_context(command_id, expires_ms):
    """Return the context of a live view's keys: the id and the expiry (Unix time in ms) of its command."""
    return struct.pack(">IQ", command_id, expires_ms)
