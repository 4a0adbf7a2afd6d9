"""Bytes to NMEA 0183 sentences. Allocates nothing per sentence.

Whatever is not a sentence (UBX, RTCM, SiRF binary, noise) is skipped and counted. A sentence without a checksum is
refused and counted as one with a bad checksum, as gpsd does (packet.c, nmea_checksum): it may be the stump of one.
"""

from array import array

try:
    from . import scan
except SyntaxError:  # a MicroPython that makes no machine code
    from patrolink_protocol.native_fallback import load_interpreted

    scan = load_interpreted(__file__[: __file__.rfind("/")] + "/scan.py")

_ROOM = 132  # 128 characters, and what is written before a line is found too long


class Framer:
    """Calls `on_sentence()` for each good sentence; `scan.fields` reads its fields until it returns.

    Counters: sentences, bad_checksum, overlong, skipped_bytes (outside any sentence, or in one that was given up).
    """

    def __init__(self, on_sentence):
        self._on_sentence = on_sentence
        self.line = bytearray(_ROOM)  # from after "$"
        self.state = array("i", [0] * 10)
        self.ends = bytearray(_ROOM)  # offset after each field
        self.sentences = 0
        self.bad_checksum = 0
        self.overlong = 0
        self.skipped_bytes = 0

    def feed(self, buf, n):
        """Take buf[:n]. Never raises, whatever the bytes are."""
        i = 0
        while True:
            i = scan.frame(buf, i, n, self.state, self.line, self.ends, scan.SPECIAL)
            if i <= 0:
                break
            self.sentences += 1
            self._on_sentence()
        if i:
            self._count()

    def _count(self):
        state = self.state
        self.bad_checksum += state[scan.BAD]
        self.overlong += state[scan.OVERLONG]
        self.skipped_bytes += state[scan.SKIPPED]
        state[scan.BAD] = state[scan.OVERLONG] = state[scan.SKIPPED] = 0
