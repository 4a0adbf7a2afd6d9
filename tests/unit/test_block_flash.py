"""The flash port of real boards: programs whole pages, from RAM, and changes nothing else."""

from hal.baremetal.block_flash import BlockFlash, PagedFlash
from nor_flash import PAGE_BYTES, SECTOR_BYTES, NorFlash
from seeded_random import seeded

SECTORS = 4
ERASE_BLOCK = 6


class Partition:
    """A block device with the rules of rp2.Flash, on a NOR flash that may be programmed over and over."""

    def __init__(self, whole_pages):
        self.chip = NorFlash(SECTORS * SECTOR_BYTES)
        self._whole_pages = whole_pages

    def readblocks(self, block, buffer, offset):
        self.chip.read_into(block * SECTOR_BYTES + offset, buffer)

    def writeblocks(self, block, data, offset):
        if self._whole_pages:
            assert isinstance(data, bytearray) and offset % PAGE_BYTES == 0 and len(data) == PAGE_BYTES
        at = block * SECTOR_BYTES + offset
        for i in range(len(data)):
            self.chip.data[at + i] &= data[i]

    def ioctl(self, operation, block):
        assert operation == ERASE_BLOCK
        self.chip.erase(block * SECTOR_BYTES)


def random_program(below):
    size = 1 + below(PAGE_BYTES)
    page = below(SECTORS * SECTOR_BYTES // PAGE_BYTES)
    return page * PAGE_BYTES + below(PAGE_BYTES - size + 1), bytes([below(256) for _ in range(size)])


def check_like_a_chip(flash, chip, below):
    """Compare with a chip that programs any number of bytes."""
    model = bytearray(chip.data)
    for _ in range(60):
        if below(8) == 0:
            offset = below(SECTORS) * SECTOR_BYTES
            flash.erase(offset)
            model[offset : offset + SECTOR_BYTES] = b"\xff" * SECTOR_BYTES
        else:
            offset, data = random_program(below)
            flash.program(offset, data)
            for i in range(len(data)):
                model[offset + i] &= data[i]
        assert chip.data == model
    part = bytearray(300)
    flash.read_into(SECTOR_BYTES + 100, part)
    assert part == model[SECTOR_BYTES + 100 : SECTOR_BYTES + 400]


def test_flash_ports_behave_like_the_chip():
    for seed in range(20):
        try:
            for kind, whole_pages in ((BlockFlash, False), (PagedFlash, True)):
                partition = Partition(whole_pages)
                check_like_a_chip(kind(partition, SECTOR_BYTES), partition.chip, seeded(seed))
        except AssertionError:
            print("seed %d" % seed)
            raise


def test_records_that_share_a_page_keep_each_other():
    partition = Partition(True)
    flash = PagedFlash(partition, SECTOR_BYTES)
    for i in range(PAGE_BYTES // 16):
        flash.program(16 * i, bytes([i] * 16))
    assert partition.chip.data[:PAGE_BYTES] == b"".join([bytes([i] * 16) for i in range(16)])
    assert partition.chip.data[PAGE_BYTES:] == b"\xff" * (SECTORS * SECTOR_BYTES - PAGE_BYTES)


def test_data_up_to_the_end_of_a_page():
    partition = Partition(True)
    PagedFlash(partition, SECTOR_BYTES).program(SECTOR_BYTES - 3, memoryview(b"abc"))
    assert partition.chip.data[SECTOR_BYTES - 4 : SECTOR_BYTES + 1] == b"\xffabc\xff"
