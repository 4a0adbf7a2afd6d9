"""A device with the configuration that provisioning wrote: the agent accepts it, starts, and a hub takes its frames."""

import os
import pty
import subprocess

import pytest
from patrolink.core import boards, resources
from patrolink.emulator.boards import agent_loader, deployment
from patrolink.emulator.boards.device import end_with_parent

from tests.support.hub_process import ProvisionedHub, free_ports
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.provision_site import ProvisionedSite, key_of


@pytest.mark.parametrize("board", boards.names())
def test_agent_accepts_the_configuration_of_every_board(tmp_path, board):
    _, app_config = agent_loader.load()
    tables = f'[provision.board.{board}]\ngps_uart = "/dev/ttyS1"\nmodem = {{ uart = "m", apn = "a" }}\n'
    full = (
        f'{tables}audio = {{ mic = "m", speaker = "s", indicator = "i" }}\n' if board in ("linux", "unix") else tables
    )
    site = ProvisionedSite(tmp_path, "" if board in ("linux", "lilygo_t_a7670") else full)
    site.write_table(f"S-1,vest-1,Harbour circle,{board},,\n")
    assert site.run() == 0
    loaded = app_config.load_config(str(site.out / "vest-1" / "config.json"))
    assert loaded["key"] == key_of("vest-1").secret and loaded["device"] == "vest-1" and loaded["board"] == board


def test_device_reaches_ready_and_the_hub_accepts_its_frames(tmp_path, broker):
    receiver, line = pty.openpty()
    floor, media = free_ports(2)
    site = ProvisionedSite(tmp_path, port=broker.port, floor=floor, media=media, gps=os.ttyname(line))
    site.write_table("S-1,vest-1,Harbour circle,linux,3,\n")
    assert site.run("--rotate", "vest-1") == 2  # no key yet
    assert site.run() == 0 and site.run("--rotate", "vest-1") == 0
    hub = ProvisionedHub(tmp_path)
    folder = site.out / "vest-1"  # its state is beside the configuration
    console = (tmp_path / "console.log").open("wb")
    command = [*resources.interpreter("cpython"), str(deployment.agent_main("cpython")), "config.json"]
    device = subprocess.Popen(
        end_with_parent(command), cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=console
    )

    def text() -> str:
        return (tmp_path / "console.log").read_text(errors="replace")

    try:
        wait_until(lambda: "device: ready, boot 1" in text() and "link: session 1" in text(), text)
        summary, _ = device.communicate(b"off\n", timeout=TIMEOUT_S)
        assert device.returncode == 0 and summary, text()
    finally:
        device.kill()
        device.communicate()
        console.close()
        counts = hub.stop()
        os.close(receiver)
        os.close(line)
    assert counts["frames"] >= 1 and counts["refused"] == {}, counts
