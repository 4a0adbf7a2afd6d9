"""Writes Motion JPEG and A-law sound into AVI by appending only: a truncated file plays up to its last whole frame.

Sizes that only the end of the file would tell have the value that muxers use for pipes. AVI has a constant frame rate:
a missing frame is an empty chunk, for which players show the previous frame.
"""

import struct
from array import array

from agent.audio import samples
from patrolink_protocol import clip as clip_format
from patrolink_protocol import g711
from patrolink_protocol.native import const

_UNKNOWN_SIZE = const(0xFFFFFFFF)
_INDEX_CHUNKS = const(512)  # a file with more chunks has no index, and players search it
_SOUND_CHUNK = const(800)  # bytes: 100 ms
_SOUND_LATE_MS = const(100)  # sound that differs from its time by more is moved
_GAP_MAX_MS = const(60000)  # longer gaps are not filled, so that a wrong time does not grow the file
_INDEX_ENTRY = const(16)
_KEYFRAME = const(16)
_INTERLEAVED = const(256)
_ALAW = const(6)
_VIDEO, _AUDIO = b"00dc", b"01wb"
_IS_SOUND = const(0x40000000)  # set in the size of a sound chunk


def _chunk(name, *parts):
    body = b"".join(parts)
    return name + struct.pack("<I", len(body)) + body


def _stream(kind, codec, rate, sample, width, height, form):
    head = struct.pack(
        "<4s4sIHHIIIIIIIIHHHH", kind, codec, 0, 0, 0, 0, 1, rate, 0, 0, 0, 0xFFFFFFFF, sample, 0, 0, width, height
    )
    return _chunk(b"LIST", b"strl", _chunk(b"strh", head), _chunk(b"strf", form))


def header(width, height, fps, sound):
    """Return the bytes of a file before its first chunk."""
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    streams = _stream(b"vids", b"MJPG", fps, 0, width, height, form)
    if sound:
        form = struct.pack("<HHIIHHH", _ALAW, 1, 8000, 8000, 1, 8, 0)
        streams += _stream(b"auds", b"\0\0\0\0", 8000, 1, 0, 0, form)
    main = struct.pack(
        "<14I", 1000000 // fps, 0, 0, _INTERLEAVED, 0, 0, 2 if sound else 1, 0, width, height, 0, 0, 0, 0
    )
    lists = _chunk(b"LIST", b"hdrl", _chunk(b"avih", main), streams)
    size = struct.pack("<I", _UNKNOWN_SIZE)
    return b"RIFF" + size + b"AVI " + lists + b"LIST" + size + b"movi"


class AviMuxer:
    """Writes one file after the other. Nothing is allocated for a frame.

    Args:
        width: Pixels.
        height: Pixels.
        fps: Frame rate, the most pictures per second.
        sound: Whether there is an audio track.
    """

    codec = clip_format.MJPEG_AVI

    def __init__(self, width, height, fps, sound):
        self._header = header(width, height, fps, sound)
        self._fps = fps
        self._sizes = array("I", bytes(4 * _INDEX_CHUNKS))  # of the chunks so far
        self._head = bytearray(8)
        self._sound = bytearray(_SOUND_CHUNK) if sound else None  # the chunk being filled
        self._sink = None
        self._reset()

    def _reset(self):
        self._chunks = 0
        self._frames = 0  # chunks of video, empty ones included
        self._sound_bytes = 0  # in chunks and in _sound
        self._pending = 0  # bytes in _sound
        self._time_ms = 0

    def begin(self, sink):
        """Begin a file. Its bytes go to sink(time_ms, *parts), piece by piece."""
        self._sink = sink
        self._reset()
        sink(0, self._header)

    def picture(self, picture, time_ms):
        """Append one JPEG at the position that its time gives it."""
        self._time_ms = time_ms
        position = (time_ms * self._fps + 500) // 1000
        if position - self._frames <= _GAP_MAX_MS * self._fps // 1000:
            while self._frames < position:
                self._frames += 1
                self._write(_VIDEO, b"", 0)
        self._frames += 1
        self._write(_VIDEO, picture, len(picture))

    def sound(self, pcm, time_ms):
        """Append samples: 16 bits, little-endian, 8000 per second, a multiple of 10 ms."""
        self._time_ms = time_ms
        late_bytes = time_ms * 8 - self._sound_bytes
        if late_bytes < -8 * _SOUND_LATE_MS:
            return  # this time has its sound already
        if late_bytes > 8 * _SOUND_LATE_MS and late_bytes <= 8 * _GAP_MAX_MS:
            self._add_silence(late_bytes)
        at = 0
        while at < len(pcm):
            g711.encode(pcm if not at else memoryview(pcm)[at:], samples.UNIT, self._sound, self._pending)
            at += 2 * samples.UNIT
            self._add(samples.UNIT)

    def _add_silence(self, n):
        for _ in range(n // samples.UNIT):
            for i in range(self._pending, self._pending + samples.UNIT):
                self._sound[i] = g711.SILENCE
            self._add(samples.UNIT)

    def _add(self, n):
        self._pending += n
        self._sound_bytes += n
        if self._pending == _SOUND_CHUNK:
            self._write(_AUDIO, self._sound, _SOUND_CHUNK)
            self._pending = 0

    def _write(self, name, data, n):
        head = self._head
        struct.pack_into("<4sI", head, 0, name, n)
        if self._chunks < _INDEX_CHUNKS:
            self._sizes[self._chunks] = n | _IS_SOUND if name is _AUDIO else n
        self._chunks += 1
        self._sink(self._time_ms, head, data, b"\0" if n & 1 else b"")

    def end(self):
        """Complete the file: pending sound, and the index."""
        if self._pending:
            self._write(_AUDIO, memoryview(self._sound)[: self._pending], self._pending)
            self._pending = 0
        if self._chunks > _INDEX_CHUNKS:
            return
        struct.pack_into("<4sI", self._head, 0, b"idx1", self._chunks * _INDEX_ENTRY)
        self._sink(self._time_ms, self._head)
        entry = bytearray(_INDEX_ENTRY)
        at = 4  # offsets count from the name "movi"
        for i in range(self._chunks):
            n = self._sizes[i]
            name = _AUDIO if n & _IS_SOUND else _VIDEO
            n &= _IS_SOUND - 1
            struct.pack_into("<4sIII", entry, 0, name, _KEYFRAME if n else 0, at, n)
            self._sink(self._time_ms, entry)
            at += 8 + n + (n & 1)
