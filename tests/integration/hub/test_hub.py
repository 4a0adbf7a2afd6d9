"""`patrolink hub` with devices on real sockets and a real broker: what they are told, who speaks, and who hears it."""

import json
import random
import shutil
import subprocess
import time
import urllib.request

import av
import patrolink_messages
import pytest
from patrolink.emulator.network.broker import Broker
from patrolink_protocol import mcptt

from tests.support import hub_process
from tests.support.hub_process import GROUP, SITE, Client, HubProcess, join, run, settle

FRAME = bytes(range(160))
LOCAL = "127.0.0.1"


@pytest.fixture
def site(tmp_path, broker):
    """Makes a hub with one group of the names given, and the devices' clients."""
    made = []

    def make(names="abc", top="", hub="", more="", options=(), groups=None):
        ports = hub_process.free_ports(2)
        devices = json.dumps(list(names))
        text = SITE.format(
            url=broker.url,
            ports=ports,
            top=top,
            hub=hub,
            groups=groups or GROUP.format(id=1, devices=devices, more=more),
        )
        process = HubProcess(tmp_path, text, names, *options)
        made.append(process)
        clients = [Client(name, broker.port) for name in names]
        made.extend(clients)
        return process, clients

    yield make
    for it in made[::-1]:
        if isinstance(it, Client):
            it.close()
        elif it.process.poll() is None:
            it.kill()


def spoken(seat, n=10):
    for i in range(n):
        seat.speak(bytes([i]) * 160)


def grant(clients, seat, *args):
    seat.press(*args)
    run(clients, lambda: seat.events and seat.events[-1] == "GRANTED")


def recorded(folder):
    """The bursts that the hub has recorded to their end."""
    return list((folder / "recordings").glob("*/*.json"))


def test_a_burst_is_heard_by_all_others_and_recorded(site, tmp_path):
    hub, clients = site()
    join(clients, [1])
    a, b, c = (it.seats[1] for it in clients)
    grant(clients, a)
    run(clients, lambda: b.floor.talker == c.floor.talker == b"sip:a@test.example")
    assert a.floor.audio_ssrc == b.floor.talker_ssrc
    spoken(a)
    run(clients, lambda: len(b.voice) == len(c.voice) == 10)
    assert [v[2] for v in b.voice] == [bytes([i]) * 160 for i in range(10)] and not a.voice
    a.release()
    run(clients, lambda: "IDLE" in (b.events[-1], c.events[-1]))
    run(clients, lambda: recorded(tmp_path))
    counts = hub.stop()
    assert counts["voice_in"] == 10 and counts["voice_out"] == 20 and counts["refused"] == {}
    assert counts["relay"]["count"] == 10
    [path] = recorded(tmp_path)
    row = json.loads(path.read_text())
    assert (row["talker"], row["group"], row["packets"], row["lost"], row["duration_ms"]) == ("a", 1, 10, 0, 200)
    assert row["ended"] == "released"
    assert path.with_suffix(".wav").read_bytes().endswith(b"".join(bytes([i]) * 160 for i in range(10)))
    with av.open(str(path.with_suffix(".wav"))) as sound:
        assert sound.streams.audio[0].codec.name == "pcm_alaw"
        assert sum(part.samples for part in sound.decode(audio=0)) == 1600


def test_a_second_who_asks_is_queued_and_has_the_floor_next(site):
    _, clients = site()
    join(clients, [1])
    a, b, _ = (it.seats[1] for it in clients)
    grant(clients, a, 10)
    b.press(10)
    run(clients, lambda: b.events[-1] == "QUEUE_POSITION" and b.floor.position == 1)
    a.release()
    run(clients, lambda: b.events[-1] == "GRANTED" and a.events[-1] == "TAKEN")


def test_priority_is_capped_and_an_emergency_preempts(site):
    _, clients = site()
    join(clients, [1])
    a, b, _ = (it.seats[1] for it in clients)
    grant(clients, a, 10)
    b.press(255)  # its own is 10, as a's is
    run(clients, lambda: b.events[-1] == "QUEUE_POSITION")
    b.cancel()
    settle(clients, 0.1)
    b.press(0, mcptt.EMERGENCY)
    run(clients, lambda: b.events[-1] == "GRANTED" and "REVOKED" in a.events)
    assert b.floor.indicator & mcptt.EMERGENCY


