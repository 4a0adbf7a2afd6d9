"""Frames that wait for the broker, in append-only journals on the board's storage.

A power cut loses no frame that `put` has accepted.

    lane      a journal: "a" urgent frames (all but the following), "s" device_status, "b", "c", "d", "f" and "g"
              position batches and PTT bursts
    segment   a file, the letter of its lane and eight digits; records of about `segment` bytes in all
    record    A5 00, length (u16), frame, CRC-32 of everything before it (u32); big-endian

A frame is done when the broker has acknowledged it; a segment is removed when all of its frames are done. After a power
cut the frames of the oldest segment of each lane are sent again: the receiver drops repeated frames by their counter.
When all frames of the previous boot are done, their segments are removed at once, so they are sent again once only.
Urgent frames are sent first, the others in the order of their counters. The queue takes two frames of memory, whatever
its length.

Frames are thinned by removing whole segments, so nothing is ever rewritten:

    status    only the last two segments, of a quarter of the size, are kept
    quota     while frames wait, batches are dealt to their lanes: every second one to "b", every fourth to "c", every
              eighth to "d", every sixteenth each to "f" and "g". When the quota is reached, or storage is full, the
              oldest segment of the longest lane is removed. The lanes end up equally long, so the track is complete at
              its new end and loses resolution with age.
    counters  a frame that is so old that the replay window of the hub could have passed it is removed

The second byte of a record is the version of the journal, 0. A segment that begins with a later version is neither read
nor removed: the firmware that wrote it can still send it. `foreign` counts these segments.
"""

import binascii
import struct

import patrolink_messages as m
from agent.link.removal import Removal
from patrolink_protocol.native import const

_MAGIC = const(0xA500)
_HEAD_BYTES = const(4)
_CRC_BYTES = const(4)
_ENOSPC = const(28)
_LANES = ("a", "s", "b", "c", "d", "f", "g")  # "e" is the name of the queue of events
_STATUS_SHARE = const(4)
# Index of the lane of every sixteenth batch, of the one after it, and so on.
_LANE_OF = b"\x06\x02\x03\x02\x04\x02\x03\x02\x05\x02\x03\x02\x04\x02\x03\x02"
# Counters between the oldest frame and the newest one; those used between two checks must still be in the window.
_SPREAD_CHECK = const(1024)
_SPREAD_MAX = m.REPLAY_WINDOW - 2 * _SPREAD_CHECK


class _Lane:
    # Eight attributes fill the table of an instance of MicroPython; one more costs 32 bytes a lane.
    def __init__(self, name, written):
        self.name = name
        self.first = 1  # number of the segment being read
        self.offset = 0  # of the next record in it
        self.counter = -1  # of the frame in that record, -1 before it is read
        self.last = 0  # number of the segment being written
        self.written = written  # bytes in it
        self.bytes = 0  # of all segments
        self.pending = 0  # frames not yet acknowledged

    def file(self, number):
        return "%s%08d" % (self.name, number)


