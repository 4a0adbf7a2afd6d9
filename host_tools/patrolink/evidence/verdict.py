"""The rules that decide what a clip's manifest and files prove (CLIP.md, "Verdicts").

Pure functions over data that was read already: manifests, file sizes, hashes. `verify` reads folders and applies them;
a hub applies the same rules to clips that arrive in any order.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from patrolink.core.text import plural
from patrolink.evidence.manifest import VERSION, Manifest, ManifestLine, segment_file

VERDICTS = VALID, GAPS, TAMPERED, UNVERIFIABLE = "valid", "valid with gaps", "tampered", "unverifiable"
# Grades of a finding: two are verdicts; a gap makes `valid with gaps`; a note does not change the verdict.
GAP, NOTE = "gap", "note"
FIRST_CHAIN = "0" * 64  # `previous` of the first clip of a storage
CLOCK_STEP_MS = 2000  # a clock that was set by more is reported

# Kinds of finding that are about the manifest file itself.
_MANIFEST_KINDS = ("form", "chain", "signature", "number", "version", "told")

Signers = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Finding:
    """One thing that verification found.

    Args:
        grade: TAMPERED, UNVERIFIABLE, GAP or NOTE.
        kind: One or two words for programs.
        where: The file, the line of a file, or the folder.
        words: The explanation for people.
    """

    grade: str
    kind: str
    where: str
    words: str

    def to_json(self) -> dict[str, str]:
        """Return the finding as the hub stores and sends it."""
        return {"grade": self.grade, "kind": self.kind, "where": self.where, "words": self.words}

    def fields(self) -> dict[str, str]:
        """Return the finding as part of a verb's record."""
        return {"grade": self.grade, "kind": self.kind, "where": self.where, "text": self.words}


class ChainLink(NamedTuple):
    """A clip as the chain between clips sees it: its folder's name and number, and its manifest."""

    folder: str
    number: int
    manifest: Manifest


def verdict_of(findings: Iterable[Finding]) -> str:
    """Return the verdict that findings make: the gravest grade decides."""
    grades = {finding.grade for finding in findings}
    if TAMPERED in grades:
        return TAMPERED
    if UNVERIFIABLE in grades:
        return UNVERIFIABLE
    return GAPS if GAP in grades else VALID


# --- rules for one clip -----------------------------------------------------------------------------------------------


def check_seal(manifest: Manifest, name: str, signers: Signers) -> list[Finding]:
    """Check form, chain, signature and signer of a manifest.

    Args:
        manifest: The parsed manifest.
        name: Its file name, for the findings.
        signers: The public keys known for each device.
    """
    findings = [Finding(TAMPERED, "form", f"{name}, line {fault.line}", fault.text) for fault in manifest.faults]
    if manifest.version > VERSION:
        words = f"manifest version {manifest.version} is not supported; a newer patrolink may read it"
        return [Finding(UNVERIFIABLE, "version", name, words)]
    if not manifest.seal:
        words = "the manifest has no seal: the recording is not finished, or the end of the manifest is missing"
        return [*findings, Finding(UNVERIFIABLE, "seal", name, words)]
    if not manifest.head:
        return findings
    if not manifest.chain_valid:
        words = "the sealed lines do not match the chain value: a line was changed, added, removed or moved"
        findings.append(Finding(TAMPERED, "chain", name, words))
    if not manifest.signature_valid:
        words = "the signature was not made with the key that the first line names"
        findings.append(Finding(TAMPERED, "signature", name, words))
    elif manifest.chain_valid:
        # The signer sealed the lines in this form: nobody changed them, this version does not know the form.
        findings = [Finding(UNVERIFIABLE, f.kind, f.where, f.words) for f in findings]
    device, signer = manifest.head["device"], manifest.head["signer"]
    if signer not in signers.get(device, ()):
        words = f"the signing key {signer[:16]}... is not a known key of {device}; get signers.toml from the hub"
        findings.append(Finding(UNVERIFIABLE, "signer", name, words))
    return findings


def check_names(manifest: Manifest, name: str, folder: str, device_folder: str, signers: Signers) -> list[Finding]:
    """Check that folder and manifest file are named by the clip's number, and the folder above by its device."""
    number, device = f"{manifest.head['clip']:06d}", manifest.head["device"]
    findings = [
        Finding(TAMPERED, "number", entry, f"the name says {stem}, the manifest says clip {number}")
        for entry, stem in ((folder, folder), (name, name.removesuffix(".plm")))
        if stem != number
    ]
    if device_folder != device:
        # A copy may be anywhere, but in the folder of another device it takes the place of that device's clip.
        words = f"the clip is from device {device}, but it is in the folder of {device_folder}"
        findings.append(Finding(TAMPERED if device_folder in signers else NOTE, "device", folder, words))
    return findings


