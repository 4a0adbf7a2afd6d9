"""Two hubs of one site: each has its own groups, and only the home hub sends messages to devices."""

import json
import secrets

import pytest
from patrolink.hub.config import HubContext
from patrolink.hub.infra.hub_requests import DeviceMessage, HubRequestError, HubRequests

from tests.support import hub_process
from tests.support.device_client import DeviceClient, join_groups, run_until
from tests.support.hub_parts import FakeClock
from tests.support.hub_process import HubProcess, LoopbackNetwork
from tests.support.site_file import GROUP_TEMPLATE, write_site

NAMES = "abc"


def site_text(folder, url: str, moved: bool = False) -> str:
    """Return a site file with two hubs and one group on each. If `moved`, both groups are on the second hub."""
    ports = hub_process.free_ports(4)
    if (folder / "ports").exists():
        ports = json.loads((folder / "ports").read_text())
    (folder / "ports").write_text(json.dumps(ports))
    hubs = [
        f'[[hub]]\nshard = {i}\nhost = "127.0.0.1"\nlisten = "127.0.0.1"\n'
        f"floor_port = {ports[2 * i]}\nmedia_port = {ports[2 * i + 1]}\n"
        for i in range(2)
    ]
    devices = json.dumps(list(NAMES))
    groups = [GROUP_TEMPLATE.format(id=n, devices=devices, more=f"shard = {n - 1}") for n in (1, 2)]
    if moved:
        groups[0] = groups[0].replace("shard = 0", "shard = 1")
    return f'name = "test.example"\nkeys = "keys.toml"\nbroker = "{url}"\n' + "\n".join(hubs + groups)


@pytest.fixture
def two_hubs(tmp_path, broker):
    text = site_text(tmp_path, broker.url)
    hubs = [HubProcess(tmp_path, text, NAMES, "--shard", str(i)) for i in range(2)]
    clients = [DeviceClient(name, LoopbackNetwork(broker.port)) for name in NAMES]
    yield (*hubs, clients)
    for hub in hubs:
        if hub.process.poll() is None:
            hub.kill()
    for client in clients:
        client.close()


def talk(clients, group: int, n: int) -> None:
    a, b, c = (client.memberships[group] for client in clients)
    a.request_floor()
    run_until(clients, lambda: a.events and a.events[-1] == "GRANTED")
    received = len(b.voice)
    for _ in range(n):
        a.send_voice(bytes(160))
    run_until(clients, lambda: len(b.voice) == len(c.voice) == received + n)
    a.release_floor()
    run_until(clients, lambda: b.events[-1] == "IDLE")


def test_groups_of_two_hubs_are_independent_and_can_move(two_hubs, tmp_path, broker):
    home, other, clients = two_hubs
    join_groups(clients, [1, 2])
    terms = {n: membership.terms for n, membership in clients[0].memberships.items()}
    assert terms[1]["floor_port"] == home.ready["floor_port"] and terms[2]["floor_port"] == other.ready["floor_port"]
    assert terms[1]["ssrc"] >> 27 == 0b10000 and terms[2]["ssrc"] >> 27 == 0b10001
    talk(clients, 1, 3)
    talk(clients, 2, 3)
    home.kill()  # must not affect groups of the other hub
    talk(clients, 2, 3)
    assert other.stop()["refused"] == {}
    assert all(client.rejected == [] for client in clients)
    (tmp_path / "site.toml").write_text(site_text(tmp_path, broker.url, moved=True))
    for hub in (home, other):
        hub.start()
    for client in clients:
        client.memberships.clear()
        client.reports = 0
    join_groups(clients, [1, 2])
    new_terms = clients[0].memberships[1].terms
    assert new_terms["floor_port"] == other.ready["floor_port"] != terms[1]["floor_port"]
    talk(clients, 1, 3)


def test_replayed_or_forged_request_between_hubs_is_rejected(tmp_path):
    write_site(tmp_path, site_text(tmp_path, "mqtt://127.0.0.1"), NAMES)
    contexts = [HubContext(tmp_path / "site.toml", shard) for shard in (1, 0)]
    clock = FakeClock(1_795_000_000_000)
    sender, receiver = (HubRequests(context, clock, secrets.token_bytes) for context in contexts)
    message = DeviceMessage("a", 21, {"group": 7, "wrapped": b"\x00\xff", "name": b"x", "number": None})
    sealed = sender.seal(message)
    assert receiver.open(sealed) == message
    with pytest.raises(HubRequestError, match="replay"):
        receiver.open(sealed)
    for invalid in (b"", sealed[:5], b"\x01b" + sealed[2:], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(HubRequestError, match="device|tag|format"):
            receiver.open(invalid)
    delayed = sender.seal(message)
    clock.now_ms += 61_000
    with pytest.raises(HubRequestError, match="replay"):
        HubRequests(contexts[1], clock, secrets.token_bytes).open(delayed)
