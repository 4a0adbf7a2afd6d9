"""Live view on a virtual clock: forged and late commands, and a hub that is killed."""

import json

import patrolink_messages
import pytest
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards.virtual_camera import Film
from patrolink.evidence import evidence_key
from patrolink.hub.infra.downlink import Downlink
from patrolink_protocol import codec, frame

from tests.support.agent_site import AgentSite, Kit
from tests.support.drawn_pictures import drawn_pictures
from tests.support.simulated_console import SimulatedConsole
from tests.support.simulated_site import LIVE_PORT, UPLOAD_PORT
from tests.support.site_file import DISPATCHERS, keys_of

NAME = "vest-1"
KEY = keys_of([NAME])[NAME]
LIVE_VIEW_START = 4  # command.action
COUNTER = 1 << 20  # of the downlink; the hub's own counters are lower


@pytest.fixture
def site(tmp_path):
    """A site with a device that has a camera and knows the time."""
    public = evidence_key.create(tmp_path / "evidence.pem").public
    config = {"clips": {"evidence_key": public, "pre_s": 2, "post_s": 2, "segment_s": 2}, "batch_fixes": 1}
    hub = f'uploads = "127.0.0.1:{UPLOAD_PORT}"\nlive_port = {LIVE_PORT}'
    kit = Kit(config=config, film=Film(drawn_pictures(False, 12), (320, 240), 5))
    site = AgentSite(tmp_path, {NAME: kit}, 1, DISPATCHERS, 'evidence_key = "evidence.pem"', hub)
    site.agents[NAME].see_sky()
    site.wait_for_row(lambda row: row["record"] == "position")
    yield site
    site.close()


class PacketReceiver:
    """A UDP socket that receives the packets of a live view."""

    def __init__(self, site: AgentSite) -> None:
        self._socket = site.udp_socket()
        self.address = "{}:{}".format(*self._socket.getsockname())

    def packets(self) -> list[bytes]:
        """Return the packets received since the previous call."""
        packets, buf = [], bytearray(2048)
        while self._socket.readable:
            packets.append(bytes(buf[: self._socket.recvfrom_into(buf)[0]]))
        return packets


def seal(values: dict, key: bytes = KEY, name: str = NAME, counter: int = COUNTER, epoch: int = 0) -> bytes:
    """Return a command to the device in a frame of the hub."""
    downlink = Downlink({name: DeviceKey(key, epoch)}, lambda: counter)
    return downlink.seal(name, patrolink_messages.COMMAND, values)


def forged_commands(command) -> list[bytes]:
    """Return invalid commands: wrong key, device and epoch; truncated, altered and empty frames; an uplink frame."""
    data = seal(command())
    uplink, buf = frame.Channel(KEY, NAME.encode(), frame.UPLINK), bytearray(512)
    n = codec.encode_into(patrolink_messages.COMMAND, command(), buf, frame.HEADER_BYTES)
    return [
        seal(command(), key=bytes(32)),
        seal(command(), name="vest-0"),
        seal(command(), epoch=1)[:-1],
        data[:-3],
        bytes([*data[:-1], data[-1] ^ 1]),
        b"",
        bytes(buf[: uplink.seal_into(buf, patrolink_messages.COMMAND, COUNTER, n)]),
    ]


def test_forged_and_late_commands_start_no_view_and_a_view_without_reports_ends(site):
    agent, receiver, numbers = site.agents[NAME], PacketReceiver(site), iter(range(70, 99))

    def command(**changes) -> dict:
        values = {
            "command_id": next(numbers), "action": LIVE_VIEW_START, "expires_ms": site.unix_ms() + 30_000,
            "operator": b"duty", "number": 60, "name": b"", "value": receiver.address.encode(),
        }  # fmt: skip
        return {**values, **changes}

    def results() -> list[str]:
        return [row["result"] for row in site.rows if row["record"] == "answer"]

    def send(data: bytes) -> None:
        site.broker.inject_down(NAME, data)

    for data in forged_commands(command):
        send(data)
    send(seal(command(expires_ms=1000), counter=COUNTER + 1))
    site.run_until(results, agent.text)
    site.run_for(2)
    assert results() == ["expired"] and not receiver.packets()

    genuine = command()
    data = seal(genuine, counter=COUNTER + 2)
    send(data)
    site.run_until(lambda: len(results()) == 2, agent.text)
    site.run_for(1)
    assert results()[-1] == "started"
    assert {int.from_bytes(packet[8:12], "big") for packet in receiver.packets()} == {genuine["command_id"]}
    # The receiver sends no reports, as if the hub had failed.
    started_ms = site.now_ms()
    site.run_until(lambda: "live view: ended (no report from the hub for 10 s)" in agent.text(), agent.text)
    assert 8000 < site.now_ms() - started_ms < 11_000
    site.run_for(1)
    receiver.packets()
    for repeated in (data, seal(genuine, counter=COUNTER + 3)):  # a replay, and the same command with a new counter
        send(repeated)
    site.run_until(lambda: len(results()) == 3, agent.text)
    site.run_for(2)
    assert results() == ["expired", "started", "refused"] and not receiver.packets()
    kinds = [row["kind"] for row in site.rows if row["record"] == "event" and row["kind"].startswith("live")]
    assert kinds == ["live_view_start", "live_view_stop"]
    audit = agent.file("state/audit/audit").decode().splitlines()
    assert [line.split("\t")[1:3] for line in audit] == [[str(LIVE_VIEW_START), "duty"]] * 5, audit


def test_camera_stops_when_its_hub_is_killed_and_can_be_watched_after_a_restart(site, tmp_path):
    agent = site.agents[NAME]

    def watch() -> SimulatedConsole:
        console = SimulatedConsole(site)
        console.session.live_start(NAME, 60, "jpeg")
        console.wait_for_pictures(2, agent.text)
        return console

    watch()
    site.hub.kill()
    killed_ms = site.now_ms()
    site.run_until(lambda: "live view: ended (no report from the hub for 10 s)" in agent.text(), agent.text)
    assert 8000 < site.now_ms() - killed_ms < 11_000
    site.hub.start()
    watch().session.close()
    site.run_until(lambda: "live view: ended (stopped by the hub)" in agent.text(), agent.text)

    def live_rows() -> list[str]:
        lines = (tmp_path / "state" / "shard-0" / "audit.jsonl").read_text().splitlines()
        return sorted(row["what"] for row in map(json.loads, lines) if row["what"].startswith("live"))

    # The dispatcher leaves and the device reports the end, in either order.
    site.run_until(lambda: live_rows() == ["live_end", "live_start", "live_start", "live_stop"], live_rows)
