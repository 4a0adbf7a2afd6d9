"""Cuts the power of a device at every flash operation of updates, and again in each recovery.

usage: python tests/simulation/update_cuts.py [EVERY]     default 1: every operation; 9: every ninth one

A device with two slots on a NOR flash gets its first image, a full update after a crashed start, a delta, an image that
crashes, and an image that nobody acknowledges, each with its trial, confirmation and rollback floor. The journal of
boot records becomes full at each of its records once. The same updates come over the air, with cuts at flash operations
and while the job and the image file are stored. An operation that is cut leaves nothing, a prefix, random bits,
arbitrary bytes, or all of its work. After each cut the device starts, continues and reaches the same end; in a second
run of this recovery the power is cut at a random operation.

bricks: no slot can be started, a damaged one is, or a trial does not end. downgrades: a start below the rollback floor
or of an image older than the confirmed one. lost_confirmations: a confirmed image is not confirmed any more.
unreported: an update over the air whose last status is not its end.
Results go to build/bench/flash_cuts.json.
"""

import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("tests/bench", "tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / folder))

import air_harness as ah  # noqa: E402
import bench_rows  # noqa: E402
import update_harness as uh  # noqa: E402
from agent.update.boot_journal import SECTOR_BYTES  # noqa: E402
from memory_storage import PowerCut  # noqa: E402
from nor_flash import TEARS  # noqa: E402
from seeded_random import seeded  # noqa: E402

FREE_RECORDS = range(9)  # records that still fit into the sector of the journal when an update begins
PROBLEMS = ("bricks", "downgrades", "lost_confirmations")
FILE_STEP = 397  # bytes and other operations of files between two cuts


class Phase:
    """An update from a stored state of the device.

    Args:
        name: What it shows.
        image: Image to install.
        ending, crashes, planned: See update_harness.update.
    """

    def __init__(self, name: str, image: uh.Image, ending: str, crashes: int = 0, planned: int = 0) -> None:
        self.name = name
        self._arguments = (image, ending, crashes, planned)

    def run(self, device: uh.UpdateDevice) -> bool:
        """Run the update, or continue it; return whether it ended as intended."""
        return uh.update(device, *self._arguments)

    def is_reported(self, device: ah.AirUpdateDevice) -> bool:
        """Return whether the hub knows how the update ended."""
        image, ending, _, _ = self._arguments
        return device.last_state(image) == (ah.CONFIRMED if ending == "confirmed" else ah.ROLLED_BACK)


def phases(make: type[uh.Image] = uh.Image) -> list[Phase]:
    """Return the updates of a device in their order."""
    contents = [uh.random_content(seed) for seed in range(5)]
    first = make("1.0", 1, contents[0])
    full = make("2.0", 2, contents[1])
    delta = make("3.0", 2, contents[2], base=full)
    return [
        Phase("first image", first, "confirmed"),
        Phase("full image", full, "confirmed", crashes=1),
        Phase("delta image", delta, "confirmed", crashes=1, planned=1),
        Phase("image that crashes", make("4.0", 2, contents[3]), "crashes"),
        Phase("image without acknowledgement", make("5.0", 5, contents[4], base=delta), "silent"),
    ]


class CutCounts:
    """Counts cuts, their recoveries and what these have broken."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._number = 0
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []

    @property
    def problems(self) -> int:
        return sum(self.counts[name] for name in (*PROBLEMS, "unfinished", "unreported"))

    def _finish(self, phase: Phase, device: uh.UpdateDevice, context: str) -> None:
        """Run to the end without another cut."""
        if not phase.run(device):
            self.counts["unfinished"] += 1
            self.examples.append(f"{context}: the update does not end as intended")
        if isinstance(device, ah.AirUpdateDevice) and not phase.is_reported(device):
            self.counts["unreported"] += 1
            self.examples.append(f"{context}: the end is not reported, but {device.air.statuses}")
        self._record(device, context)

    def _record(self, device: uh.UpdateDevice, context: str) -> None:
        for name in PROBLEMS:
            problems = getattr(device.oracle, name)
            self.counts[name] += len(problems)
            self.examples += [f"{context}: {text}" for text in problems]
            problems.clear()


class Cuts(CutCounts):
    """Cuts on a NOR flash, and while files are written."""

    def run_phase(self, phase: Phase, before: uh.UpdateDevice, room: int | None) -> uh.UpdateDevice:
        """Run a phase without a cut, then with a cut at each of its operations; return the device of the first run."""
        device = before.copy()
        self._finish(phase, device, f"{phase.name}, no cut")
        for operation, (is_erase, offset) in enumerate(list(device.flash.operations)):
            # With a nearly full journal only what writes the journal and the header differs.
            if room is not None and not is_erase and offset >= 2 * SECTOR_BYTES:
                continue
            for tear in TEARS:
                self._number += 1
                if self._number % self._every == 0:
                    self._cut(phase, before, operation, tear)
        return device

    def run_file_cuts(self, phase: Phase, before: ah.AirUpdateDevice) -> None:
        """Run a phase with cuts while files are written."""
        left = 0
        while True:
            device = before.copy()
            device.air.files.left = left
            left += FILE_STEP * self._every
            context = f"{phase.name}, cut after {left} bytes"
            try:
                phase.run(device)
                return
            except PowerCut:
                self.counts["power_cuts"] += 1
            self._record(device, context)
            self._finish(phase, device.copy(), context)

    def _cut(self, phase: Phase, before: uh.UpdateDevice, operation: int, tear: int) -> None:
        """Cut the power at one operation, recover, and recover again with a second cut."""
        context = f"{phase.name}, operation {operation}, tear {tear}"
        device = before.copy(self._number)
        if not self._run_until_cut(phase, device, operation, tear, context):
            return
        recovered = device.copy()
        self._finish(phase, recovered, context)
        operations = len(recovered.flash.operations)
        if not operations:
            return
        below = seeded(self._number)
        second, second_tear = below(operations), below(len(TEARS))
        context += f", then operation {second}, tear {second_tear}"
        if self._run_until_cut(phase, device, second, second_tear, context):
            self.counts["second_cuts"] += 1
            self._finish(phase, device, context)

    def _run_until_cut(self, phase: Phase, device: uh.UpdateDevice, operation: int, tear: int, context: str) -> bool:
        """Run until the power is cut; return whether it was."""
        device.flash.left, device.flash.tear = operation, tear
        try:
            phase.run(device)
            return False
        except PowerCut:
            self.counts["power_cuts"] += 1
            return True
        finally:
            device.flash.left = None
            self._record(device, context)


def run(every: int, stop_early: bool = False) -> Cuts:
    """Run all phases with all states of the journal; stop after the phase with the first problem if asked to."""
    cuts = Cuts(every)
    for room in (None, *FREE_RECORDS):
        device = uh.UpdateDevice()
        for phase in phases():
            if room is not None:
                uh.fill_journal(device, room)
            device = cuts.run_phase(phase, device, room).copy()
            if stop_early and cuts.problems:
                return cuts
    device = ah.AirUpdateDevice()
    for phase in phases(ah.AirImage):
        cuts.run_file_cuts(phase, device)
        device = cuts.run_phase(phase, device, None).copy()
        if stop_early and cuts.problems:
            return cuts
    return cuts


def main(every: int) -> int:
    start = time.process_time()
    cuts = run(every)
    counts = cuts.counts
    print(
        f"{counts['power_cuts']} power cuts, {counts['second_cuts']} of them in recoveries: {counts['bricks']} bricks, "
        f"{counts['downgrades']} downgrades, {counts['lost_confirmations']} lost confirmations, "
        f"{counts['unfinished']} updates that did not end as intended, {counts['unreported']} without a report; "
        f"{time.process_time() - start:.0f} s"
    )
    for example in cuts.examples[:10]:
        print(f"  {example}", file=sys.stderr)
    if every == 1:
        names = ("power_cuts", "second_cuts", *PROBLEMS, "unreported")
        bench_rows.save("flash_cuts", [bench_rows.row(name, counts[name], "count") for name in names])
    return 1 if cuts.problems else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