def test_who_speaks_without_the_floor_is_told_to_stop_and_is_not_heard(site):
    hub, clients = site()
    join(clients, [1])
    a, b, c = (it.seats[1] for it in clients)
    grant(clients, a)
    a.release()
    run(clients, lambda: b.events[-1] == "IDLE")
    ssrc = b.floor.talker_ssrc
    settle(clients, 0.6)
    seen = []
    b.client._take_floor_before = b.client._take_floor
    b.client._take_floor = lambda data, source: (seen.append(data), b.client._take_floor_before(data, source))
    b.speak(FRAME, ssrc=0x07000001)  # never granted
    run(clients, lambda: seen)
    assert len(c.voice) == 0 and ssrc == 0
    assert hub.stop()["floor_reproached"] == 1


def test_late_entry_and_a_new_address(site):
    _, clients = site()
    join(clients[:2], [1])
    a, b, c = (clients[0].seats[1], clients[1].seats[1], clients[2])
    c.hello()
    run(clients, lambda: 1 in c.seats)
    grant(clients, a)
    c.keepalive()
    run(clients, lambda: c.seats[1].floor.talker == b"sip:a@test.example")
    spoken(a, 3)
    run(clients, lambda: len(c.seats[1].voice) == len(b.voice) == 3)
    b.client.sockets()  # a network that maps anew
    b.client.keepalive()
    run(clients, lambda: b.client.answers == 2)
    spoken(a, 3)
    run(clients, lambda: len(b.voice) == 6)


def test_what_is_not_genuine_is_counted_and_changes_nothing(site):
    hub, clients = site()
    join(clients, [1])
    a, b, _ = (it.seats[1] for it in clients)
    floor_at = ("127.0.0.1", a.terms["floor_port"])
    grant(clients, a)
    good = a.client.sealed(hub_process.RR.pack(0x80, 201, 1, a.terms["ssrc"]))
    bad = bytearray(good)
    bad[-1] ^= 1
    a.client.udp.sendto(bytes(bad), floor_at)  # forged
    a.client.udp.sendto(good, floor_at)
    run(clients, lambda: a.client.answers == 2)
    stranger = hub_process.socket.socket(hub_process.socket.AF_INET, hub_process.socket.SOCK_DGRAM)
    stranger.sendto(good, floor_at)  # replayed, from where it would have the device's voice
    for n in (0, 1, 11, 12, 20, len(good) - 1):
        stranger.sendto(good[:n], floor_at)
    voice = a.packet(FRAME)
    a.client.media.sendto(voice, a.client.media_at)
    stranger.sendto(voice, a.client.media_at)
    later = a.packet(FRAME)
    for packet in (later[:-1] + bytes([later[-1] ^ 1]), later[:-1], later[:20] + later[30:], later[:11]):
        stranger.sendto(packet, a.client.media_at)
    stranger.sendto(later[:8] + bytes(4) + later[12:], a.client.media_at)
    run(clients, lambda: len(b.voice) == 1)
    spoken(a, 3)
    run(clients, lambda: len(b.voice) == 4)
    stranger.close()
    refused = hub.stop()["refused"]
    assert refused == {"length": 7, "replay": 2, "ssrc": 1, "tag": 4}, refused


