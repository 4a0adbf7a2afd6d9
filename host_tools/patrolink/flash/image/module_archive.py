"""Writes and reads the content of agent images for CPython: a zip archive of modules, which Python runs in place."""

import io
import zipfile
import zlib
from collections.abc import Mapping

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can have
_MODE = 0o100644 << 16
_UNIX = 3
_FILE_BYTES_MAX = 4 << 20


class ArchiveError(ValueError):
    """Data is not such an archive, or it is damaged."""


def write(files: Mapping[str, bytes]) -> bytes:
    """Return an archive, not compressed, so that a delta between two is small; the same files give the same bytes.

    Args:
        files: Content of each file by its path, with slashes and without one at the start.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, _TIME)
            entry.create_system, entry.external_attr = _UNIX, _MODE
            archive.writestr(entry, files[path])
    return data.getvalue()


def read(data: bytes) -> dict[str, bytes]:
    """Return the content of each file by its path, in the order of the archive.

    Raises:
        ArchiveError: As described there.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > min(len(data), _FILE_BYTES_MAX):
                    raise ArchiveError(f"{entry.filename} is compressed, or too long")
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as e:
        raise ArchiveError(str(e)) from None
