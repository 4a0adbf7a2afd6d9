"""Installation of agent images: refusals before the first erase, resumption, and what lies in flash afterwards."""

import update_harness as uh
from agent.update import boot_records as br
from agent.update import selection
from agent.update.boot_journal import SECTOR_BYTES, BootJournal
from agent.update.boot_sequence import BootSequence, withdraw_attempt
from agent.update.installer import BLOCK_BYTES, ContentStream, ImageRefusedError
from compat.steps import run_to_completion
from memory_storage import PowerCut
from nor_flash import PREFIX
from patrolink_protocol import image_header as ih
from seeded_random import seeded

FIRST = uh.random_content(1)
SECOND = uh.random_content(2)


def device_with_first(rollback=2):
    """Return a device whose first image is confirmed in slot a, and that image."""
    device = uh.UpdateDevice()
    image = uh.Image("1.0", rollback, FIRST)
    assert uh.update(device, image, "confirmed")
    return device, image


def refusal(device, image, **named):
    """Return the reason for refusing an image, which must not have touched the flash."""
    before = bytes(device.flash.data)
    operations = len(device.flash.operations)
    try:
        run_to_completion(device.installer(**named).begin(image.data))
    except ImageRefusedError as e:
        assert bytes(device.flash.data) == before and len(device.flash.operations) == operations
        return str(e)
    raise AssertionError("accepted: %s" % image.data)


def test_first_image_goes_into_slot_a_and_the_next_into_slot_b():
    device, first = device_with_first()
    assert device.running == 0
    second = uh.Image("2.0", 2, SECOND)
    assert uh.update(device, second, "confirmed") and device.running == 1
    assert device.image_in(0) is first and device.image_in(1) is second and device.oracle.problems == []
    assert uh.update(device, uh.Image("3.0", 2, FIRST, base=second), "confirmed") and device.running == 0


def test_image_that_does_not_fit_is_refused_before_anything_is_erased():
    device, first = device_with_first(rollback=5)
    for changes, reason in (
        ({"board": "other"}, "image for board other, this is bench"),
        ({"architecture": "xtensawin"}, "image for xtensawin, this board runs armv7m"),
        ({"kind": ih.PLATFORM}, "a platform image; slots hold agent images"),
        ({"minimum_platform": 2}, "image needs platform 2, this device has 1: flash the platform first"),
    ):
        assert refusal(device, uh.Image("2.0", 5, SECOND, **changes)) == reason
    assert refusal(device, uh.Image("2.0", 4, SECOND)) == "rollback number 4 is below 5"
    size = uh.CONTENT_BLOCKS * BLOCK_BYTES + 1
    assert refusal(device, uh.Image("2.0", 5, uh.random_content(3, size))) == "content of 16385 bytes, a slot has 16384"
    assert refusal(device, uh.Image("2.0", 8, SECOND), floor=9) == "rollback number 8 is below 9"
    other = uh.Image("other", 5, SECOND)
    assert refusal(device, uh.Image("2.0", 5, FIRST, base=other)) == "the base of this delta is not in slot a"


def test_wrong_signature_is_refused_before_anything_is_erased():
    device, _ = device_with_first()

    def refuses(data):
        yield
        return "signed with an unknown key"

    assert refusal(device, uh.Image("2.0", 2, SECOND), verify=refuses) == "signed with an unknown key"


def test_altered_header_is_refused():
    device, _ = device_with_first()
    image = uh.Image("2.0", 2, SECOND)
    for length in (0, 255):
        whole, image.data = image.data, image.data[:length]
        assert refusal(device, image).startswith("not an image for this device: ")
        image.data = whole
    image.data = b"PLIX" + image.data[4:]
    assert refusal(device, image) == "not an image for this device: does not begin with PLIM"


def test_image_on_trial_is_not_overwritten_nor_its_fallback():
    device, first = device_with_first()
    device.install(uh.Image("2.0", 2, SECOND))
    device.start()
    assert device.running == 1
    assert refusal(device, uh.Image("3.0", 2, FIRST)) == "slot b is on trial; wait until it is confirmed"


def test_recovery_overwrites_the_slot_that_is_not_confirmed():
    device, first = device_with_first()
    device.install(uh.Image("2.0", 2, SECOND))
    device.running = None
    installer = device.installer()
    run_to_completion(installer.begin(uh.Image("3.0", 2, FIRST).data))
    assert installer.slot == 1


def test_damaged_newest_image_falls_back_and_is_replaced():
    device, first = device_with_first()
    second = uh.Image("2.0", 3, SECOND)
    assert uh.update(device, second, "confirmed")
    device.flash.data[device.area.content_offset(1) + 5000] ^= 1
    device.oracle.confirmed.clear()
    device.start()
    assert device.running == 0
    third = uh.Image("3.0", 3, SECOND + b"3")
    device.oracle.images.append(third)
    device.install(third)
    assert device.start() is third and device.running == 1


def test_altered_content_is_refused_and_the_slot_stays_invalid():
    device, first = device_with_first()
    image = uh.Image("2.0", 2, SECOND)
    installer = device.installer()
    run_to_completion(installer.begin(image.data))
    altered = bytearray(SECOND)
    altered[9000] ^= 4
    for index in range(installer.blocks):
        installer.write_block(index, memoryview(altered[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]))
    try:
        run_to_completion(installer.finish())
        raise AssertionError("altered content is accepted")
    except ImageRefusedError as e:
        assert str(e) == "the content in slot b does not have the SHA-256 of its header"
    assert device.area.header(1) is None and device.start() is first
    device.install(image)  # only the altered block is written
    device.oracle.images.append(image)
    assert device.start() is image


