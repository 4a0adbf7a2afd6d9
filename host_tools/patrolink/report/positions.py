"""Positions of a capture in blocks of columns, for the writers of tables."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from patrolink_protocol import frame, track_encoder

from patrolink.core import batch_decoder
from patrolink.core.batch_columns import Columns
from patrolink.core.batch_opener import BatchOpener
from patrolink.core.bit_reader import Bools, Ints
from patrolink.core.capture import Record
from patrolink.core.decoder import DecoderStats
from patrolink.core.keys import DeviceKey


def mode(columns: Columns) -> npt.NDArray[np.signedinteger]:
    """Return the mode of each position: 1 none, 2 without altitude, 3 with altitude."""
    return columns["state"] & track_encoder.MODE_MASK


def flag(columns: Columns, index: int) -> Bools:
    """Return one of the flags of each position, in the order of `decoder.FLAGS`."""
    return (columns["state"] & track_encoder.DATE_SUSPECT << index).astype(bool)


@dataclass(frozen=True)
class PositionBlock:
    """Positions of some frames, in the order of the capture.

    Args:
        columns: name → one value per position, in the schema's row units; time in unix ms.
        counts: positions of each frame.
        devices: device of each frame.
        counters: counter of each frame.
    """

    columns: Columns
    counts: Ints
    devices: list[str]
    counters: Ints

    def device_numbers(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Return the number of each position's device in a list, and that list."""
        numbers: dict[str, int] = {}
        of_frames = [numbers.setdefault(device, len(numbers)) for device in self.devices]
        return np.repeat(np.array(of_frames, np.int32), self.counts), list(numbers)


def read(
    records: Iterable[Record],
    keys: dict[str, DeviceKey],
    stats: DecoderStats,
    decode_parts: batch_decoder.PartsDecoder | None = None,
) -> Iterator[PositionBlock]:
    """Yield the positions of a capture. Memory does not grow with its length.

    Args:
        records: the capture's records.
        keys: device id → key.
        stats: counts that are updated.
        decode_parts: see `batch_decoder.decode`; None: what `batch_decoder.parts_decoder` returns.
    """
    opener = BatchOpener(keys)
    decode_parts = decode_parts or batch_decoder.parts_decoder()
    iterator = iter(records)
    while chunk := list(islice(iterator, batch_decoder.BLOCK_BATCHES)):
        opened = opener.open(chunk)
        batches = batch_decoder.decode(opened.bodies, decode_parts)
        frames = [chunk[i] for i in opened.indices]
        stats.frames += len(chunk)
        stats.bytes += sum(len(record.frame) for record in chunk)
        for outcome in opened.outcomes:
            if outcome == "repeated":
                stats.duplicates += 1
            elif outcome and outcome != "other":
                stats.rejected[outcome] += 1
        stats.rejected.update(batches.rejected.values())
        stats.fixes += int(batches.counts.sum())
        sizes = np.array([len(record.frame) for record in frames], np.int64)
        stats.fix_bytes += int(sizes[batches.counts > 0].sum())
        counters = [int.from_bytes(record.frame[1:5], "big") & frame.COUNTER_MAX for record in frames]
        yield PositionBlock(
            batches.columns,
            batches.counts,
            [record.device for record in frames],
            np.array(counters, np.int64),
        )
