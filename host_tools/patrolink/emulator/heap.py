"""Settings of Python's heap for a simulation with many objects.

Each simulated device uses other memory, and runs once a second. With pages of 4 KiB the processor has to look most
addresses up again when the device runs, which takes a third of the time of a large district.
"""

import contextlib
import ctypes
import gc
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

_THRESHOLDS = 50_000, 20, 100  # with Python's own, collections take a seventh of the time of 1,124 devices
_MAPS = Path("/proc/self/maps")
_PAGE_BYTES = 2 << 20
_MADV_COLLAPSE = 25  # Linux 6.1; without it the kernel forms the pages later
_HEAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *(?:\[heap\])?\n")  # private memory without a file


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage less often than Python does. The end restores the settings of before, and ends a freeze."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def request_huge_pages() -> int:
    """Ask the kernel for huge pages for the memory that this process has now; no effect where there are none.

    Returns:
        Number of bytes that have huge pages.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or not _MAPS.is_file():
        return 0
    madvise = ctypes.CDLL(None).madvise
    collapsed = 0
    for start, size in find_pages(_MAPS.read_text()):
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice)
        if madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_COLLAPSE) == 0:
            collapsed += size
    return collapsed


def find_pages(maps: str) -> Iterator[tuple[int, int]]:
    """Yield address and size in bytes of the whole huge pages in each mapping of the heap.

    Args:
        maps: Text of /proc/self/maps (proc(5)).
    """
    for match in _HEAP.finditer(maps):
        start = -(-int(match[1], 16) // _PAGE_BYTES) * _PAGE_BYTES
        size = int(match[2], 16) // _PAGE_BYTES * _PAGE_BYTES - start
        if size > 0:
            yield start, size
