"""Simulates power cuts and kills of updates on a Linux camera, whose update area is files.

python tests/simulation/file_cuts.py [EVERY]      default: 1, a cut at every operation; n: at every n-th

The updates are those of update_cuts.py, with the same oracle. The folder loses what was not synced: all of it, some
sectors and names, or some of them torn; or only the process is killed. Each recovery runs to its end, and once more
with a cut at a random operation. Results go to build/bench/file_cuts.json.
"""

import copy
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in (".", "tests/bench", "tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / folder))

import bench_rows  # noqa: E402
import update_harness as uh  # noqa: E402
from agent.update.boot_journal import SECTOR_BYTES  # noqa: E402
from hal.posix.update_area import FileFlash  # noqa: E402

from tests.simulation.update_cuts import PROBLEMS, CutCounts, Phase, phases  # noqa: E402
from tests.support.lossy_folder import OUTCOMES, LossyFolder, PowerCutError  # noqa: E402

FREE_RECORDS = range(0, 9, 2)
_SLOTS = ("a", "b")


class CameraFlash(FileFlash):
    """The flash port of a camera, with its contents as the harness reads them."""

    @property
    def data(self) -> bytearray:
        contents = bytearray(uh.FLASH_BYTES)
        for offset in (0, 2 * SECTOR_BYTES, 2 * SECTOR_BYTES + uh.SLOT_BYTES):
            end = 2 * SECTOR_BYTES if offset == 0 else offset + uh.SLOT_BYTES
            self.read_into(offset, memoryview(contents)[offset:end])
        return contents


class FileCuts(CutCounts):
    """Cuts and kills on a folder that loses what was not synced."""

    def run_phase(self, phase: Phase, folder: LossyFolder, oracle: uh.Oracle, nearly_full: bool) -> uh.UpdateDevice:
        """Run a phase without a cut, then with a cut at each of its operations; return the device of the first run."""
        whole = copy.deepcopy(folder)
        whole.writes.clear()
        device = self._device(whole, oracle.copy())
        self._finish(phase, device, f"{phase.name}, no cut")
        for operation, (name, offset) in enumerate(list(whole.writes)):
            # With a nearly full journal only what writes the journal and the header differs.
            if nearly_full and name in _SLOTS and offset >= SECTOR_BYTES:
                continue
            for outcome in OUTCOMES:
                self._number += 1
                if self._number % self._every == 0:
                    self._cut(phase, folder, oracle, operation, outcome)
        return device

    def _device(self, folder: LossyFolder, oracle: uh.Oracle) -> uh.UpdateDevice:
        """Return a device that starts with what a folder holds."""
        return uh.UpdateDevice(CameraFlash(folder, uh.SLOT_BYTES), oracle)

    def _cut(self, phase: Phase, before: LossyFolder, oracle: uh.Oracle, operation: int, outcome: int) -> None:
        """Cut the power at one operation, recover, and recover again with a second cut."""
        context = f"{phase.name}, operation {operation}, outcome {outcome}"
        folder, observed = copy.deepcopy(before), oracle.copy()
        folder._rng.seed(self._number)
        if not self._run_until_cut(phase, folder, observed, operation, outcome, context):
            return
        recovered = copy.deepcopy(folder)
        recovered.writes.clear()
        self._finish(phase, self._device(recovered, observed.copy()), context)
        if not recovered.operations:
            return
        second, second_outcome = folder._rng.randrange(recovered.operations), folder._rng.choice(OUTCOMES)
        context += f", then operation {second}, outcome {second_outcome}"
        if self._run_until_cut(phase, folder, observed, second, second_outcome, context):
            self.counts["second_cuts"] += 1
            self._finish(phase, self._device(folder, observed), context)

    def _run_until_cut(
        self, phase: Phase, folder: LossyFolder, oracle: uh.Oracle, operation: int, outcome: int, context: str
    ) -> bool:
        """Run until the power is cut; return whether it was."""
        folder.left = operation
        device = self._device(folder, oracle)
        try:
            phase.run(device)
            return False
        except PowerCutError:
            self.counts["power_cuts"] += 1
            folder.fail(outcome)
            return True
        finally:
            folder.left = None
            self._record(device, context)


def run(every: int, stop_early: bool = False) -> FileCuts:
    """Run all phases with all states of the journal; stop after the phase with the first problem if asked to."""
    cuts = FileCuts(every)
    for room in (None, *FREE_RECORDS):
        folder, oracle = LossyFolder(random.Random(1)), uh.Oracle()
        for phase in phases():
            if room is not None:
                uh.fill_journal(uh.UpdateDevice(CameraFlash(folder, uh.SLOT_BYTES), oracle), room)
            device = cuts.run_phase(phase, folder, oracle, room is not None)
            if stop_early and cuts.problems:
                return cuts
            folder, oracle = device.flash._storage, device.oracle
    return cuts


def main(every: int) -> int:
    start = time.process_time()
    cuts = run(every)
    counts = cuts.counts
    print(
        f"{counts['power_cuts']} power cuts, {counts['second_cuts']} of them in recoveries: {counts['bricks']} bricks, "
        f"{counts['downgrades']} downgrades, {counts['lost_confirmations']} lost confirmations, "
        f"{counts['unfinished']} updates that did not end as intended; {time.process_time() - start:.0f} s"
    )
    for example in cuts.examples[:10]:
        print(f"  {example}", file=sys.stderr)
    if every == 1:
        names = ("power_cuts", "second_cuts", *PROBLEMS)
        bench_rows.save("file_cuts", [bench_rows.row(name, counts[name], "count") for name in names])
    return 1 if cuts.problems else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
