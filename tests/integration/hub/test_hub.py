"""A hub with clients of devices on virtual time: floor control, relay, recordings, restarts."""

import json
import random
import shutil
import subprocess

import av
import patrolink_messages
import pytest
from patrolink_protocol import mcptt

from tests.support.device_client import RECEIVER_REPORT, DeviceClient, join_groups, run_for, run_until
from tests.support.simulated_site import CONSOLE_PORT, SimulatedSite, site_text
from tests.support.site_file import GROUP_TEMPLATE

FRAME = bytes(range(160))
LOCAL = "127.0.0.1"


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a hub with one group and returns it with the clients of its devices."""
    sites = []

    def make(names="abc", hub="", pcap=None):
        groups = GROUP_TEMPLATE.format(id=1, devices=json.dumps(list(names)), more="")
        site = SimulatedSite(tmp_path, site_text(groups, hub=hub), names, pcap)
        sites.append(site)
        return site.hub, [DeviceClient(name, site) for name in names]

    yield make
    for site in sites:
        site.close()


def talk(member, n=10):
    for i in range(n):
        member.send_voice(bytes([i]) * 160)


def request_and_wait(clients, member, *args):
    member.request_floor(*args)
    run_until(clients, lambda: member.events and member.events[-1] == "GRANTED")


def recordings(folder):
    """Return the JSON files of finished recordings."""
    return list((folder / "recordings").glob("*/*.json"))


def test_burst_is_relayed_to_all_other_members_and_recorded(start, tmp_path):
    hub, clients = start()
    join_groups(clients, [1])
    a, b, c = (client.memberships[1] for client in clients)
    request_and_wait(clients, a)
    run_until(clients, lambda: b.floor.talker == c.floor.talker == b"sip:a@test.example")
    assert a.floor.audio_ssrc == b.floor.talker_ssrc
    talk(a)
    run_until(clients, lambda: len(b.voice) == len(c.voice) == 10)
    assert [v[2] for v in b.voice] == [bytes([i]) * 160 for i in range(10)] and not a.voice
    a.release_floor()
    run_until(clients, lambda: "IDLE" in (b.events[-1], c.events[-1]))
    run_until(clients, lambda: recordings(tmp_path))
    counts = hub.stop()
    assert counts["voice_in"] == 10 and counts["voice_out"] == 20 and counts["refused"] == {}
    assert counts["relay"]["count"] == 10
    [path] = recordings(tmp_path)
    row = json.loads(path.read_text())
    assert (row["talker"], row["group"], row["packets"], row["lost"], row["duration_ms"]) == ("a", 1, 10, 0, 200)
    assert row["ended"] == "released"
    assert path.with_suffix(".wav").read_bytes().endswith(b"".join(bytes([i]) * 160 for i in range(10)))
    with av.open(str(path.with_suffix(".wav"))) as sound:
        assert sound.streams.audio[0].codec.name == "pcm_alaw"
        assert sum(part.samples for part in sound.decode(audio=0)) == 1600


def test_second_request_is_queued_and_granted_after_the_release(start):
    _, clients = start()
    join_groups(clients, [1])
    a, b, _ = (client.memberships[1] for client in clients)
    request_and_wait(clients, a, 10)
    b.request_floor(10)
    run_until(clients, lambda: b.events[-1] == "QUEUE_POSITION" and b.floor.position == 1)
    a.release_floor()
    run_until(clients, lambda: b.events[-1] == "GRANTED" and a.events[-1] == "TAKEN")


def test_requested_priority_is_limited_and_an_emergency_preempts(start):
    _, clients = start()
    join_groups(clients, [1])
    a, b, _ = (client.memberships[1] for client in clients)
    request_and_wait(clients, a, 10)
    b.request_floor(255)  # the hub limits it to 10, the priority of both members
    run_until(clients, lambda: b.events[-1] == "QUEUE_POSITION")
    b.cancel_request()
    run_for(clients, 0.1)
    b.request_floor(0, mcptt.EMERGENCY)
    run_until(clients, lambda: b.events[-1] == "GRANTED" and "REVOKED" in a.events)
    assert b.floor.indicator & mcptt.EMERGENCY


def test_voice_without_the_floor_is_revoked_and_not_relayed(start):
    hub, clients = start()
    join_groups(clients, [1])
    a, b, c = (client.memberships[1] for client in clients)
    request_and_wait(clients, a)
    a.release_floor()
    run_until(clients, lambda: b.events[-1] == "IDLE")
    ssrc = b.floor.talker_ssrc
    run_for(clients, 0.6)
    b.send_voice(FRAME, ssrc=0x07000001)  # never granted
    run_until(clients, lambda: b.client.newest_floor_types() == [mcptt.REVOKE])
    assert len(c.voice) == 0 and ssrc == 0
    assert hub.stop()["floor_reproached"] == 1


def test_voice_reaches_a_late_member_and_a_changed_address(start):
    _, clients = start()
    join_groups(clients[:2], [1])
    a, b, c = (clients[0].memberships[1], clients[1].memberships[1], clients[2])
    c.send_hello()
    run_until(clients, lambda: 1 in c.memberships)
    request_and_wait(clients, a)
    c.send_keepalives()
    run_until(clients, lambda: c.memberships[1].floor.talker == b"sip:a@test.example")
    talk(a, 3)
    run_until(clients, lambda: len(c.memberships[1].voice) == len(b.voice) == 3)
    b.client.open_sockets()  # a NAT that assigns new ports
    b.client.send_keepalives()
    run_until(clients, lambda: b.client.reports == 2)
    talk(a, 3)
    run_until(clients, lambda: len(b.voice) == 6)


def test_packets_that_are_not_authentic_are_counted_and_ignored(start):
    hub, clients = start()
    join_groups(clients, [1])
    a, b, _ = (client.memberships[1] for client in clients)
    floor_address = ("127.0.0.1", a.terms["floor_port"])
    request_and_wait(clients, a)
    authentic = a.client.protect_rtcp(RECEIVER_REPORT.pack(0x80, 201, 1, a.terms["ssrc"]))
    forged = bytearray(authentic)
    forged[-1] ^= 1
    a.client.udp.sendto(bytes(forged), floor_address)
    a.client.udp.sendto(authentic, floor_address)
    run_until(clients, lambda: a.client.reports == 2)
    stranger = clients[0].network.udp_socket()
    stranger.sendto(authentic, floor_address)  # replayed from another address, to redirect the voice for the device
    for n in (0, 1, 11, 12, 20, len(authentic) - 1):
        stranger.sendto(authentic[:n], floor_address)
    voice = a.packet(FRAME)
    a.client.media.sendto(voice, a.client.media_address)
    stranger.sendto(voice, a.client.media_address)
    later = a.packet(FRAME)
    for packet in (later[:-1] + bytes([later[-1] ^ 1]), later[:-1], later[:20] + later[30:], later[:11]):
        stranger.sendto(packet, a.client.media_address)
    stranger.sendto(later[:8] + bytes(4) + later[12:], a.client.media_address)
    run_until(clients, lambda: len(b.voice) == 1)
    talk(a, 3)
    run_until(clients, lambda: len(b.voice) == 4)
    refused = hub.stop()["refused"]
    assert refused == {"length": 7, "replay": 2, "ssrc": 1, "tag": 4}, refused


def test_malformed_datagrams_do_not_disturb_the_hub(start):
    seed = 20_261_125
    rng = random.Random(seed)
    hub, clients = start()
    join_groups(clients, [1])
    a, b, _ = (client.memberships[1] for client in clients)
    request_and_wait(clients, a)
    seeds = [
        a.packet(FRAME),
        a.packet(b""),
        a.client.protect_rtcp(RECEIVER_REPORT.pack(0x80, 201, 1, a.terms["ssrc"])),
        bytes(40),
    ]
    ports = (a.terms["floor_port"], a.terms["media_port"])
    for _ in range(40):  # each from a new source
        stranger = clients[0].network.udp_socket()
        for _ in range(50):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            stranger.sendto(
                data[: rng.randrange(len(data) + 1)] + rng.randbytes(rng.randrange(3)), (LOCAL, rng.choice(ports))
            )
    # Authentic datagrams with random floor messages.
    for _ in range(200):
        body = bytearray(rng.randbytes(4 * rng.randrange(1, 12)))
        head = (
            bytes((0x80 | rng.randrange(32), 204, 0, 2 + len(body) // 4)) + a.terms["ssrc"].to_bytes(4, "big") + b"MCPT"
        )
        a.client.udp.sendto(a.client.protect_rtcp(head + body), (LOCAL, ports[0]))
        run_for(clients, 0.02)
    assert clients[0].network.errors == [], f"seed {seed}"
    run_for(clients, 1)
    c = clients[2].memberships[1]
    request_and_wait(clients, c, 0, mcptt.EMERGENCY)
    talk(c, 3)
    run_until(clients, lambda: [v[2] for v in b.voice[-3:]] == [bytes([i]) * 160 for i in range(3)])
    refused = hub.stop()["refused"]
    assert refused["floor message"] > 50 and {"tag", "ssrc", "length"} <= set(refused), f"seed {seed}: {refused}"


def test_flood_is_limited_per_source(start):
    hub, clients = start()
    join_groups(clients, [1])
    a, b, _ = (client.memberships[1] for client in clients)
    flooder = clients[0].network.udp_socket()
    for _ in range(3000):
        flooder.sendto(bytes(60), ("127.0.0.1", a.terms["floor_port"]))
    request_and_wait(clients, a)
    talk(a, 5)
    run_until(clients, lambda: len(b.voice) == 5)
    counts = hub.stop()
    assert counts["refused"] == {"ssrc": 60, "flood": 2940}, "60 of a second are processed"
    assert counts["voice_out"] == 10


def test_killed_hub_restarts_with_an_idle_floor_and_unused_indices_and_ssrcs(start, tmp_path):
    hub, clients = start()
    join_groups(clients, [1])
    a, b, c = (client.memberships[1] for client in clients)
    request_and_wait(clients, a)
    first = a.floor.audio_ssrc
    addresses = tmp_path / "state" / "shard-0" / "addresses.json"
    run_until(clients, lambda: addresses.exists() and len(json.loads(addresses.read_text())) == 3)
    b.request_floor()
    run_until(clients, lambda: b.events[-1] == "QUEUE_POSITION")
    hub.kill()
    for client in clients:
        client.rejected.clear()
    hub.start()
    # The hub sends first. The devices still have their replay windows.
    run_until(clients, lambda: c.events[-1] == "IDLE" and "REVOKED" in a.events)
    request_and_wait(clients, c)
    assert c.floor.audio_ssrc != first
    talk(c, 3)
    run_until(clients, lambda: len(a.voice) == 3)
    assert all(client.rejected == [] for client in clients)
    assert hub.stop()["refused"] == {}


def test_device_removed_from_a_group_is_informed_and_the_key_is_renewed(start, tmp_path):
    hub, clients = start()
    join_groups(clients, [1])
    key = clients[0].memberships[1].terms["key"]
    hub.stop()
    path = tmp_path / "site.toml"
    path.write_text(path.read_text().replace('["a", "b", "c"]', '["a", "b"]'))
    hub.start()
    for client in clients:
        client.send_hello()
    a, b, c = clients
    run_until(
        clients,
        lambda: 1 in c.left_groups and a.memberships[1].terms["key"] == b.memberships[1].terms["key"] == key + 1,
    )
    join_groups([a, b], [1])
    request_and_wait(clients, a.memberships[1])
    talk(a.memberships[1], 3)
    run_until(clients, lambda: len(b.memberships[1].voice) == 3)


def test_hub_accepts_the_next_key_epoch_of_a_device(start):
    hub, clients = start()
    join_groups(clients, [1])
    a, b, _ = clients
    old = a.protect_rtcp(RECEIVER_REPORT.pack(0x80, 201, 1, a.memberships[1].terms["ssrc"]))
    a.rotate_key()
    join_groups([a], [1])
    request_and_wait(clients, a.memberships[1])
    talk(a.memberships[1], 3)
    run_until(clients, lambda: len(b.memberships[1].voice) == 3)
    a.udp.sendto(old, ("127.0.0.1", a.memberships[1].terms["floor_port"]))
    run_for(clients, 0.2)
    counts = hub.stop()
    assert counts["key_epochs"] == 1 and counts["refused"] == {"tag": 1}


def test_every_device_has_a_private_group_that_is_recorded(start, tmp_path):
    hub, clients = start()
    join_groups(clients, [1])
    private = [n for n, membership in clients[0].memberships.items() if membership.terms["kind"] == 1]
    assert len(private) == 1 and private[0] not in clients[1].memberships
    member = clients[0].memberships[private[0]]
    request_and_wait(clients, member)  # granted although no dispatcher is listening
    talk(member, 3)
    run_for(clients, 0.2)
    member.release_floor()
    run_until(clients, lambda: recordings(tmp_path))
    assert hub.stop()["recordings"] == 1


def test_event_is_acknowledged(start):
    _, clients = start()
    a = clients[0]
    numbers = {"event_id": 9, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0}
    a.send_message(patrolink_messages.EVENT, {**numbers, "text": b""})
    run_until(clients, lambda: a.event_states)
    assert a.event_states[0]["event_id"] == 9 and a.event_states[0]["state"] == 1


def test_lost_terms_are_repeated_after_the_next_hello(start):
    _, clients = start()
    a = clients[0]
    a._session.unsubscribe()  # messages are now lost, because the session is clean
    run_for(clients, 0.3)
    a.send_hello()
    run_for(clients, 0.5)
    assert not a.memberships
    a._session.subscribe()
    run_for(clients, 0.3)
    join_groups(clients, [1])


def test_voice_continues_while_the_broker_is_down(start):
    hub, clients = start()
    join_groups(clients, [1])
    a, b, _ = (client.memberships[1] for client in clients)
    clients[0].network.broker.restart(3_600_000, killed=True)
    request_and_wait(clients, a)
    talk(a, 3)
    run_until(clients, lambda: len(b.voice) == 3)
    counts = hub.stop()
    assert counts["voice_out"] == 6 and counts["refused"] == {}


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")
def test_wireshark_dissects_every_message_of_a_session(start, tmp_path):
    hub, clients = start(pcap=tmp_path / "x.pcap")
    join_groups(clients, [1])
    a, b, c = (client.memberships[1] for client in clients)
    request_and_wait(clients, a, 10)
    b.request_floor(10)
    run_until(clients, lambda: b.events[-1] == "QUEUE_POSITION")
    c.request_floor(0, mcptt.EMERGENCY)
    run_until(clients, lambda: c.events[-1] == "GRANTED" and "REVOKED" in a.events)
    c.release_floor()
    run_until(clients, lambda: b.events[-1] == "GRANTED")
    b.release_floor()
    run_for(clients, 0.3)
    counts = hub.stop()
    decoded = ["tshark", "-r", str(tmp_path / "x.pcap"), "-d", f"udp.port=={a.terms['floor_port']},rtcp"]
    valid_message = 'rtcp.app.name == "MCPT" && rtcp.length_check == 1 && !_ws.expert && !_ws.malformed'
    result = subprocess.run(
        [*decoded, "-Y", valid_message, "-T", "fields", "-e", "rtcp.app.subtype"], capture_output=True, text=True
    )
    kinds = {int(word) & 15 for line in result.stdout.split() for word in line.split(",")}
    assert len(result.stdout.splitlines()) == counts["floor_in"] + counts["floor_out"], result.stderr
    assert kinds >= {0, 1, 2, 4, 5, 6, 9, 10}


def test_console_serves_metrics_for_prometheus(start):
    _, clients = start(hub=f'console = "127.0.0.1:{CONSOLE_PORT}"')
    join_groups(clients, [1])
    request = clients[0].network.http_request
    text = request("GET", "/metrics")[2]
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert lines["patrolink_hub_devices_present"] == "3" and int(lines["patrolink_hub_floor_out_total"]) >= 3
    assert json.loads(request("GET", "/status")[2])["devices_present"] == 3
