"""An export from its begin to its end: all of its files are there, or none."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from patrolink.core.errors import UserError
from patrolink.evidence import evidence_sheet, export
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.verify import Verdict


def free(found: Verdict, folder: Path) -> None:
    """UserError when a folder holds an export of a clip: none is replaced."""
    name = export.name_of(found)
    if there := sorted(folder.glob(f"{name}*")):
        raise UserError(f"{there[0]}: is there already, and an export replaces none; name another folder")


def make(
    found: Verdict, evidence: EvidenceKey, folder: Path, who: str, now_ms: int, told: export.Told
) -> export.Export:
    """Export a clip into a folder. UserError: nothing of it can be shown, it is there already, or cannot be written.

    told  is called with parts done and all
    """
    free(found, folder)
    with export.writing(folder), _aside(folder, export.name_of(found)) as work:
        out = export.write(found, evidence, work, told)
        evidence_sheet.write(out, work, who, now_ms, evidence.id.hex())
        export.seal(out, work, who, now_ms)
        # The list of hashes is the last one: with it an export is whole.
        with contextlib.ExitStack() as undo:
            for n, path in enumerate(out.files):
                undo.callback((folder / path.name).unlink, missing_ok=True)
                out.files[n] = path.replace(folder / path.name)
            undo.pop_all()
    return out


@contextlib.contextmanager
def _aside(folder: Path, name: str) -> Iterator[Path]:
    """Give a new folder beside what is to come; nothing of it stays, whatever ends the work."""
    work, was_there = folder / f".{name}.part", folder.exists()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not was_there and not any(folder.iterdir()):
            folder.rmdir()
