"""The web flasher in Chromium: emulated boards and models of boards behind a shim of WebSerial; keyboard only."""

import contextlib
import hashlib
import json
import random
import threading

import pytest
from patrolink.core import boards
from patrolink.emulator.boards import qemu
from patrolink.flash.image import build, release_key
from patrolink_protocol import image_header
from selenium.webdriver.common.keys import Keys

from tests.support.flash_images import write_signed_image
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.release_keys import TRUST, private_key
from tests.support.repl_boards import ReplBoard
from tests.support.slot_board import SlotBoard
from tests.support.web_flasher import FAST_CLOCK, BoardCable, FlasherPage, ModelBoard, ShimServer, running, shim
from tests.unit.test_serial_receiver import Target

BOARD = boards.find("mps2_an385")
CONTENT = bytes(i * 7 & 0xFF for i in range(60_000))
OLD = random.Random(19).randbytes(9000)
NEW = OLD[:5000] + b"changed" + OLD[5000:]
HEAD_BYTES = 11  # of a frame
CONFIG = {"device": "a", "key": "00" * 32, "broker": {"host": "b.example", "port": 1883}, "modem": {"apn": "internet"}}
RELEASE_KEY = image_header.key_id(release_key.point(private_key().public_key())).hex()
emulated = pytest.mark.skipif(
    bool(BOARD.missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


@pytest.fixture
def open_page(browser, tmp_path):
    """Return a function that opens the page with an image and a device; it returns page and server."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(shim(browser))

        def open_page(cable, content=CONTENT, key=None, change=lambda data: data, **fields):
            image = write_signed_image(tmp_path / "agent.plimg", content, key, **fields)
            server = stack.enter_context(running(ShimServer(change(image.read_bytes()), TRUST.read_bytes())))
            server.cable = cable
            stack.callback(browser.get, "about:blank")  # the page would wait for a server that has ended
            return FlasherPage(browser, server.url), server

        yield open_page


@pytest.fixture
def power_on(tmp_path):
    """Return a function that powers an emulated board on."""
    with contextlib.ExitStack() as stack:

        def on(**settings) -> ReplBoard:
            board = ReplBoard(tmp_path / "board", "dev-1", heap_kb=BOARD.heap_kb, **settings)
            stack.callback(board.close)
            return board

        yield on


def update_area(board: ReplBoard) -> bytes:
    return board.chip.read_bytes()[BOARD.image.flash_kb << 10 :]


def lines(board: ReplBoard) -> list[str]:
    """Return what the console has said about starts of the agent."""
    text = board.log.read_bytes().decode(errors="replace").splitlines()
    return [line for line in text if line.startswith(("slot ", "device: ready", "no slot"))]


@emulated
def test_board_is_flashed_from_the_browser_and_starts_the_new_slot(open_page, power_on):
    board = power_on(config=qemu.wired_config(BOARD, CONFIG))
    wait_until(lambda: lines(board)[-1:] and lines(board)[-1].startswith("device: ready"), board.log.read_text)
    agent = build.build_agent(BOARD, build.BuildInfo("1.0", 1, 1)).payload
    page, _ = open_page(BoardCable(board.path), agent, version="2.5", rollback=3)
    assert "2.5" in page.text("#image-facts") and "valid, release key" in page.text("#image-facts")
    page.connect("ready")
    facts = page.text("#device-facts")
    assert all(text in facts for text in (BOARD.name, "armv7m", "no agent image")) and "Unique id" in facts
    assert page.text("#plan") == f"Will be written: agent 2.5 for mps2_an385, {len(agent)} bytes, over no agent image"
    page.press(Keys.ENTER)  # the focus is on the button that writes
    page.wait_state("flashed", "failed")
    assert page.state == "flashed", page.text("#action")
    assert page.text("#progress-text").startswith(f"{len(agent):,} of {len(agent):,} bytes, ")
    wait_until(lambda: "slot a, on trial" in lines(board)[-2:-1], board.log.read_text)
    assert lines(board)[-1].startswith("device: ready")
    page.connect("unchanged", "failed")
    assert page.state == "unchanged", page.text("#action")
    wait_until(lambda: lines(board)[-1].startswith("device: ready"), board.log.read_text)
    assert [entry for entry in page.browser.get_log("browser") if "/shim/" not in entry["message"]] == []


@emulated
def test_cable_is_pulled_in_the_middle_and_the_next_attempt_goes_on(open_page, power_on):
    board = power_on()
    cable = BoardCable(board.path)
    content = random.Random(1).randbytes(60_000)
    page, server = open_page(cable, content)
    cable.cut_after = 35_000
    page.flash("failed", "flashed")
    assert page.state == "failed" and "plug the device in again" in page.text("#error")
    server.cable = resumed = BoardCable(board.path)
    page.flash("failed", "flashed")
    assert page.state == "flashed", page.text("#action")
    assert resumed.sent < 0.55 * len(content)
    assert SlotBoard(BOARD, board.chip).area.header(0).sha256 == hashlib.sha256(content).digest()


@emulated
def test_image_of_another_board_is_refused_and_the_flash_is_unchanged(open_page, power_on):
    board = power_on()
    page, _ = open_page(BoardCable(board.path), board="lilygo_t_a7670")
    before = update_area(board)
    page.connect("refused", "ready")
    assert page.state == "refused"
    assert "The image is for board lilygo_t_a7670, but this is mps2_an385; `make image" in page.text("#error")
    assert update_area(board) == before


def info(**fields) -> bytes:
    """Return what a model of a board says of itself."""
    identity = {"board": BOARD.name, "architecture": "armv7m", "unique_id": "0011", "platform": 1, "version": "0.9"}
    keys = {"rollback": 1, "rollback_floor": 1, "release_keys": [RELEASE_KEY]}
    return json.dumps({**identity, **keys, **fields}).encode()


class BoardTarget(Target):
    """A model's content; takes images of any board, as if it did not look."""

    def begin(self, header) -> None:
        super().begin(b"P" + header)

    def finish(self) -> None:
        self.old = b"".join(self.blocks[i] for i in range(len(self.blocks)))


@pytest.fixture
def model():
    """Return a function that makes a model of a board."""
    with contextlib.ExitStack() as stack:

        def make(target=None, describe=info, **settings) -> ModelBoard:
            board = ModelBoard(target or BoardTarget(OLD), describe, **settings)
            stack.callback(board.end)
            return board

        yield make


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({"board": "rpi_pico"}, "The image is for board mps2_an385, but this is rpi_pico; `make image BOARD=rpi_pico`"),
        ({"architecture": "xtensawin"}, "has code for armv7m, but this board runs xtensawin; `make image"),
        ({"platform": 0}, "The image needs platform 1, but the board has 0; flash its platform image first"),
        ({"rollback_floor": 2}, "Rollback number 1 of the image is below the floor of the device, 2; flash a newer"),
        ({"release_keys": []}, "but the platform of the board accepts no key at all; sign it with such a key"),
        ({"release_keys": ["0011223344556677"]}, "platform of the board accepts 0011223344556677; sign it"),
    ],
)
def test_image_that_must_not_run_is_refused_and_the_device_started_again(open_page, model, identity, message):
    board = model(describe=lambda: info(**identity))
    page, _ = open_page(board)
    page.connect("refused", "ready")
    assert page.state == "refused" and message in page.text("#error")
    wait_until(lambda: board.restarts == 1)
    assert board.target.header is None


