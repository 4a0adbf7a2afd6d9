"""Target of the serial receiver on a board with slots, and the release keys that its platform trusts."""

from binascii import unhexlify
from hashlib import sha256

import update_harness as uh
from agent.update.boot_records import INSTALLED
from agent.update.installer import BLOCK_BYTES, Installer
from agent.update.release_keys import ReleaseKeys
from agent.update.serial_receiver import FailedError, RefusedError
from agent.update.slot_target import SlotTarget
from compat.steps import run_to_completion
from patrolink_protocol import image_header as ih

FIRST = uh.random_content(1)
SECOND = uh.random_content(2)
POINT = unhexlify(
    b"040cf418cb333f7a4e8828779ea75be7f6306330ebcb9d670f848535db0053c7eb70e5a0e27056b458bffd750fac29a178e857e01e838a4344"
    b"cfc6d026854a7eea"
)
SIGNATURE = unhexlify(  # by the key of POINT, of the header of image "1.0" with FIRST
    b"b57e1285ac2364e1b5429003177751d77685e7101d0c150ca0abb242ee2abc0225a53899e2aebea2eb5cd41c3014799bc05173d05c53435e96"
    b"5261b685cd4470"
)
SIGNED = {"key_id": unhexlify(b"a9273644b4fb4e85"), "signature": SIGNATURE}


def target_of(device, verify=uh.signature_is_valid):
    """Return the target after a restart into the REPL: no slot runs."""
    device.start()
    installer = Installer(device.area, device.journal, verify, uh.TARGET)
    return SlotTarget(device.area, device.journal, installer)


def refusal(function, *arguments):
    try:
        function(*arguments)
    except RefusedError as e:
        return str(e)
    raise AssertionError("accepted")


def source(target):
    data = bytearray(target.source_bytes)
    target.read_source(0, memoryview(data))
    return bytes(data)


def send(target, image):
    """Send an image as the host does, only blocks that are not there; return their numbers."""
    target.begin(image.data)
    sent = []
    for index in range((len(image.content) + BLOCK_BYTES - 1) // BLOCK_BYTES):
        block = image.content[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
        if target.block_digest(index) != sha256(block).digest()[:8]:
            target.write_block(index, memoryview(block))
            sent.append(index)
    target.finish()
    return sent


def test_images_go_into_the_slots_in_turn_and_the_other_slot_is_copied_from():
    device = uh.UpdateDevice()
    first = uh.Image("1.0", 1, FIRST)
    second = uh.Image("2.0", 2, SECOND)
    device.oracle.images += [first, second]
    target = target_of(device)
    assert target.source_bytes == 0 and target.present is None
    assert send(target, first) == [0, 1, 2, 3]
    assert source(target) == FIRST and target.present.version == "1.0"
    assert device.start() is first
    target = target_of(device)
    target.begin(second.data)
    assert source(target) == FIRST
    assert send(target, second) == [0, 1, 2, 3]
    assert source(target) == SECOND and target.present.rollback == 2
    assert device.start() is second and device.running == 1
    target = target_of(device)
    assert source(target) == SECOND


def test_confirmed_image_stays_and_the_one_on_trial_makes_room():
    device = uh.UpdateDevice()
    assert uh.update(device, uh.Image("1.0", 1, FIRST), "confirmed")
    device.install(uh.Image("2.0", 1, SECOND))
    target = target_of(device)
    assert source(target) == SECOND
    third = uh.Image("3.0", 1, SECOND + b"3")
    device.oracle.images.append(third)
    target.begin(third.data)
    assert source(target) == FIRST and device.area.header(1) is None
    send(target, third)
    assert device.start() is third and device.running == 1


def test_transfer_that_was_cut_leaves_the_previous_image_and_goes_on():
    device = uh.UpdateDevice()
    first = uh.Image("1.0", 1, FIRST)
    second = uh.Image("2.0", 1, SECOND)
    device.oracle.images += [first, second]
    send(target_of(device), first)
    target = target_of(device)
    target.begin(second.data)
    target.write_block(1, memoryview(SECOND)[BLOCK_BYTES : 2 * BLOCK_BYTES])
    assert device.start() is first
    assert send(target_of(device), second) == [0, 2, 3]
    assert device.start() is second


def test_requests_without_an_accepted_image_are_refused():
    device = uh.UpdateDevice()
    target = target_of(device)
    block = memoryview(FIRST)[:BLOCK_BYTES]
    for function, arguments in ((target.block_digest, (0,)), (target.write_block, (0, block)), (target.finish, ())):
        assert refusal(function, *arguments) == "no image has been accepted"
    assert refusal(target.begin, b"") == "not an image for this device: 0 bytes, but an image header has 256"
    other = uh.Image("1.0", 1, FIRST, board="other")
    assert refusal(target.begin, other.data) == "image for board other, this is bench"
    assert refusal(target.finish) == "no image has been accepted" and device.flash.operations == []
    target.begin(uh.Image("1.0", 1, FIRST).data + b"\0")
    assert refusal(target.block_digest, 4) == "the image has no block 4"
    assert refusal(target.write_block, 4, block) == "the image has no block 4"
    assert refusal(target.write_block, 3, block) == "block 3 of 4096 bytes does not fit the image"
    try:
        target.finish()
        raise AssertionError("content that differs from its header is installed")
    except FailedError as e:
        assert str(e) == "the content in slot a does not have the SHA-256 of its header"
    assert device.journal.state.slots[0].install == 0


def reason(keys, **changes):
    return run_to_completion(keys.verify(uh.Image("1.0", 1, FIRST, **changes).data))


def test_signature_of_a_release_key_is_verified():
    keys = ReleaseKeys((POINT,))
    assert keys.key_ids == [SIGNED["key_id"]]
    assert reason(keys, **SIGNED) == ""
    altered = bytes([SIGNATURE[0] ^ 1]) + SIGNATURE[1:]
    assert reason(keys, key_id=SIGNED["key_id"], signature=altered) == "the signature of the image is not valid"
    assert reason(keys, **dict(SIGNED, minimum_platform=0)) == "the signature of the image is not valid"
    assert reason(keys) == "the image is not signed"
    unknown = reason(keys, key_id=b"unknown.", signature=SIGNATURE)
    assert unknown == "the image is signed with a release key that this platform does not have"


def test_platform_without_release_keys_accepts_no_image():
    device = uh.UpdateDevice()
    target = target_of(device, ReleaseKeys(()).verify)
    for changes in ({}, SIGNED):
        text = refusal(target.begin, uh.Image("1.0", 1, FIRST, **changes).data)
        assert text.startswith("this platform has no release keys and accepts no image")
    assert device.flash.operations == [] and ReleaseKeys(()).key_ids == []


def test_only_a_signed_image_reaches_the_flash():
    device = uh.UpdateDevice()
    target = target_of(device, ReleaseKeys((POINT,)).verify)
    unsigned = uh.Image("1.0", 1, FIRST)
    assert refusal(target.begin, unsigned.data) == "the image is not signed" and device.flash.operations == []
    signed = uh.Image("1.0", 1, FIRST, **SIGNED)
    device.oracle.images.append(signed)
    send(target, signed)
    assert device.start() is signed and device.journal.state.slot_record(INSTALLED, 0).install == 1
    assert ih.unpack(device.area.header_data(0)).signature == SIGNATURE
