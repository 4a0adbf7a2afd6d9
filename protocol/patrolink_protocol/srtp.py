"""SRTP and SRTCP (RFC 3711) with AES_CM_128_HMAC_SHA1_80, in place. MicroPython subset.

A transform has one master key and master salt. The caller chooses the SSRCs and ensures that no (SSRC, index) is used
twice under one key: a second use would disclose both plain texts.

    RTP    header | payload, encrypted | tag 10            index = ROC << 16 | sequence number
    RTCP   8 bytes | rest, encrypted | E + index 4 | tag 10

`aes(key)` returns a function encrypt(blocks, out): AES-128 in ECB mode over whole blocks; both may be the same buffer.
"""

from .aes import kernels
from .key_derivation import derive_key
from .sha1 import HmacSha1

TAG_BYTES = 10
KEY_BYTES, SALT_BYTES = 16, 14
SRTCP_OVERHEAD_BYTES = 4 + TAG_BYTES  # added by protection
MAX_PACKET_BYTES = 1024
RTP_HEADER_BYTES = 12
INDEX_MAX = 0x7FFFFFFF  # of an SRTCP packet
_WINDOW = 64

try:
    import micropython

    @micropython.viper
    def _number_blocks(blocks, n: int):
        """Repeat the first block, n blocks in total, and number them in their last two bytes."""
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

except ImportError:

    def _number_blocks(blocks, n):
        """Repeat the first block, n blocks in total, and number them in their last two bytes."""
        head = bytes(blocks[:14])
        blocks[: 16 * n] = b"".join([head + i.to_bytes(2, "big") for i in range(n)])


def derive_master(device_key, label, epoch, context=b""):
    """Return (master key, master salt) derived from a device key; arguments as in `key_derivation.derive_key`."""
    secret = derive_key(device_key, label, epoch, context)
    return secret[:KEY_BYTES], secret[KEY_BYTES : KEY_BYTES + SALT_BYTES]


class SrtpError(ValueError):
    """A packet is not authentic, was received before, or is malformed."""


class _Cipher:
    """AES in counter mode (RFC 3711, 4.1.1) with the session keys of one label range."""

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
        kernels.xor_into(buf, start, n, blocks, 0)


