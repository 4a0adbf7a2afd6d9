"""The worked example of SPEC.md: one frame, byte by byte and bit by bit, parsed from the frame itself."""

import patrolink_messages as m
from patrolink_protocol import frame, track_decoder, track_encoder

from . import vectors
from .model import SchemaError

_KINDS = ("constant", "fixed-width", "Rice", "raw")
_ROWS = [
    [1700000000000, 311234567, 1211234567, 3, 12000, 1440, 9000, 4000, 9, 80],
    [1700000001000, 311234661, 1211234680, 3, 12000, 1410, 9200, 4000, 9, 80],
    [1700000002000, 311234748, 1211234801, 3, 12500, 1500, 8800, 4000, 9, 80],
]


class _Reader:
    """Reads bits and collects a table row for each code."""

    def __init__(self, body: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in body)
        self.at = 0
        self.lines: list[str] = []

    def take(self, n: int) -> str:
        self.at += n
        return self.bits[self.at - n : self.at]

    def note(self, start: int, about: str) -> None:
        self.lines.append(f"| {start} | `{self.bits[start : self.at]}` | {about} |")

    def get(self, n: int) -> int:
        return int(self.take(n), 2)

    def eg(self, k: int) -> int:
        zeros = 0
        while self.take(1) == "0":
            zeros += 1
        return (1 << zeros + k) + (self.get(zeros + k) if zeros + k else 0) - (1 << k)


def _unzigzag(code: int) -> int:
    return -((code + 1) >> 1) if code & 1 else code >> 1


def _column(r: _Reader, name: str, n: int) -> None:
    start = r.at
    order, kind = r.get(1), r.get(2)
    r.note(start, f"{name}: {'second' if order else 'first'} differences, {_KINDS[kind]}")
    left = n - 1
    if order:
        start = r.at
        value = _unzigzag(r.eg(0))
        r.note(start, f"{name}: first difference {value} (EG0 of its zigzag)")
        left -= 1
    if kind not in (track_encoder.FIXED, track_encoder.CONSTANT):
        raise SchemaError("the worked example may use only the baseline codings")
    if kind == track_encoder.FIXED:
        start = r.at
        w = r.get(6)
        r.note(start, f"{name}: width {w}")
        start = r.at
        steps = [_unzigzag(r.get(w)) for _ in range(left)]
        r.note(start, f"{name}: differences {', '.join(map(str, steps))}")


def render() -> str:
    """Return Markdown: the bytes of the frame, then each code of its body."""
    body = vectors.batch(_ROWS, 6, False)
    data = vectors.seal(m.POSITION_BATCH, body, 7)
    spaced = " ".join(f"{byte:02X}" for byte in data)
    _, columns = track_decoder.decode_columns(body)
    size = frame.tag_bytes(m.POSITION_BATCH)
    lines = [
        f"Device `{vectors.DEVICE}`, epoch 0, counter 7, three rows of a walk in baseline codings, sealed with the key",
        f"`{vectors.KEY.hex()}`:",
        "",
        *(f"    {spaced[i : i + 96].strip()}" for i in range(0, len(spaced), 96)),
        "",
        f"`{data[0]:02X}` is version {data[0] >> 5} and type {data[0] & 31}, a position batch; "
        f"`{data[1:5].hex(' ').upper()}` is no flag and",
        f"counter {int.from_bytes(data[1:5], 'big')}; the last {size} bytes are the tag. The {len(body)} bytes between "
        "them are the batch:",
        "",
        "| bit | code | meaning |",
        "| --- | --- | --- |",
        *_annotate(body),
        "",
        "Decoded, in row units:",
        "",
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join(["---"] * len(columns)) + " |",
        *("| " + " | ".join(str(columns[c][i]) for c in columns) + " |" for i in range(len(_ROWS))),
    ]
    return "\n".join(lines)


def _annotate(body: bytes) -> list[str]:
    """Return a table row for each code of a batch."""
    r = _Reader(body)
    start = r.at
    n = r.eg(0) + 1
    r.note(start, f"rows: EG0 of {n - 1}")
    start = r.at
    resolution = r.get(2) + 5
    r.note(start, f"resolution {resolution}: 10^-{resolution} degrees")
    start = r.at
    tick = r.get(2)
    r.note(start, f"tick {tick}: whole seconds")
    start = r.at
    r.get(1)
    r.note(start, "every optional column is present")
    start = r.at
    second = r.get(32)
    r.note(start, f"time of the first row: {second} s")
    _column(r, "time", n)
    for name, _, _, divisor, bits, k, signed, optional, _ in track_encoder.column_specs(resolution)[1:]:
        start = r.at
        if k < 0:
            value = r.get(bits)
            value -= (1 << bits) if signed and value >> (bits - 1) else 0
            how = f"{bits} bits"
        else:
            value = r.eg(k)
            how = f"EG{k} of {value}"
            if signed and value:
                value = _unzigzag(value - 1) + 1
        known = value - 1 if optional else value
        unit = f" = {known * divisor} in row units" if divisor != 1 else ""
        r.note(start, f"{name}: keyframe {known}{unit} ({how}{', stored plus one' if optional else ''})")
        _column(r, name, n)
    if r.at < len(r.bits):
        start = r.at
        r.take(len(r.bits) - r.at)
        r.note(start, "padding")
    return r.lines
