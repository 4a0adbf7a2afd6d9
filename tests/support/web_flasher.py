"""The web flasher in a headless Chromium, whose WebSerial is a shim that reaches emulated and modelled boards."""

import contextlib
import queue
import threading
import time
from http import HTTPStatus
from pathlib import Path

from agent.update.provisioned_files import ProvisionedFiles
from agent.update.serial_receiver import SerialReceiver
from compat.inflate_stream import InflateStream
from patrolink.core.errors import UserError
from patrolink.flash.web.server import File, FlasherHandler, FlasherServer, served_files
from patrolink.transport.serial_port import open_port

from tests.support.polling import TIMEOUT_S
from tests.unit.memory_storage import MemoryFiles

SHIM = Path(__file__).with_name("webserial_shim.js").read_text(encoding="utf-8")
FAST_CLOCK = """{
  const factor = 20, now = performance.now.bind(performance), timeout = setTimeout;
  performance.now = () => now() * factor;
  window.setTimeout = (call, ms) => timeout(call, ms / factor);
}"""  # time of the page passes 20 times as fast, so that its deadlines come soon
_LOOK_S = 0.1
_POLL_S = 0.05


class BoardCable:
    """A cable to the PTY of an emulated board.

    Args:
        path: The PTY.

    Attributes:
        sent: Bytes from the page to the board.
        cut_after: Number of these bytes after which the cable is pulled, or None.
    """

    def __init__(self, path: str) -> None:
        self.path, self.sent = path, 0
        self.cut_after: int | None = None

    def open(self) -> None:
        self._serial = open_port(self.path, 115_200, _LOOK_S)

    def read(self) -> bytes:
        return self._serial.read(max(1, self._serial.in_waiting))

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        if self.cut_after is not None and self.sent > self.cut_after:
            self._serial.close()
        self._serial.write(data)

    def close(self) -> None:
        self._serial.close()


class ModelBoard:
    """A board of Python: a raw REPL that starts the receiver of the agent's code; and the cable to it.

    Args:
        target: Takes the image.
        info: What the board says of itself; called for each request.
        damage: Called with bytes from the page; returns what the board gets.
        has_receiver: Its platform has the receiver; otherwise the program ends with an error.

    Attributes:
        target: As above.
        damage: As above.
        opened: How often the port was opened.
        restarts: Number of restarts that the page has asked for.
    """

    def __init__(self, target, info, damage=lambda data: data, has_receiver: bool = True) -> None:
        self.opened = self.restarts = 0
        self.target, self.damage = target, damage
        self._info, self._has_receiver = info, has_receiver
        self._to_board: queue.Queue[int | None] = queue.Queue()
        self._to_host: queue.Queue[bytes] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def open(self) -> None:
        self.opened += 1

    def read(self) -> bytes:
        with contextlib.suppress(queue.Empty):
            return self._to_host.get(timeout=_LOOK_S)
        return b""

    def write(self, data: bytes) -> None:
        for byte in self.damage(data):
            self._to_board.put(byte)

    def close(self) -> None:
        """Close the port."""

    def end(self) -> None:
        """Switch the board off."""
        self._to_board.put(None)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(EOFError):
            while True:
                self._repl()
                if not self._has_receiver:
                    self._to_host.put(b"\x04ImportError: no module named 'app.serial_update'\r\n\x04>")
                    continue
                files = ProvisionedFiles(MemoryFiles())
                receiver = SerialReceiver(self._readinto, self._answer, InflateStream, self.target, self._info, files)
                self._to_host.put(b"receiver ready\r\n")
                self.restarts += receiver.run()

    def _repl(self) -> None:
        """Execute the raw REPL until it starts the receiver."""
        self._await(b"\x03\r\x01")
        self._to_host.put(b"raw REPL; CTRL-B to exit\r\n>")
        self._await(b"\x04")
        self._to_host.put(b"OK\r\nMPY: soft reboot\r\nraw REPL; CTRL-B to exit\r\n>")
        self._await(b"\x05A\x01")
        self._to_host.put(b"R\x01\x08\0")
        self._await_program()

    def _await_program(self) -> None:
        """Take a program in raw-paste mode, whose window is 8 bytes."""
        for count in range(1, 1000):
            byte = self._next()
            if byte == 4:
                break
            if count % 8 == 0:
                self._to_host.put(b"\x01")
        self._to_host.put(b"\x04")

    def _await(self, end: bytes) -> None:
        data = b""
        while not data.endswith(end):
            data += bytes([self._next()])

    def _next(self) -> int:
        byte = self._to_board.get()
        if byte is None:
            raise EOFError
        return byte

    def _readinto(self, buffer) -> None:
        buffer[:] = bytes(self._next() for _ in range(len(buffer)))

    def _answer(self, data: bytes) -> None:
        self._to_host.put(data)


