"""Frames that wait for the broker, in an append-only journal on the board's storage.

A power cut loses no frame that `put` has accepted.

    segment   a file, "a" (urgent lane) or "b" (routine lane) and eight digits; records of about `segment` bytes in all
    record    A5 00, length (u16), frame, CRC-32 of everything before it (u32); big-endian

A frame is done when the broker has acknowledged it; a segment is removed when all of its frames are done. After a power
cut the frames of the oldest segment are sent again, at most `segment` bytes of them: the receiver drops repeated frames
by their counter. Urgent frames (all but batches, status and PTT bursts) are sent first. The queue takes two frames of
memory, whatever its length.

When the quota is reached, every second position batch of the oldest segment is dropped, then of the next segment, and
so on, cyclically: the track loses resolution, oldest first, and no other frame is dropped. `dropped` counts them.

The second byte of a record is the version of the journal, 0. A segment that begins with a later version is neither read
nor removed: the firmware that wrote it can still send it. `foreign` counts these segments.
"""

import binascii
import struct

import patrolink_messages as m
from patrolink_protocol.native import const

_MAGIC = const(0xA500)
_HEAD_BYTES = const(4)
_CRC_BYTES = const(4)
_ROUTINE = (m.POSITION_BATCH, m.DEVICE_STATUS, m.PTT_BURST)
_THINNED = "t"  # file that a thinned segment is written to


class _Lane:
    def __init__(self, name):
        self.name = name
        self.first = 1  # number of the segment being read
        self.offset = 0  # of the next record in it
        self.last = 0  # number of the segment being written
        self.written = 0  # bytes in it
        self.pending = 0  # frames not yet acknowledged

    def file(self, number):
        return "%s%08d" % (self.name, number)


