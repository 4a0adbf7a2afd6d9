"""Write positions as column tables, npz for numpy or Parquet, with the batch decoder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import patrolink_enums as enums
from patrolink_protocol import frame, receiver, track_encoder

from patrolink.core import batch_decoder
from patrolink.core.capture import Record
from patrolink.core.decoder import DecoderStats
from patrolink.core.keys import DeviceKey

Table = dict[str, npt.NDArray[Any]]
_SCALES = {
    "alt": ("alt_m", 1000),
    "speed": ("speed_mps", 1000),
    "course": ("course_deg", 100),
    "hacc": ("hacc_m", 1000),
}
_CHUNK_FRAMES = 65536  # held in memory at once


def read(records: Iterable[Record | None], keys: dict[str, DeviceKey], stats: DecoderStats) -> Table:
    """Decode the positions of a capture, in its order.

    Args:
        records: the capture's records; None is ignored.
        keys: device id → key.
        stats: counts that are updated.

    Returns:
        Column name → array; the columns are those of the CSV format. time is datetime64[ms]; degrees, metres and m/s
        are float64, NaN if unknown; sats and battery_pct are int16, -1 if unknown.
    """
    receivers = {
        name: receiver.Receiver(key.secret, name.encode(), frame.UPLINK, key.epoch) for name, key in keys.items()
    }
    parts: list[tuple[npt.NDArray[np.int64], Table]] = []
    chunk: list[Record] = []
    base = 0
    for record in records:
        if record is None:
            continue
        chunk.append(record)
        if len(chunk) == _CHUNK_FRAMES:
            parts += _decode_chunk(chunk, base, receivers, stats)
            base += len(chunk)
            chunk = []
    parts += _decode_chunk(chunk, base, receivers, stats)
    if not parts:
        parts = [(np.zeros(0, np.int64), _table(batch_decoder.decode([]), [], ""))]
    table = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
    if len(parts) > 1:
        order = np.argsort(np.concatenate([frames for frames, _ in parts]), kind="stable")
        table = {name: column[order] for name, column in table.items()}
    return table


def _decode_chunk(
    records: list[Record], base: int, receivers: dict[str, receiver.Receiver], stats: DecoderStats
) -> list[tuple[npt.NDArray[np.int64], Table]]:
    """Return the positions of a chunk of records: for each device, the frame number of each row and the rows."""
    parts = []
    frames_of: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        frames_of.setdefault(record.device, []).append(i)
    stats.frames += len(records)
    stats.bytes += sum(len(record.frame) for record in records)
    for device, members in frames_of.items():
        if device not in receivers:
            stats.rejected["key"] += len(members)
            continue
        opened = batch_decoder.open_batches(receivers[device], [records[i].frame for i in members])
        for outcome in opened.outcomes:
            if outcome == "repeated":
                stats.duplicates += 1
            elif outcome and outcome != "other":
                stats.rejected[outcome] += 1
        batches = batch_decoder.decode(opened.bodies)
        stats.rejected.update(batches.rejected.values())
        rows = int(batches.counts.sum())
        stats.fixes += rows
        frames = [records[members[i]].frame for i in opened.indices]
        stats.fix_bytes += sum(len(f) for f, n in zip(frames, batches.counts, strict=True) if n)
        counters = [int.from_bytes(f[1:5], "big") & frame.COUNTER_MAX for f in frames]
        if rows:
            numbers = np.repeat(np.array([base + members[i] for i in opened.indices], np.int64), batches.counts)
            parts.append((numbers, _table(batches, counters, device)))
    return parts


def _table(batches: batch_decoder.Batches, counters: list[int], device: str) -> Table:
    columns = batches.columns
    state = columns["state"]
    mode = state & track_encoder.MODE_MASK
    table: Table = {"time": columns["time"].astype("datetime64[ms]")}
    for axis in ("lat", "lon"):
        table[axis + "_deg"] = np.where(mode > 1, columns[axis] / 10_000_000, np.nan)
    for name, (key, scale) in _SCALES.items():
        table[key] = np.where(columns[name] == enums.UNKNOWN, np.nan, columns[name] / scale)
    table["alt_m"][mode < 3] = np.nan
    for name, key in (("sats", "sats"), ("battery", "battery_pct")):
        table[key] = np.maximum(columns[name], -1).astype(np.int16)
    table["mode"] = mode.astype(np.uint8)
    for i, name in enumerate(("date_suspect", "estimated", "differential")):
        table[name] = (state >> (2 + i) & 1).astype(bool)
    table["device"] = np.full(len(state), device)
    table["counter"] = np.repeat(np.array(counters, np.int64), batches.counts)
    return table


def write_npz(table: Table, path: Path) -> None:
    """Write a compressed .npz: `numpy.load(path)["lat_deg"]`."""
    with path.open("wb") as out:
        np.savez_compressed(out, **table)  # type: ignore[arg-type]


def write_parquet(table: Table, path: Path) -> None:
    """Write Parquet; unknown values are null."""
    import pyarrow
    import pyarrow.parquet

    arrays = {}
    for name, column in table.items():
        unknown = np.isnan(column) if column.dtype.kind == "f" else column == -1 if column.dtype == np.int16 else None
        arrays[name] = pyarrow.array(column.astype(object) if column.dtype.kind == "U" else column, mask=unknown)
    with path.open("wb") as out:  # given the path, pyarrow deletes a file that it must not write
        pyarrow.parquet.write_table(pyarrow.table(arrays), out, compression="zstd")


WRITERS = {"npz": write_npz, "parquet": write_parquet}
