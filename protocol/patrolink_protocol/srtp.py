"""SRTP and SRTCP (RFC 3711) with AES_CM_128_HMAC_SHA1_80, in place. MicroPython subset.

A context is one master key with its salt, as it is given out; which SSRCs are spoken under it is the caller's matter,
and so is that no (SSRC, index) is ever used twice under one key: a second use would give both texts away.

    RTP    header | payload, encrypted | tag 10            index = ROC << 16 | sequence number
    RTCP   8 bytes | rest, encrypted | E + index 4 | tag 10

`aes(key)` makes a function encrypt(blocks, out): AES-128 in ECB mode over whole blocks, in place when both are one.
"""

from .key_derivation import derive_key
from .sha1 import HmacSha1

TAG_BYTES = 10
KEY_BYTES, SALT_BYTES = 16, 14
SRTCP_OVERHEAD_BYTES = 4 + TAG_BYTES  # what protection adds
MAX_PACKET_BYTES = 1024  # of a packet
RTP_HEADER_BYTES = 12
INDEX_MAX = 0x7FFFFFFF  # of SRTCP
_WINDOW = 64

try:
    import micropython

    @micropython.viper
    def _number_blocks(blocks, n: int):
        """Copy the first block behind itself, n blocks in all, and number them in their last two bytes."""
        p = ptr8(blocks)
        i = 16
        while i < 16 * n:
            p[i] = p[i - 16]
            i += 1
        i = 0
        while i < n:
            p[16 * i + 14] = i >> 8
            p[16 * i + 15] = i
            i += 1

    @micropython.viper
    def _xor_into(buf, at: int, n: int, stream):
        p = ptr8(buf)
        s = ptr8(stream)
        i = 0
        while i < n:
            p[at + i] = p[at + i] ^ s[i]
            i += 1

except ImportError:

    def _number_blocks(blocks, n):
        """Copy the first block behind itself, n blocks in all, and number them in their last two bytes."""
        head = bytes(blocks[:14])
        blocks[: 16 * n] = b"".join([head + i.to_bytes(2, "big") for i in range(n)])

    def _xor_into(buf, at, n, stream):
        mixed = int.from_bytes(buf[at : at + n], "big") ^ int.from_bytes(stream[:n], "big")
        buf[at : at + n] = mixed.to_bytes(n, "big")


def derive_master(device_key, label, epoch, context=b""):
    """Return (master key, master salt) derived from a device key: arguments as of `key_derivation.derive_key`."""
    secret = derive_key(device_key, label, epoch, context)
    return secret[:KEY_BYTES], secret[KEY_BYTES : KEY_BYTES + SALT_BYTES]


class SrtpError(ValueError):
    """A packet is not genuine, was seen before, or is not one."""


