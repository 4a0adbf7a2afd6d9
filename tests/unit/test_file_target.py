"""Target of the serial receiver on a board without slots."""

import os
from hashlib import sha256

from agent.update.serial_receiver import RefusedError
from hal.baremetal.file_target import FileTarget

PATH = "file-target-test"
FILES = (PATH, PATH + ".new", PATH + ".header")
CONTENT = bytes([i * 5 & 0xFF for i in range(9000)])


def header(content):
    return bytes(16) + len(content).to_bytes(4, "little") + sha256(content).digest() + bytes(204)


def accept(data):
    pass


def clean():
    for name in FILES:
        try:
            os.remove(name)
        except OSError:
            pass


def write(target, content, blocks=(0, 1, 2)):
    for i in blocks:
        target.write_block(i, content[i * 4096 : (i + 1) * 4096])


def test_content_replaces_the_present_one():
    clean()
    target = FileTarget(PATH, accept)
    assert target.source_bytes == 0
    for content in (CONTENT, CONTENT[1:] + b"x", CONTENT[:100]):
        target.begin(header(content))
        write(target, content, range((len(content) + 4095) // 4096))
        target.finish()
        part = bytearray(50)
        target.read_source(20, part)
        assert target.source_bytes == len(content) and part == content[20:70]
    clean()


def test_interrupted_transfer_goes_on():
    clean()
    target = FileTarget(PATH, accept)
    target.begin(header(CONTENT))
    write(target, CONTENT, (2, 0))
    target = FileTarget(PATH, accept)
    target.begin(header(CONTENT))
    present = [target.block_digest(i) == sha256(CONTENT[i * 4096 : (i + 1) * 4096]).digest()[:8] for i in range(3)]
    assert present == [True, False, True] and target.source_bytes == 0
    write(target, CONTENT, (1,))
    target.finish()
    assert target.source_bytes == len(CONTENT)
    clean()


def test_wrong_content_is_not_put_in_place():
    clean()
    target = FileTarget(PATH, accept)
    target.begin(header(CONTENT))
    write(target, CONTENT, (0, 2))
    try:
        target.finish()
    except OSError:
        pass
    else:
        raise AssertionError
    assert FileTarget(PATH, accept).source_bytes == 0
    clean()


def test_longer_rest_of_another_image_is_removed():
    clean()
    target = FileTarget(PATH, accept)
    target.begin(header(CONTENT))
    write(target, CONTENT)
    target = FileTarget(PATH, accept)
    target.begin(header(CONTENT[:100]))
    write(target, CONTENT[:100], (0,))
    target.finish()
    assert target.source_bytes == 100
    clean()


def test_refused_image_leaves_no_file():
    clean()

    def refuse(data):
        raise RefusedError("x")

    target = FileTarget(PATH, refuse)
    try:
        target.begin(header(CONTENT))
    except RefusedError:
        pass
    else:
        raise AssertionError
    assert not set(FILES) & set(os.listdir("."))