def _session_key(aes, master, salt, label, n):
    """Return n bytes of a session key (RFC 3711, 4.3, key derivation rate 0)."""
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
    """Protects and opens RTP packets. Only the first packet of a length allocates memory.

    Args:
        aes: Function as in the description of the module.
        master: Master key, 16 bytes.
        salt: Master salt, 14 bytes.
        room: Longest plain packet, bytes.
    """

    def __init__(self, aes, master, salt, room=MAX_PACKET_BYTES):
        self._cipher = _Cipher(aes, master, salt, 0, room)
        self._room = room
        self._roc = bytearray(4)
        self._tag = bytearray(TAG_BYTES)

    def _set_roc(self, roc):
        for i in range(4):
            self._roc[i] = roc >> 24 - 8 * i & 255

    def protect(self, buf, n, roc):
        """Encrypt the packet buf[:n] in place and append its tag.

        Args:
            buf: Writable buffer.
            n: Length of the plain packet.
            roc: Roll-over counter.

        Returns:
            The length of the protected packet.

        Raises:
            IndexError: the buffer is too short for the tag, or the packet too long.
        """
        if n + TAG_BYTES > len(buf) or n > self._room:
            raise IndexError("no space for the tag, or the packet is too long")
        start = payload_offset(buf, n)
        self._set_roc(roc)
        self._cipher.crypt(buf, start, n - start, 8, roc, buf[2] << 8 | buf[3])
        self._cipher.auth.tag_into(buf, n, self._roc, buf, n, TAG_BYTES)
        return n + TAG_BYTES

    def verify(self, buf, n, stream):
        """Authenticate the packet buf[:n] without decrypting it, and return its index.

        Args:
            buf: Buffer with the packet.
            n: Length of the packet.
            stream: SrtpStream of its SSRC; it records the index.

        Raises:
            SrtpError: the packet is not authentic or was received before; the stream is unchanged.
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
        """Decrypt the verified packet buf[:n] in place and return its length without the tag."""
        n -= TAG_BYTES
        start = payload_offset(buf, n)
        self._cipher.crypt(buf, start, n - start, 8, index >> 16, index & 0xFFFF)
        return n

    def open(self, buf, n, stream):
        """Authenticate the packet buf[:n], decrypt it in place and return its length without the tag."""
        return self.decrypt(buf, n, self.verify(buf, n, stream))


def payload_offset(buf, n):
    """Return the offset of the payload of the RTP packet buf[:n] (RFC 3550, 5.1).

    Raises:
        SrtpError: the packet is malformed.
    """
    if n < RTP_HEADER_BYTES or buf[0] >> 6 != 2:
        raise SrtpError("not RTP")
    start = RTP_HEADER_BYTES + 4 * (buf[0] & 15)
    if buf[0] & 0x10:
        if start + 4 > n:
            raise SrtpError("length")
        start += 4 + 4 * (buf[start + 2] << 8 | buf[start + 3])
    if start > n:
        raise SrtpError("length")
    return start


class ReplayList:
    """Replay list of the last 64 indices (RFC 3711, 3.3.2). Small integers in a list need no allocation."""

    def __init__(self):
        self.reset()

    def reset(self):
        """Forget all indices."""
        self.highest = -1
        self._window = [-1] * _WINDOW

    def is_new(self, index):
        """Return True if the index was not added before and is within the window."""
        return index > self.highest or index > self.highest - _WINDOW and self._window[index % _WINDOW] != index

    def add(self, index):
        """Add the index of an authentic packet."""
        self._window[index % _WINDOW] = index
        if index > self.highest:
            self.highest = index

    def reject_up_to(self, highest):
        """Treat all indices up to `highest` as received: for a receiver that has restarted."""
        self.highest = highest
        for index in range(max(0, highest - _WINDOW + 1), highest + 1):
            self._window[index % _WINDOW] = index


class SrtpStream(ReplayList):
    """State of a receiver for one SSRC: roll-over counter and replay list."""

    def estimate_index(self, sequence):
        """Return the most likely index of a packet with this sequence number (RFC 3711, 3.3.1)."""
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
    """Protects and opens RTCP packets, including compound packets. Each direction needs its own transform and indices.

    Args:
        aes: Function as in the description of the module.
        master: Master key, 16 bytes.
        salt: Master salt, 14 bytes.
        room: Longest plain packet, bytes.

    Attributes:
        replay_list: ReplayList of the packets opened.
    """

    def __init__(self, aes, master, salt, room=MAX_PACKET_BYTES):
        self._cipher = _Cipher(aes, master, salt, 3, room)
        self._room = room
        self._tag = bytearray(TAG_BYTES)
        self.replay_list = ReplayList()

    def protect(self, buf, n, index):
        """Encrypt buf[8:n] in place and append index and tag.

        Args:
            buf: Writable buffer.
            n: Length of the plain packet.
            index: SRTCP index, 0 to INDEX_MAX; never used before under this key and SSRC.

        Returns:
            The length of the protected packet.

        Raises:
            IndexError: the buffer is too short, the packet too long, or the index out of range.
        """
        if n + SRTCP_OVERHEAD_BYTES > len(buf) or n > self._room or not 0 <= index <= INDEX_MAX:
            raise IndexError("no space for the tag, the packet is too long, or the index is out of range")
        self._cipher.crypt(buf, 8, n - 8, 4, index >> 16, index & 0xFFFF)
        buf[n] = 0x80 | index >> 24
        buf[n + 1] = index >> 16 & 255
        buf[n + 2] = index >> 8 & 255
        buf[n + 3] = index & 255
        n += 4
        self._cipher.auth.tag_into(buf, n, None, buf, n, TAG_BYTES)
        return n + TAG_BYTES

    def open(self, buf, n, replay_list=None):
        """Authenticate and decrypt buf[:n] in place and return the length of the plain RTCP packet.

        Args:
            buf: Buffer with the packet.
            n: Length of the packet.
            replay_list: ReplayList of the sender; None for the one of this transform.

        Raises:
            SrtpError: the packet is not authentic or not encrypted, or its index is too old or was received before.
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
