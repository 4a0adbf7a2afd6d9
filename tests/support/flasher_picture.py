"""Take the picture of the web flasher for the documentation: python -m tests.support.flasher_picture FILE.

A real agent image on its way into an emulated board.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

from patrolink.core import boards
from patrolink.flash.image import build
from PIL import Image

from tests.support import console_site
from tests.support.flash_images import write_signed_image
from tests.support.release_keys import TRUST
from tests.support.repl_boards import ReplBoard
from tests.support.web_flasher import BoardCable, FlasherPage, ShimServer, running, shim

_SIZE = (1040, 800)


def main(picture: Path) -> None:
    """Take the picture."""
    board_file = boards.find("mps2_an385")
    agent = build.build_agent(board_file, build.BuildInfo("1.0", 1, 1)).payload
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        browser = stack.enter_context(console_site.chromium(folder / "profile"))
        browser.set_window_size(*_SIZE)
        stack.enter_context(shim(browser))
        board = ReplBoard(folder / "board", "dev-1", heap_kb=board_file.heap_kb)
        stack.callback(board.close)
        image = write_signed_image(folder / "agent.plimg", agent)
        server = stack.enter_context(running(ShimServer(image.read_bytes(), TRUST.read_bytes())))
        server.cable = BoardCable(board.path)
        page = FlasherPage(browser, server.url)
        page.connect("ready")
        page.press_button("write")
        page.wait(lambda: browser.execute_script("return document.getElementById('progress-bar').position") > 0.6)
        screenshot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        screenshot.quantize(64).save(picture, optimize=True)  # a third of the size
        page.wait_state("flashed", "failed")
        browser.get("about:blank")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
