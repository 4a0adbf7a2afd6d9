"""Method `serial` on emulated boards: MicroPython under QEMU, whose console is a PTY."""

import contextlib
import random
import threading

import pytest
from patrolink.core import boards as board_files
from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.flash import flash_image
from patrolink.flash.device_flow import State
from patrolink.flash.fleet import Fleet, Options
from patrolink.flash.methods import serial_console
from patrolink.flash.methods.serial_console import SerialMethod
from patrolink.flash.records import CancelledError, Port, RefusedError

from tests.support.flash_images import write_signed_image
from tests.support.repl_boards import ReplBoard

pytestmark = pytest.mark.skipif(
    bool(board_files.find("mps2_an385").missing_packages()), reason="the packages of board mps2_an385 are not installed"
)
R = random.Random(19)
CONTENT = b"".join(R.choice((b"agent ", b"frame ", b"modem ", R.randbytes(3))) for _ in range(12000))
CHANGED = CONTENT[:20000] + b"one module has changed" + CONTENT[20500:]


@pytest.fixture
def boards(tmp_path):
    """Return a function that powers a board on."""
    with contextlib.ExitStack() as stack:

        def power_on(name: str = "dev-1", **settings) -> ReplBoard:
            board = ReplBoard(tmp_path / name, name, **settings)
            stack.callback(board.close)
            return board

        yield power_on


@pytest.fixture
def image(tmp_path):
    """Return a function that makes an image."""

    def make(content: bytes = CONTENT, **fields) -> flash_image.FlashImage:
        return flash_image.load(write_signed_image(tmp_path / "agent.plimg", content, **fields))

    return make


def flash(board_list, image, **options) -> Fleet:
    fleet = Fleet(
        [Port(board.path) for board in board_list],
        lambda path, cancel: SerialMethod(path, cancel, image),
        list,
        Options(**{"jobs": 16, "retries": 0, **options}),
        lambda device: None,
    )
    fleet.run()
    return fleet


def test_image_is_written_skipped_and_updated(boards, image):
    board = boards()
    for content, state in (
        (CONTENT, State.FLASHED),
        (CONTENT, State.UNCHANGED),
        (CHANGED, State.FLASHED),
        (CONTENT[:9000], State.FLASHED),
    ):
        (device,) = flash([board], image(content)).devices
        assert device.state is state, device.reason
    assert device.identity.board == "mps2_an385" and len(device.identity.unique_id) == 24
    assert b"after reset" in board.log.read_bytes()


def test_dry_run_writes_nothing(boards, image):
    board = boards()
    assert flash([board], image(), dry_run=True).devices[0].state is State.PLANNED
    (device,) = flash([board], image(), dry_run=True).devices
    assert "over no agent image" in device.plan.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"board": "lilygo_t_a7670"}, "the image is for board lilygo_t_a7670, but this is mps2_an385"),
        ({"architecture": "xtensawin"}, "the image has code for xtensawin, but this board runs armv7m"),
    ],
)
def test_image_of_another_board_is_refused(boards, image, fields, message):
    (device,) = flash([boards()], image(**fields), retries=3).devices
    assert device.state is State.REFUSED and message in device.reason and device.attempts == 1


def test_board_refuses_an_image_too(boards, image):
    """If the host did not look: before anything is written."""
    method = SerialMethod(boards().path, threading.Event(), image(board="lilygo_t_a7670"))
    with contextlib.closing(method):
        method.identify()
        with pytest.raises(RefusedError, match="the board refuses the image: image for board lilygo_t_a7670, this is"):
            method.write(None, lambda done, total: None)


def test_transfer_goes_on_after_a_broken_cable(boards, image):
    board, reports = boards(), []

    def unplug(done, total) -> None:
        reports.append(done)
        if done > 20000:
            raise DeviceError("unplugged")

    method = SerialMethod(board.path, threading.Event(), image())
    plan = method.plan(method.identify())
    with pytest.raises(DeviceError):
        method.write(plan, unplug)
    method._link.close()  # without a word to the board, which still waits for a frame
    resumed = SerialMethod(board.path, threading.Event(), image())
    with contextlib.closing(resumed):
        plan, sent = resumed.plan(resumed.identify()), []
        link_write = resumed._link.write
        resumed._link.write = lambda data: (sent.append(len(data)), link_write(data))
        resumed.write(plan, lambda done, total: None)
        resumed.verify(plan)
    assert sum(sent) < 0.8 * len(CONTENT) - 20000


def test_cancelled_board_is_started_again(boards, image):
    board, cancel = boards(), threading.Event()
    method = SerialMethod(board.path, cancel, image())
    with contextlib.closing(method):
        plan = method.plan(method.identify())
        with pytest.raises(CancelledError):
            method.write(plan, lambda done, total: cancel.set())
    assert flash([board], image()).devices[0].state is State.FLASHED


def test_silent_board_fails_and_the_others_are_written(boards, image):
    board_list = [boards(f"dev-{i}") for i in range(3)]
    board_list[1].suspend()
    fleet = flash(board_list, image())
    assert [device.state for device in fleet.devices] == [State.FLASHED, State.FAILED, State.FLASHED]
    assert "no answer within" in fleet.devices[1].reason


def test_content_larger_than_a_slot_is_refused(boards, image):
    (device,) = flash([boards()], image(bytes(393_216))).devices
    assert device.state is State.REFUSED and "content of 393216 bytes, a slot has 389120" in device.reason


def test_platform_without_the_receiver_is_named(boards, image, monkeypatch):
    monkeypatch.setattr(serial_console, "_PROGRAM", "import app.no_such_module\n")
    (device,) = flash([boards()], image()).devices
    assert device.state is State.FAILED and "flash the platform image of this board first" in device.reason


def test_port_in_use_names_its_holder(boards, image):
    board = boards()
    first = SerialMethod(board.path, threading.Event(), image())
    with contextlib.closing(first):
        first.identify()
        second = SerialMethod(board.path, threading.Event(), image())
        with contextlib.closing(second), pytest.raises((DeviceError, DeadlineError), match="in use by process"):
            second.identify()
