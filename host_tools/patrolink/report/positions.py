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

_CHUNK_RECORDS = 4096  # verified together; their frames take 1 MB


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

    def split(self, frames: int) -> Iterator["PositionBlock"]:
        """Yield the block in parts of up to that many frames."""
        ends = np.cumsum(self.counts)
        for i in range(0, len(self.counts), frames):
            part = slice(i, i + frames)
            rows = slice(int(ends[i] - self.counts[i]), int(ends[part][-1]))
            columns = {name: column[rows] for name, column in self.columns.items()}
            yield PositionBlock(columns, self.counts[part], self.devices[part], self.counters[part])

    def device_numbers(self, numbers: dict[str, int]) -> npt.NDArray[np.int32]:
        """Return the number of each position's device.

        Args:
            numbers: device → its number; new devices get the next ones.
        """
        of_frames = [numbers.setdefault(device, len(numbers)) for device in self.devices]
        return np.repeat(np.array(of_frames, np.int32), self.counts)


def read(
    records: Iterable[Record],
    keys: dict[str, DeviceKey],
    stats: DecoderStats,
    decoder: batch_decoder.PartsDecoder | None = None,
) -> Iterator[PositionBlock]:
    """Yield the positions of a capture. Memory does not grow with its length.

    Args:
        records: the capture's records.
        keys: device id → key.
        stats: counts that are updated.
        decoder: see `batch_decoder.decode`; None: what `batch_decoder.parts_decoder` returns.
    """
    opener = BatchOpener(keys)
    decoder = decoder or batch_decoder.parts_decoder()
    iterator = iter(records)
    while chunk := list(islice(iterator, _CHUNK_RECORDS)):
        opened = opener.open(chunk)
        stats.frames += len(chunk)
        stats.bytes += sum(len(record.frame) for record in chunk)
        for outcome in opened.outcomes:
            if outcome == "repeated":
                stats.duplicates += 1
            elif outcome and outcome != "other":
                stats.rejected[outcome] += 1
        first = 0
        for batches in batch_decoder.blocks(opened.bodies, decoder):
            frames = [chunk[i] for i in opened.indices[first : first + len(batches.counts)]]
            first += len(frames)
            stats.rejected.update(batches.rejected.values())
            yield _block(frames, batches, stats)


def _block(frames: list[Record], batches: batch_decoder.Batches, stats: DecoderStats) -> PositionBlock:
    sizes = np.array([len(record.frame) for record in frames], np.int64)
    stats.fixes += int(batches.counts.sum())
    stats.fix_bytes += int(sizes[batches.counts > 0].sum())
    counters = [int.from_bytes(record.frame[1:5], "big") & frame.COUNTER_MAX for record in frames]
    devices = [record.device for record in frames]
    return PositionBlock(batches.columns, batches.counts, devices, np.array(counters, np.int64))
