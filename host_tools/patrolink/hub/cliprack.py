"""One clip at the hub: what its device told of it, which files are here, its verdict; kept in its folder: hub.json."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patrolink_protocol import clip as protocol

from patrolink.clips import manifest
from patrolink.clips.findings import TAMPERED, Finding
from patrolink.decoding import Row
from patrolink.errors import UserError
from patrolink.hub import state
from patrolink.hub.uploads import NAME

_STATE = "hub.json"
_KEPT = (
    "told", "sizes", "wanted", "head", "picture", "verdict", "findings", "thinned", "damaged", "kept", "ended_ms"
)  # fmt: skip
_OWN_MANIFEST = ("form", "chain", "signature", "number", "version")  # findings that are the manifest's own


@dataclass(eq=False)
class Clip:
    """
    told      the clip_manifest that came under the device's tag; empty until then
    sizes     bytes of each file that is here
    wanted    bytes of all its files, as its manifest lists them; 0 until that is here
    picture   name of a file that is a picture, "" when there is none
    thinned   files that its device dropped for want of room, as a later clip tells
    damaged   how often the device was told to send it again
    kept      a dispatcher wants it kept
    ended_ms  when its verdict came, 0 before
    """

    device: str
    number: int
    folder: Path
    told: Row = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    wanted: int = 0
    head: dict[str, Any] = field(default_factory=dict)
    picture: str = ""
    verdict: str = ""
    findings: list[dict[str, str]] = field(default_factory=list)
    thinned: list[str] = field(default_factory=list)
    damaged: int = 0
    kept: bool = False
    ended_ms: int = 0

    def save(self) -> None:
        """Keep what no file of the device says, and what takes long to find out of thousands of clips."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state.save(self.folder / _STATE, {name: getattr(self, name) for name in _KEPT})

    def scan(self) -> None:
        """Find out which files are here, and what the manifest says of them."""
        with os.scandir(self.folder) as entries:
            self.sizes = {it.name: it.stat().st_size for it in entries if NAME.fullmatch(it.name)}
        if self.picture not in self.sizes:
            self.picture = next((name for name in sorted(self.sizes) if _is_picture(self.folder / name)), "")
        said = self.read()
        self.head = said.head if said else {}
        self.wanted = sum(one["bytes"] for one in said.listed) if said else 0

    def read(self) -> manifest.Manifest | None:
        """Return its manifest; None while that is not here."""
        with contextlib.suppress(FileNotFoundError), (self.folder / f"{self.number:06d}.plm").open("rb") as f:
            return manifest.parse(f.read(manifest.MOST + 1))
        return None

    def complete(self) -> bool:
        """Whether the manifest and all that it lists are here, but what will not come."""
        said, there = self.read(), {*self.sizes, *self.thinned}
        return said is not None and all(manifest.file_of(one) in there for one in said.listed)

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

    def set_aside(self, time_ms: int) -> None:
        """Put away what the findings say not to be the recorded bytes, to come again. Nothing is deleted."""
        bad = {one["where"] for one in self.findings if one["grade"] == TAMPERED and one["where"] in self.sizes}
        own = [one for one in self.findings if one["grade"] == TAMPERED and one["kind"] in (*_OWN_MANIFEST, "told")]
        for name in bad | ({f"{self.number:06d}.plm"} & set(self.sizes) if own else set()):
            (self.folder / name).rename(self.folder / f"{name}.{time_ms}.bad")

    def row(self, coming: list[tuple[str, int, int]], pictures: bool) -> dict[str, Any]:
        """Return it as consoles and tools see it. coming: (name, bytes here, bytes) of files on their way."""
        told, head = self.told, self.head
        start_ms = told.get("start_ms") or head.get("time_ms") or 0
        here = sum(size for name, size in self.sizes.items() if name.endswith(".pls"))
        of = max(self.wanted, told.get("bytes") or 0, here)
        return {
            "device": self.device,
            "clip": self.number,
            "trigger": head.get("trigger") or told.get("trigger"),
            "event": head.get("event", told.get("event_id")),
            "time_ms": start_ms or None,
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
            setattr(it, name, kept[name])
    except FileNotFoundError:
        pass  # it has no verdict yet
    except (ValueError, KeyError, TypeError, OSError) as e:
        raise UserError(f"{folder / _STATE}: cannot be read ({e}); delete it, the clip is verified anew") from None
    if not it.verdict:
        it.scan()
    return it


def _is_picture(path: Path) -> bool:
    """Whether a segment is a picture: its header says so in plain."""
    if path.suffix != ".pls":
        return False
    with path.open("rb") as f:
        try:
            return bool(protocol.unpack_header(f.read(protocol.HEADER)).codec == protocol.JPEG)
        except protocol.BadSegment:
            return False
