"""Decode many position batches at once.

The C codec decodes them if it is installed (`batch_extension`), else numpy (`batch_columns`). What these leave out, a
malformed batch for example, goes to the plain decoder, which decodes it or gives the reason: the results are the same
with either, and equal those of `patrolink_protocol.track_decoder`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from patrolink_protocol import track_decoder
from patrolink_protocol.errors import RejectError

from patrolink.core import batch_columns, batch_extension
from patrolink.core.batch_columns import NAMES, Columns, Part
from patrolink.core.bit_reader import Ints


class PartsDecoder(Protocol):
    """Decodes most of many batches.

    Attributes:
        block_batches: number of batches at which it is fastest.
    """

    block_batches: int

    def decode_parts(self, bodies: Sequence[bytes | memoryview]) -> list[Part]:
        """Return the rows of the batches that it can decode."""


@dataclass
class Batches:
    """Rows of many batches, in order.

    Args:
        columns: name → one value per row in the schema's row units, UNKNOWN where not known; time in unix ms.
        counts: rows of each batch, 0 if it was rejected.
        rejected: index of a batch → reason.
    """

    columns: Columns
    counts: Ints
    rejected: dict[int, str] = field(default_factory=dict)


def parts_decoder() -> PartsDecoder:
    """Return the fastest decoder that is installed."""
    module = batch_extension.load()
    return batch_extension.ExtensionDecoder(module) if module else batch_columns.NumpyDecoder()


def decode(bodies: Sequence[bytes | memoryview], decoder: PartsDecoder) -> Batches:
    """Return the rows of all bodies, in order.

    Args:
        bodies: bodies of batches. Memory grows with their number: see `blocks`.
        decoder: what `parts_decoder` returned.
    """
    parts = decoder.decode_parts(bodies) if bodies else []
    counts = np.zeros(len(bodies), np.int64)
    for part in parts:
        counts[part.indices] = part.counts
    rejected = {}
    for i in np.flatnonzero(counts == 0):
        try:
            _, values = track_decoder.decode_columns(bodies[int(i)])
        except RejectError as e:
            rejected[int(i)] = e.name
            continue
        counts[i] = len(values["time"])
        columns = {name: np.array(values[name], np.int64) for name in NAMES}
        parts.append(Part(np.array([i]), counts[[i]], columns))
    if len(parts) == 1:
        return Batches(parts[0].columns, counts, rejected)
    return Batches(_merge(parts, counts), counts, rejected)


def blocks(bodies: Sequence[bytes | memoryview], decoder: PartsDecoder) -> Iterator[Batches]:
    """Yield the rows of all bodies in blocks, so that memory is bounded for any number of bodies."""
    for i in range(0, len(bodies), decoder.block_batches):
        yield decode(bodies[i : i + decoder.block_batches], decoder)


def _merge(parts: Sequence[Part], counts: Ints) -> Columns:
    """Return the rows of all parts in the order of their batches."""
    offsets = np.cumsum(counts) - counts
    columns: Columns = {name: np.empty(int(counts.sum()), np.int64 if name == "time" else np.int32) for name in NAMES}
    for part in parts:
        first_rows = offsets[part.indices] - (np.cumsum(part.counts) - part.counts)
        rows = np.repeat(first_rows, part.counts) + np.arange(int(part.counts.sum()))
        for name, array in part.columns.items():
            columns[name][rows] = array
    return columns