class _ShimHandler(FlasherHandler):
    """Serves the port besides the files."""

    server: "ShimServer"

    def do_POST(self) -> None:  # noqa: N802 - name of http.server
        if not self.is_local():
            return
        cable, content = self.server.cable, b""
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            action = self.path.removeprefix("/shim/")
            if action == "choose":
                assert cable is not None
            else:
                content = getattr(cable, action)(*([data] if action == "write" else [])) or b""
        except (AssertionError, OSError, TypeError, UserError) as e:
            self.refuse(HTTPStatus.GONE, str(e))
            return
        self.answer(HTTPStatus.OK, File("application/octet-stream", content))


class ShimServer(FlasherServer):
    """The server of the web flasher, and behind it the cable of the shim.

    Args:
        image: Content of the image file.
        trust_pem: Public release keys.

    Attributes:
        cable: Cable to the device that the operator chooses; None: the operator chooses none.
    """

    def __init__(self, image: bytes, trust_pem: bytes) -> None:
        super().__init__(served_files(image, trust_pem))
        self.cable = None

    def handler_class(self) -> type[FlasherHandler]:
        return _ShimHandler


@contextlib.contextmanager
def running(server: FlasherServer):
    """Run a server, and close it at the end."""
    with server, server.running():
        yield server


class FlasherPage:
    """The page in a browser; it is used by keyboard only.

    Args:
        browser: The selenium driver.
        url: Address of the page.
    """

    def __init__(self, browser, url: str) -> None:
        self.browser = browser
        browser.get(url)
        self.wait(lambda: self.text("#status") != "Checking the image")

    def text(self, css: str) -> str:
        """Return the visible text of an element."""
        return self.browser.find_element("css selector", css).text

    @property
    def state(self) -> str:
        """State of the device."""
        return self.browser.execute_script("return document.body.dataset.state")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        from selenium.webdriver import ActionChains

        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def press_button(self, name: str) -> None:
        """Move the focus to a button by the Tab key, and press it."""
        from selenium.webdriver.common.keys import Keys

        for _ in range(10):
            if self.browser.execute_script("return document.activeElement.id") == name:
                return self.press(Keys.ENTER)
            self.press(Keys.TAB)
        raise AssertionError(f"the focus does not reach the button {name}")

    def wait(self, condition) -> None:
        """Wait until `condition()` is true. A failure shows the text of the page and the log of the browser."""
        deadline = time.monotonic() + 2 * TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, self.text("body") + str(self.browser.get_log("browser"))
            time.sleep(_POLL_S)

    def wait_state(self, *states: str) -> None:
        """Wait for one of these states."""
        self.wait(lambda: self.state in states)

    def connect(self, *states: str) -> None:
        """Choose a port, and wait for one of these states."""
        self.press_button("connect")
        self.wait_state(*states)

    def flash(self, *states: str) -> None:
        """Choose a port, write the image, and wait for one of these states."""
        self.connect("ready")
        self.press_button("write")
        self.wait_state(*states)

    def call(self, module: str, body: str, *arguments):
        """Return what the body of an async function returns; `m` is a module of the page, `a` the arguments."""
        script = (
            f"const [...a] = arguments, done = a.pop(); import('/{module}').then(async m => {{ {body} }})"
            ".then(value => done([value, null]), error => done([null, `${error}`]))"
        )
        value, error = self.browser.execute_async_script(script, *arguments)
        assert error is None, error
        return value


@contextlib.contextmanager
def shim(browser, script: str = SHIM):
    """Run a script in all pages that the browser loads, before their own: by default a WebSerial to `ShimServer`."""
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield browser
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
