"""Counts the frames that are missing from a recording, and records them as gaps."""

import struct

from patrolink_protocol import clip as clip_format

_COUNT_MAX = 65535  # frames of one gap record


class FrameLoss:
    """Missing frames by reason: clip.GAP_CAMERA_STALLED, GAP_BAD_PICTURE, GAP_STORAGE_LATE.

    Attributes:
        total: Frames recorded as missing since the boot.
        in_segment: Frames recorded as missing in the current segment.

    Args:
        camera: hal camera: `fps`, and its counters `dropped` and `damaged`.
        stall_ms: Time without a frame after which frames count as missing.
    """

    def __init__(self, camera, stall_ms):
        self.total = self.in_segment = 0
        self._camera = camera
        self._stall_ms = stall_ms
        self._dropped, self._damaged = camera.dropped, camera.damaged
        self._missing = [0, 0, 0]  # not recorded yet, by reason
        self._last_ms = 0
        self._gap = bytearray(3)

    def begin_segment(self):
        """A new segment begins."""
        self.in_segment = 0

    def on_frame(self, at_ms):
        """A frame has come: count those that the camera dropped or never gave before it."""
        camera = self._camera
        dropped, damaged = camera.dropped - self._dropped, camera.damaged - self._damaged
        self._missing[clip_format.GAP_STORAGE_LATE] += dropped
        self._missing[clip_format.GAP_BAD_PICTURE] += damaged
        self._dropped += dropped
        self._damaged += damaged
        interval_ms = at_ms - self._last_ms
        if self._last_ms and interval_ms >= self._stall_ms:
            stalled = interval_ms * camera.fps // 1000 - 1 - dropped - damaged
            self._missing[clip_format.GAP_CAMERA_STALLED] += max(0, stalled)
        self._last_ms = at_ms

    def silence_ms(self, now):
        """Return the time since the last frame."""
        return now - self._last_ms

    def add(self, reason):
        """One frame is not recorded."""
        self._missing[reason] += 1

    def has_late(self):
        """Return whether frames were lost to slow storage since the last gap record."""
        return self._missing[clip_format.GAP_STORAGE_LATE] > 0

    def write(self, segment, at_ms):
        """Write the missing frames as gap records into a SegmentWriter."""
        for reason in range(3):
            while self._missing[reason]:
                n = min(self._missing[reason], _COUNT_MAX)
                self._missing[reason] -= n
                self.total += n
                self.in_segment += n
                struct.pack_into(">HB", self._gap, 0, n, reason)
                segment.record(clip_format.RECORD_GAP, at_ms, self._gap)
