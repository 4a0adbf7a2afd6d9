"""Updates over the air: download, refusals, resumption, switch and report, on both runtimes."""

import air_harness as ah
import patrolink_enums as enums
import update_harness as uh
from agent.update import air_update, download
from air_harness import CANCELLED, CONFIRMED, DEFERRED, FAILED, FETCHING, INSTALLED, REFUSED

FIRST = uh.random_content(1)
SECOND = uh.random_content(2)


def blocks_of(image):
    return (len(image.file) + download.BLOCK_BYTES - 1) // download.BLOCK_BYTES


def test_packed_full_image_then_delta_are_installed_and_confirmed():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND, first)
    device.command(2, image)
    device.run(image)
    assert device.served_bytes == len(image.file) and device.states() == [FETCHING, INSTALLED]
    device.confirm(image)
    assert device.statuses == [(2, FETCHING, 0), (2, INSTALLED, 0), (2, CONFIRMED, 0)]
    assert "image" not in device.files.data and device.device.oracle.problems == []
    assert device.device.journal.state.floor == 3


def test_one_request_at_a_time_asks_for_a_whole_block():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND, first)
    device.command(2, image)
    count = 0
    while not device.update.restart_due:
        device.step()
        assert len(device.requests) <= 1
        if device.requests:
            assert device.requests[0][2] == min(900, len(image.file) - device.requests[0][1])
            count += 1
        device.serve(image)
    assert count == blocks_of(image)


def test_image_that_does_not_fit_is_refused_after_its_first_block():
    reason = enums
    for changes, expected in (
        ({"board": "other"}, reason.FIRMWARE_STATUS_REASON_BOARD),
        ({"architecture": "xtensawin"}, reason.FIRMWARE_STATUS_REASON_ARCHITECTURE),
        ({"minimum_platform": 2}, reason.FIRMWARE_STATUS_REASON_PLATFORM),
        ({"base_sha256": b"\7" * 32}, reason.FIRMWARE_STATUS_REASON_BASE),
        ({"size": 4 * 4096 + 1}, reason.FIRMWARE_STATUS_REASON_NO_SPACE),
        ({"payload_size": 9000}, reason.FIRMWARE_STATUS_REASON_FORMAT),
    ):
        device, first = ah.device_with_first()
        image = ah.AirImage("2.0", 3, SECOND, first, **changes)
        flash = bytes(device.device.flash.data)
        device.command(2, image)
        device.run(image)
        assert device.statuses == [(2, REFUSED, expected)], changes
        assert device.served_bytes == 900 and bytes(device.device.flash.data) == flash
        assert "image" not in device.files.data and device.start() is first


def test_unpacked_image_and_one_below_the_floor_of_the_hub_are_refused():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image, rollback_floor=4)
    device.run(image)
    older = ah.AirImage("1.9", 1, SECOND)
    device.command(4, older)
    device.run(older)
    plain = uh.Image("2.0", 3, SECOND)
    image.file = plain.data + SECOND
    device.command(3, image)
    device.run(image)
    refusals = [enums.FIRMWARE_STATUS_REASON_ROLLBACK] * 2 + [enums.FIRMWARE_STATUS_REASON_FORMAT]
    assert [(state, reason) for _, state, reason in device.statuses] == [(REFUSED, reason) for reason in refusals]


def test_signature_is_verified_before_the_payload_is_fetched():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)

    def refuses(data):
        yield
        return "signed with an unknown key"

    accepts, uh.signature_is_valid = uh.signature_is_valid, refuses
    try:
        device.command(2, image)
        device.run(image)
    finally:
        uh.signature_is_valid = accepts
    assert device.statuses == [(2, REFUSED, enums.FIRMWARE_STATUS_REASON_SIGNATURE)] and device.served_bytes == 900


def test_changed_block_costs_an_attempt_and_the_third_one_ends_the_job():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    good = image.file
    for damaged, states in ((2, [FETCHING, INSTALLED]), (3, [FETCHING, FAILED])):
        device.statuses.clear()
        device.command(damaged, image)
        attempts = 0
        for _ in range(3000):
            if device.step() == 60_000 and device.update._work is None:
                break
            if device.requests and device.requests[0][1] == 2700:
                attempts += 1
                image.file = good if attempts > damaged else good[:3000] + b"?" + good[3001:]
            device.serve(image)
        assert device.states() == states
        if states[-1] == FAILED:
            assert device.statuses[-1] == (damaged, FAILED, enums.FIRMWARE_STATUS_REASON_DAMAGED) and attempts == 3
            assert device.device.start() is first
        else:
            assert device.start() is image
            device.device.acknowledge()
            device.run(image)
            first = image
            image = ah.AirImage("3.0", 3, FIRST)
            good = image.file


def test_damaged_operations_are_not_installed():
    device, first = ah.device_with_first()
    changed = ah.AirImage("2.0", 3, SECOND, operations=uh.operation(2, len(SECOND)) + SECOND[:-1])
    device.command(2, changed)
    device.run(changed)
    assert device.statuses == [(2, FETCHING, 0), (2, FAILED, enums.FIRMWARE_STATUS_REASON_DAMAGED)]
    assert device.start() is first and device.device.oracle.problems == []


