"""Verdicts of `ShiftReport` on the free heap that a board has reported."""

import pytest
from patrolink.emulator.scenarios.shift import ShiftReport


def report(free: list[int]) -> ShiftReport:
    return ShiftReport("mps2_an385", "city", 1, 1.0, "quectel", 128, heap_free_kb=free)


@pytest.mark.parametrize("free", [[], [44], [44, 35], [44, 44, 44, 35, 46, 47], [44, 35, 35, 44], [44, 40, 38, 36]])
def test_garbage_is_no_loss(free):
    assert report(free).wrong == []


@pytest.mark.parametrize("free", [[44, 35, 34, 33], [44, 44, 35, 35, 35, 44], [44, 42, 40, 38, 35, 32, 30]])
def test_memory_that_does_not_come_back_is_named(free):
    (sentence,) = report(free).wrong
    assert sentence.startswith("free heap fell from 44 to ")