def check_files(manifest: Manifest, sizes: Mapping[str, int], sha256: Callable[[str], str]) -> list[Finding]:
    """Compare each file with its line of the manifest.

    Args:
        manifest: The parsed manifest.
        sizes: Bytes of each file that is present, by name.
        sha256: Returns the SHA-256 of a present file in hexadecimal, by name.
    """
    findings = []
    listed = set()
    for line in manifest.listed:
        name = segment_file(line)
        listed.add(name)
        if name not in sizes:
            findings.append(Finding(GAP, "missing", name, "the file is missing"))
        elif sizes[name] != line["bytes"]:
            words = f"the file has {plural(sizes[name], 'byte')}, the manifest lists {line['bytes']}"
            findings.append(Finding(TAMPERED, "size", name, words))
        elif sha256(name) != line["sha256"]:
            findings.append(Finding(TAMPERED, "hash", name, "the file's SHA-256 is not the one that was recorded"))
    if manifest.seal:
        surplus = [name for name in sizes if name.endswith(".pls") and name not in listed]
        findings += [Finding(TAMPERED, "surplus", name, "the manifest does not list this file") for name in surplus]
    return findings


def check_completeness(manifest: Manifest) -> list[Finding]:
    """Report what the manifest itself shows to be missing: cut segments, lost frames, power loss, skipped steps."""
    findings = []
    steps: dict[str, set[int]] = {}
    for line in manifest.listed:
        name = segment_file(line)
        steps.setdefault(name[:6], set()).add(int(name[7:13]))
        if "seg" not in line:
            continue
        if not line["whole"]:
            findings.append(Finding(GAP, "cut", name, "a power cut or a storage fault ended this segment early"))
        if line["lost"]:
            findings.append(Finding(GAP, "lost", name, f"{plural(line['lost'], 'frame')} lost during recording"))
    for boot, numbers in steps.items():
        findings += _skipped_steps(boot, sorted(numbers))
    findings += _clock_steps(manifest, steps)
    if len(steps) > 1:
        words = f"the device was switched off during the clip: the files are from {len(steps)} boots"
        findings.append(Finding(GAP, "power", "manifest", words))
    if not manifest.segments and manifest.head:
        findings.append(Finding(GAP, "empty", "manifest", "the manifest lists no video"))
    reason = manifest.close.get("close")
    if reason in ("power", "storage", "camera"):
        findings.append(Finding(GAP, "close", "manifest", f"the recording was ended by a fault: {reason}"))
    return findings


def _skipped_steps(boot: str, steps: list[int]) -> Iterator[Finding]:
    """Report steps of a boot that are missing between those that the manifest lists."""
    for a, b in zip(steps, steps[1:], strict=False):
        first, last = f"{boot}-{a + 1:06d}", f"{boot}-{b - 1:06d}"
        if b > a + 1:
            what = "this segment" if first == last else f"{plural(b - a - 1, 'segment')} up to {last}"
            words = f"the manifest does not list {what}: not recorded, or not kept"
            yield Finding(GAP, "left out", f"{first}.pls", words)


def _clock_steps(manifest: Manifest, steps: Mapping[str, Container[int]]) -> Iterator[Finding]:
    """Report where the clock was set between two consecutive segments."""
    for a, b in zip(manifest.segments, manifest.segments[1:], strict=False):
        boot, first, second = a["seg"][:6], int(a["seg"][7:]), int(b["seg"][7:])
        consecutive = b["seg"][:6] == boot and all(step in steps[boot] for step in range(first, second))
        step_ms = b["start_ms"] - a["start_ms"] - a["ms"]
        if consecutive and a["whole"] and a["start_ms"] and b["start_ms"] and abs(step_ms) > CLOCK_STEP_MS:
            words = f"the clock was set by {step_ms / 1000:+.1f} s before this segment"
            yield Finding(NOTE, "clock", segment_file(b), words)


def check_announcement(manifest: Manifest, name: str, announcement: Mapping[str, Any]) -> list[Finding]:
    """Compare a manifest with the clip_manifest message that its device sent, if one was received.

    Args:
        manifest: The parsed manifest.
        name: Its file name, for the findings.
        announcement: The authenticated message's fields; empty when none was received.
    """
    if not announcement or not manifest.seal:
        return []
    fields = {"chain": manifest.seal["chain"], "signature": manifest.seal["sig"], "signer": manifest.head.get("signer")}
    return [
        Finding(TAMPERED, "told", name, f"the {field} differs from the one in the device's clip_manifest message")
        for field, value in fields.items()
        if announcement[field] != value
    ]


# --- rules for several clips of a device ------------------------------------------------------------------------------


