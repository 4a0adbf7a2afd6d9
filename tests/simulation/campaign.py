"""A campaign over many devices in virtual time: real hub code, real update code of the devices, a network with losses.

usage: python tests/simulation/campaign.py [SEED [DEVICES]]     default: 1 200

First run: the new image crashes or never connects on one device in ten. The campaign has to stop at its threshold, and
every device has to run an agent afterwards: the new one if it works there, else the old one. Second run: the image is
good. All devices have to confirm it. In both runs devices lose coverage and power, and the hub is killed.

false_successes: devices that the hub calls confirmed, although no frame from the new agent was acknowledged or another
agent runs. bricks: devices that cannot start. Results go to build/bench/flash_campaign.json.
"""

import hashlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("", "tests/bench", "tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / folder))

import bench_rows  # noqa: E402
import update_harness as uh  # noqa: E402
from agent.update.boot_records import CONFIRMED  # noqa: E402
from nor_flash import NorFlash  # noqa: E402
from patrolink.flash.image import build, image_file, release_key  # noqa: E402
from patrolink.hub.infra import shared_file  # noqa: E402
from patrolink.hub.updates import campaign_file, image_store, planning  # noqa: E402
from patrolink.hub.updates.campaign_file import CampaignFile, CampaignPlan, Limits  # noqa: E402
from patrolink.hub.updates.image_store import ImageStore  # noqa: E402
from patrolink_protocol import image_header as ih  # noqa: E402

from tests.simulation.campaign_device import (  # noqa: E402
    ARCHITECTURE,
    BOARD,
    CRASHES,
    GOOD,
    PLATFORM,
    SILENT,
    CampaignDevice,
    Radio,
)  # fmt: skip
from tests.support.release_keys import private_key  # noqa: E402
from tests.support.simulated_site import SimulatedSite, site_text  # noqa: E402

ERROR_PCT = 5
_MINIMUM_PART = 10  # devices that have to end before the campaign may stop: one in so many
_STEP_MS = 1000
_HOURS_MAX = 24
_SETTLE_MS = 3 * 3_600_000  # after the end: statuses arrive, trials end
_BAD_PART = 10  # one device in so many
_OTHER_PART = 20  # one in so many runs an agent that there is no delta for
_KILL_EVERY_MS = 1_200_000  # of the hub
_POWER_CUT_EVERY_S = 7200  # of a device


def agent_image(version: str, rollback: int, content: bytes) -> image_file.Image:
    """Return an agent image, not signed."""
    digest = hashlib.sha256(content).digest()
    header = ih.ImageHeader(
        *(ih.AGENT, rollback, PLATFORM, len(content), digest, ih.NO_BASE, len(content), digest),
        *(BOARD, ARCHITECTURE, version, ih.NO_KEY, ih.UNSIGNED),
    )
    return image_file.Image(header, content)


def installed(image: image_file.Image) -> bytes:
    """Return a flash that has an agent confirmed in a slot."""
    device = uh.UpdateDevice(NorFlash(uh.FLASH_BYTES))
    device.start()
    target = uh.Target(BOARD, ARCHITECTURE, PLATFORM)
    installer = uh.Installer(device.area, device.journal, uh.signature_is_valid, target)
    uh.run_to_completion(installer.begin(ih.pack(image.header)))
    for index in range(installer.blocks):
        at = index * uh.BLOCK_BYTES
        installer.write_block(index, memoryview(image.payload)[at : at + installer.block_size(index)])
    uh.run_to_completion(installer.finish())
    device.journal.append(device.journal.state.slot_record(CONFIRMED, installer.slot))
    return bytes(device.flash.data)


def signed(image: image_file.Image) -> bytes:
    """Return an image file with the signature of the release key."""
    return image._replace(header=release_key.sign(image.header, private_key())).pack()


class Simulation:
    """One campaign.

    Args:
        folder: Folder of the site.
        seed: Repeats the run.
        count: Number of devices.
        is_bad: Whether the image is bad for one device in ten.
    """

    def __init__(self, folder: Path, seed: int, count: int, is_bad: bool) -> None:
        self._random = rng = random.Random(f"campaign {seed} {is_bad}")
        names = [f"vest-{n:03d}" for n in range(count)]
        old = agent_image("1.0", 1, uh.random_content(1))
        other = agent_image("1.1", 1, uh.random_content(2))
        content = bytearray(old.payload)
        content[700:740] = rng.randbytes(40)
        self.new = agent_image("2.0", 2, bytes(content))
        self.site = SimulatedSite(folder, site_text(""), names)
        self._store_campaign(folder, names, [signed(build.build_delta(base, self.new)) for base in (old, None)])
        bad = rng.sample(names, count // _BAD_PART if is_bad else 0)
        self.bad = set(bad)
        flashes = installed(old), installed(other)
        new_id = self.new.header.sha256[:8]
        self.devices = [
            CampaignDevice(
                self.site,
                name,
                flashes[n % _OTHER_PART == 0],
                new_id,
                GOOD if name not in self.bad else CRASHES if bad.index(name) % 2 else SILENT,
                Radio(f"{seed} {name}"),
            )
            for n, name in enumerate(names)
        ]
        self.context = f"seed {seed}, {'bad' if is_bad else 'good'} image"

    def _store_campaign(self, folder: Path, names: list[str], files: list[bytes]) -> None:
        store = ImageStore(folder / "state" / campaign_file.IMAGE_FOLDER)
        for data in files:
            store.add(data)
        images = [image_store.describe(data) for data in files]
        planning.check_images(images)
        devices = planning.ordered(names, 100)
        waves = planning.wave_ends(len(devices), [10])
        limits = Limits(waves=waves, parallel=20, error_pct=ERROR_PCT, minimum=len(names) // _MINIMUM_PART)
        plan = CampaignPlan(name="spring", images=images, devices=devices, limits=limits, who="simulation", time_ms=0)
        content = CampaignFile().with_plan(plan).started("spring", "simulation", "", 0, lambda *_: False)
        shared_file.save(folder / "state" / campaign_file.FILE, content)

    @property
    def campaign(self) -> Any:
        """The campaign of the hub."""
        return self.site.hub.serving._service._updates._campaigns["spring"]

    def advance(self, ms: int) -> None:
        """Let time pass; the hub and devices are restarted now and then."""
        scheduler, end_ms = self.site.scheduler, self.site.now_ms() + ms
        while self.site.now_ms() < end_ms:
            scheduler.run_until(scheduler.now + _STEP_MS)
            for device in self.devices:
                device.step()
            if self._random.random() < _STEP_MS / _KILL_EVERY_MS:
                self.site.hub.kill()
                self.site.hub.start()
            if self._random.random() < len(self.devices) / _POWER_CUT_EVERY_S:
                self._random.choice(self.devices).reset()

    def run(self) -> None:
        """Run the campaign to its end, and until all that was begun has ended."""
        for _ in range(_HOURS_MAX * 12):
            self.advance(300_000)
            if self.campaign.state != "running":
                break
        self.advance(_SETTLE_MS)

    def false_successes(self) -> list[str]:
        """Return the devices that the hub calls confirmed without reason."""
        new = self.new.header.sha256[:8]
        confirmed = {name for name, target in self.campaign.targets.items() if target.state == "confirmed"}
        return [
            device.name
            for device in self.devices
            if device.name in confirmed and (new not in device.acknowledged or device.content != new)
        ]

    def bricks(self) -> list[str]:
        """Return the devices that run no agent, or one that does not work there."""
        new = self.new.header.sha256[:8]
        return [
            device.name
            for device in self.devices
            if device.is_brick or (device.content == new and device.behaviour != GOOD)
        ]

    def close(self) -> None:
        """Stop the hub."""
        self.site.close()


def run(seed: int, count: int, is_bad: bool) -> tuple[dict[str, int], list[str], str]:
    """Run a campaign; return figures, problems, and the state of the campaign."""
    # In memory: the hub and 200 devices sync their files thousands of times.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - only a parent of a new private folder
    with tempfile.TemporaryDirectory(dir=memory) as name:
        simulation = Simulation(Path(name), seed, count, is_bad)
        simulation.run()
        campaign, counts = simulation.campaign, simulation.campaign.counts()
        wrong, bricks = simulation.false_successes(), simulation.bricks()
        problems = [f"{simulation.context}: {name} is confirmed, but is not" for name in wrong]
        problems += [f"{simulation.context}: {name} does not run an agent that works" for name in bricks]
        states = campaign.counts()
        unsettled = [state for state in ("offered", "fetching", "installed", "deferred") if state in states]
        if unsettled:
            problems.append(f"{simulation.context}: devices are {unsettled} at the end: {states}")
        if campaign.state != ("stopped" if is_bad else "finished"):
            problems.append(f"{simulation.context}: the campaign is {campaign.state}: {states}")
        if not is_bad and states != {"confirmed": count}:
            problems.append(f"{simulation.context}: not all devices are confirmed: {states}")
        figures = {
            "devices": count,
            "bad": len(simulation.bad),
            "confirmed": counts.get("confirmed", 0),
            "failed": counts.get("failed", 0),
            "not_updated": counts.get("planned", 0) + counts.get("cancelled", 0),
            "false_successes": len(wrong),
            "bricks": len(bricks),
            "minutes": simulation.site.now_ms() // 60_000,
        }
        reason = campaign.stop.reason
        simulation.close()
    return figures, problems, reason


def main(seed: int = 1, count: int = 200) -> int:
    """Run both campaigns; return 1 if one has a problem."""
    rows, problems = [], []
    for name, is_bad in (("bad_image", True), ("good_image", False)):
        start_s = time.process_time()
        figures, faults, reason = run(seed, count, is_bad)
        problems += faults
        text = ", ".join(f"{value} {key}" for key, value in figures.items())
        print(f"seed {seed}, {name}: {text}; {reason or 'finished'}; {time.process_time() - start_s:.0f} s")
        rows += [bench_rows.row(f"campaign_{name}_{key}", value, "count") for key, value in figures.items()]
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    if count == 200:
        bench_rows.save("flash_campaign", rows)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:3])))
