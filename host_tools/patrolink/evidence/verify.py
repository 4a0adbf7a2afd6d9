"""Verifies clips offline: reads folders and applies the rules of `verdict` (CLIP.md, "Verdicts")."""

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.core.text import printable
from patrolink.evidence import manifest, segment_checks, verdict
from patrolink.evidence.clip_folders import clip_files, clip_folders, clip_number, file_sha256
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.verdict import TAMPERED, UNVERIFIABLE, VALID, ChainLink, Finding, Signers, verdict_of


@dataclass
class ClipVerdict:
    """The result of verifying one clip.

    Args:
        folder: The clip's folder.
        number: The clip's number as its folder says; -1 when the folder is not named by one.
        manifest: The parsed manifest.
        findings: What was found, in the order of the checks.
        decrypted: Whether the evidence key opened at least one segment.
    """

    folder: Path
    number: int
    manifest: manifest.Manifest
    findings: list[Finding] = field(default_factory=list)
    decrypted: bool = False

    @property
    def verdict(self) -> str:
        """The verdict that the findings make."""
        return verdict_of(self.findings)

    @property
    def title(self) -> str:
        """Device and number, for messages."""
        return printable(f"{self.folder.resolve().parent.name} clip {self.number}")

    @property
    def link(self) -> ChainLink:
        """The clip as the chain between clips sees it."""
        return ChainLink(self.folder.name, self.number, self.manifest)

    def fields(self) -> dict[str, Any]:
        """Return the result as the fields of a verb's record."""
        head = self.manifest.head
        return {
            "device": head.get("device"),
            "clip": self.number,
            "verdict": self.verdict,
            "decrypted": self.decrypted,
            "trigger": head.get("trigger"),
            "time": rfc3339(head.get("time_ms")),
            "segments": len(self.manifest.segments),
            "findings": [finding.fields() for finding in self.findings],
        }


@dataclass
class DeviceVerdict:
    """The results of verifying a device's clips, ordered by number, links included."""

    device: str
    clips: list[ClipVerdict]

    @property
    def verdict(self) -> str:
        """The gravest verdict of the clips."""
        return verdict_of([finding for clip in self.clips for finding in clip.findings])


def verify_clip(folder: Path, signers: Signers, evidence: EvidenceKey | None = None) -> ClipVerdict:
    """Verify one clip without its links to other clips.

    Args:
        folder: The clip's folder, named by its number.
        signers: The public keys known for each device.
        evidence: The site's evidence key, to check what the segments hold; None to check hashes and signatures only.

    Raises:
        UserError: A file cannot be read.
    """
    try:
        return _verify_clip(folder, signers, evidence)
    except OSError as e:
        raise UserError(f"{e.filename or folder}: {e.strerror}; give the folder of a clip that can be read") from None


def _verify_clip(folder: Path, signers: Signers, evidence: EvidenceKey | None) -> ClipVerdict:
    names = clip_files(folder)
    manifests = [name for name in names if name.endswith(".plm")]
    if len(manifests) != 1:
        words = f"the folder has {len(manifests)} manifests" if manifests else "the folder has no manifest"
        grade = TAMPERED if manifests else UNVERIFIABLE
        finding = Finding(grade, "manifest", folder.name, words)
        return ClipVerdict(folder, clip_number(folder), manifest.Manifest(), [finding])
    name = manifests[0]
    document = manifest.load(folder / name)
    result = ClipVerdict(folder, clip_number(folder), document)
    result.findings += verdict.check_seal(document, name, signers)
    if document.version > manifest.VERSION:
        return result
    # Segments of an unknown signer are not decrypted: the step in a header decides how long that takes.
    proven = result.verdict == VALID
    if document.head:
        result.findings += verdict.check_names(document, name, folder.name, folder.resolve().parent.name, signers)
    sizes = {name: (folder / name).stat().st_size for name in names}
    result.findings += verdict.check_files(document, sizes, lambda name: file_sha256(folder / name))
    result.findings += verdict.check_completeness(document)
    if evidence is not None and proven:
        unreadable = {f.where for f in result.findings if f.grade == TAMPERED or f.kind == "missing"}
        checked = segment_checks.check_segments(folder, document, evidence, unreadable)
        result.decrypted = checked.decrypted
        result.findings += checked.findings
    return result


def _read_link(folder: Path) -> ClipVerdict:
    """Return a clip with its manifest only, unverified, for the links of its neighbours."""
    try:
        manifests = [name for name in clip_files(folder) if name.endswith(".plm")]
        document = manifest.load(folder / manifests[0]) if len(manifests) == 1 else manifest.Manifest()
    except OSError as e:
        raise UserError(f"{e.filename or folder}: {e.strerror}; make it readable and verify again") from None
    return ClipVerdict(folder, clip_number(folder), document)


def verify_device(
    folder: Path,
    signers: Signers,
    evidence: EvidenceKey | None = None,
    only: Container[str] | None = None,
    on_verified: Callable[[], None] = lambda: None,
) -> DeviceVerdict:
    """Verify the clips of a device, and the chain through them.

    Args:
        folder: The device's folder.
        signers: The public keys known for each device.
        evidence: The site's evidence key, or None; see `verify_clip`.
        only: Names of the clip folders to verify. Of the others only the manifests are read, for the chain, and they
            are not in the result. None verifies all.
        on_verified: Called after each clip, to show progress.

    Raises:
        UserError: A file cannot be read.
    """
    clips = []
    for path in clip_folders(folder):
        if only is None or path.name in only:
            clips.append(verify_clip(path, signers, evidence))
            on_verified()
        else:
            clips.append(_read_link(path))
    for clip, findings in zip(clips, verdict.check_links([clip.link for clip in clips]), strict=True):
        clip.findings += findings
    dropped_by = _dropped_by(clips, signers)
    for clip in clips:
        clip.findings = [verdict.explain_missing(f, dropped_by.get((clip.number, f.where))) for f in clip.findings]
    return DeviceVerdict(folder.name, [clip for clip in clips if only is None or clip.folder.name in only])


def _dropped_by(clips: list[ClipVerdict], signers: Signers) -> dict[tuple[int, str], int]:
    """Return for each deleted file, (clip, name), the number of the clip whose proven manifest records it."""
    recorded: dict[tuple[int, str], int] = {}
    for clip in clips:
        drops = verdict.dropped_segments(clip.manifest)
        if drops and verdict_of(verdict.check_seal(clip.manifest, clip.folder.name, signers)) == VALID:
            recorded |= {(drop.clip, name): clip.number for drop in drops for name in drop.files}
    return recorded
