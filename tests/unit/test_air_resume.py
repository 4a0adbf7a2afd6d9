"""Updates over the air across restarts: failed trials, storage and flash that fail, cuts of power, on both runtimes."""

import air_harness as ah
import patrolink_enums as enums
import update_harness as uh
from agent.update.job_store import Job, JobStore, unpack_job
from air_harness import CONFIRMED, FAILED, FETCHING, INSTALLED, ROLLED_BACK
from memory_storage import MemoryFiles, PowerCut
from seeded_random import seeded

SECOND = uh.random_content(2)


def test_failed_trial_is_reported_by_the_previous_image():
    for ending in ("crashes", "silent"):
        device, first = ah.device_with_first()
        image = ah.AirImage("2.0", 3, SECOND)
        device.command(2, image)
        device.run(image)
        for _ in range(3 if ending == "crashes" else 1):
            assert device.start() is image
            device.step()
        if ending == "silent":
            assert device.device.wait_without_acknowledgement()
        assert device.start() is first and device.statuses[-1] == (2, ROLLED_BACK, 0)
        device.start()
        assert device.states() == [FETCHING, INSTALLED, ROLLED_BACK]
        device.command(3, image)  # the same image may be tried again
        assert device.start() is first and device.states()[-1] == ROLLED_BACK
        device.run(image)
        device.confirm(image)
        assert device.statuses[-1] == (3, CONFIRMED, 0) and device.device.oracle.problems == []


def test_failed_trial_is_reported_if_the_power_was_cut_before_the_state_was_stored():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image)
    while not device.device.journal.state.slots[1].install:
        device.step()
        device.serve(image)
        job = dict(device.files.data)
    device.files.data = job  # as if the last state had not been stored
    device.statuses.clear()
    for _ in range(3):
        assert device.start() is image
    assert device.start() is first and device.statuses == [(2, ROLLED_BACK, 0)]


def test_full_storage_ends_the_job_and_broken_storage_is_reported():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.files.full = 5000
    device.command(2, image)
    device.run(image)
    assert device.statuses[-1] == (2, FAILED, enums.FIRMWARE_STATUS_REASON_NO_SPACE)
    assert "image" not in device.files.data
    device.files.full, device.files.fault = None, 5
    device.command(3, image)
    assert device.statuses[-1] == (3, FAILED, enums.FIRMWARE_STATUS_REASON_STORAGE)


def test_worn_flash_fails_after_three_attempts_and_the_old_image_runs():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image)
    device.device.flash.worn = (device.device.area.content_offset(1) + 4096,)
    device.run(image)
    assert device.statuses[-1] == (2, FAILED, enums.FIRMWARE_STATUS_REASON_STORAGE)
    assert device.served_bytes == len(image.file)  # the download was good
    assert device.start() is first


def test_any_job_is_stored_and_damage_is_noticed():
    below = seeded(5)
    for number in range(100):
        files = MemoryFiles()
        store = JobStore(files)
        job = Job(
            below(1 << 24),
            bytes([below(256) for _ in range(8)]),
            below(1 << 24),
            below(1 << 24),
            "v" * below(25),
            number,
        )
        job.state, job.reason, job.attempts, job.text = below(9), below(19), below(4), "é" * below(41)
        store.save(job)
        store.save(job)
        loaded = store.load()
        for name in (
            "command_id",
            "image",
            "size",
            "floor",
            "version",
            "install",
            "state",
            "reason",
            "attempts",
            "text",
            "content",
        ):
            assert getattr(loaded, name) == getattr(job, name), "seed 5, job %d: %s" % (number, name)
        data = bytearray(job.pack())
        data[below(len(data))] ^= 1 << below(8)
        assert unpack_job(data) is None and unpack_job(data[: below(len(data))]) is None, "seed 5, job %d" % number


def test_seeded_updates_with_lost_messages_and_cuts_of_power_end_confirmed():
    for seed in range(20):
        below = seeded(seed)
        device, base = ah.device_with_first(1)
        for number in range(2, 4):
            image = ah.AirImage(str(number), number, uh.random_content(100 * seed + number), base if below(2) else None)
            device.served_bytes = cuts = lost = 0
            context = "seed %d, update %d" % (seed, number)
            for turn in range(4000):
                try:
                    if device.update is None:
                        device.files.left = device.device.flash.left = None
                        device.start(below(2) == 0)
                        device.device.flash.left = below(200) if below(2) else None
                        device.files.left = below(6000) if below(2) else None
                    if (
                        device.running is image
                        and not device.device.journal.state.slots[device.device.running].confirmed
                    ):
                        device.device.acknowledge()
                    if turn % 50 == 0:
                        device.command(number, image)
                    device.step()
                    if below(10) == 0:
                        lost += len(device.requests)
                        device.requests.clear()
                    device.serve(image)
                    if device.update.restart_due:
                        device.update = None
                except PowerCut:
                    cuts += 1
                    device.requests.clear()
                    device.update = None
                if (number, CONFIRMED, 0) in device.statuses:
                    break
            else:
                raise AssertionError("%s: %s" % (context, device.statuses))
            device.files.left = device.device.flash.left = None
            assert device.start() is image and device.device.oracle.problems == [], context
            # Each cut loses one block at most.
            assert device.served_bytes <= len(image.file) + 900 * cuts, "%s: %d" % (context, device.served_bytes)
            base = image
