"""The clips that are being recorded or sealed, one after the other on storage."""

from . import manifest
from .access_notes import AccessNotes
from .open_clip import OpenClip, head_pairs

_OPEN_MAX = 8
_EIO = 5


class OpenClips:
    """Opens clips, lists their files, and seals them in order.

    Only the oldest one has a manifest on storage: the next one needs its chain, so it waits for its seal.

    Args:
        files: hal Files of the clips.
        index: clip_index.ClipIndex.
        ring: ring.Ring.
        usage: storage_usage.StorageUsage.
        signer: agent.recording.signer.Signer.
        last_number: agent.tracking.counter.Record: number of the last sealed clip.
        device: Name of the device, text.
        boot: Number of this boot.
        pre_s: Seconds that a clip holds from before its event.
        unix: Function(monotonic ms) -> unix ms, 0 while not known.
    """

    def __init__(self, files, index, ring, usage, signer, last_number, device, boot, pre_s, unix):
        self._clips = []
        self._notes = AccessNotes(files)
        self._previous = None  # chain of the last sealed clip
        self._files = files
        self._index = index
        self._ring = ring
        self._usage = usage
        self._signer = signer
        self._last_number = last_number
        self._device = device
        self._boot = boot
        self._pre_s = pre_s
        self._unix = unix

    def load(self, boot, chain):
        """Steps (compat.steps): read the access notes. Raises OSError.

        Args:
            boot: Number of this boot, now that the files on storage are known.
            chain: Chain of the last sealed clip, 32 bytes.
        """
        self._boot = boot
        self._previous = chain
        yield from self._notes.load()

    def __len__(self):
        return len(self._clips)

    def is_full(self):
        """Return whether as many clips wait for storage as may."""
        return len(self._clips) >= _OPEN_MAX

    def begin(self, trigger, event_id, first_id, codec, now, follows=None):
        """Open a clip that holds all files from an id on.

        Args:
            trigger: clip_manifest.trigger.
            event_id: Id of the event, or NO_EVENT.
            first_id: File id of its first file.
            codec: clip_manifest.codec.
            now: Monotonic ms.
            follows: Number of the clip that it continues, or None.

        Returns:
            The OpenClip.
        """
        clips = self._index.clips
        number = max(self._last_number.first, clips[-1].number if clips else 0) + 1
        pre_s = 0 if follows is not None else self._pre_s
        head = head_pairs(number, self._device, self._boot, codec, trigger, event_id, self._unix(now), pre_s)
        open_clip = OpenClip(number, trigger, first_id, head, follows, self._files)
        self._index.add(open_clip.clip)
        self._clips.append(open_clip)
        for file in self._ring:
            open_clip.add_file(file)
        return open_clip

    def add_file(self, file):
        """A file is on storage: list it in each clip that it belongs to."""
        for open_clip in self._clips:
            open_clip.add_file(file)

    def log_access(self, action, who, now, *pairs):
        """Record an access to the camera or the clips, in the clip being recorded or else in the next one.

        Args:
            action: The name of the action in the manifest.
            who: The operator, or "device".
            now: Monotonic ms.
            pairs: Further keys and values in turn.
        """
        line = manifest.encode_line("access", action, "who", who, "time_ms", self._unix(now), *pairs)
        for open_clip in self._clips:
            if not open_clip.closed:
                open_clip.manifest.append(line, True)
                return
        self._usage.add(self._notes.append(line))

    def flush(self):
        """Give all pending lines to storage."""
        for open_clip in self._clips:
            self._submit(open_clip)

    def _submit(self, open_clip):
        size = open_clip.manifest.size
        served = open_clip.manifest.serve()
        self._usage.add(open_clip.manifest.size - size)
        return served

    def serve(self, now):
        """Continue the oldest clip.

        Returns:
            True if it was sealed: there may be another one to continue.

        Raises:
            OSError: Storage refused a line: call `retry` later.
        """
        if not self._clips:
            return False
        first = self._clips[0]
        first.start(self._previous, self._signer)
        self._move_notes(first)
        if first.last_id is not None and not first.closed and not self._ring.is_pending(first.last_id):
            first.close(self._unix(now), self._signer)
        size = first.manifest.size
        if not self._submit(first):
            raise OSError(_EIO)
        if first.manifest.size != size:
            return False  # the record of the seal is another piece of work
        if not first.sealed():
            return False
        self._last_number.write(first.clip.number, 0)
        del self._clips[0]
        first.manifest.close()
        self._previous = first.manifest.chain
        first.clip.mark_sealed()
        return True

    def _move_notes(self, open_clip):
        """Access lines since the last seal belong to this clip."""
        if open_clip.closed:
            return
        lines = self._notes.read()
        if lines:
            for line in lines:
                open_clip.manifest.append(line, True)
            self._submit(open_clip)
            self._usage.add(-self._notes.clear())

    def has_step(self):
        """Return whether steps to a seal are left."""
        return bool(self._clips) and self._clips[0].has_step()

    def step(self):
        """Take a step to the seal of the oldest clip, if one is left."""
        if self.has_step():
            self._clips[0].step()

    def retry(self):
        """Storage refused: find what it holds, and continue after that. Raises OSError."""
        for open_clip in self._clips:
            open_clip.manifest.retry()
