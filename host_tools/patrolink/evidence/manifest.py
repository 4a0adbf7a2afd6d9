"""Manifests as they are read at the site: the one right form of a line, the chain, the seal (CLIP.md, "Manifest")."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from patrolink_protocol import clip

LONGEST = 1024  # bytes of a line, its line feed included
MOST = 4 << 20  # bytes of a manifest: ten minutes are a hundredth of it
MOST_LINES = 1 << 15
_MOST_FAULTS = 20  # that are told: a manifest with so many is none
VERSION = 1
LAST = 999_999  # number of a clip
_HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 >> 1
_EVENT_MS = 1 << 48  # no time is later
_LONG = {b"\\b": b"\\u0008", b"\\f": b"\\u000c"}
_SHOWN = 80  # characters of a value in a finding
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_STEM = re.compile(r"[0-9]{6}-[0-9]{6}")

Said = dict[str, Any]


def _number(most: int) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and 0 <= v <= most


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None


_U32, _TIME, _HASH, _SEG = _number(0xFFFFFFFF), _number(_EVENT_MS), _text("[0-9a-f]{64}"), _text(_STEM.pattern)
_TRIGGER = _text("|".join(clip.TRIGGERS))
_ACCESS = {"access": _text(_WORD.pattern), "who": _text(r"[^\0]{1,200}"), "time_ms": _TIME}
# The keys of each kind of line in their order, and what their values may be; the first key names the kind.
_FORMS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "clip": {
        "clip": _number(LAST),
        "v": _number(VERSION),
        "device": _text("[^\0/]{1,64}"),
        "boot": _U32,
        "codec": _text("|".join(clip.CODECS.values())),
        "trigger": _TRIGGER,
        "event": _U32,
        "time_ms": _TIME,
        "pre_s": _number(86400),
        "previous": _HASH,
        "signer": _text("0[23][0-9a-f]{64}"),
    },
    "seg": {
        "seg": _SEG,
        "bytes": _U32,
        "sha256": _HASH,
        "start_ms": _TIME,
        "ms": _U32,
        "frames": _U32,
        "lost": _U32,
        "whole": lambda v: isinstance(v, bool),
    },
    "thumb": {"thumb": _SEG, "bytes": _U32, "sha256": _HASH},
    "mark": {"mark": _TRIGGER, "event": _U32, "time_ms": _TIME, "seg": _SEG, "at_ms": _U32},
    "close": {"close": _text("done|power|storage|camera"), "time_ms": _TIME},
    "chain": {"chain": _HASH, "sig": _text("[0-9a-f]{128}")},
}


@dataclass
class Manifest:
    """What a manifest says, line by line, and how far it is in the right form.

    head, close, seal  those lines; empty when they are not there
    listed   lines of segments ("seg") and pictures ("thumb") in their order; marks, accesses: theirs
    faults   (number of the line, what is wrong with it), the first ones
    torn     whether the last line has no end: it was still being written
    chain    after all lines before the seal; None without a head
    data     all of it, as it was read
    """

    head: Said = field(default_factory=dict)
    close: Said = field(default_factory=dict)
    seal: Said = field(default_factory=dict)
    listed: list[Said] = field(default_factory=list)
    marks: list[Said] = field(default_factory=list)
    accesses: list[Said] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    torn: bool = False
    chain: bytes | None = None
    data: bytes = b""
    version: int = VERSION

    @property
    def segments(self) -> list[Said]:
        """The lines of what the clip is made of."""
        return [said for said in self.listed if "seg" in said]

    @property
    def chain_right(self) -> bool:
        """Whether the seal is over the lines that are there."""
        return bool(self.seal) and self.chain is not None and self.seal["chain"] == self.chain.hex()

    @property
    def signature_right(self) -> bool:
        """Whether the seal's signature is that of the signer whom the head names, over the seal's chain."""
        return bool(self.seal and self.head) and signature_right(
            self.head["signer"], bytes.fromhex(self.seal["chain"]), bytes.fromhex(self.seal["sig"])
        )


def file_of(said: Said) -> str:
    """Return the name of the file that a line lists."""
    stem: str = said["seg"] if "seg" in said else said["thumb"]
    return stem + ".pls"


def signature_right(signer: str, chain: bytes, signature: bytes) -> bool:
    """Whether 64 bytes are the signature of a chain under a signer (66 hexadecimal digits), in its one form."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not r or not 0 < s <= _HALF_ORDER:
        return False
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(signer))
        key.verify(utils.encode_dss_signature(r, s), clip.signed(chain), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except (ValueError, InvalidSignature):
        return False
    return True


def load(path: Path) -> Manifest:
    """Return what a file says, as `parse` does. Raises OSError."""
    with path.open("rb") as f:
        return parse(f.read(MOST + 1))


def parse(data: bytes) -> Manifest:
    """Return what the lines say. It raises nothing: what is not as it should be is in `faults`."""
    found = Manifest(data=data)
    if len(data) > MOST:
        found.faults.append((0, f"{len(data)} bytes are more than a manifest has"))
        return found
    if (n := data.count(b"\n")) > MOST_LINES:
        found.faults.append((0, f"{n} lines are more than a manifest has"))
        return found
    lines = data.split(b"\n")
    torn = lines.pop()
    chain = None
    for n, line in enumerate(lines, 1):
        if len(found.faults) == _MOST_FAULTS and n < len(lines):
            found.faults.append((n, "nothing from here on is read: too many lines before are none of a manifest"))
        # All lines go into the chain, read or not.
        said = _line(found, n, line) if len(found.faults) <= _MOST_FAULTS or n == len(lines) else {}
        if n == 1 and "clip" in said:
            chain = bytes.fromhex(said["previous"])
        if said and "chain" in said and n == len(lines) and not torn:
            found.seal = said
        elif chain is not None:
            chain = clip.link(chain, line + b"\n")
        _place(found, n, said)
    found.chain = chain
    found.torn = bool(torn)
    return found


def _line(found: Manifest, n: int, line: bytes) -> Said:
    """Return what a line says, nothing when it is in no right form."""
    said = _said(line)
    kind = next(iter(said), "")
    if kind == "access":
        wrong = _wrong(dict(list(said.items())[:3]), _ACCESS) or _wrong_facts(dict(list(said.items())[3:]))
    elif kind in _FORMS:
        form = dict(_FORMS[kind])
        if kind == "clip" and type(said.get("v")) is int and said["v"] > VERSION:
            found.version = said["v"]
        if kind == "clip" and "follows" in said:
            form["follows"] = form["clip"]
        wrong = _wrong(said, form)
    else:
        wrong = "it is no line of a manifest"
    if wrong:
        found.faults.append((n, wrong))
        return {}
    return said


def _said(line: bytes) -> Said:
    """Return the object of a line that is JSON in its shortest form, each key once; else nothing."""
    if len(line) >= LONGEST:
        return {}
    try:
        said = json.loads(line, object_pairs_hook=_once)
        if not isinstance(said, dict):
            return {}
        # MicroPython writes what is not ASCII as it is, CPython as \u; MicroPython has no \b and \f.
        forms = [json.dumps(said, separators=(",", ":"), ensure_ascii=ascii).encode() for ascii in (False, True)]
        forms.append(re.sub(rb"\\.", lambda it: _LONG.get(it[0], it[0]), forms[0]))
    except (ValueError, RecursionError):
        return {}
    return said if line in forms else {}


def _once(pairs: list[tuple[str, Any]]) -> Said:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _wrong(said: Said, form: dict[str, Callable[[Any], bool]]) -> str:
    if list(said) != list(form):
        return f"its keys are {', '.join(said) or 'none'}; they have to be {', '.join(form)}"
    bad = [key for key, right in form.items() if not right(said[key])]
    return f"{bad[0]} cannot be {_short(said[bad[0]])}" if bad else ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _wrong_facts(facts: Said) -> str:
    """What others did comes with facts of its own kind."""
    for key, value in facts.items():
        plain = value if isinstance(value, list) else [value]
        if not _WORD.fullmatch(key) or not all(isinstance(v, str | int) for v in plain):
            return f"{key} cannot be {_short(value)}"
    return ""


def _place(found: Manifest, n: int, said: Said) -> None:
    """Put a line where it belongs, or say that it stands in a wrong place."""
    kind = next(iter(said), "")
    wrong = ""
    if (kind == "clip") != (n == 1) and (kind == "clip" or said):
        wrong = "the head is the first line, and only that"
    elif kind == "chain" and said is not found.seal:
        wrong = "something comes after the seal"
    elif found.close and kind not in ("", "chain"):
        wrong = "something comes after the close"
    elif kind == "seg" and found.segments and found.segments[-1]["seg"] >= said["seg"]:
        wrong = f"{said['seg']} comes after {found.segments[-1]['seg']}"
    if wrong:
        found.faults.append((n, wrong))
    if kind == "clip" and n == 1:
        found.head = said
    elif kind in ("seg", "thumb"):
        found.listed.append(said)
    elif kind == "mark":
        found.marks.append(said)
    elif kind == "access":
        found.accesses.append(said)
    elif kind == "close":
        found.close = said