class Outbox:
    """A persistent queue of frames.

    Args:
        files: hal Files.
        quota: Bytes of storage that routine frames may use.
        segment: Bytes of a segment. A file system that copies the last block of a file when it grows writes half of
            them with each frame.
        frame_max: Bytes of the longest frame.

    Attributes:
        thinned: Accepted frames that were removed before they were acknowledged, since boot.
        dropped: Frames that were refused, or thinned, status messages excepted, since boot.
        faults: Failed storage operations since boot.
        foreign: Segments of a later version of the journal.
    """

    def __init__(self, files, quota=262144, segment=2048, frame_max=m.MAX_FRAME):
        self._files = files
        self._removal = Removal(files)
        self._quota = quota
        self._segment = segment
        self._frame_max = frame_max
        self._in = memoryview(bytearray(_HEAD_BYTES + frame_max + _CRC_BYTES))
        self._out = memoryview(bytearray(_HEAD_BYTES + frame_max + _CRC_BYTES))
        self._lanes = [_Lane(name, segment) for name in _LANES]
        self._sending = None  # lane of the frame that `peek` returned
        self._sending_bytes = 0
        self._dealt = 0
        self._spread_checked = -_SPREAD_CHECK  # newest counter at the last check
        self.dropped = 0
        self.thinned = 0
        self.faults = 0
        self.foreign = 0
        self._recover()
        self._has_recovered = len(self) > 0  # frames of the previous boot are on storage

    def __len__(self):
        return sum([lane.pending for lane in self._lanes])

    @property
    def bytes(self):
        """Bytes used on storage."""
        return sum([lane.bytes for lane in self._lanes])

    def _recover(self):
        """Count the complete records of the previous boot; a torn record ends its segment."""
        try:
            names = self._files.names()
        except OSError:
            self.faults += 1
            return
        for lane in self._lanes:
            numbers = sorted([int(n[1:]) for n in names if n[0] == lane.name and len(n) == 9])
            if numbers:
                lane.first = numbers[0]
                lane.last = numbers[-1]
            for number in numbers:
                try:
                    self._recover_segment(lane, number)
                except OSError:
                    self.faults += 1
                    lane.written = self._segment
        self._dealt = len(self)

    def _recover_segment(self, lane, number):
        offset = 0
        while True:
            n = self._read(lane.file(number), offset, self._in)
            if not n:
                break
            offset += n
            lane.pending += 1
        size = self._files.size(lane.file(number))
        lane.bytes += size
        # A segment that may end in a torn record is not continued.
        lane.written = size if size == offset else self._segment

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

    # --- writing ----------------------------------------------------------------------------------------------------

    def put(self, frame):
        """Store a frame (bytes-like). Returns False, and counts it, when it is too long or storage fails."""
        fits = len(frame) <= self._frame_max
        if fits:
            self.limit_spread(_counter_of(frame))
            lane = self._lane_for(frame[0] & 31)
            size = _HEAD_BYTES + len(frame) + _CRC_BYTES
            if lane is self._lanes[1] and lane.first < lane.last and not self._continues(lane, size):
                self._thin_lane(lane)
            while fits and lane is not self._lanes[0] and self.bytes + size > self._quota:
                fits = self._thin()
            fits = fits and self._append(lane, frame)
        if not fits:
            self.dropped += 1
        return fits

    def _lane_for(self, kind):
        if kind == m.DEVICE_STATUS:
            return self._lanes[1]
        if kind != m.POSITION_BATCH and kind != m.PTT_BURST:
            return self._lanes[0]
        if not len(self):
            return self._lanes[2]  # it will be sent at once: one file is enough
        self._dealt += 1
        return self._lanes[_LANE_OF[self._dealt & 15]]

    def _append(self, lane, frame):
        """Append a record. When storage is full, older frames make room for it. Returns False when storage fails."""
        n = len(frame)
        out = self._out
        for last_attempt in (False, True):
            struct.pack_into(">HH", out, 0, _MAGIC, n)
            out[_HEAD_BYTES : _HEAD_BYTES + n] = frame
            struct.pack_into(">I", out, _HEAD_BYTES + n, binascii.crc32(out[: _HEAD_BYTES + n]))
            error = self._write(lane, out[: _HEAD_BYTES + n + _CRC_BYTES])
            if not error:
                return True
            if last_attempt or error != _ENOSPC or not self._thin():
                break
        return False

    def _continues(self, lane, size):
        """Return whether a record of `size` bytes fits the segment being written."""
        limit = self._segment // _STATUS_SHARE if lane is self._lanes[1] else self._segment
        return lane.written + size <= limit

    def _write(self, lane, record):
        """Append a record; return the errno of a failure, or 0."""
        if not self._continues(lane, len(record)):
            lane.last += 1
            lane.written = 0
        try:
            self._files.append(lane.file(lane.last), record)
        except OSError as e:
            # A part of the record may have been written: the next record goes to a new segment.
            self.faults += 1
            lane.written = self._segment
            return e.args[0] if e.args else -1
        lane.written += len(record)
        lane.pending += 1
        lane.bytes += len(record)
        return 0

    # --- thinning ---------------------------------------------------------------------------------------------------

    def _thin(self):
        """Remove the oldest segment of a lane of routine frames; return False when there is none.

        A lane whose frames are all acknowledged comes first, then the longest one; the segment being written is last.
        """
        victim = None
        highest = (False, False, 0)
        for lane in self._lanes[1:]:
            rank = (not lane.pending, lane.first < lane.last, lane.bytes)
            if lane.first <= lane.last and rank >= highest:
                victim, highest = lane, rank
        if victim is None:
            return False
        self._thin_lane(victim)
        return True

    def _thin_lane(self, lane):
        """Remove the oldest segment of a lane and count its frames."""
        frames = lane.pending if lane.first == lane.last else self._count(lane)
        lane.pending -= frames
        self.thinned += frames
        if lane is not self._lanes[1]:
            self.dropped += frames
        if self._sending is lane:
            self._sending = None
        self._drop_first(lane)

    def _count(self, lane):
        """Return the number of pending frames in the oldest segment of a lane."""
        offset = lane.offset
        frames = 0
        try:
            while True:
                n = self._read(lane.file(lane.first), offset, self._out)  # `_in` may hold the frame being sent
                if not n:
                    break
                offset += n
                frames += 1
        except OSError:
            self.faults += 1
        return min(frames, lane.pending)

    def limit_spread(self, newest):
        """Remove frames that the hub would refuse after the counter `newest`, whose frame may be sent before them."""
        if newest - self._spread_checked < _SPREAD_CHECK:
            return
        self._spread_checked = newest
        for lane in self._lanes:
            while lane.pending and self._read_oldest(lane, self._out) and lane.counter < newest - _SPREAD_MAX:
                self._thin_lane(lane)

    # --- reading ----------------------------------------------------------------------------------------------------

    def peek(self):
        """Return a view of the next frame, valid until `acknowledge`, or None. Repeated calls return the same frame."""
        if self._sending is None:
            self._sending = self._load_next()
            if self._sending is None:
                return None
        return self._in[_HEAD_BYTES : self._sending_bytes - _CRC_BYTES]

    def _load_next(self):
        """Read the next frame into `_in`; return its lane, or None."""
        urgent = self._lanes[0]
        chosen = loaded = None
        for lane in self._lanes:
            if lane.pending:
                if lane.counter < 0:
                    self._sending_bytes = self._read_oldest(lane, self._in)
                    loaded = lane
                if lane.pending and (chosen is None or lane.counter < chosen.counter):
                    chosen = lane
                    if lane is urgent:
                        break
        if chosen is None:
            return None
        if chosen is not loaded:
            self._sending_bytes = self._read_oldest(chosen, self._in)
        return chosen if chosen.pending else None

    def _read_oldest(self, lane, buf):
        """Read the oldest record of a lane into `buf`; return its length, 0 when none is readable: it is empty then."""
        while lane.first <= lane.last:
            try:
                n = self._read(lane.file(lane.first), lane.offset, buf)
            except OSError:
                n = 0  # the file is missing or storage fails: continue with the next segment
            if n:
                lane.counter = _counter_of(buf[_HEAD_BYTES:])
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
                if not self._removal.remove(name):
                    self.faults += 1
                lane.bytes -= size
        except OSError:
            pass  # no file has this number
        if lane.first == lane.last:
            lane.written = self._segment
        lane.first += 1
        lane.offset = 0
        lane.counter = -1

    def _is_foreign(self, name):
        head = bytearray(2)
        return self._files.read(name, 0, head) == 2 and head[0] == _MAGIC >> 8 and head[1] != _MAGIC & 255

    def acknowledge(self):
        """Remove the frame that `peek` returned: the broker has it."""
        lane, self._sending = self._sending, None
        if lane is None:
            return  # thinned while it was sent
        lane.pending -= 1
        lane.offset += self._sending_bytes
        lane.counter = -1
        if self._has_recovered and not len(self):
            self._has_recovered = False
            self.close()  # otherwise each power cut would add its frames to those that the next boot sends again
        elif not lane.pending and 2 * sum([other.bytes for other in self._lanes if not other.pending]) > self._segment:
            self.close()  # otherwise these frames would be sent again after a power cut

    def close(self):
        """Remove acknowledged frames, also before a planned power-off: the next boot does not send them again."""
        for lane in self._lanes:
            while not lane.pending and lane.first <= lane.last:
                self._drop_first(lane)


def _counter_of(frame):
    return struct.unpack_from(">I", frame, 1)[0] & ((1 << m.COUNTER_BITS) - 1)
