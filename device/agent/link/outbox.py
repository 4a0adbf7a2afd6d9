"""Frames waiting for the broker, in an append-only journal on the board's storage.

A power cut loses none that `put` took.

    segment   a file, "a" (urgent lane) or "b" and eight digits: records up to about `segment` bytes
    record    A5 00, length (u16), frame, CRC-32 of all before it (u32), big-endian

A frame counts as gone once the broker acknowledged it (`acknowledge`); a segment is removed when all of its frames are.
After a power cut the frames of the oldest segment go out again, at most `segment` bytes of them: the receiver drops
repeats by their counter. Urgent frames (whatever is not a batch or a status) go first. Memory is two frames, however
long the queue.

When the quota is reached, every second position batch of the oldest segment goes, then of the next, and so on round and
round: the track gets coarser, oldest first, and no other frame is touched. What went is counted in `dropped`.

The second byte of a record is the journal's version, 0. A segment that begins with a later one is not read and not
removed: it waits for the firmware that wrote it, and is counted in `foreign`.
"""

import binascii
import struct

import patrolink_messages as m

_MAGIC = 0xA500
_HEAD = 4
_TAIL = 4
_ROUTINE = (m.POSITION_BATCH, m.DEVICE_STATUS, m.PTT_BURST)
_THINNED = "t"


class _Lane:
    def __init__(self, name):
        self.name = name
        self.first = 1  # segment being read, and where in it
        self.at = 0
        self.last = 0  # segment being written, and how much it has
        self.written = 0
        self.pending = 0  # frames not yet acknowledged

    def file(self, number):
        return "%s%08d" % (self.name, number)


