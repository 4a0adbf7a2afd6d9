"""Motion JPEG, and A-law with it, in AVI, only ever appended to: cut anywhere, it plays up to the last whole frame.

Sizes that only the end would tell are those of a file without end, as muxers write them to a pipe. Frames have a steady
pace: one that is missing is an empty chunk, which players show as the frame before.
"""

import struct
from array import array

from agent.audio import samples
from patrolink_protocol import clip, g711
from patrolink_protocol.native import const

_ENDLESS = const(0xFFFFFFFF)
_CHUNKS = const(512)  # in the index; a longer file has none, and players look through it
_SOUND = const(800)  # bytes of sound in a chunk: 100 ms
_APART_MS = const(100)  # sound that is farther than this from where it belongs is moved there
_LONGEST_MS = const(60000)  # more is never made up for: a time that is wrong costs no endless file
_ENTRY = const(16)
_KEYFRAME = const(16)
_INTERLEAVED = const(256)
_ALAW = const(6)
_VIDEO, _AUDIO = b"00dc", b"01wb"
_AS_SOUND = const(0x40000000)  # on a size: the chunk is sound


def _chunk(name, *parts):
    body = b"".join(parts)
    return name + struct.pack("<I", len(body)) + body


def _stream(kind, codec, rate, sample, width, height, form):
    head = struct.pack(
        "<4s4sIHHIIIIIIIIHHHH", kind, codec, 0, 0, 0, 0, 1, rate, 0, 0, 0, 0xFFFFFFFF, sample, 0, 0, width, height
    )
    return _chunk(b"LIST", b"strl", _chunk(b"strh", head), _chunk(b"strf", form))


def header(width, height, fps, sound):
    """Return what the file begins with, up to its first chunk."""
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    streams = _stream(b"vids", b"MJPG", fps, 0, width, height, form)
    if sound:
        form = struct.pack("<HHIIHHH", _ALAW, 1, 8000, 8000, 1, 8, 0)
        streams += _stream(b"auds", b"\0\0\0\0", 8000, 1, 0, 0, form)
    main = struct.pack(
        "<14I", 1000000 // fps, 0, 0, _INTERLEAVED, 0, 0, 2 if sound else 1, 0, width, height, 0, 0, 0, 0
    )
    lead = _chunk(b"LIST", b"hdrl", _chunk(b"avih", main), streams)
    endless = struct.pack("<I", _ENDLESS)
    return b"RIFF" + endless + b"AVI " + lead + b"LIST" + endless + b"movi"


class AviMuxer:
    """
    fps    most pictures a second
    sound  True: there is a track of sound
    """

    codec = clip.MJPEG_AVI

    def __init__(self, width, height, fps, sound):
        self._header = header(width, height, fps, sound)
        self._fps = fps
        self._sizes = array("I", bytes(4 * _CHUNKS))  # of the chunks so far
        self._head = bytearray(8)
        self._voice = bytearray(_SOUND) if sound else None
        self._sink = None
        self._begun()

    def _begun(self):
        self._count = 0  # chunks
        self._frames = 0  # of them pictures, empty ones too
        self._heard = 0  # bytes of sound, those that wait in _voice too
        self._waiting = 0
        self._now = 0

    def begin(self, sink):
        """Begin a file. It goes to sink(time_ms, *parts) piece by piece."""
        self._sink = sink
        self._begun()
        sink(0, self._header)

    def picture(self, picture, time_ms):
        """Append one whole JPEG, in the place that its time gives it."""
        self._now = time_ms
        place = (time_ms * self._fps + 500) // 1000
        if place - self._frames <= _LONGEST_MS * self._fps // 1000:
            while self._frames < place:
                self._frames += 1
                self._write(_VIDEO, b"", 0)
        self._frames += 1
        self._write(_VIDEO, picture, len(picture))

    def sound(self, pcm, time_ms):
        """Append samples: 16 bits, little-endian, 8000 a second, ten milliseconds or a multiple of them."""
        self._now = time_ms
        behind = time_ms * 8 - self._heard
        if behind < -8 * _APART_MS:
            return  # twice the same time
        if behind > 8 * _APART_MS and behind <= 8 * _LONGEST_MS:
            self._silence(behind)
        at = 0
        while at < len(pcm):
            g711.encode(pcm if not at else memoryview(pcm)[at:], samples.UNIT, self._voice, self._waiting)
            at += 2 * samples.UNIT
            self._spoken(samples.UNIT)

    def _silence(self, n):
        for _ in range(n // samples.UNIT):
            for i in range(self._waiting, self._waiting + samples.UNIT):
                self._voice[i] = g711.SILENCE
            self._spoken(samples.UNIT)

    def _spoken(self, n):
        self._waiting += n
        self._heard += n
        if self._waiting == _SOUND:
            self._write(_AUDIO, self._voice, _SOUND)
            self._waiting = 0

    def _write(self, name, data, n):
        head = self._head
        struct.pack_into("<4sI", head, 0, name, n)
        if self._count < _CHUNKS:
            self._sizes[self._count] = n | _AS_SOUND if name is _AUDIO else n
        self._count += 1
        self._sink(self._now, head, data, b"\0" if n & 1 else b"")

    def end(self):
        """The file is whole: what waits, and the index."""
        if self._waiting:
            self._write(_AUDIO, memoryview(self._voice)[: self._waiting], self._waiting)
            self._waiting = 0
        if self._count > _CHUNKS:
            return
        struct.pack_into("<4sI", self._head, 0, b"idx1", self._count * _ENTRY)
        self._sink(self._now, self._head)
        entry = bytearray(_ENTRY)
        at = 4  # from the word "movi" on
        for i in range(self._count):
            n = self._sizes[i]
            name = _AUDIO if n & _AS_SOUND else _VIDEO
            n &= _AS_SOUND - 1
            struct.pack_into("<4sIII", entry, 0, name, _KEYFRAME if n else 0, at, n)
            self._sink(self._now, entry)
            at += 8 + n + (n & 1)
