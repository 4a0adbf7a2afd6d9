"""What dispatchers and tools may do with clips. Each access is in the access log before it happens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.evidence import segment
from patrolink.evidence.clip_folders import SIGNERS_FILE, file_size_max
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.hub.clips.access_log import AccessLog
from patrolink.hub.clips.clip_feed import ClipFeed
from patrolink.hub.clips.clip_registry import ClipRegistry


class ClipAccess:
    """Files, pictures and the access log of clips.

    Args:
        folder: The site's folder of clips.
        registry: The clips.
        evidence: The site's evidence key, or None.
        feed: Shows changes to dispatchers.
        audit: Records facts in the audit log: (who, what, **facts).
        clock: The hub's clock.
    """

    def __init__(
        self,
        folder: Path,
        registry: ClipRegistry,
        evidence: EvidenceKey | None,
        feed: ClipFeed,
        audit: Callable[..., None],
        clock: Clock,
    ) -> None:
        self.signers_path = folder / SIGNERS_FILE
        self._registry, self._evidence, self._feed = registry, evidence, feed
        self._log: AccessLog | None = None
        self._log_fault = ""
        try:
            self._log = AccessLog(folder / "access.jsonl", clock)
        except UserError as e:
            self._log_fault = str(e)
            audit("", "access log refused", text=self._log_fault)

    def record(self, who: str, what: str, **facts: Any) -> None:
        """Write an access to the log; UserError when that fails, and the access is refused. Blocks on storage."""
        if self._log is None:
            raise UserError(f"clips cannot be accessed while the access log is not usable: {self._log_fault}")
        self._log.write(who, what, **facts)

    def file(self, device: str, number: int, name: str) -> Path:
        """Return the path of a clip's file; UserError when it has not arrived."""
        clip = self._registry.find(device, number)
        if file_size_max(name) < 0 or name not in clip.file_sizes:
            raise UserError(f"clip {number} of {device} has no file {name[:40]!r} at this hub")
        return clip.folder / name

    def picture(self, device: str, number: int) -> bytes:
        """Return a clip's picture as a JPEG, decrypted in memory; UserError when there is none. Blocks on storage."""
        clip = self._registry.find(device, number)
        if self._evidence is None:
            raise UserError("this hub has no evidence key, so it cannot show pictures; set evidence_key in site.toml")
        if not clip.picture:
            raise UserError(f"clip {number} of {device} has no picture at this hub")
        return segment.read(clip.folder / clip.picture, self._evidence).media_file()

    def preserve(self, device: str, number: int) -> None:
        """Exclude a clip from retention. Raises UserError, OSError."""
        clip = self._registry.find(device, number)
        clip.preserved = True
        clip.save()
        self._feed.publish(clip)
