"""Splits the bytes of a receiver into NMEA 0183 sentences. Allocates nothing per sentence.

Bytes that are not a sentence (UBX, RTCM, SiRF binary, noise) are skipped and counted. A sentence without a checksum is
rejected and counted under `bad_checksum`, as gpsd does (packet.c, nmea_checksum): it may be truncated.
"""

from array import array

from patrolink_protocol.native import const

try:
    from . import scan
except SyntaxError:  # a MicroPython without the native code emitter
    from patrolink_protocol.native_fallback import load_interpreted

    scan = load_interpreted(__file__[: __file__.rfind("/")] + "/scan.py")

_LINE_BYTES = const(132)  # 128 characters, and those written before the length is checked


class Framer:
    """Calls `on_sentence()` for each valid sentence; `scan.fields` reads its fields until that returns.

    Args:
        on_sentence: Function without arguments.

    Attributes:
        line: The sentence from after "$".
        state: Working state of `scan.frame`.
        ends: Offset after each field of `line`.
        sentences: Valid sentences.
        bad_checksum: Sentences with a bad checksum or none.
        overlong: Sentences of more than 128 characters.
        skipped_bytes: Bytes outside of sentences, or in incomplete ones.
    """

    def __init__(self, on_sentence):
        self._on_sentence = on_sentence
        self.line = bytearray(_LINE_BYTES)
        self.state = array("i", [0] * 10)
        self.ends = bytearray(_LINE_BYTES)
        self.sentences = 0
        self.bad_checksum = 0
        self.overlong = 0
        self.skipped_bytes = 0

    def feed(self, buf, n):
        """Process buf[:n]. Never raises, whatever the bytes are."""
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