def test_request_without_an_answer_is_repeated_with_growing_intervals():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image)
    at_ms = []
    while device.now_ms < 4 * 3_600_000:
        device.step()
        if device.requests:
            device.requests.clear()
            at_ms.append(device.now_ms)
    waits = [b - a for a, b in zip(at_ms, at_ms[1:])]
    assert waits[0] - 15_000 <= 200 and all([a <= b + 200 for a, b in zip(waits, waits[1:])])
    assert max(waits) <= 1_800_000 + 200 and len(at_ms) <= 16
    device.connects += 1  # the answer of a session that is over is lost
    device.step()
    assert device.requests
    device.serve(image)
    device.run(image)
    assert device.states() == [FETCHING, INSTALLED]


def test_nothing_is_requested_while_offline_or_urgent():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image)
    device.online = False
    for _ in range(200):
        device.step()
    device.online, device.urgent = True, True
    for _ in range(200):
        assert device.step() == air_update.WAIT_MS
    assert device.requests == []
    device.urgent = False
    device.run(image)
    assert device.states() == [FETCHING, INSTALLED]


def test_blocks_that_were_not_requested_change_nothing():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    other = ah.AirImage("9.0", 3, FIRST)
    device.block(image, 0, 900)  # no job
    device.command(2, image)
    device.step()
    device.block(other, 0, 900)
    device.block(image, 900, 900)
    device.update.on_block({"image": image.id, "offset": 0, "data": bytes(len(image.file) + 1)})
    device.step()
    assert not device.files.data.get("image")
    device.serve(image)
    device.block(image, 0, 900)  # comes twice before the first was stored
    device.step()
    assert bytes(device.files.data["image"]) == image.file[:900]
    device.block(image, 0, 900)
    device.run(image)
    assert device.states() == [FETCHING, INSTALLED]


def test_switch_waits_and_reports_each_reason_once():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image)
    device.reason = enums.FIRMWARE_STATUS_REASON_SOS
    reasons = (enums.FIRMWARE_STATUS_REASON_SOS, enums.FIRMWARE_STATUS_REASON_VOICE)
    for i in range(400):
        device.step()
        device.serve(image)
        device.reason = reasons[i // 20 & 1] if i < 380 else None
    assert device.statuses == [(2, FETCHING, 0)] + [(2, DEFERRED, reason) for reason in reasons]
    assert device.start() is first  # nothing is installed before the device may restart
    device.reason = 0
    device.run(image)
    assert device.states()[-1] == INSTALLED
    device.confirm(image)
    assert device.device.oracle.problems == []


def test_repeated_command_is_one_job_and_reports_its_state_again():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image)
    device.command(2, image)
    assert device.statuses == []
    device.step()
    device.serve(image)
    for _ in range(10):
        device.step()
    device.command(2, image)
    assert device.states() == [FETCHING, FETCHING]
    device.run(image)
    device.confirm(image)
    device.statuses.clear()
    device.start()
    device.command(2, image)
    assert device.statuses == [(2, CONFIRMED, 0)] and device.update.step(0) == air_update.IDLE_MS


def test_later_command_replaces_a_job_and_keeps_bytes_of_the_same_image():
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(2, image)
    while device.served_bytes < 5 * 900:
        device.step()
        device.serve(image)
    device.step()
    device.command(3, image)
    assert device.statuses[-1] == (2, CANCELLED, enums.FIRMWARE_STATUS_REASON_REPLACED)
    device.requests.clear()
    device.run(image)
    assert device.served_bytes == len(image.file) and device.statuses[-1] == (3, INSTALLED, 0)
    other = ah.AirImage("3.0", 3, FIRST)
    device.command(4, other)
    assert device.statuses[-1] == (4, REFUSED, enums.FIRMWARE_STATUS_REASON_BUSY)
    device.confirm(image)
    device.command(5, other)
    device.run(other)
    assert device.statuses[-1] == (5, INSTALLED, 0)


def test_cancel_ends_a_job_that_is_not_installed():
    cancel = enums.FIRMWARE_ACTION_CANCEL
    device, first = ah.device_with_first()
    image = ah.AirImage("2.0", 3, SECOND)
    device.command(9, image, cancel)
    assert device.statuses == [(9, CANCELLED, 0)]
    device.command(2, image)
    for _ in range(20):
        device.step()
        device.serve(image)
    device.command(2, image, cancel)
    assert device.statuses[-1] == (2, CANCELLED, 0) and "image" not in device.files.data
    assert device.start() is first and device.update.step(0) == air_update.IDLE_MS
    device.command(2, image)
    assert device.statuses[-1] == (2, CANCELLED, 0) and device.update.step(0) == air_update.IDLE_MS
    device.command(3, image)
    device.run(image)
    device.command(3, image, cancel)
    assert device.statuses[-1] == (3, INSTALLED, 0)
    device.confirm(image)


def test_image_that_runs_already_is_confirmed_at_once():
    device, first = ah.device_with_first()
    flash = bytes(device.device.flash.data)
    device.command(2, first)
    device.run(first)
    assert device.statuses == [(2, CONFIRMED, 0)] and device.served_bytes == 900
    assert bytes(device.device.flash.data) == flash
