"""The verdict on a clip, offline: hashes, chain and signature; with the evidence key also what is inside (CLIP.md)."""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError
from patrolink.evidence import manifest, segment_checks
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.findings import GAP, NOTE, TAMPERED, UNVERIFIABLE, VALID, Finding, plain, verdict_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Signers = Mapping[str, Iterable[str]]
_FIRST = "0" * 64
_CLOCK_MS = 2000  # a clock that is set by more is told
_FOLDER = re.compile(r"[0-9]{6}")
_SUFFIXES = (".plm", ".pls")


@dataclass
class Verdict:
    """What is found of one clip.

    verdict       findings.VALID, GAPS, TAMPERED or UNVERIFIABLE
    number        of the clip: what its folder says
    looked_inside whether the evidence key opened its segments
    """

    folder: Path
    number: int
    manifest: manifest.Manifest
    findings: list[Finding] = field(default_factory=list)
    looked_inside: bool = False

    @property
    def verdict(self) -> str:
        """The verdict that its findings make."""
        return verdict_of(self.findings)

    @property
    def name(self) -> str:
        """What people call it."""
        return plain(f"{self.folder.resolve().parent.name} clip {self.number}")

    def facts(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        head = self.manifest.head
        return {
            "device": head.get("device"),
            "clip": self.number,
            "verdict": self.verdict,
            "looked_inside": self.looked_inside,
            "trigger": head.get("trigger"),
            "time_ms": head.get("time_ms"),
            "segments": len(self.manifest.segments),
            "findings": [finding.facts() for finding in self.findings],
        }


@dataclass
class DeviceVerdict:
    """What is found of all clips of a device: clips in their order, each linked to the one before."""

    device: str
    clips: list[Verdict]

    @property
    def verdict(self) -> str:
        """The verdict on all of them together."""
        return verdict_of([finding for one in self.clips for finding in one.findings])


def signers(path: Path) -> dict[str, list[str]]:
    """Return the keys that devices sign with, of a signers.toml; UserError when it is none."""
    try:
        # What came with a clip may be a pipe, or a link to what has no end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: no file; name that of the devices' public keys with --signers")
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name the file of the devices' public keys with --signers") from None
    return parse_signers(data, str(path))


def parse_signers(data: bytes, where: str) -> dict[str, list[str]]:
    """Return the keys of a signers.toml that came from `where`; UserError when it is none."""
    try:
        found: dict[str, list[str]] = tomllib.loads(data.decode()).get("signers", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{where}: no TOML ({e}); get signers.toml from the hub anew") from None
    right = isinstance(found, dict) and all(
        isinstance(keys, list) and all(isinstance(k, str) and re.fullmatch("0[23][0-9a-f]{64}", k) for k in keys)
        for keys in found.values()
    )
    if not right:
        raise UserError(f'{where}: [signers] has to say "device" = ["66 hexadecimal digits", ...] for each device')
    return found


def clip_folders(device: Path) -> list[Path]:
    """Return the folders of a device's clips in their order."""
    try:
        return sorted(it for it in device.iterdir() if _FOLDER.fullmatch(it.name) and it.is_dir())
    except OSError as e:
        raise UserError(f"{device}: {e.strerror}; name a folder of clips") from None


def clip(folder: Path, known: Signers, evidence: EvidenceKey | None = None) -> Verdict:
    """Return the verdict on the clip in a folder named by its number, by itself: the clip before is not looked at."""
    try:
        return _clip(folder, known, evidence)
    except OSError as e:
        raise UserError(f"{e.filename or folder}: {e.strerror}; name the folder of a clip that can be read") from None


def _clip(folder: Path, known: Signers, evidence: EvidenceKey | None) -> Verdict:
    there = names(folder)
    manifests = [name for name in there if name.endswith(".plm")]
    if len(manifests) != 1:
        why = "there is no manifest" if not manifests else f"there are {len(manifests)} manifests"
        grade = TAMPERED if manifests else UNVERIFIABLE
        return Verdict(folder, _number(folder), manifest.Manifest(), [Finding(grade, "manifest", folder.name, why)])
    found = Verdict(folder, _number(folder), manifest.load(folder / manifests[0]))
    found.findings += _seal(found.manifest, manifests[0], known)
    if found.manifest.version > manifest.VERSION:
        return found
    # Nothing is deciphered for whom nobody knows: a header's step decides how long that takes.
    proven = verdict_of(found.findings) == VALID
    if found.manifest.head:
        found.findings += _claims(found.manifest, folder, manifests[0], known)
    found.findings += _files(folder, there, found.manifest)
    found.findings += _gaps(found.manifest)
    if evidence is not None and proven:
        closed = {f.where for f in found.findings if f.grade == TAMPERED or f.kind == "missing"}
        found.looked_inside, more = segment_checks.look(folder, found.manifest, evidence, closed)
        found.findings += more
    return found


def _number(folder: Path) -> int:
    return int(folder.name) if _FOLDER.fullmatch(folder.name) else -1


def _chain(folder: Path) -> Verdict:
    """Return what the chain needs of a clip: its manifest, nothing proven."""
    try:
        manifests = [name for name in names(folder) if name.endswith(".plm")]
        found = manifest.load(folder / manifests[0]) if len(manifests) == 1 else manifest.Manifest()
    except OSError as e:
        raise UserError(f"{e.filename or folder}: {e.strerror}; see that it can be read") from None
    return Verdict(folder, _number(folder), found)


def device(
    folder: Path, known: Signers, evidence: EvidenceKey | None = None, only: Container[str] | None = None
) -> DeviceVerdict:
    """Return the verdict on every clip in a device's folder, and on the chain through them.

    only  names of clips' folders: of the others the manifests are read, for the chain, and they are left out
    """
    clips = [
        clip(it, known, evidence) if only is None or it.name in only else _chain(it) for it in clip_folders(folder)
    ]
    link(clips)
    told = _thinned(clips, known)
    for one in clips:
        one.findings = [_explained(finding, told.get((one.number, finding.where))) for finding in one.findings]
    return DeviceVerdict(folder.name, [one for one in clips if only is None or one.folder.name in only])


def _thinned(clips: list[Verdict], known: Signers) -> dict[tuple[int, str], int]:
    """Return by which clip's manifest the device tells that it dropped a file (clip, name) for want of room."""
    out: dict[tuple[int, str], int] = {}
    for one in clips:
        lines = [said for said in one.manifest.accesses if said["access"] == "thinned"]
        if lines and verdict_of(_seal(one.manifest, one.folder.name, known)) == VALID:
            for said in lines:
                number, stems = said.get("clip"), said.get("segs")
                if isinstance(number, int) and isinstance(stems, list):
                    out |= {(number, f"{stem}.pls"): one.number for stem in stems}
    return out


def _explained(finding: Finding, by: int | None) -> Finding:
    """Return the finding of a file that is missing with the reason, when the device told one."""
    if finding.kind != "missing" or by is None:
        return finding
    return Finding(GAP, "thinned", finding.where, f"the device dropped it for want of room, as clip {by} tells")


def link(clips: list[Verdict]) -> None:
    """Put what the chain from clip to clip tells into their findings. `clips` are those of a device, in order."""
    claimed: dict[int, list[Verdict]] = {}
    for one in clips:
        if one.manifest.head:
            claimed.setdefault(one.manifest.head["clip"], []).append(one)
    for number, several in claimed.items():
        for one in several if len(several) > 1 else ():
            folders = ", ".join(it.folder.name for it in several)
            one.findings.append(Finding(TAMPERED, "number", one.folder.name, f"{folders} all claim number {number}"))
    before = None
    for one in clips:
        if one.manifest.head:
            one.findings += _link(one, before)
            before = one


def _link(one: Verdict, before: Verdict | None) -> list[Finding]:
    previous, where = one.manifest.head["previous"], one.folder.name
    if before is None:
        if previous == _FIRST:
            return []
        return [Finding(GAP, "chain", where, "the clip before it is missing")]
    seal = before.manifest.seal.get("chain")
    if seal == previous:
        return []
    if previous == _FIRST:
        return [Finding(GAP, "chain", where, "its chain begins anew: the device's storage was new or erased")]
    if one.number - before.number > 1:
        first, last = before.number + 1, one.number - 1
        return [
            Finding(
                GAP,
                "chain",
                where,
                f"clips {first} to {last} before it are missing"
                if last > first
                else f"clip {first} before it is missing",
            )
        ]
    if seal is None:
        return [Finding(NOTE, "chain", where, f"clip {before.number} before it has no seal to compare with")]
    return [Finding(TAMPERED, "chain", where, f"it does not follow clip {before.number}: one of the two is replaced")]


def _seal(found: manifest.Manifest, name: str, known: Signers) -> list[Finding]:
    """What seal, chain and signature tell, and whose they are."""
    out = [Finding(TAMPERED, "form", f"{name}, line {n}", words) for n, words in found.faults]
    if found.version > manifest.VERSION:
        words = f"version {found.version} is not known here; a newer patrolink may read it"
        return [Finding(UNVERIFIABLE, "version", name, words)]
    if not found.seal:
        words = "there is no seal: it is still being recorded, or its end has not come"
        return [*out, Finding(UNVERIFIABLE, "seal", name, words)]
    if not found.head:
        return out
    if not found.chain_right:
        out.append(Finding(TAMPERED, "chain", name, "a line was changed, added, removed or moved: not what was sealed"))
    if not found.signature_right:
        out.append(Finding(TAMPERED, "signature", name, "the seal is not signed with the key that the head names"))
    elif found.chain_right:
        # Sealed in this form by its signer: nobody changed it, this version does not know it.
        out = [Finding(UNVERIFIABLE, f.kind, f.where, f.words) for f in out]
    device, signer = found.head["device"], found.head["signer"]
    if signer not in known.get(device, ()):
        words = f"no key of {device} is known that begins with {signer[:16]}; get the hub's signers.toml"
        out.append(Finding(UNVERIFIABLE, "signer", name, words))
    return out


def _claims(found: manifest.Manifest, folder: Path, name: str, known: Signers) -> list[Finding]:
    """Whether folder and file are named by the number that the head says, and the folder above by its device."""
    number, device, above = f"{found.head['clip']:06d}", found.head["device"], folder.resolve().parent.name
    out = [
        Finding(TAMPERED, "number", given, f"it is named {stem}, and its manifest says clip {number}")
        for given, stem in ((folder.name, folder.name), (name, name[:-4]))
        if stem != number
    ]
    if above != device:
        # A copy may lie anywhere, but in the folder of another device it takes the place of that one's clip.
        words = f"the clip is of device {device}, and lies in the folder of {above}"
        out.append(Finding(TAMPERED if above in known else NOTE, "device", folder.name, words))
    return out


def _files(folder: Path, names: list[str], found: manifest.Manifest) -> list[Finding]:
    """Hold each file that is listed to its line."""
    out = []
    listed = set()
    for said in found.listed:
        name = manifest.file_of(said)
        listed.add(name)
        if name not in names:
            out.append(Finding(GAP, "missing", name, "the file is not there"))
            continue
        size = (folder / name).stat().st_size
        if size != said["bytes"]:
            out.append(Finding(TAMPERED, "size", name, f"it has {size} bytes, {said['bytes']} were recorded"))
        elif sha256(folder / name) != said["sha256"]:
            out.append(Finding(TAMPERED, "hash", name, "its bytes are not those that were recorded"))
    if found.seal:
        surplus = [name for name in names if name.endswith(".pls") and name not in listed]
        out += [Finding(TAMPERED, "surplus", name, "the manifest does not list it") for name in surplus]
    return out


def _clock(found: manifest.Manifest, steps: Mapping[str, set[int]]) -> Iterable[Finding]:
    """Where the clock was set between two segments that follow one another."""
    for a, b in zip(found.segments, found.segments[1:], strict=False):
        boot, first, second = a["seg"][:6], int(a["seg"][7:]), int(b["seg"][7:])
        follows = b["seg"][:6] == boot and all(step in steps[boot] for step in range(first, second))
        set_ms = b["start_ms"] - a["start_ms"] - a["ms"]
        if follows and a["whole"] and a["start_ms"] and b["start_ms"] and abs(set_ms) > _CLOCK_MS:
            yield Finding(NOTE, "clock", manifest.file_of(b), f"the clock was set by {set_ms / 1000:+.1f} s before it")


def _left_out(boot: str, there: list[int]) -> Iterable[Finding]:
    """Where steps of a boot are missing between those that are there."""
    for a, b in zip(there, there[1:], strict=False):
        first, last = f"{boot}-{a + 1:06d}", f"{boot}-{b - 1:06d}"
        if b > a + 1:
            what = "it" if first == last else f"{b - a - 1} segments up to {last}"
            words = f"the manifest leaves out {what}: not recorded, or not kept"
            yield Finding(GAP, "left out", f"{first}.pls", words)


def _gaps(found: manifest.Manifest) -> list[Finding]:
    """What the manifest itself says to be missing."""
    out = []
    steps: dict[str, set[int]] = {}
    for said in found.listed:
        name = manifest.file_of(said)
        steps.setdefault(name[:6], set()).add(int(name[7:13]))
        if "seg" not in said:
            continue
        if not said["whole"]:
            out.append(Finding(GAP, "cut", name, "the power or the storage ended it"))
        if said["lost"]:
            words = f"{said['lost']} frames were lost when it was recorded"
            out.append(Finding(GAP, "lost", name, words))
    for boot, there in steps.items():
        out += _left_out(boot, sorted(there))
    out += _clock(found, steps)
    if len(steps) > 1:
        out.append(Finding(GAP, "power", "manifest", f"the device was off in between: {len(steps)} boots"))
    if not found.segments and found.head:
        out.append(Finding(GAP, "empty", "manifest", "it lists no video"))
    why = found.close.get("close")
    if why in ("power", "storage", "camera"):
        out.append(Finding(GAP, "close", "manifest", f"the {why} ended the recording"))
    return out


def names(folder: Path) -> list[str]:
    """Return the names of a clip's files in their order."""
    with os.scandir(folder) as entries:
        return sorted(it.name for it in entries if it.is_file(follow_symlinks=False) and it.name[-4:] in _SUFFIXES)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