def test_blocks_outside_the_image_or_of_another_size_are_refused():
    device, _ = device_with_first()
    installer = device.installer()
    run_to_completion(installer.begin(uh.Image("2.0", 2, SECOND).data))
    block = memoryview(bytearray(BLOCK_BYTES))
    for index, data in ((-1, block), (4, block), (0, block[:4095]), (3, block), (3, block[:699])):
        try:
            installer.write_block(index, data)
            raise AssertionError("block %d of %d bytes is accepted" % (index, len(data)))
        except ValueError:
            pass
    stream = ContentStream(installer)
    stream.write(memoryview(SECOND))
    try:
        stream.write(block[:1])
        raise AssertionError("more content than the header says is accepted")
    except ValueError:
        pass


def test_resumed_installation_writes_only_missing_blocks():
    device, _ = device_with_first()
    image = uh.Image("2.0", 2, SECOND)
    device.oracle.images.append(image)
    device.flash.left, device.flash.tear = 30, PREFIX  # in the second block
    try:
        device.install(image)
        raise AssertionError("the power is not cut")
    except PowerCut:
        device.flash.left = None
    device.start()
    begin = len(device.flash.operations)
    device.install(image)
    blocks = [
        (offset - device.area.content_offset(1)) // BLOCK_BYTES
        for is_erase, offset in device.flash.operations[begin:]
        if is_erase and offset >= device.area.content_offset(1)
    ]
    assert blocks == [1, 2, 3] and device.start() is image


def test_same_image_is_installed_without_writing_its_content():
    device, _ = device_with_first()
    image = uh.Image("2.0", 2, SECOND)
    assert uh.update(device, image, "crashes")
    begin = len(device.flash.operations)
    device.install(image)
    content = device.area.content_offset(1)
    assert not [offset for _, offset in device.flash.operations[begin:] if offset >= content]
    assert device.start() is image


def test_worn_flash_is_reported():
    device, first = device_with_first()
    image = uh.Image("2.0", 2, SECOND)
    device.flash.worn = (device.area.content_offset(1) + BLOCK_BYTES,)
    try:
        device.install(image)
        raise AssertionError("a block that does not read back is accepted")
    except OSError:
        pass
    assert device.start() is first


def test_image_on_trial_is_not_started_if_its_mark_cannot_be_written():
    device, first = device_with_first()
    device.install(uh.Image("2.0", 2, SECOND))
    device.flash.worn = (0, SECTOR_BYTES)
    decision = BootSequence(device.area, BootJournal(device.flash), 1).select(False)
    assert (decision.action, decision.slot) == (selection.RUN, 0)


def test_image_that_needs_a_later_platform_or_differs_from_its_record_is_not_started():
    device, first = device_with_first()
    second = uh.Image("2.0", 2, SECOND, minimum_platform=1)
    device.oracle.images.append(second)
    device.install(second)
    assert BootSequence(device.area, BootJournal(device.flash), 0).select(False).action == selection.RECOVER
    assert device.start() is second
    third = uh.Image("2.0", 3, SECOND)
    at = device.area.header_offset(1)
    device.flash.data[at : at + len(third.data)] = third.data
    assert BootSequence(device.area, BootJournal(device.flash), 1).select(False).slot == 0


def test_seeded_updates_with_cuts_at_random_operations_end_as_intended():
    for seed in range(12):
        below = seeded(seed)
        device, base = device_with_first(1)
        for number in range(4):
            image = uh.Image(
                str(number), 1 + number, uh.random_content(100 * seed + number), base if below(2) else None
            )
            ending = ("confirmed", "confirmed", "crashes", "silent")[below(4)]
            while True:
                device.flash.left, device.flash.tear = below(120), below(5)
                try:
                    done = uh.update(device, image, ending, crashes=below(2))
                    break
                except PowerCut:
                    pass
            device.flash.left = None
            assert done or uh.update(device, image, ending), "seed %d" % seed
            base = image if ending == "confirmed" else base
            assert device.start() is base and device.oracle.problems == [], "seed %d: %s" % (
                seed,
                device.oracle.problems,
            )


def test_confirmation_survives_a_full_journal():
    for room in range(4):
        device, _ = device_with_first()
        uh.fill_journal(device, room)
        image = uh.Image("2.0", 7, SECOND)
        assert uh.update(device, image, "confirmed")
        assert device.journal.generation >= 2 and device.journal.state.floor == 7
        assert device.journal.state.slots[1].confirmed and device.journal.state.last_install == 2
        assert br.SLOT_NAMES[device.running] == "b"


def test_start_that_the_console_ended_costs_no_attempt():
    device = uh.UpdateDevice()
    device.start()
    image = uh.Image("1.0", 1, FIRST)
    device.oracle.images.append(image)
    device.install(image)
    for _ in range(9):
        assert device.start() is image and device.journal.state.slots[0].attempts == 1
        withdraw_attempt(device.journal, device.running)
    assert device.journal.state.slots[0].attempts == 0
    before = len(device.flash.operations)
    withdraw_attempt(device.journal, device.running)
    assert len(device.flash.operations) == before and not device.journal.state.slots[0].failed