def check_link(clip: ChainLink, previous: ChainLink | None) -> list[Finding]:
    """Check that a clip continues the chain of the clip before it.

    Args:
        clip: The clip to check.
        previous: The clip with the next lower number of this device; None when there is none that can be trusted.
    """
    if not clip.manifest.head:
        return []
    previous_chain = clip.manifest.head["previous"]
    if previous is None or not previous.manifest.head:
        if previous_chain == FIRST_CHAIN:
            return []
        return [Finding(GAP, "chain", clip.folder, "the clip before this one is missing")]
    chain = previous.manifest.seal.get("chain")
    if chain == previous_chain:
        return []
    if previous_chain == FIRST_CHAIN:
        words = "the chain starts again with this clip: the device's storage was new or erased"
        return [Finding(GAP, "chain", clip.folder, words)]
    if clip.number - previous.number > 1:
        first, last = previous.number + 1, clip.number - 1
        subject = f"clips {first} to {last}" if last > first else f"clip {first}"
        verb = "are" if last > first else "is"
        return [Finding(GAP, "chain", clip.folder, f"{subject} before this one {verb} missing")]
    if chain is None:
        words = f"clip {previous.number} before this one has no seal, so the link cannot be checked"
        return [Finding(NOTE, "chain", clip.folder, words)]
    words = f"this clip does not follow clip {previous.number}: one of the two was replaced"
    return [Finding(TAMPERED, "chain", clip.folder, words)]


def check_links(clips: list[ChainLink]) -> list[list[Finding]]:
    """Check the chain through all clips of a device.

    Args:
        clips: The device's clips, by number.

    Returns:
        The findings of each clip, in the same order.
    """
    claims: dict[int, list[str]] = {}
    for clip in clips:
        if clip.manifest.head:
            claims.setdefault(clip.manifest.head["clip"], []).append(clip.folder)
    findings: list[list[Finding]] = []
    previous = None
    for clip in clips:
        number = clip.manifest.head.get("clip")
        folders = claims.get(number, []) if number is not None else []
        words = f"{', '.join(folders)} all claim clip number {number}"
        duplicate = [Finding(TAMPERED, "number", clip.folder, words)] if len(folders) > 1 else []
        findings.append(duplicate + check_link(clip, previous))
        previous = clip if clip.manifest.head else previous
    return findings


class DroppedSegments(NamedTuple):
    """Segments of an earlier clip that the device deleted because its storage was full."""

    clip: int
    files: list[str]


def dropped_segments(manifest: Manifest) -> list[DroppedSegments]:
    """Return what a manifest records as deleted for lack of space. It counts only in a manifest that is proven."""
    return [_dropped(line) for line in manifest.accesses if line["access"] == "thinned" and _is_drop(line)]


def _is_drop(line: ManifestLine) -> bool:
    return isinstance(line.get("clip"), int) and isinstance(line.get("segs"), list)


def _dropped(line: ManifestLine) -> DroppedSegments:
    return DroppedSegments(line["clip"], [f"{stem}.pls" for stem in line["segs"]])


def explain_missing(finding: Finding, dropped_by: int | None) -> Finding:
    """Return the finding of a missing file with its reason.

    Args:
        finding: Any finding; only one of the kind "missing" changes.
        dropped_by: Number of the clip whose manifest records that the file was deleted; None when no manifest does.
    """
    if finding.kind != "missing" or dropped_by is None:
        return finding
    words = f"the device deleted this file for lack of storage space, as recorded in clip {dropped_by}"
    return Finding(GAP, "thinned", finding.where, words)


# --- conclusions from findings ----------------------------------------------------------------------------------------


def is_link_finding(finding: Finding, folder: str) -> bool:
    """Return whether a finding is about the link to the clip before. Chain faults of a manifest name its file."""
    return finding.kind == "chain" and finding.where == folder


def is_manifest_proven(findings: Iterable[Finding], folder: str) -> bool:
    """Return whether findings leave no doubt that the manifest is the device's: the next clip can be linked to it."""
    kinds = (*_MANIFEST_KINDS, "signer", "seal")
    own = (f for f in findings if f.kind in kinds and not is_link_finding(f, folder))
    return not any(finding.grade in (TAMPERED, UNVERIFIABLE) for finding in own)


def altered_files(findings: Iterable[Finding], folder: str, manifest_name: str) -> set[str]:
    """Return the names in findings of files that do not hold the recorded bytes; a bad link alters no file."""
    altered = [f for f in findings if f.grade == TAMPERED and not is_link_finding(f, folder)]
    names = {finding.where for finding in altered}
    return names | {manifest_name} if any(f.kind in _MANIFEST_KINDS for f in altered) else names
