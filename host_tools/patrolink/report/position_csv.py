"""Write positions as CSV, block by block: the same text as `formats.write_csv`, many times as fast."""

import functools
from collections.abc import Callable, Iterable
from typing import TextIO

import numpy as np
import patrolink_enums as enums

from patrolink.core.batch_columns import Columns
from patrolink.core.decoder import FLAGS, POSITION_COLUMNS
from patrolink.core.text import csv_cell
from patrolink.report import positions
from patrolink.report.positions import PositionBlock

_STATES = 32
PART_FRAMES = 512  # formatted together: some 4 MB of text
_TEXTS_CACHED = 1 << 16


def _scaled_text(divisor: int) -> Callable[[int], str]:
    """Return a function that formats a stored value; it remembers the latest values, which recur."""

    @functools.lru_cache(_TEXTS_CACHED)
    def text(value: int) -> str:
        return "" if value == enums.UNKNOWN else str(value / divisor)

    return text


_TEXTS: dict[str, Callable[[int], str]] = {
    "alt": _scaled_text(1000),
    "speed": _scaled_text(1000),
    "course": _scaled_text(100),
    "hacc": _scaled_text(1000),
    "sats": functools.lru_cache(lambda value: "" if value == enums.UNKNOWN else str(value)),
    "battery": functools.lru_cache(lambda value: "" if value == enums.UNKNOWN else str(value)),
}
# Mode and flags of every state.
_STATE_TEXTS = [
    ",".join([str(state & 3), *(str(bool(state >> 2 + i & 1)) for i in range(len(FLAGS)))]) for state in range(_STATES)
]


def write(blocks: Iterable[PositionBlock], out: TextIO) -> None:
    """Write positions; an empty cell means unknown. A device id that begins with "-" gets an apostrophe."""
    out.write(",".join(POSITION_COLUMNS) + "\n")
    for block in blocks:
        for part in block.split(PART_FRAMES):
            if len(part.columns["time"]):
                out.write(_lines(part))


def value_texts(columns: Columns) -> dict[str, Iterable[str]]:
    """Return the texts of the values of each column but the state, in the order of a line; "" for unknown ones."""
    mode = positions.mode(columns)
    texts: dict[str, Iterable[str]] = {
        "time": np.datetime_as_string(columns["time"].view("datetime64[ms]"), timezone="UTC").tolist()
    }
    for name in ("lat", "lon"):
        degrees = list(map(str, (columns[name] / 10_000_000).tolist()))
        for i in np.flatnonzero(mode < 2):
            degrees[i] = ""
        texts[name] = degrees
    for name, text in _TEXTS.items():
        values = columns[name] if name != "alt" else np.where(mode < 3, enums.UNKNOWN, columns[name])
        texts[name] = map(text, values.tolist())
    return texts


def _lines(block: PositionBlock) -> str:
    columns = block.columns
    parts = [*value_texts(columns).values(), map(_STATE_TEXTS.__getitem__, columns["state"].tolist())]
    frames = [
        f"{csv_cell(device)},{counter}\n"
        for device, counter in zip(block.devices, block.counters.tolist(), strict=True)
    ]
    parts.append(text for text, count in zip(frames, block.counts.tolist(), strict=True) for _ in range(count))
    return "".join(map(",".join, zip(*parts, strict=True)))
