"""Parses clip manifests: the one valid form of each line, the chain, the seal (CLIP.md, "Manifest").

Nothing in a manifest is trusted: sizes are limited, and every value is checked against the form of its line.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from patrolink_protocol import clip

LINE_MAX = 1024  # bytes of a line, line feed included
BYTES_MAX = 4 << 20  # a clip of ten minutes needs a hundredth of it
LINES_MAX = 1 << 15
_FAULTS_MAX = 20  # reading stops there: the file is not a manifest
VERSION = 1
CLIP_NUMBER_MAX = 999_999
_HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 >> 1  # of P-256
_TIME_MS_MAX = 1 << 48
_LONG_ESCAPES = {b"\\b": b"\\u0008", b"\\f": b"\\u000c"}
_VALUE_SHOWN_MAX = 80  # characters of a value in a fault
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_STEM = re.compile(r"[0-9]{6}-[0-9]{6}")
_ACCESS_KEYS = 3  # of an access line, before the facts of its kind

ManifestLine = dict[str, Any]
_Check = Callable[[Any], bool]


def _number(largest: int) -> _Check:
    return lambda v: type(v) is int and 0 <= v <= largest


def _text(pattern: str) -> _Check:
    return lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None


_U32, _TIME, _HASH, _SEG = _number(0xFFFFFFFF), _number(_TIME_MS_MAX), _text("[0-9a-f]{64}"), _text(_STEM.pattern)
_TRIGGER = _text("|".join(clip.TRIGGERS))
_ACCESS = {"access": _text(_WORD.pattern), "who": _text(r"[^\0]{1,200}"), "time_ms": _TIME}
# The keys of each kind of line in their order, and the check of each value; the first key names the kind.
_FORMS: dict[str, dict[str, _Check]] = {
    "clip": {
        "clip": _number(CLIP_NUMBER_MAX),
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


class Fault(NamedTuple):
    """A line that is not in the valid form: its number, from 1 (0: the whole file), and what is wrong."""

    line: int
    text: str


@dataclass
class Manifest:
    """The lines of a manifest by kind, and what is wrong with their form.

    Args:
        head: The "clip" line; empty when it is missing.
        close: The "close" line; empty when it is missing.
        seal: The "chain" line; empty when it is missing.
        listed: Lines of segments ("seg") and pictures ("thumb") in their order.
        marks: Lines of events.
        accesses: Lines of what dispatchers and the device did with clips.
        faults: The first faults of form.
        truncated: Whether the last line has no line feed: it was still being written.
        chain: Chain value over all lines before the seal; None without a head.
        data: The file's bytes.
        version: Version that the head claims.
    """

    head: ManifestLine = field(default_factory=dict)
    close: ManifestLine = field(default_factory=dict)
    seal: ManifestLine = field(default_factory=dict)
    listed: list[ManifestLine] = field(default_factory=list)
    marks: list[ManifestLine] = field(default_factory=list)
    accesses: list[ManifestLine] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    truncated: bool = False
    chain: bytes | None = None
    data: bytes = b""
    version: int = VERSION

    @property
    def segments(self) -> list[ManifestLine]:
        """The lines of video segments."""
        return [line for line in self.listed if "seg" in line]

    @property
    def chain_valid(self) -> bool:
        """Whether the seal holds the chain value of the lines before it."""
        return bool(self.seal) and self.chain is not None and self.seal["chain"] == self.chain.hex()

    @property
    def signature_valid(self) -> bool:
        """Whether the seal's signature is the head's signer's over the seal's chain value."""
        return bool(self.seal and self.head) and is_signature_valid(
            self.head["signer"], bytes.fromhex(self.seal["chain"]), bytes.fromhex(self.seal["sig"])
        )


def segment_file(line: ManifestLine) -> str:
    """Return the name of the file that a "seg" or "thumb" line lists."""
    stem: str = line["seg"] if "seg" in line else line["thumb"]
    return stem + ".pls"


def is_signature_valid(signer: str, chain: bytes, signature: bytes) -> bool:
    """Verify the signature of a chain value (ECDSA on P-256 over SHA-256, FIPS 186-5; s at most half the order).

    Args:
        signer: The public key, compressed, 66 hexadecimal digits.
        chain: The chain value, 32 bytes.
        signature: r and s, 32 bytes each.
    """
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not r or not 0 < s <= _HALF_ORDER:
        return False
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(signer))
        key.verify(
            utils.encode_dss_signature(r, s), clip.signature_digest(chain), ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        )
    except (ValueError, InvalidSignature):
        return False
    return True


def load(path: Path) -> Manifest:
    """Read and parse a manifest file. Raises OSError."""
    with path.open("rb") as f:
        return parse(f.read(BYTES_MAX + 1))


def parse(data: bytes) -> Manifest:
    """Parse a manifest. Never raises: everything that is not in the valid form is in `faults`."""
    manifest = Manifest(data=data)
    if len(data) > BYTES_MAX:
        manifest.faults.append(Fault(0, f"the file has {len(data)} bytes, a manifest has at most {BYTES_MAX}"))
        return manifest
    if (n := data.count(b"\n")) > LINES_MAX:
        manifest.faults.append(Fault(0, f"the file has {n} lines, a manifest has at most {LINES_MAX}"))
        return manifest
    lines = data.split(b"\n")
    rest = lines.pop()
    chain = None
    for n, text in enumerate(lines, 1):
        is_last = n == len(lines)
        if len(manifest.faults) == _FAULTS_MAX and not is_last:
            manifest.faults.append(Fault(n, "too many faults: reading stops at this line"))
        # Every line goes into the chain, parsed or not.
        line = _parse_line(manifest, n, text) if len(manifest.faults) <= _FAULTS_MAX or is_last else {}
        if n == 1 and "clip" in line:
            chain = bytes.fromhex(line["previous"])
        if line and "chain" in line and is_last and not rest:
            manifest.seal = line
        elif chain is not None:
            chain = clip.extend_chain(chain, text + b"\n")
        _add_line(manifest, n, line)
    manifest.chain = chain
    manifest.truncated = bool(rest)
    return manifest


def _parse_line(manifest: Manifest, n: int, text: bytes) -> ManifestLine:
    """Return a line's object, or an empty one and a fault when it is not in a valid form."""
    line = _parse_json(text)
    kind = next(iter(line), "")
    if kind == "access":
        items = list(line.items())
        fault = _fault_of(dict(items[:_ACCESS_KEYS]), _ACCESS) or _fault_of_facts(dict(items[_ACCESS_KEYS:]))
    elif kind in _FORMS:
        form = dict(_FORMS[kind])
        if kind == "clip" and type(line.get("v")) is int and line["v"] > VERSION:
            manifest.version = line["v"]
        if kind == "clip" and "follows" in line:
            form["follows"] = form["clip"]
        fault = _fault_of(line, form)
    else:
        fault = "this is not a line of a manifest"
    if fault:
        manifest.faults.append(Fault(n, fault))
        return {}
    return line


