"""Support bundle: a zip with what a person needs to help, without secrets."""

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from patrolink.core import resources
from patrolink.core.errors import UserError
from patrolink.doctor.finding import Finding
from patrolink.doctor.redact import redact, redact_json

_LOG_MAX_BYTES = 2_000_000  # of each log, its end: secrets are removed from it within 2 s
_VARIABLES = ("LANG", "LC_ALL", "NO_COLOR", "PATH", "TERM", "TMPDIR", "XDG_CACHE_HOME")


@dataclass
class Contents:
    """Files of a bundle, and what was removed from them.

    Attributes:
        files: Name in the bundle -> text.
        secrets: Number of places from which secrets were removed.
        positions: Number of positions that were removed.
    """

    files: dict[str, str] = field(default_factory=dict)
    secrets: int = 0
    positions: int = 0

    def add_text(self, name: str, text: str, keep_positions: bool = False) -> None:
        """Add a text without its secrets."""
        self.files[name], secrets, positions = redact(text, keep_positions)
        self.secrets += secrets
        self.positions += positions

    def add_json(self, name: str, value: object) -> None:
        """Add a JSON document without its secrets."""
        self.files[name] = json.dumps(redact_json(value), indent=1, ensure_ascii=False) + "\n"


def collect(
    findings: list[Finding], configuration: Iterable[Path], logs: Iterable[Path], keep_positions: bool
) -> Contents:
    """Return the contents of a bundle.

    Args:
        findings: What the checks found.
        configuration: Files of configuration.
        logs: Logs; the end of a long one is taken.
        keep_positions: Leave positions in the logs.

    Raises:
        UserError: A log or a file of configuration cannot be read.
    """
    contents = Contents()
    contents.add_json("doctor.json", [finding._asdict() for finding in findings])
    contents.add_json("versions.json", _versions())
    environment = {
        name: value for name, value in os.environ.items() if name.startswith("PATROLINK_") or name in _VARIABLES
    }
    contents.add_text("environment.txt", "".join(f"{name}={value}\n" for name, value in sorted(environment.items())))
    for path in configuration:
        contents.add_text(_free_name(contents, "configuration", path), _read(path))
    with contextlib.suppress(UserError):  # a finding already
        for path in sorted((resources.root() / "boards").glob("*/board.toml")):
            contents.files[f"boards/{path.parent.name}.toml"] = path.read_text(encoding="utf-8")
    for path in logs:
        contents.add_text(_free_name(contents, "logs", path), _read(path), keep_positions)
    return contents


def write(path: Path, contents: Contents) -> None:
    """Write a bundle to a new file that only its owner can read.

    Raises:
        UserError: The file exists or cannot be written.
    """
    try:
        with (
            open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle,
        ):
            for name, text in contents.files.items():
                bundle.writestr(name, text.encode("utf-8", "replace"))
    except FileExistsError:
        raise UserError(f"{path}: the file exists; name another file with --bundle") from None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: {getattr(e, 'strerror', None) or e}; name a writable file with --bundle") from None


def _versions() -> dict[str, object]:
    distributions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return {
        "patrolink": distributions.get("patrolink"),
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "distributions": dict(sorted(distributions.items())),
    }


def _free_name(contents: Contents, folder: str, path: Path) -> str:
    """Return a name for a file in the bundle; two files may have the same name."""
    name, number = f"{folder}/{path.name}", 2
    while name in contents.files:
        name, number = f"{folder}/{path.stem}-{number}{path.suffix}", number + 1
    return name


def _read(path: Path) -> str:
    """Return the text of a file, in UTF-8 or, as PowerShell writes it, in UTF-16."""
    try:
        with path.open("rb") as f:
            mark = f.read(2)
            start = max(0, f.seek(0, os.SEEK_END) - _LOG_MAX_BYTES) & ~1
            f.seek(start)
            data = f.read(_LOG_MAX_BYTES + 1)
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: {getattr(e, 'strerror', None) or e}; name a readable file") from None
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(mark, "utf-8")
    text = data.decode(encoding, "replace")
    if "\0" in text:
        raise UserError(f"{path}: not a text file; secrets in it cannot be found, name a log")
    # The name of a secret may be in the part of the first line that was cut.
    return text.partition("\n")[2] if start else text
