"""`patrolink ota` and the console's table of a campaign, with a real hub, a broker and a browser."""

import contextlib
import hashlib
from pathlib import Path

import patrolink_messages as m
import pytest
from patrolink.cli import main
from patrolink_names import NAMES
from patrolink_protocol.image_header import AGENT_DELTA

from tests.support import flash_images, json_lines, release_keys
from tests.support.console_site import ConsolePage, ConsoleSite
from tests.support.device_client import DeviceClient, run_until
from tests.support.hub_process import LoopbackNetwork
from tests.support.update_site import CONTENT

SCREENSHOT = Path(__file__).resolve().parents[3] / "build" / "hub" / "updates.png"
STATES = {name: code for code, name in NAMES["firmware_status", "state"].items()}
REASONS = {name: code for code, name in NAMES["firmware_status", "reason"].items()}
OLD, NEW = bytes(7) + b"\1", hashlib.sha256(CONTENT).digest()[:8]
DEVICES = ("vest-1", "vest-2", "vest-3")


class UpdateConsole:
    """A hub with a console, its devices, and the tool.

    Attributes:
        site: The hub.
        clients: The devices.
    """

    def __init__(self, folder: Path, broker, capsys) -> None:
        (folder / "trust.pem").write_bytes(release_keys.TRUST.read_bytes())
        self.image = flash_images.write_signed_image(
            folder / "new.plimg", CONTENT, version="2.0", rollback=3, kind=AGENT_DELTA
        )
        self.site = ConsoleSite(folder, broker, top='release_keys = "trust.pem"')
        network = LoopbackNetwork(broker.port)
        self.clients = {name: DeviceClient(name, network) for name in DEVICES}
        self._capsys = capsys

    def close(self) -> None:
        """Disconnect the devices and stop the hub."""
        for client in self.clients.values():
            client.close()
        self.site.process.stop()

    def ota(self, verb: str, *arguments: str) -> tuple[int, list[dict]]:
        """Run a verb with --json; return the exit code and the records."""
        code = main(["ota", verb, *arguments, "--site", str(self.site.folder / "site.toml"), "--json"])
        return code, json_lines.records(self._capsys.readouterr().out)

    def run_until(self, condition) -> None:
        """Let devices process what arrives until a condition holds."""
        run_until(self.clients.values(), condition)

    def say_hello(self) -> None:
        """Let all devices say hello from boards with slots, and wait for their commands."""
        for client in self.clients.values():
            client.send_hello(board=b"mps2_an385", platform=1, content=OLD, rollback_floor=1)

    def report(self, device: str, state: str, content: bytes = OLD, reason: str = "none") -> None:
        """Send a status of a device."""
        client = self.clients[device]
        values = {"command_id": client.firmware[-1]["command_id"], "state": STATES[state], "reason": REASONS[reason]}
        client.send_message(m.FIRMWARE_STATUS, {**values, "content": content, "rollback_floor": 1, "text": b""})


@pytest.mark.timeout(400)
def test_campaign_on_the_page(tmp_path, broker, browser, capsys):
    with contextlib.closing(UpdateConsole(tmp_path, broker, capsys)) as console:
        page, clients = ConsolePage(browser, console.site), console.clients
        assert not page.find("#updates").is_displayed()
        devices = [word for name in DEVICES for word in ("--device", name)]
        assert console.ota("plan", "spring", str(console.image), *devices, "--minimum", "2", "--waves", "100")[0] == 0
        assert console.ota("start", "spring")[1][-1]["applied"] == [{"shard": 0, "state": "applied"}]
        page.wait(lambda: "Update 2.0, spring: running" in page.text("#updates"))
        assert "3 deferred" in page.text("#updates")
        page.find("#updates summary").click()
        console.say_hello()
        console.run_until(lambda: all(client.firmware for client in clients.values()))
        page.wait(lambda: "3 offered" in page.text("#updates"))

        # A device fetches the image in blocks, byte for byte.
        client, data = clients["vest-1"], b""
        while len(data) < console.image.stat().st_size:
            request = {"image": client.firmware[0]["image"], "offset": len(data), "max_bytes": 900}
            client.send_message(m.FIRMWARE_REQUEST, request)
            console.run_until(lambda: client.blocks)
            data += client.blocks.pop()["data"]
        assert data == console.image.read_bytes()
        page.wait(lambda: "fetching" in row(page, "vest-1"))

        console.report("vest-1", "installed")
        page.wait(lambda: "restarts" in row(page, "vest-1"))
        console.report("vest-1", "confirmed", NEW)
        console.report("vest-2", "deferred", reason="battery")
        page.wait(lambda: "confirmed" in row(page, "vest-1") and "battery" in row(page, "vest-2"))
        assert console.ota("status", "spring")[0] == 0
        console.report("vest-3", "refused", reason="no_space")
        page.wait(lambda: "failed" in row(page, "vest-3") and "no_space" in row(page, "vest-3"))
        page.wait(lambda: "spring: stopped" in page.text("#updates") and "1 of 2 devices" in page.text("#alerts"))
        SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SCREENSHOT))
        wide = "return [...document.querySelectorAll('#console, #devices, #updates')]"
        assert browser.execute_script(wide + ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.id)") == []
        console.run_until(lambda: clients["vest-2"].firmware[-1]["action"] == 2)
        code, rows = console.ota("status", "spring")
        assert code == 1 and rows[0]["update_states"] == {"cancelled": 1, "confirmed": 1, "failed": 1}

        # After a reload the page has the same rows, and the browser has logged no error.
        text = page.text("#updates")
        browser.refresh()
        page.wait(lambda: page.find("#updates").is_displayed())
        page.find("#updates summary").click()
        page.wait(lambda: page.text("#updates") == text)
        assert page.console_errors() == []


def row(page: ConsolePage, device: str) -> str:
    """Return the text of a device's row."""
    return page.text(f"#updates tr[data-device='{device}']")
