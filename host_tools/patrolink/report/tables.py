"""Write positions as column tables, npz for numpy or Parquet, block by block."""

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import patrolink_enums as enums

from patrolink.core.batch_columns import Columns
from patrolink.core.bit_reader import Bools, Ints
from patrolink.core.decoder import FLAGS
from patrolink.report import positions
from patrolink.report.positions import PositionBlock

Column = npt.NDArray[Any]
# Column of the schema → column of the table, divisor; the columns are those of the CSV format.
_SCALED = {
    "lat": ("lat_deg", 10_000_000),
    "lon": ("lon_deg", 10_000_000),
    "alt": ("alt_m", 1000),
    "speed": ("speed_mps", 1000),
    "course": ("course_deg", 100),
    "hacc": ("hacc_m", 1000),
}
_COUNTS = {"sats": "sats", "battery": "battery_pct"}
_MODE_MIN = {"lat": 2, "lon": 2, "alt": 3}  # a column is unknown in a lower mode
_SLICE_ROWS = 32768  # whose columns fit the processor's cache
_GROUP_ROWS = 1 << 18  # of a Parquet row group
_COPY_ROWS = 65536
_DEVICE_AT = -2  # place of the device's column
_SEARCHED = ["time", "lat_deg", "lon_deg"]  # columns by whose least and greatest readers skip row groups
# Columns whose values are stored as numbers in a list: it makes them smaller, and costs less than it saves.
_REPETITIVE = ["time", "lat_deg", "lon_deg", "speed_mps", "course_deg", "device", "counter"]


def _unknown(columns: Columns, name: str, modes: npt.NDArray[np.uint8]) -> Bools:
    """Return which values of a column are unknown; `modes` are those of the positions."""
    unknown: Bools = columns[name] == enums.UNKNOWN
    if name in _MODE_MIN:
        unknown |= modes < _MODE_MIN[name]
    return unknown


def write_npz(blocks: Iterable[PositionBlock], path: Path) -> None:
    """Write a compressed .npz: `numpy.load(path)["lat_deg"]`.

    time is datetime64[ms]; degrees, metres and m/s are float64, NaN if unknown; sats and battery_pct are int16, -1 if
    unknown. The columns wait in temporary files: a member of the archive is written in one piece.
    """
    with path.open("wb") as out, contextlib.ExitStack() as stack:
        spools: dict[str, IO[bytes]] = {}
        types: dict[str, np.dtype[Any]] = {}
        numbers: dict[str, int] = {}  # device → its number, which takes less space than its id
        count = 0
        for block in blocks:
            count += len(block.columns["time"])
            for name, column in _npz_columns(block, numbers).items():
                if name not in spools:
                    spools[name] = stack.enter_context(tempfile.TemporaryFile())
                    types[name] = column.dtype
                spools[name].write(column.tobytes())
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            names = np.array(list(numbers) or [""])
            for name, spool in spools.items():
                spool.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    dtype = names.dtype if name == "device" else types[name]
                    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
                    np.lib.format.write_array_header_1_0(member, header)
                    if name != "device":
                        shutil.copyfileobj(spool, member)
                        continue
                    while data := spool.read(_COPY_ROWS * types[name].itemsize):
                        member.write(names[np.frombuffer(data, types[name])].tobytes())


def _npz_columns(block: PositionBlock, numbers: dict[str, int]) -> dict[str, Column]:
    columns = block.columns
    modes = positions.mode(columns).astype(np.uint8)
    table: dict[str, Column] = {"time": columns["time"].astype("datetime64[ms]")}
    for name, (key, divisor) in _SCALED.items():
        table[key] = np.where(_unknown(columns, name, modes), np.nan, columns[name] / divisor)
    for name, key in _COUNTS.items():
        table[key] = np.maximum(columns[name], -1).astype(np.int16)
    table["mode"] = modes
    for i, name in enumerate(FLAGS):
        table[name] = positions.flag(columns, i)
    table["device"] = block.device_numbers(numbers)
    table["counter"] = np.repeat(block.counters, block.counts)
    return table


def write_parquet(blocks: Iterable[PositionBlock], path: Path) -> None:
    """Write Parquet; unknown values are null."""
    import pyarrow
    import pyarrow.parquet

    fields = [("time", pyarrow.timestamp("ms"))]
    fields += [(key, pyarrow.float64()) for key, _ in _SCALED.values()]
    fields += [(key, pyarrow.int16()) for key in _COUNTS.values()]
    fields += [("mode", pyarrow.uint8()), *((name, pyarrow.bool_()) for name in FLAGS)]
    fields += [("device", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())), ("counter", pyarrow.int64())]
    schema = pyarrow.schema(fields)
    options = {
        "compression": "zstd",
        "store_schema": False,  # with Arrow's own schema, a reader would not get the devices as plain strings
        "write_statistics": _SEARCHED,
        "use_dictionary": _REPETITIVE,
    }
    with (
        path.open("wb") as out,  # given the path, pyarrow deletes a file that it must not write
        pyarrow.parquet.ParquetWriter(out, schema, **options) as writer,
    ):
        numbers: dict[str, int] = {}  # device → its number; equal lists in all batches save pyarrow from merging them
        pending: list[list[Any]] = []
        rows = 0

        def write() -> None:
            devices = pyarrow.array(list(numbers), pyarrow.string())
            for arrays in pending:
                arrays[_DEVICE_AT] = pyarrow.DictionaryArray.from_arrays(arrays[_DEVICE_AT], devices)
            batches = [pyarrow.RecordBatch.from_arrays(arrays, schema=schema) for arrays in pending]
            writer.write_table(pyarrow.Table.from_batches(batches, schema), _GROUP_ROWS * 2)
            pending.clear()
            numbers.clear()

        for block in blocks:
            pending += _arrow_batches(block, numbers)
            rows += len(block.columns["time"])
            if rows >= _GROUP_ROWS:
                write()
                rows = 0
        if pending:
            write()


def _arrow_batches(block: PositionBlock, numbers: dict[str, int]) -> list[list[Any]]:
    """Return the columns of a block in slices of rows, with the numbers of the devices in place of these."""
    import pyarrow

    devices = block.device_numbers(numbers)
    counters: Ints = np.repeat(block.counters, block.counts)
    batches = []
    for start in range(0, len(counters), _SLICE_ROWS):
        rows = slice(start, start + _SLICE_ROWS)
        columns = {name: column[rows] for name, column in block.columns.items()}
        modes = positions.mode(columns).astype(np.uint8)
        arrays = [pyarrow.array(columns["time"].view("datetime64[ms]"))]
        for name, (_, divisor) in _SCALED.items():
            arrays.append(_arrow_array(columns[name] / divisor, _unknown(columns, name, modes)))
        for name in _COUNTS:
            arrays.append(_arrow_array(columns[name].astype(np.int16), _unknown(columns, name, modes)))
        arrays.append(pyarrow.array(modes))
        arrays += [pyarrow.array(positions.flag(columns, i)) for i in range(len(FLAGS))]
        arrays += [pyarrow.array(devices[rows]), pyarrow.array(counters[rows])]
        batches.append(arrays)
    return batches


def _arrow_array(values: Column, unknown: Bools) -> Any:
    import pyarrow

    return pyarrow.array(values, mask=unknown if unknown.any() else None)


WRITERS: dict[str, Callable[[Iterable[PositionBlock], Path], None]] = {"npz": write_npz, "parquet": write_parquet}
