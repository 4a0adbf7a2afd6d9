"""Keys of push-to-talk: derived from the device key, or unwrapped (protocol/PTT.md, "Keys")."""

from patrolink_protocol.srtp import KEY_BYTES, SALT_BYTES

_INITIAL_VALUE = b"\xa6" * 8  # RFC 3394, 2.2.3.1


class KeyUnwrapError(Exception):
    """A wrapped group key is damaged, or is wrapped for another device."""


def unwrap(decrypt, wrapped):
    """Return (master key, master salt) of a group.

    Args:
        decrypt: patrolink_protocol.aes.decrypter(wrapping key).
        wrapped: 40 bytes: key, salt and two zero bytes, wrapped by RFC 3394.

    Raises:
        KeyUnwrapError: the integrity check failed.
    """
    if len(wrapped) != KEY_BYTES + SALT_BYTES + 2 + 8:
        raise KeyUnwrapError("length is %d bytes, not %d" % (len(wrapped), KEY_BYTES + SALT_BYTES + 2 + 8))
    block = bytearray(wrapped[:8]) + bytearray(8)
    plain = unwrap_rounds(decrypt, block, bytearray(wrapped[8:]))
    diff = 0
    for a, b in zip(bytes(block[:8]) + bytes(plain[KEY_BYTES + SALT_BYTES :]), _INITIAL_VALUE + bytes(2)):
        diff |= a ^ b
    if diff:
        raise KeyUnwrapError("it is not wrapped for this device and key epoch")
    return bytes(plain[:KEY_BYTES]), bytes(plain[KEY_BYTES : KEY_BYTES + SALT_BYTES])


def unwrap_rounds(decrypt, block, r):
    """Undo the six rounds of RFC 3394, 2.2.2 in place: A in block[:8], R[1..n] in r. Return r."""
    n = len(r) // 8
    for t in range(6 * n, 0, -1):
        i = (t - 1) % n * 8
        block[7] ^= t  # below 256
        block[8:] = r[i : i + 8]
        decrypt(bytes(block), block)
        r[i : i + 8] = block[8:]
    return r
