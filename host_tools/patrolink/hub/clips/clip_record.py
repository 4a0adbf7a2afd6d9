"""One clip at the hub: its device's announcement, the received files, and the verdict, stored in its hub.json."""

import contextlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from patrolink.core.decoder import Row
from patrolink.evidence import manifest, segment, verdict
from patrolink.evidence.clip_folders import clip_folder_name, file_size_max, manifest_name
from patrolink.evidence.verdict import GAPS, VALID, Finding
from patrolink.hub.infra import persistence

CLIPS_MAX = 20_000  # of a device
_STATE_FILE = "hub.json"
_FINDINGS_SHOWN = 20
# Attributes that are stored, and their keys in hub.json.
_STORED = {
    "announcement": "told",
    "file_sizes": "sizes",
    "total_bytes": "wanted",
    "head": "head",
    "chain": "chain",
    "picture": "picture",
    "verdict": "verdict",
    "dropped_files": "thinned",
    "resends": "damaged",
    "preserved": "kept",
    "verdict_ms": "ended_ms",
}


class ClipKey(NamedTuple):
    """A clip of a site: its device and its number."""

    device: str
    clip: int


@dataclass(eq=False)
class ClipRecord:
    """A clip's state at the hub.

    Args:
        device: The device that recorded it.
        number: Its number.
        folder: Its folder.
        announcement: The clip_manifest message that was authenticated by the device's tag; empty until it arrives.
        file_sizes: Bytes of each complete file, by name.
        total_bytes: Bytes of all files that the manifest lists; 0 until the manifest arrives.
        head: First line of the manifest; empty until it arrives.
        chain: Chain value in the manifest's seal; empty until it arrives.
        picture: Name of a file that holds a picture; empty when there is none.
        verdict: The verdict; empty until the clip is complete and verified.
        findings: What verification found.
        dropped_files: Files that the device deleted for lack of space, as a later clip records.
        resends: How often the device was asked to send the clip again.
        preserved: Whether a dispatcher excluded the clip from retention.
        verdict_ms: Unix time of the verdict; 0 before.
        changed: Whether something arrived since the last verdict.
        conflicting_chain: The last chain announced under this number that is not this clip's.
    """

    device: str
    number: int
    folder: Path
    announcement: Row = field(default_factory=dict)
    file_sizes: dict[str, int] = field(default_factory=dict)
    total_bytes: int = 0
    head: dict[str, Any] = field(default_factory=dict)
    chain: str = ""
    picture: str = ""
    verdict: str = ""
    findings: list[Finding] = field(default_factory=list)
    dropped_files: list[str] = field(default_factory=list)
    resends: int = 0
    preserved: bool = False
    verdict_ms: int = 0
    changed: bool = False
    conflicting_chain: str = ""
    _listed_files: list[str] | None = None  # by the manifest; None until it was read since the hub's start
    _saved: int = 0  # hash of the stored document
    _files_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> ClipKey:
        """Device and number."""
        return ClipKey(self.device, self.number)

    @property
    def accepted(self) -> bool:
        """Whether the clip is complete and not altered: its device may delete it."""
        return self.verdict in (VALID, GAPS)

    @property
    def manifest_proven(self) -> bool:
        """Whether the manifest is proven to be the device's, so that the next clip can be linked to it."""
        return bool(self.verdict) and verdict.is_manifest_proven(self.findings, self.folder.name)

    @property
    def linked(self) -> bool:
        """Whether the link to the clip before has no findings."""
        return not any(self._is_link(finding) for finding in self.findings)

    @property
    def start_ms(self) -> int:
        """Unix time of the clip's start; 0 while it is not known."""
        return self.announcement.get("start_ms") or self.head.get("time_ms") or 0

    def _is_link(self, finding: Finding) -> bool:
        return verdict.is_link_finding(finding, self.folder.name)

    def set_findings(self, findings: Iterable[Finding]) -> None:
        """Replace all findings; the verdict follows from them."""
        self.findings = list(findings)
        self.verdict = verdict.verdict_of(self.findings)

    def set_link_findings(self, links: list[Finding]) -> bool:
        """Replace the findings about the link to the clip before; return whether they changed."""
        findings = [finding for finding in self.findings if not self._is_link(finding)] + links
        changed = findings != self.findings
        self.set_findings(findings)
        return changed

    def save(self) -> None:
        """Store what cannot be derived from the device's files, or only slowly. Raises OSError."""
        document = {key: getattr(self, name) for name, key in _STORED.items()}
        document["findings"] = [finding.to_json() for finding in self.findings]
        if (digest := hash(json.dumps(document))) != self._saved:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            persistence.save_json(self.folder / _STATE_FILE, document)
            self._saved = digest

    def restore(self) -> None:
        """Read the stored state. One that cannot be read counts as preserved, because the clip may have been."""
        try:
            document = json.loads((self.folder / _STATE_FILE).read_bytes())
            self.findings = [Finding(**finding) for finding in document.get("findings", [])]
            for name, key in _STORED.items():
                setattr(self, name, document.get(key, getattr(self, name)))
        except FileNotFoundError:
            pass  # there is no verdict yet
        except (AttributeError, ValueError, TypeError, OSError):
            self.preserved = True
        if not self.verdict:
            self.scan_files()

    def scan_files(self) -> None:
        """Find the files that are present, and read the manifest. Blocks on storage, as `add_file`. Raises OSError."""
        with self._files_lock:
            self.file_sizes, self.picture, self._listed_files = {}, "", None
            with os.scandir(self.folder) as entries:
                for name in sorted(entry.name for entry in entries if file_size_max(entry.name) >= 0):
                    self._add_file(name)

    def add_file(self, name: str) -> None:
        """Add a file that has arrived completely. Raises OSError."""
        with self._files_lock:
            self._add_file(name)

    def _add_file(self, name: str) -> None:
        path = self.folder / name
        self.file_sizes[name] = path.stat().st_size
        if name == manifest_name(self.number):
            document = manifest.load(path)
            self.head, self.chain = document.head, document.seal.get("chain", "")
            self.total_bytes = sum(line["bytes"] for line in document.listed)
            self._listed_files = [manifest.segment_file(line) for line in document.listed]
        elif not self.picture and segment.is_picture(path):
            self.picture = name

    def read_manifest(self) -> manifest.Manifest | None:
        """Return the clip's manifest; None until it arrives. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            return manifest.load(self.folder / manifest_name(self.number))
        return None

    def is_complete(self) -> bool:
        """Return whether manifest and listed files are present, except those that the device deleted. Raises OSError.

        Blocks on storage.
        """
        if self._listed_files is None and self.file_sizes:
            self.scan_files()
        return self._listed_files is not None and {*self.file_sizes, *self.dropped_files}.issuperset(self._listed_files)

    def age_base_ms(self) -> int | None:
        """Return the unix time from which retention counts: of the verdict, else of the last change in the folder.

        Returns:
            The time; None if there is no folder.
        """
        with contextlib.suppress(FileNotFoundError):
            return self.verdict_ms or self.folder.stat().st_mtime_ns // 1_000_000
        return None

    def quarantine(self, time_ms: int) -> bool:
        """Rename altered files to <name>.<time_ms>.bad, so that the device can send them again.

        Returns:
            Whether a file was renamed. Nothing is deleted.
        """
        altered = verdict.altered_files(self.findings, self.folder.name, manifest_name(self.number))
        altered &= set(self.file_sizes)
        for name in altered:
            (self.folder / name).rename(self.folder / f"{name}.{time_ms}.bad")
        if altered:
            self.scan_files()
        return bool(altered)

    def to_json(self, pending_bytes: int | None, pictures: bool) -> dict[str, Any]:
        """Return the clip as consoles and tools show it.

        Args:
            pending_bytes: Bytes received of files that are not complete; None when no upload is pending.
            pictures: Whether this hub can decrypt pictures.
        """
        announcement, head = self.announcement, self.head
        complete_bytes = sum(size for name, size in self.file_sizes.items() if name.endswith(".pls"))
        total_bytes = max(self.total_bytes, announcement.get("bytes") or 0, complete_bytes)
        arriving = bool(self.file_sizes) or pending_bytes is not None
        return {
            "device": self.device,
            "clip": self.number,
            "trigger": head.get("trigger") or announcement.get("trigger"),
            "event": head.get("event", announcement.get("event_id")),
            "time_ms": self.start_ms or None,
            "duration_ms": announcement.get("duration_ms"),
            "state": "here" if self.verdict else "coming" if arriving else "told",
            "bytes": total_bytes,
            "bytes_here": min(total_bytes, complete_bytes + (pending_bytes or 0)),
            "verdict": self.verdict,
            "findings": self.findings_json(),
            "kept": self.preserved,
            "picture": bool(self.picture) and pictures,
        }

    def findings_json(self) -> list[dict[str, str]]:
        """Return the first findings as JSON objects."""
        return [finding.to_json() for finding in self.findings[:_FINDINGS_SHOWN]]


def clip_folder(clips: Path, key: ClipKey) -> Path:
    """Return the folder of a clip."""
    return clips / key.device / clip_folder_name(key.clip)