class _Cipher:
    """AES in counter mode (RFC 3711 4.1.1) with session keys of one label range."""

    def __init__(self, aes, master, salt, label, room):
        self._salt = _session_key(aes, master, salt, label + 2, SALT_BYTES)
        self._encrypt = aes(_session_key(aes, master, salt, label, KEY_BYTES))
        self.auth = HmacSha1(_session_key(aes, master, salt, label + 1, 20))
        self._blocks = bytearray((room + 15) // 16 * 16)
        self._views = [None] * (len(self._blocks) // 16 + 1)

    def crypt(self, buf, start, n, ssrc_at, high, low):
        """Encrypt or decrypt buf[start:start + n]; the packet index is high << 16 | low."""
        if n <= 0:
            return
        blocks = self._blocks
        salt = self._salt
        for i in range(SALT_BYTES):
            blocks[i] = salt[i]
        for i in range(4):
            blocks[4 + i] ^= buf[ssrc_at + i]
            blocks[8 + i] ^= high >> 24 - 8 * i & 255
        blocks[12] ^= low >> 8
        blocks[13] ^= low & 255
        count = (n + 15) >> 4
        view = self._views[count]
        if view is None:
            view = self._views[count] = memoryview(blocks)[: 16 * count]
        _number_blocks(blocks, count)
        self._encrypt(view, view)
        _xor_into(buf, start, n, blocks)


def _session_key(aes, master, salt, label, n):
    """Return n bytes of a session key (RFC 3711 4.3, key derivation rate 0)."""
    head = bytearray(salt) + bytearray(2)
    head[7] ^= label
    encrypt = aes(master)
    out = b""
    for i in range((n + 15) // 16):
        head[15] = i
        block = bytearray(16)
        encrypt(bytes(head), block)
        out += bytes(block)
    return out[:n]


def _equal(a, at, b, n):
    diff = 0
    for i in range(n):
        diff |= a[at + i] ^ b[i]
    return diff == 0


class SrtpTransform:
    """Protects and opens RTP packets. Nothing is allocated for a packet after the first of its length."""

    def __init__(self, aes, master, salt, room=MAX_PACKET_BYTES):
        self._cipher = _Cipher(aes, master, salt, 0, room)
        self._room = room
        self._roc = bytearray(4)
        self._tag = bytearray(TAG_BYTES)

    def _set_roc(self, roc):
        for i in range(4):
            self._roc[i] = roc >> 24 - 8 * i & 255

    def protect(self, buf, n, roc):
        """Encrypt the packet buf[:n] in place, append its tag and return the length; IndexError without room."""
        if n + TAG_BYTES > len(buf) or n > self._room:
            raise IndexError("no room for the tag")
        start = payload_offset(buf, n)
        self._set_roc(roc)
        self._cipher.crypt(buf, start, n - start, 8, roc, buf[2] << 8 | buf[3])
        self._cipher.auth.tag_into(buf, n, self._roc, buf, n, TAG_BYTES)
        return n + TAG_BYTES

    def verify(self, buf, n, stream):
        """Return the index of the packet buf[:n], which stays encrypted. `stream` is the Stream of its SSRC.

        SrtpError for one that is not genuine or was seen before; the stream then is as it was.
        """
        n -= TAG_BYTES
        if n < RTP_HEADER_BYTES or n > self._room:
            raise SrtpError("length")
        payload_offset(buf, n)
        index = stream.estimate_index(buf[2] << 8 | buf[3])
        if not stream.is_new(index):
            raise SrtpError("replay")
        self._set_roc(index >> 16)
        self._cipher.auth.tag_into(buf, n, self._roc, self._tag, 0, TAG_BYTES)
        if not _equal(buf, n, self._tag, TAG_BYTES):
            raise SrtpError("tag")
        stream.add(index)
        return index

    def decrypt(self, buf, n, index):
        """Decrypt the packet buf[:n], which was verified, in place and return the length without its tag."""
        n -= TAG_BYTES
        start = payload_offset(buf, n)
        self._cipher.crypt(buf, start, n - start, 8, index >> 16, index & 0xFFFF)
        return n

    def open(self, buf, n, stream):
        """Verify the packet buf[:n], decrypt it in place and return the length without its tag."""
        return self.decrypt(buf, n, self.verify(buf, n, stream))


def payload_offset(buf, n):
    """Return where the payload of the RTP packet buf[:n] starts (RFC 3550 5.1); SrtpError when it is none."""
    if n < RTP_HEADER_BYTES or buf[0] >> 6 != 2:
        raise SrtpError("no RTP")
    start = RTP_HEADER_BYTES + 4 * (buf[0] & 15)
    if buf[0] & 0x10:
        if start + 4 > n:
            raise SrtpError("length")
        start += 4 + 4 * (buf[start + 2] << 8 | buf[start + 3])
    if start > n:
        raise SrtpError("length")
    return start


class ReplayList:
    """Which of the last 64 indices were taken (RFC 3711 3.3.2). Small integers in a list: nothing is allocated."""

    def __init__(self):
        self.reset()

    def reset(self):
        """Begin anew: nothing was taken."""
        self.highest = -1
        self._taken = [-1] * _WINDOW

    def is_new(self, index):
        """True when it was not taken before and is not too old to tell."""
        return index > self.highest or index > self.highest - _WINDOW and self._taken[index % _WINDOW] != index

    def add(self, index):
        """Remember the index of a genuine packet."""
        self._taken[index % _WINDOW] = index
        if index > self.highest:
            self.highest = index

    def reject_up_to(self, highest):
        """Take no index up to this one any more: what a receiver does that began anew."""
        self.highest = highest
        for index in range(max(0, highest - _WINDOW + 1), highest + 1):
            self._taken[index % _WINDOW] = index


class SrtpStream(ReplayList):
    """One SSRC's packets as their receiver knows them: roll-over counter and replay window."""

    def estimate_index(self, sequence):
        """Return the index that a packet with this sequence number most likely has (RFC 3711 3.3.1)."""
        if self.highest < 0:
            return sequence
        roc = self.highest >> 16
        ahead = sequence - (self.highest & 0xFFFF)
        if ahead > 32768 and roc:
            roc -= 1
        elif ahead < -32768:
            roc += 1
        return roc << 16 | sequence


class SrtcpTransform:
    """Protects and opens RTCP packets, compound ones too. One context a direction: indices are never shared."""

    def __init__(self, aes, master, salt, room=MAX_PACKET_BYTES):
        self._cipher = _Cipher(aes, master, salt, 3, room)
        self._room = room
        self._tag = bytearray(TAG_BYTES)
        self.replay_list = ReplayList()

    def protect(self, buf, n, index):
        """Encrypt buf[8:n] in place, append index and tag and return the length; IndexError without room."""
        if n + SRTCP_OVERHEAD_BYTES > len(buf) or n > self._room or not 0 <= index <= INDEX_MAX:
            raise IndexError("no room for the tag, or an index that does not fit")
        self._cipher.crypt(buf, 8, n - 8, 4, index >> 16, index & 0xFFFF)
        buf[n] = 0x80 | index >> 24
        buf[n + 1] = index >> 16 & 255
        buf[n + 2] = index >> 8 & 255
        buf[n + 3] = index & 255
        n += 4
        self._cipher.auth.tag_into(buf, n, None, buf, n, TAG_BYTES)
        return n + TAG_BYTES

    def open(self, buf, n, replay_list=None):
        """Decrypt buf[:n] in place and return the length of the RTCP in it.

        SrtpError for what is not genuine, not encrypted, or has an index that is too old or was seen before.
        """
        n -= TAG_BYTES
        if n < 12 or n > self._room or buf[0] >> 6 != 2:
            raise SrtpError("length")
        self._cipher.auth.tag_into(buf, n, None, self._tag, 0, TAG_BYTES)
        if not _equal(buf, n, self._tag, TAG_BYTES):
            raise SrtpError("tag")
        n -= 4
        if not buf[n] & 0x80:
            raise SrtpError("not encrypted")
        index = (buf[n] & 0x7F) << 24 | buf[n + 1] << 16 | buf[n + 2] << 8 | buf[n + 3]
        if replay_list is None:
            replay_list = self.replay_list
        if not replay_list.is_new(index):
            raise SrtpError("replay")
        replay_list.add(index)
        self._cipher.crypt(buf, 8, n - 8, 4, index >> 16, index & 0xFFFF)
        return n
