"""Keys of push-to-talk: derived from the device key, or unwrapped (protocol/PTT.md, "Keys")."""

from patrolink_protocol.srtp import KEY, SALT

_IV = b"\xa6" * 8  # RFC 3394 2.2.3.1


class KeyRefused(Exception):
    """A wrapped key was not wrapped for this device."""


def unwrap(decrypt, wrapped):
    """Return (master key, master salt) of a group; KeyRefused when they are not genuine.

    decrypt  compat.aes.decrypter(wrapping key)
    """
    if len(wrapped) != KEY + SALT + 2 + 8:
        raise KeyRefused("%d bytes" % len(wrapped))
    block = bytearray(wrapped[:8]) + bytearray(8)
    r = unwind(decrypt, block, bytearray(wrapped[8:]))
    diff = 0
    for a, b in zip(bytes(block[:8]) + bytes(r[KEY + SALT :]), _IV + bytes(2)):
        diff |= a ^ b
    if diff:
        raise KeyRefused("not wrapped for this device")
    return bytes(r[:KEY]), bytes(r[KEY : KEY + SALT])


def unwind(decrypt, block, r):
    """Take the six rounds of RFC 3394 2.2.2 back in place: A in block[:8], R[1..n] in r; return r."""
    n = len(r) // 8
    for t in range(6 * n, 0, -1):
        i = (t - 1) % n * 8
        block[7] ^= t  # below 256
        block[8:] = r[i : i + 8]
        decrypt(bytes(block), block)
        r[i : i + 8] = block[8:]
    return r
