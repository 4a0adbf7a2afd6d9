"""Record a batch for the documentation: python -m tests.support.batch_recording FOLDER.

Sixteen emulated boards are flashed and provisioned; two fail on purpose, the command is killed, and resumed twice.
FOLDER gets batch.cast (asciinema), batch.svg, and labels.png with the labels.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from patrolink.core import boards
from patrolink.flash.image import build
from PIL import Image

from tests.support.batch_rack import BOARDS, Rack
from tests.support.batch_site import BOARD, BatchSite
from tests.support.label_sheets import pages, read_codes
from tests.support.release_keys import TRUST
from tests.support.terminal_recording import Recording

_COLUMNS, _ROWS = 132, 36
_LABELS_DPI, _LABEL_ROWS = 150, 6 / 8
_PROVISIONED = 5  # devices that are complete when the command is killed


def record(folder: Path, rack: Rack, site: BatchSite) -> Recording:
    """Return the recording of the session."""
    recording = Recording(_COLUMNS, _ROWS)
    settings = {"PATROLINK_FLASH_TRUST": "release.pem", "PATROLINK_FLASH_RETRIES": "1"}
    os.environ.update(settings)
    recording.type("export " + " ".join(f"{name}={value}" for name, value in settings.items()))
    batch = ["--batch", "monday", "--provision", "radios.csv", "--labels", "labels.pdf"]

    def run(*options: str, kill_when=None) -> int:
        ports = [f"bench/{path.name}" for path in sorted((folder / "bench").iterdir())]
        command = [sys.executable, "-m", "patrolink", "flash", "agent.plimg", *ports, *batch, *options]
        typed = " ".join(["patrolink flash agent.plimg bench/*", *batch, *options])
        return recording.run(typed, command, folder, kill_when)

    def steps(step: str) -> int:
        return [event.step for event in site.history().events].count(step)

    recording.comment("sixteen boards; one is dead, the storage of another one is full; power fails in the middle")
    assert run(kill_when=lambda: steps("provision") >= _PROVISIONED) < 0
    assert run("--resume") == 1
    recording.comment("both are repaired, and connected to other ports")
    rack.repair()
    connect(folder, rack)
    assert run("--resume") == 0
    command = [sys.executable, "-m", "patrolink", "ledger", "ledger.jsonl", "--batch", "monday"]
    assert recording.run("patrolink ledger ledger.jsonl --batch monday", command, folder) == 0
    return recording


def connect(folder: Path, rack: Rack) -> None:
    """Give the ports of the boards short names."""
    bench = folder / "bench"
    bench.mkdir(exist_ok=True)
    for i, path in enumerate(rack.ports, 1):
        link = bench / f"{i:02d}"
        link.unlink(missing_ok=True)
        link.symlink_to(path)


def main(target: Path) -> None:
    """Write the files."""
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = base / "site"
        folder.mkdir()
        agent = build.build_agent(boards.find(BOARD), build.BuildInfo("1.0", 1, 1)).payload
        site = BatchSite(folder, BOARDS, agent)
        (folder / "devices.csv").rename(folder / "radios.csv")
        (folder / "release.pem").write_bytes(Path(TRUST).read_bytes())
        rack = Rack(base, stack)
        rack.start()
        connect(folder, rack)
        recording = record(folder, rack, site)
        recording.save(target / "batch.cast")
        (target / "batch.svg").write_text(recording.picture("patrolink flash"), encoding="utf-8")
        pdf = (folder / "labels.pdf").read_bytes()
        assert len(read_codes(pdf)) == BOARDS
        page = pages(pdf, _LABELS_DPI)[0]
        picture = Image.fromarray(page[: int(page.shape[0] * _LABEL_ROWS)])
        picture.quantize(4).save(target / "labels.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
