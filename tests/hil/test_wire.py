"""A wire carries every byte to who is slow, drops what nobody takes where it may, and logs what passes."""

import contextlib
import os
import random
import time

from patrolink.emulator.peripherals.serial_line import Line

from tests.hil.wire import BOARD, BOTH, HOST, Wire
from tests.support.polling import TIMEOUT_S, wait_until

SEED = 20260131


def read(fd: int, n: int, pause_s: float = 0) -> bytes:
    data = b""
    deadline = time.monotonic() + TIMEOUT_S
    while len(data) < n and time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            data += os.read(fd, 300)
        time.sleep(pause_s)
    return data


def test_a_slow_board_gets_all_of_it_and_it_stands_in_the_log(tmp_path):
    sent = random.Random(SEED).randbytes(60_000)
    wire, host = Wire(tmp_path / "gps.log", HOST), Line()
    board = os.open(wire.pty(BOARD), os.O_RDWR | os.O_NOCTTY)
    wire.port(HOST, host.path)
    try:
        got, left = b"", sent
        while len(got) < len(sent):
            try:
                left = left[os.write(host.master, left[:512]) :]
            except BlockingIOError:
                assert not wire.idle(), f"seed {SEED}"
            got += read(board, 1, 0.001)
        assert got == sent == (tmp_path / "gps.log").read_bytes(), f"seed {SEED}"
        assert wire.idle()
    finally:
        os.close(board)
        host.close()
        wire.close()


def test_a_console_that_nobody_reads_holds_nobody_up(tmp_path):
    wire = Wire(tmp_path / "console.log", BOARD)
    wire.pty(HOST, loose=True)
    board = os.open(wire.pty(BOARD), os.O_RDWR | os.O_NOCTTY)
    try:
        for _ in range(200):
            os.write(board, bytes(500))
        with wire.attach() as path:
            tool = os.open(path, os.O_RDWR | os.O_NOCTTY)
            os.write(tool, b"\x03")
            assert read(board, 1) == b"\x03"
            os.close(tool)
        wait_until(lambda: (tmp_path / "console.log").stat().st_size >= 100_000)
    finally:
        os.close(board)
        wire.close()


def test_a_port_that_goes_away_is_told_and_both_ways_are_logged(tmp_path):
    wire, board, host = Wire(tmp_path / "modem.log", BOTH), Line(), Line()
    wire.port(BOARD, board.path)
    wire.port(HOST, host.path)
    os.write(board.master, b"AT\r")
    assert read(host.master, 3) == b"AT\r"
    os.write(host.master, b"OK\r\n")
    assert read(board.master, 4) == b"OK\r\n"
    assert wire.lost is None
    board.close()
    wait_until(lambda: wire.lost)
    host.close()
    wire.close()
    assert wire.lost == f"{board.path} went away"
    first, second = (line.split(maxsplit=1)[1] for line in (tmp_path / "modem.log").read_text().splitlines())
    assert (first, second) == (r"board: b'AT\r'", r"host:  b'OK\r\n'")
