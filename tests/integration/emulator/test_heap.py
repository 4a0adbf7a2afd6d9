"""Huge pages are requested for the heap, and for nothing else; collections become rare for a time."""

import gc
import mmap

from patrolink.emulator import heap

MAPS = """\
00400000-00a00000 r-xp 00000000 fe:00 1234                               /usr/bin/python3.11
00a00000-01000000 rw-p 00600000 fe:00 1234                               /usr/bin/python3.11
01100000-01900000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
7f0000400000-7f0000800000 ---p 00000000 00:00 0 
7f0000900000-7f0000a00000 rw-p 00000000 00:00 0 
7f0000a00000-7f0000c00000 rw-s 00000000 00:01 77                         /dev/shm/data
7ffe00000000-7ffe00400000 rw-p 00000000 00:00 0                          [stack]
"""  # noqa: W291 - as the kernel writes it


def test_whole_huge_pages_of_the_heap_are_found():
    assert list(heap.find_pages(MAPS)) == [(0x1200000, 0x600000), (0x7F0000000000, 0x400000)]


def test_a_request_keeps_the_contents_of_memory():
    content = bytes(range(256)) * 32768
    with mmap.mmap(-1, len(content), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = content
        assert heap.request_huge_pages() >= 0
        assert memory[:] == content


def test_collections_are_rare_until_the_end():
    usual = gc.get_threshold()
    with heap.rare_collections():
        gc.freeze()
        assert gc.get_threshold()[0] > usual[0]
    assert gc.get_threshold() == usual and gc.get_freeze_count() == 0