def test_hostile_datagrams_break_nothing(site, tmp_path):
    seed = 20_261_125
    rng = random.Random(seed)
    hub, clients = site()
    join(clients, [1])
    a, b, _ = (it.seats[1] for it in clients)
    grant(clients, a)
    seeds = [
        a.packet(FRAME),
        a.packet(b""),
        a.client.sealed(hub_process.RR.pack(0x80, 201, 1, a.terms["ssrc"])),
        bytes(40),
    ]
    ports = (a.terms["floor_port"], a.terms["media_port"])
    for _ in range(40):  # each from a source of its own
        with hub_process.socket.socket(hub_process.socket.AF_INET, hub_process.socket.SOCK_DGRAM) as stranger:
            for _ in range(50):
                data = bytearray(rng.choice(seeds))
                for _ in range(rng.randrange(6)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                stranger.sendto(
                    data[: rng.randrange(len(data) + 1)] + rng.randbytes(rng.randrange(3)), (LOCAL, rng.choice(ports))
                )
    # A member that says what no participant may: genuine, and wrong all the same.
    for _ in range(200):
        body = bytearray(rng.randbytes(4 * rng.randrange(1, 12)))
        head = (
            bytes((0x80 | rng.randrange(32), 204, 0, 2 + len(body) // 4)) + a.terms["ssrc"].to_bytes(4, "big") + b"MCPT"
        )
        a.client.udp.sendto(a.client.sealed(head + body), (LOCAL, ports[0]))
        settle(clients, 0.02)
    log = (tmp_path / "hub.log").read_text()
    assert "Traceback" not in log, f"seed {seed}: {log}"
    settle(clients, 1)
    c = clients[2].seats[1]
    grant(clients, c, 0, mcptt.EMERGENCY)
    spoken(c, 3)
    run(clients, lambda: [v[2] for v in b.voice[-3:]] == [bytes([i]) * 160 for i in range(3)])
    refused = hub.stop()["refused"]
    assert refused["floor message"] > 50 and {"tag", "ssrc", "length"} <= set(refused), f"seed {seed}: {refused}"


def test_a_flood_costs_its_source_only(site):
    hub, clients = site()
    join(clients, [1])
    a, b, _ = (it.seats[1] for it in clients)
    flood, began = (
        hub_process.socket.socket(hub_process.socket.AF_INET, hub_process.socket.SOCK_DGRAM),
        time.monotonic(),
    )
    for _ in range(3000):
        flood.sendto(bytes(60), ("127.0.0.1", a.terms["floor_port"]))
    grant(clients, a)
    took_s = time.monotonic() - began
    spoken(a, 5)
    run(clients, lambda: len(b.voice) == 5)
    flood.close()
    counts = hub.stop()
    # The kernel drops what a slow hub has no room for; of the rest so many are looked at in a second.
    assert 60 <= counts["refused"]["ssrc"] <= 60 * (took_s + 2) and counts["refused"]["flood"] > 1000
    assert counts["voice_out"] == 10


def test_a_kill_leaves_no_stuck_floor_no_used_index_and_no_used_ssrc(site, tmp_path):
    hub, clients = site()
    join(clients, [1])
    a, b, c = (it.seats[1] for it in clients)
    grant(clients, a)
    first = a.floor.audio_ssrc
    addresses, granted = tmp_path / "state" / "shard-0" / "addresses.json", time.time()
    run(clients, lambda: addresses.exists() and addresses.stat().st_mtime > granted)
    b.press()
    run(clients, lambda: b.events[-1] == "QUEUE_POSITION")
    hub.kill()
    for it in clients:
        it.refused.clear()
    hub.start()
    # The hub tells them by itself; they keep the replay windows that they have.
    run(clients, lambda: c.events[-1] == "IDLE" and "REVOKED" in a.events)
    grant(clients, c)
    assert c.floor.audio_ssrc != first
    spoken(c, 3)
    run(clients, lambda: len(a.voice) == 3)
    assert all(it.refused == [] for it in clients)
    assert hub.stop()["refused"] == {}


def test_who_leaves_a_group_is_told_and_the_key_is_another(site, tmp_path):
    hub, clients = site()
    join(clients, [1])
    key = clients[0].seats[1].terms["key"]
    hub.stop()
    path = tmp_path / "site.toml"
    path.write_text(path.read_text().replace('["a", "b", "c"]', '["a", "b"]'))
    hub.start()
    for it in clients:
        it.hello()
    a, b, c = clients
    run(clients, lambda: 1 in c.left and a.seats[1].terms["key"] == b.seats[1].terms["key"] == key + 1)
    join([a, b], [1])
    grant(clients, a.seats[1])
    spoken(a.seats[1], 3)
    run(clients, lambda: len(b.seats[1].voice) == 3)


def test_a_device_in_its_next_key_epoch_is_followed(site):
    hub, clients = site()
    join(clients, [1])
    a, b, _ = clients
    old = a.sealed(hub_process.RR.pack(0x80, 201, 1, a.seats[1].terms["ssrc"]))
    a.rotate()
    join([a], [1])
    grant(clients, a.seats[1])
    spoken(a.seats[1], 3)
    run(clients, lambda: len(b.seats[1].voice) == 3)
    a.udp.sendto(old, ("127.0.0.1", a.seats[1].terms["floor_port"]))
    settle(clients, 0.2)
    counts = hub.stop()
    assert counts["key_epochs"] == 1 and counts["refused"] == {"tag": 1}


def test_a_private_group_is_there_for_each_and_is_recorded(site, tmp_path):
    hub, clients = site()
    join(clients, [1])
    private = [n for n, seat in clients[0].seats.items() if seat.terms["kind"] == 1]
    assert len(private) == 1 and private[0] not in clients[1].seats
    seat = clients[0].seats[private[0]]
    grant(clients, seat)  # nobody is at the station: it is recorded
    spoken(seat, 3)
    settle(clients, 0.2)
    seat.release()
    run(clients, lambda: recorded(tmp_path))
    assert hub.stop()["recordings"] == 1


def test_an_event_is_answered(site):
    _, clients = site()
    a = clients[0]
    numbers = {"event_id": 9, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0}
    a.uplink(patrolink_messages.EVENT, {**numbers, "text": b""})
    run(clients, lambda: a.states)
    assert a.states[0]["event_id"] == 9 and a.states[0]["state"] == 1


def test_terms_that_were_lost_are_told_after_the_next_hello(site):
    _, clients = site()
    a = clients[0]
    a._mqtt.unsubscribe("p/a/d")  # a clean session: what is published meanwhile is gone
    settle(clients, 0.3)
    a.hello()
    settle(clients, 0.5)
    assert not a.seats
    a._mqtt.subscribe("p/a/d", qos=1)
    settle(clients, 0.3)
    join(clients, [1])


def test_the_hub_outlives_its_broker(tmp_path):
    it = Broker()
    ports = hub_process.free_ports(2)
    groups = GROUP.format(id=1, devices='["a", "b"]', more="")
    text = SITE.format(url=it.url, ports=ports, top="", hub="", groups=groups)
    hub = HubProcess(tmp_path, text, "ab")
    clients = [Client(name, it.port) for name in "ab"]
    try:
        join(clients, [1])
        it.stop()
        grant(clients, clients[0].seats[1])  # voice needs no broker
        spoken(clients[0].seats[1], 3)
        run(clients, lambda: len(clients[1].seats[1].voice) == 3)
        counts = hub.stop()
        assert counts["voice_out"] == 3 and counts["refused"] == {}
    finally:
        for client in clients:
            client.close()
        hub.kill()


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")
def test_wireshark_accepts_every_message_of_a_session(site, tmp_path):
    hub, clients = site(options=("--pcap", str(tmp_path / "x.pcap")))
    join(clients, [1])
    a, b, c = (it.seats[1] for it in clients)
    grant(clients, a, 10)
    b.press(10)
    run(clients, lambda: b.events[-1] == "QUEUE_POSITION")
    c.press(0, mcptt.EMERGENCY)
    run(clients, lambda: c.events[-1] == "GRANTED" and "REVOKED" in a.events)
    c.release()
    run(clients, lambda: b.events[-1] == "GRANTED")
    b.release()
    settle(clients, 0.3)
    counts = hub.stop()
    decoded = ["tshark", "-r", str(tmp_path / "x.pcap"), "-d", f"udp.port=={a.terms['floor_port']},rtcp"]
    good = 'rtcp.app.name == "MCPT" && rtcp.length_check == 1 && !_ws.expert && !_ws.malformed'
    done = subprocess.run(
        [*decoded, "-Y", good, "-T", "fields", "-e", "rtcp.app.subtype"], capture_output=True, text=True
    )
    kinds = {int(word) & 15 for line in done.stdout.split() for word in line.split(",")}
    assert len(done.stdout.splitlines()) == counts["floor_in"] + counts["floor_out"], done.stderr
    assert kinds >= {0, 1, 2, 4, 5, 6, 9, 10}


def test_the_console_tells_counts_to_prometheus(site):
    with hub_process.socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        console = f"127.0.0.1:{it.getsockname()[1]}"
    _, clients = site(hub=f'console = "{console}"')
    join(clients, [1])
    with urllib.request.urlopen(f"http://{console}/metrics") as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
    assert lines["patrolink_hub_devices_present"] == "3" and int(lines["patrolink_hub_floor_out_total"]) >= 3
    with urllib.request.urlopen(f"http://{console}/status") as answer:
        assert json.load(answer)["devices_present"] == 3
