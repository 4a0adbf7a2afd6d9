"""One clip at the hub: what its device told of it, which files are here, its verdict; kept in its folder: hub.json."""

import contextlib
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patrolink_protocol import clip as protocol

from patrolink.core.clock import unix_ms
from patrolink.core.decoder import Row
from patrolink.evidence import manifest
from patrolink.evidence.findings import GAPS, TAMPERED, UNVERIFIABLE, VALID, Finding, verdict_of
from patrolink.hub.clips.tus_server import NAME
from patrolink.hub.infra import persistence

_STATE = "hub.json"
_KEPT = (
    "told", "sizes", "wanted", "head", "chain", "picture", "verdict", "findings", "thinned", "damaged", "kept",
    "ended_ms",
)  # fmt: skip
_OWN_MANIFEST = ("form", "chain", "signature", "number", "version", "told")  # findings that are the manifest's own


@dataclass(eq=False)
class Clip:
    """
    told      the clip_manifest that came under the device's tag; empty until then
    sizes     bytes of each file that is here
    wanted    bytes of all its files, as its manifest lists them; 0 until that is here
    chain     that its manifest is sealed with, "" until that is here
    listed    files that its manifest lists; None until that is here, or was read since the hub's start
    picture   name of a file that is a picture, "" when there is none
    thinned   files that its device dropped for want of room, as a later clip tells
    damaged   how often the device was told to send it again
    kept      a dispatcher wants it kept
    ended_ms  when its verdict came, 0 before
    anew      something has come since it was judged: it is to be judged again
    other     the last chain that was told under this number and is not this clip's
    """

    device: str
    number: int
    folder: Path
    told: Row = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    wanted: int = 0
    head: dict[str, Any] = field(default_factory=dict)
    chain: str = ""
    listed: list[str] | None = None
    picture: str = ""
    verdict: str = ""
    findings: list[dict[str, str]] = field(default_factory=list)
    thinned: list[str] = field(default_factory=list)
    damaged: int = 0
    kept: bool = False
    ended_ms: int = 0
    anew: bool = False
    other: str = ""
    _saved: int = 0  # hash of what is kept
    _looking: threading.Lock = field(default_factory=threading.Lock)

    @property
    def right(self) -> bool:
        """Whether it is here and what is here is right: its device may let go of it."""
        return self.verdict in (VALID, GAPS)

    @property
    def proven(self) -> bool:
        """Whether its manifest is that of its device, so that the clip after it can be held to it."""
        own = (*_OWN_MANIFEST, "signer", "seal")
        wrong = (one for one in self.findings if one["kind"] in own and not self._is_link(one))
        return bool(self.verdict) and not any(one["grade"] in (TAMPERED, UNVERIFIABLE) for one in wrong)

    @property
    def linked(self) -> bool:
        """Whether nothing was found between it and the clip before."""
        return not any(self._is_link(one) for one in self.findings)

    @property
    def start_ms(self) -> int:
        """When it begins, unix time; 0 while that is not known."""
        return self.told.get("start_ms") or self.head.get("time_ms") or 0

    def _is_link(self, one: dict[str, str]) -> bool:
        return one["kind"] == "chain" and one["where"] == self.folder.name

    def link(self, found: list[Finding]) -> bool:
        """Put what was found between it and the clip before in place of what was; return whether that is something new.

        No verdict on itself is changed: it has to be complete and judged.
        """
        findings = [one for one in self.findings if not self._is_link(one)] + [one.facts() for one in found]
        new = findings != self.findings
        self.findings = findings
        self.verdict = verdict_of(Finding(**one) for one in findings)
        return new

    def save(self) -> None:
        """Keep what no file of the device says, and what takes long to find out of thousands of clips."""
        document = {name: getattr(self, name) for name in _KEPT}
        if (now := hash(json.dumps(document))) != self._saved:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            persistence.save_json(self.folder / _STATE, document)
            self._saved = now

    def scan(self) -> None:
        """Find out which files are here, and what the manifest says of them. For a thread, as `take`."""
        with self._looking:
            self.sizes, self.picture, self.listed = {}, "", None
            with os.scandir(self.folder) as entries:
                for name in sorted(entry.name for entry in entries if NAME.fullmatch(entry.name)):
                    self._take(name)

    def take(self, name: str) -> None:
        """A file has come."""
        with self._looking:
            self._take(name)

    def _take(self, name: str) -> None:
        path = self.folder / name
        self.sizes[name] = path.stat().st_size
        if name == f"{self.number:06d}.plm":
            said = manifest.load(path)
            self.head, self.chain = said.head, said.seal.get("chain", "")
            self.wanted = sum(one["bytes"] for one in said.listed)
            self.listed = [manifest.file_of(one) for one in said.listed]
        elif not self.picture and _is_picture(path):
            self.picture = name

    def read(self) -> manifest.Manifest | None:
        """Return its manifest; None while that is not here."""
        with contextlib.suppress(FileNotFoundError):
            return manifest.load(self.folder / f"{self.number:06d}.plm")
        return None

    def complete(self) -> bool:
        """Whether the manifest and all that it lists are here, but what will not come. For a thread."""
        if self.listed is None and self.sizes:
            self.scan()
        return self.listed is not None and {*self.sizes, *self.thinned}.issuperset(self.listed)

    def against_told(self, said: manifest.Manifest) -> list[Finding]:
        """Hold the manifest to what the device told of it under its own tag."""
        if not self.told or not said.seal:
            return []
        pairs = (("chain", said.seal["chain"]), ("signature", said.seal["sig"]), ("signer", said.head.get("signer")))
        return [
            Finding(TAMPERED, "told", f"{self.number:06d}.plm", f"its {name} is not the one that the device told")
            for name, value in pairs
            if self.told[name] != value
        ]

    def since_ms(self) -> int:
        """When its verdict came, or something of it while there is none; now when nothing of it is on storage."""
        with contextlib.suppress(FileNotFoundError):
            return self.ended_ms or self.folder.stat().st_mtime_ns // 1_000_000
        return unix_ms()

    def set_aside(self, time_ms: int) -> bool:
        """Put away what the findings say not to be the recorded bytes, to come again; return whether there is such.
        Nothing is deleted.
        """
        wrong = [one for one in self.findings if one["grade"] == TAMPERED and not self._is_link(one)]
        bad = {one["where"] for one in wrong}
        if any(one["kind"] in _OWN_MANIFEST for one in wrong):
            bad.add(f"{self.number:06d}.plm")
        bad &= set(self.sizes)
        for name in bad:
            (self.folder / name).rename(self.folder / f"{name}.{time_ms}.bad")
        if bad:
            self.scan()
        return bool(bad)

    def row(self, coming: list[tuple[str, int, int]], pictures: bool) -> dict[str, Any]:
        """Return it as consoles and tools see it. coming: (name, bytes here, bytes) of files on their way."""
        told, head = self.told, self.head
        here = sum(size for name, size in self.sizes.items() if name.endswith(".pls"))
        of = max(self.wanted, told.get("bytes") or 0, here)
        return {
            "device": self.device,
            "clip": self.number,
            "trigger": head.get("trigger") or told.get("trigger"),
            "event": head.get("event", told.get("event_id")),
            "time_ms": self.start_ms or None,
            "duration_ms": told.get("duration_ms"),
            "state": "here" if self.verdict else "coming" if self.sizes or coming else "told",
            "bytes": of,
            "bytes_here": min(of, here + sum(offset for _, offset, _ in coming)),
            "verdict": self.verdict,
            "findings": self.findings[:20],
            "kept": self.kept,
            "picture": bool(self.picture) and pictures,
        }


def load(folder: Path) -> Clip:
    """Return the clip of a folder `<clips>/<device>/<clip>`."""
    it = Clip(folder.parent.name, int(folder.name), folder)
    try:
        kept = json.loads((folder / _STATE).read_bytes())
        for name in _KEPT:
            if name in kept:
                setattr(it, name, kept[name])
    except FileNotFoundError:
        pass  # it has no verdict yet
    except (ValueError, TypeError, OSError):
        it.kept = True  # it may have been: that can be read no more. It is judged anew
    if not it.verdict:
        it.scan()
    return it


def _is_picture(path: Path) -> bool:
    """Whether a segment is a picture: its header says so in plain.

    One whose header names another step is none: the step decides how long it takes to decipher.
    """
    if path.suffix != ".pls":
        return False
    with path.open("rb") as f:
        try:
            header = protocol.unpack_header(f.read(protocol.HEADER))
        except protocol.BadSegment:
            return False
    return bool(header.codec == protocol.JPEG) and protocol.name_of(header.boot, header.step) == path.name