class Outbox:
    """A persistent queue of frames.

    Args:
        files: hal Files.
        quota: Bytes of storage that routine frames may use.
        segment: Bytes of a segment.
        frame_max: Bytes of the longest frame.

    Attributes:
        bytes: Bytes used on storage.
        dropped: Frames that were thinned or refused since boot.
        thinned: Frames that were thinned since boot.
        faults: Failed storage operations since boot.
        foreign: Segments of a later version of the journal.
    """

    def __init__(self, files, quota=262144, segment=4096, frame_max=m.MAX_FRAME):
        self._files = files
        self._quota = quota
        self._segment = segment
        self._frame_max = frame_max
        self._in = memoryview(bytearray(_HEAD_BYTES + frame_max + _CRC_BYTES))
        self._out = memoryview(bytearray(_HEAD_BYTES + frame_max + _CRC_BYTES))
        self._lanes = (_Lane("a"), _Lane("b"))
        self._sending = None  # lane of the frame that `peek` returned
        self._sending_bytes = 0
        self._next_thinned = 0  # number of the segment to thin next
        self.bytes = 0
        self.dropped = 0
        self.thinned = 0
        self.faults = 0
        self.foreign = 0
        self._recover()

    def __len__(self):
        return self._lanes[0].pending + self._lanes[1].pending

    def _recover(self):
        """Count the complete records of the previous boot; a torn record ends its segment."""
        names = self._files.names()
        if _THINNED in names:
            self._files.remove(_THINNED)  # an interrupted thinning; the segment itself is complete
        for lane in self._lanes:
            numbers = sorted([int(n[1:]) for n in names if n[0] == lane.name and len(n) == 9])
            for number in numbers:
                offset = 0
                while True:
                    n = self._read(lane.file(number), offset, self._in)
                    if not n:
                        break
                    offset += n
                    lane.pending += 1
                self.bytes += self._files.size(lane.file(number))
            if numbers:
                lane.first = numbers[0]
                lane.last = numbers[-1]
            lane.written = self._segment  # never append to a segment that may end in a torn record

    def _read(self, name, offset, buf):
        """Read the record at `offset` into `buf`; return its length, 0 at the end of the file or if it is damaged."""
        if self._files.read(name, offset, buf[:_HEAD_BYTES]) != _HEAD_BYTES:
            return 0
        magic, n = struct.unpack_from(">HH", buf, 0)
        if magic != _MAGIC or not 0 < n <= self._frame_max:
            return 0
        body = buf[_HEAD_BYTES : _HEAD_BYTES + n + _CRC_BYTES]
        if self._files.read(name, offset + _HEAD_BYTES, body) != n + _CRC_BYTES:
            return 0
        if struct.unpack_from(">I", buf, _HEAD_BYTES + n)[0] != binascii.crc32(buf[: _HEAD_BYTES + n]):
            return 0
        return _HEAD_BYTES + n + _CRC_BYTES

    def put(self, frame):
        """Store a frame (bytes-like). Returns False, and counts it, when it is too long or does not fit."""
        n = len(frame)
        size = _HEAD_BYTES + n + _CRC_BYTES
        routine = frame[0] & 31 in _ROUTINE
        fits = n <= self._frame_max
        while fits and routine and self.bytes + size > self._quota:
            fits = self._thin()
        if fits:
            out = self._out
            struct.pack_into(">HH", out, 0, _MAGIC, n)
            out[_HEAD_BYTES : _HEAD_BYTES + n] = frame
            struct.pack_into(">I", out, _HEAD_BYTES + n, binascii.crc32(out[: _HEAD_BYTES + n]))
            fits = self._append(self._lanes[1 if routine else 0], out[:size])
        if not fits:
            self.dropped += 1
        return fits

    def _append(self, lane, record):
        if lane.written + len(record) > self._segment:
            lane.last += 1
            lane.written = 0
        try:
            self._files.append(lane.file(lane.last), record)
        except OSError:
            # A part of the record may have been written: the next record goes to a new segment.
            self.faults += 1
            lane.written = self._segment
            return False
        lane.written += len(record)
        lane.pending += 1
        self.bytes += len(record)
        return True

    def peek(self):
        """Return a view of the next frame, valid until `acknowledge`, or None. Repeated calls return the same frame."""
        if self._sending is None:
            for lane in self._lanes:
                if lane.pending:
                    self._sending_bytes = self._read_oldest(lane)
                    if self._sending_bytes:
                        self._sending = lane
                        break
            else:
                return None
        return self._in[_HEAD_BYTES : self._sending_bytes - _CRC_BYTES]

    def _read_oldest(self, lane):
        """Read the oldest record of a lane into `_in`; return its length. If none is readable, 0: the lane is empty."""
        while lane.first <= lane.last:
            try:
                n = self._read(lane.file(lane.first), lane.offset, self._in)
            except OSError:
                n = 0  # the file is missing or storage fails: continue with the next segment
            if n:
                return n
            self._drop_first(lane)
        lane.pending = 0
        return 0

    def _drop_first(self, lane):
        """Remove the segment being read and go on to the next one."""
        name = lane.file(lane.first)
        try:
            if self._is_foreign(name):
                self.foreign += 1
            else:
                size = self._files.size(name)
                self._files.remove(name)
                self.bytes -= size
        except OSError:
            pass  # no file has this number
        if lane.first == lane.last:
            lane.written = self._segment
        lane.first += 1
        lane.offset = 0

    def _is_foreign(self, name):
        head = bytearray(2)
        return self._files.read(name, 0, head) == 2 and head[0] == _MAGIC >> 8 and head[1] != _MAGIC & 255

    def acknowledge(self):
        """Remove the frame that `peek` returned: the broker has it."""
        lane, self._sending = self._sending, None
        lane.pending -= 1
        lane.offset += self._sending_bytes
        if not lane.pending and lane.written * 2 > self._segment:
            self._clear(lane)  # otherwise half a segment would be sent again after a power cut

    def _clear(self, lane):
        while lane.first <= lane.last:
            self._drop_first(lane)

    def close(self):
        """Remove acknowledged frames before a planned power-off, so that the next boot does not send them again."""
        for lane in self._lanes:
            if not lane.pending:
                self._clear(lane)

    def _thin(self):
        """Drop every second position batch of the next segment that has at least two; False when there is none."""
        lane = self._lanes[1]
        # Neither the segment being read, whose offset is in use, nor the one being written.
        for _ in range(lane.last - lane.first - 1):
            if not lane.first < self._next_thinned < lane.last:
                self._next_thinned = lane.first + 1
            self._next_thinned += 1
            try:
                if self._thin_segment(lane, lane.file(self._next_thinned - 1)):
                    return True
            except OSError:
                self.faults += 1
        return False

    def _thin_segment(self, lane, name):
        """Rewrite a segment without every second position batch; return the number of frames dropped."""
        files = self._files
        buf = self._out  # `_in` may hold the frame being sent
        if _THINNED in files.names():
            files.remove(_THINNED)
        removed = offset = 0
        drop = True  # every second batch, but not the first
        while True:
            n = self._read(name, offset, buf)
            if not n:
                break
            offset += n
            if buf[_HEAD_BYTES] & 31 == m.POSITION_BATCH:
                drop = not drop
                if drop:
                    removed += 1
                    continue
            files.append(_THINNED, buf[:n])
        if removed:
            old_size = files.size(name)
            files.rename(_THINNED, name)
            self.bytes -= old_size - files.size(name)
            lane.pending -= removed
            self.dropped += removed
            self.thinned += removed
        return removed