def flipped(at: int):
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"change": flipped(300)}, "The content does not have the SHA-256 of the header; it is truncated or damaged"),
        ({"change": flipped(157)}, "Signature: invalid; use an image that is signed with a release key"),
        ({"change": flipped(200)}, "Signature: invalid"),
        ({"change": flipped(0)}, "This is not an image (does not begin with PLIM)"),
        ({"change": lambda data: data[:-1]}, "The header says 60000 bytes, the file has 59999; it is truncated"),
        ({"change": lambda data: data[:192] + bytes(64) + data[256:]}, "Signature: unsigned"),
        ({"key": private_key("another")}, "Signature: unknown key"),
        ({"kind": 1}, "This is an image of kind platform; the page writes agent images"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_altered_image_is_refused_before_a_port_can_be_chosen(open_page, model, settings, message):
    board = model()
    page, _ = open_page(board, **settings)
    assert page.state == "failed" and message in page.text("#error")
    assert not page.browser.find_element("id", "connect").is_enabled() and board.opened == 0


def test_another_device_at_the_confirmation_is_refused(open_page, model):
    ids = ["0011"]
    board = model(describe=lambda: info(unique_id=ids[-1]))
    page, _ = open_page(board)
    page.connect("ready")
    ids.append("0022")
    page.press_button("write")
    page.wait_state("refused", "flashed")
    assert page.state == "refused" and "Another device answers: 0022, not 0011; nothing was" in page.text("#error")
    assert board.target.header is None


def test_stopped_device_starts_again_unchanged(open_page, model):
    board = model()
    page, _ = open_page(board)
    page.connect("ready")
    page.press_button("stop")
    page.wait_state("stopped")
    assert "Nothing was written; connect the device again" in page.text("#error")
    wait_until(lambda: board.restarts == 1)
    assert board.target.header is None


def test_only_changed_blocks_are_sent_over_a_line_that_damages_data(open_page, model):
    r, sent, damaged = random.Random(7), [0], [0]

    def damage(data: bytes) -> bytes:
        """Flip bits behind the head of a frame: the page waits seconds of real time for what a damaged length hides."""
        sent[0] += len(data)
        if len(data) <= HEAD_BYTES or r.randrange(3):
            return data
        damaged[0] += 1
        at = r.randrange(HEAD_BYTES, len(data))
        return data[:at] + bytes([data[at] ^ 1 << r.randrange(8)]) + data[at + 1 :]

    target = BoardTarget(OLD)
    board = model(target)
    page, _ = open_page(board, NEW)
    page.connect("ready")
    board.damage = damage
    page.press_button("write")
    page.wait_state("flashed", "failed")
    assert page.state == "flashed", page.text("#action")
    assert target.old == NEW and sent[0] < 0.6 * len(NEW) and damaged[0] >= 2


def test_no_port_chosen_leaves_the_page_as_it_was(open_page):
    page, _ = open_page(None)
    page.press_button("connect")
    page.press_button("connect")
    assert page.state == "waiting" and page.text("#error") == ""


def test_texts_of_a_device_are_shown_as_text(open_page, model):
    page, _ = open_page(model(describe=lambda: info(version="<img src=x onerror=alert(1)>")))
    page.connect("ready")
    assert "<img src=x onerror=alert(1)>" in page.text("#device-facts")
    assert page.browser.find_elements("css selector", "img") == []


def test_browser_without_webserial_names_what_to_use(browser, tmp_path):
    image = write_signed_image(tmp_path / "agent.plimg", CONTENT)
    with (
        shim(browser, "delete Navigator.prototype.serial"),
        running(ShimServer(image.read_bytes(), TRUST.read_bytes())) as server,
    ):
        assert "This browser has no WebSerial; use Chrome" in FlasherPage(browser, server.url).text("#error")


def test_waiting_device_is_kept_and_given_up_after_five_minutes(open_page, model):
    """Requests feed its watchdog; it does not wait for ever for an operator who has left."""
    info_requests = []
    board = model(describe=lambda: info_requests.append(1) or info())
    page, _ = open_page(board)
    page.connect("ready")
    wait_until(lambda: len(info_requests) >= 3)
    assert page.state == "ready"
    page.browser.execute_script("const now = performance.now(); performance.now = () => now + 300_001")
    page.wait_state("stopped")
    assert "Nothing was written; connect the device again" in page.text("#error")
    wait_until(lambda: board.restarts == 1)
    assert board.target.header is None


def test_stop_while_the_image_is_written(open_page, model):
    """The board is started again after the block that it writes, and holds no new image."""
    target, goes_on = BoardTarget(OLD), threading.Event()
    write_block = target.write_block

    def slow_block(number: int, data: bytes) -> None:
        goes_on.wait(TIMEOUT_S)
        write_block(number, data)

    target.write_block = slow_block
    board = model(target)
    page, _ = open_page(board, NEW)
    page.connect("ready")
    page.press_button("write")
    wait_until(lambda: target.header is not None)
    page.wait_state("writing")
    page.press_button("stop")
    goes_on.set()
    page.wait_state("stopped")
    assert "Stopped by the operator" in page.text("#error")
    wait_until(lambda: board.restarts == 1)
    assert target.old == OLD


def test_dead_board_is_named(open_page, model, browser):
    with shim(browser, FAST_CLOCK):
        page, _ = open_page(model(damage=lambda data: b""))
    page.connect("failed", "ready")
    assert "No answer within 1 s; check cable and power, and that the board runs MicroPython" in page.text("#error")


def test_platform_without_receiver_is_named(open_page, model):
    page, _ = open_page(model(has_receiver=False))
    page.connect("failed", "ready")
    assert "its platform has no receiver of agent images; flash the platform image of" in page.text("#error")


def test_port_in_use_and_device_that_is_gone_are_named(open_page, model):
    board = model()
    page, server = open_page(board)
    board.open = raise_in_use
    page.connect("failed", "ready")
    assert "The port cannot be opened (Failed to open serial port.); end other programs" in page.text("#error")
    server.cable = other = model()
    page.connect("ready")
    other.read = raise_in_use
    page.wait_state("failed")
    assert "The connection broke (The device has been lost.); plug the device in again" in page.text("#error")


def raise_in_use() -> bytes:
    raise OSError("in use")


def test_block_that_the_board_cannot_write_is_named_and_the_next_attempt_helps(open_page, model):
    target = BoardTarget(OLD)
    write_block = target.write_block

    def no_space(number: int, data: bytes) -> None:
        target.write_block = write_block
        raise OSError(28)

    target.write_block = no_space
    page, _ = open_page(model(target), NEW)
    page.flash("failed", "flashed")
    assert page.state == "failed"
    assert "; what the board held before is unchanged, connect again" in page.text("#error")
    page.flash("failed", "flashed")
    assert page.state == "flashed" and target.old == NEW


def test_content_that_differs_after_writing_is_found(open_page, model):
    """The board's hash decides, not what was sent."""
    target = BoardTarget(OLD)
    target.finish = lambda: setattr(target, "old", NEW[:-1] + b"?")
    page, _ = open_page(model(target), NEW)
    page.flash("failed", "flashed")
    assert page.state == "failed" and "does not hold the image after writing" in page.text("#error")
