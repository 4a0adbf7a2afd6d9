"""The export of a clip as one bundle of files: either all of them are written, or none."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from patrolink.core.errors import UserError
from patrolink.evidence import evidence_sheet, export
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.verify import ClipVerdict


def check_not_exported(result: ClipVerdict, folder: Path) -> None:
    """Raise UserError when a folder holds an export of the clip already."""
    name = export.export_name(result)
    if existing := sorted(folder.glob(f"{name}*")):
        raise UserError(f"{existing[0]}: the file exists, and exports are never replaced; give another folder")


def write_bundle(
    result: ClipVerdict, evidence: EvidenceKey, folder: Path, who: str, now_ms: int, progress: export.Progress
) -> export.ClipExport:
    """Export a clip with its evidence sheet into a folder.

    Args:
        result: The verification result.
        evidence: The site's evidence key.
        folder: The folder; it is created when it is missing.
        who: Who exports, for the sheet.
        now_ms: Unix time, for the sheet.
        progress: Receives the progress.

    Raises:
        UserError: Nothing can be shown, the clip was exported there already, or a file cannot be written.
    """
    check_not_exported(result, folder)
    with export.writing_to(folder), _staging_folder(folder, export.export_name(result)) as staging:
        bundle = export.write_media(result, evidence, staging, progress)
        evidence_sheet.write_sheet(bundle, staging, who, now_ms, evidence.id.hex())
        export.write_facts(bundle, staging, who, now_ms)
        # The list of hashes is moved last: with it the bundle is complete.
        with contextlib.ExitStack() as undo:
            for n, path in enumerate(bundle.files):
                undo.callback((folder / path.name).unlink, missing_ok=True)
                bundle.files[n] = path.replace(folder / path.name)
            undo.pop_all()
    return bundle


@contextlib.contextmanager
def _staging_folder(folder: Path, name: str) -> Iterator[Path]:
    """Create a hidden folder in the target folder, and delete it in any case; delete a target that stayed empty."""
    staging, existed = folder / f".{name}.part", folder.exists()
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed and not any(folder.iterdir()):
            folder.rmdir()
