"""A wire delivers every byte to a slow reader, drops data only for a lossy end, and logs what it forwards."""

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


def test_slow_board_receives_all_data_and_log_is_complete(tmp_path):
    sent = random.Random(SEED).randbytes(60_000)
    wire, host = Wire(tmp_path / "gps.log", HOST), Line()
    board = os.open(wire.pty(BOARD), os.O_RDWR | os.O_NOCTTY)
    wire.port(HOST, host.path)
    try:
        received, unsent = b"", sent
        while len(received) < len(sent):
            try:
                unsent = unsent[os.write(host.master, unsent[:512]) :]
            except BlockingIOError:
                assert not wire.idle(), f"seed {SEED}"
            received += read(board, 1, 0.001)
        assert received == sent == (tmp_path / "gps.log").read_bytes(), f"seed {SEED}"
        assert wire.idle()
    finally:
        os.close(board)
        host.close()
        wire.close()


def test_unread_console_does_not_block_board(tmp_path):
    wire = Wire(tmp_path / "console.log", BOARD)
    wire.pty(HOST, lossy=True)
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


def test_disconnected_port_is_reported_and_both_directions_are_logged(tmp_path):
    wire, board, host = Wire(tmp_path / "modem.log", BOTH), Line(), Line()
    wire.port(BOARD, board.path)
    wire.port(HOST, host.path)
    os.write(board.master, b"AT\r")
    assert read(host.master, 3) == b"AT\r"
    os.write(host.master, b"OK\r\n")
    assert read(board.master, 4) == b"OK\r\n"
    assert wire.error is None
    board.close()
    wait_until(lambda: wire.error)
    host.close()
    wire.close()
    assert wire.error == f"{board.path} was disconnected"
    first, second = (line.split(maxsplit=1)[1] for line in (tmp_path / "modem.log").read_text().splitlines())
    assert (first, second) == (r"board: b'AT\r'", r"host:  b'OK\r\n'")