def _parse_json(text: bytes) -> ManifestLine:
    """Return the object of a line that is JSON in its shortest form with unique keys, else an empty one."""
    if len(text) >= LINE_MAX:
        return {}
    try:
        line = json.loads(text, object_pairs_hook=_unique_keys)
        if not isinstance(line, dict):
            return {}
        # MicroPython writes characters outside ASCII unescaped, CPython as \u; MicroPython has no \b and \f.
        forms = [json.dumps(line, separators=(",", ":"), ensure_ascii=ascii).encode() for ascii in (False, True)]
        forms.append(re.sub(rb"\\.", lambda escape: _LONG_ESCAPES.get(escape[0], escape[0]), forms[0]))
    except (ValueError, RecursionError):
        return {}
    return line if text in forms else {}


def _unique_keys(pairs: list[tuple[str, Any]]) -> ManifestLine:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _fault_of(line: ManifestLine, form: dict[str, _Check]) -> str:
    if list(line) != list(form):
        return f"the keys are {', '.join(line) or 'none'}; expected {', '.join(form)}"
    invalid = [key for key, is_valid in form.items() if not is_valid(line[key])]
    return f"{invalid[0]} cannot be {_shorten(line[invalid[0]])}" if invalid else ""


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _VALUE_SHOWN_MAX else text[:_VALUE_SHOWN_MAX] + "..."


def _fault_of_facts(facts: ManifestLine) -> str:
    """Check the facts of an access line: words as keys; text, integers or lists of them as values."""
    for key, value in facts.items():
        items = value if isinstance(value, list) else [value]
        if not _WORD.fullmatch(key) or not all(isinstance(item, str | int) for item in items):
            return f"{key} cannot be {_shorten(value)}"
    return ""


def _add_line(manifest: Manifest, n: int, line: ManifestLine) -> None:
    """Store a line by its kind, and add a fault when its position is wrong."""
    kind = next(iter(line), "")
    fault = ""
    if (kind == "clip") != (n == 1) and (kind == "clip" or line):
        fault = "the first line, and only that, must be the clip line"
    elif kind == "chain" and line is not manifest.seal:
        fault = "there are lines after the seal"
    elif manifest.close and kind not in ("", "chain"):
        fault = "there are lines after the close line"
    elif kind == "seg" and manifest.segments and manifest.segments[-1]["seg"] >= line["seg"]:
        fault = f"{line['seg']} must not come after {manifest.segments[-1]['seg']}"
    if fault:
        manifest.faults.append(Fault(n, fault))
    if kind == "clip" and n == 1:
        manifest.head = line
    elif kind in ("seg", "thumb"):
        manifest.listed.append(line)
    elif kind == "mark":
        manifest.marks.append(line)
    elif kind == "access":
        manifest.accesses.append(line)
    elif kind == "close":
        manifest.close = line
