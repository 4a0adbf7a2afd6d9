"""The identity of a program on a pipe, for the report."""

import hashlib
import shutil
from pathlib import Path

_PROGRAM_MAX_BYTES = 1 << 28


def describe_program(command: list[str]) -> dict[str, str]:
    """Return the command and the SHA-256 over all its words that are files."""
    digest = hashlib.sha256()
    for word in command:
        path = Path(shutil.which(word) or word)
        try:
            if path.is_file() and path.stat().st_size <= _PROGRAM_MAX_BYTES:
                digest.update(path.read_bytes())
        except OSError:
            continue
    return {"target": " ".join(command), "sha256": digest.hexdigest()}