class Outbox:
    """
    files    names() -> list; size(name); append(name, data), durable when it returns; read(name, at, buf) -> bytes
             read; remove(name); rename(old, new), which replaces. All raise OSError.
    quota    bytes of storage that routine frames may take
    """

    def __init__(self, files, quota=262144, segment=4096, longest=m.MAX_FRAME):
        self._files = files
        self._quota = quota
        self._segment = segment
        self._longest = longest
        self._in = memoryview(bytearray(_HEAD + longest + _TAIL))
        self._out = memoryview(bytearray(_HEAD + longest + _TAIL))
        self._lanes = (_Lane("a"), _Lane("b"))
        self._sending = None  # lane of the frame that `peek` gave
        self._sending_n = 0
        self._thin_at = 0
        self.bytes = 0
        self.dropped = 0  # thinned, or refused
        self.thinned = 0
        self.faults = 0  # times that the storage refused
        self.foreign = 0  # segments of a later version of the journal
        self._recover()

    def __len__(self):
        return self._lanes[0].pending + self._lanes[1].pending

    def _recover(self):
        """Take up what an earlier boot left: whole records count, a torn one ends its segment."""
        names = self._files.names()
        if _THINNED in names:
            self._files.remove(_THINNED)  # a thinning that the power cut; the segment itself is whole
        for lane in self._lanes:
            numbers = sorted([int(n[1:]) for n in names if n[0] == lane.name and len(n) == 9])
            for number in numbers:
                at = 0
                while True:
                    n = self._read(lane.file(number), at, self._in)
                    if not n:
                        break
                    at += n
                    lane.pending += 1
                self.bytes += self._files.size(lane.file(number))
            if numbers:
                lane.first = numbers[0]
                lane.last = numbers[-1]
            lane.written = self._segment  # never append behind what may be torn

    def _read(self, name, at, buf):
        """Read the record at `at` into `buf`; return its length, 0 at the end or where a record is not whole."""
        if self._files.read(name, at, buf[:_HEAD]) != _HEAD:
            return 0
        magic, n = struct.unpack_from(">HH", buf, 0)
        if magic != _MAGIC or not 0 < n <= self._longest:
            return 0
        if self._files.read(name, at + _HEAD, buf[_HEAD : _HEAD + n + _TAIL]) != n + _TAIL:
            return 0
        if struct.unpack_from(">I", buf, _HEAD + n)[0] != binascii.crc32(buf[: _HEAD + n]):
            return 0
        return _HEAD + n + _TAIL

    def put(self, frame):
        """Store a frame (bytes-like). False, and counted, when it is too long, or there is no room for it."""
        n = len(frame)
        size = _HEAD + n + _TAIL
        routine = frame[0] & 31 in _ROUTINE
        fits = n <= self._longest
        while fits and routine and self.bytes + size > self._quota:
            fits = self._thin()
        if fits:
            out = self._out
            struct.pack_into(">HH", out, 0, _MAGIC, n)
            out[_HEAD : _HEAD + n] = frame
            struct.pack_into(">I", out, _HEAD + n, binascii.crc32(out[: _HEAD + n]))
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
            # What was written of it ends this segment: the next record goes to a new one.
            self.faults += 1
            lane.written = self._segment
            return False
        lane.written += len(record)
        lane.pending += 1
        self.bytes += len(record)
        return True

    def peek(self):
        """Return a view of the frame to send now, valid until `acknowledge`, or None. Repeats after a failure."""
        if self._sending is None:
            for lane in self._lanes:
                if lane.pending:
                    self._sending_n = self._next(lane)
                    if self._sending_n:
                        self._sending = lane
                        break
            else:
                return None
        return self._in[_HEAD : self._sending_n - _TAIL]

    def _next(self, lane):
        """Read the lane's oldest record into `_in`; return its length. 0, and nothing pending, when none is whole."""
        while lane.first <= lane.last:
            try:
                n = self._read(lane.file(lane.first), lane.at, self._in)
            except OSError:
                n = 0  # none of that number, or storage that fails: go on with the next segment
            if n:
                return n
            self._leave(lane)
        lane.pending = 0
        return 0

    def _leave(self, lane):
        """Remove the segment being read and go on to the next."""
        name = lane.file(lane.first)
        try:
            if self._is_foreign(name):
                self.foreign += 1
            else:
                size = self._files.size(name)
                self._files.remove(name)
                self.bytes -= size
        except OSError:
            pass  # there was none of that number
        if lane.first == lane.last:
            lane.written = self._segment
        lane.first += 1
        lane.at = 0

    def _is_foreign(self, name):
        head = bytearray(2)
        return self._files.read(name, 0, head) == 2 and head[0] == _MAGIC >> 8 and head[1] != _MAGIC & 255

    def acknowledge(self):
        """The broker has the frame that `peek` gave."""
        lane, self._sending = self._sending, None
        lane.pending -= 1
        lane.at += self._sending_n
        if not lane.pending and lane.written * 2 > self._segment:
            self._clear(lane)  # rather than send half a segment again after a power cut

    def _clear(self, lane):
        while lane.first <= lane.last:
            self._leave(lane)

    def close(self):
        """Before the power goes as planned: leave nothing that the next boot would send again in vain."""
        for lane in self._lanes:
            if not lane.pending:
                self._clear(lane)

    def _thin(self):
        """Drop every second position batch of the next segment that has any to spare; False when none has."""
        lane = self._lanes[1]
        # Not the segment being read, whose place is held, nor the one being written.
        for _ in range(lane.last - lane.first - 1):
            if not lane.first < self._thin_at < lane.last:
                self._thin_at = lane.first + 1
            self._thin_at += 1
            try:
                if self._thin_segment(lane, lane.file(self._thin_at - 1)):
                    return True
            except OSError:
                self.faults += 1
        return False

    def _thin_segment(self, lane, name):
        """Write what stays to a file of its own, then put that in the segment's place; return how many frames went."""
        files = self._files
        buf = self._out  # `_in` may hold the frame being sent
        if _THINNED in files.names():
            files.remove(_THINNED)
        gone = at = 0
        keep = True
        while True:
            n = self._read(name, at, buf)
            if not n:
                break
            at += n
            if buf[_HEAD] & 31 == m.POSITION_BATCH:
                keep = not keep
                if keep:
                    gone += 1
                    continue
            files.append(_THINNED, buf[:n])
        if gone:
            before = files.size(name)
            files.rename(_THINNED, name)
            self.bytes -= before - files.size(name)
            lane.pending -= gone
            self.dropped += gone
            self.thinned += gone
        return gone
