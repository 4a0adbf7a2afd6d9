"""The Wireshark dissector finds frames in MQTT, on serial lines and behind pseudo headers, without configuration."""

import json
import random
import shutil
import struct
from pathlib import Path

import patrolink_messages as m
import pytest

from tests.support import tshark
from tests.support.sealed_frames import DOWN, ENCRYPTED, KEY, UP, Sender
from tests.support.sharkd import Sharkd

SEED = 11
VEST, OTHER = Sender(), Sender("vest-2", key=KEY[::-1])
HUB = Sender(direction=DOWN)
CLIENT, WEB_SERVER = ("10.0.0.2", 50000), ("10.0.0.1", 80)

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")


def text_state(text_id: int) -> bytes:
    return struct.pack(">IBQ", text_id, 2, 1_700_000_000_000)


def seal(sender: Sender, counter: int) -> bytes:
    return sender.seal(m.TEXT_STATE, counter, text_state(counter), ENCRYPTED)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "keys.toml"
    path.write_text(f'[devices]\nvest-1 = "{KEY.hex()}"\nvest-2 = "{OTHER.key.hex()}"\n', encoding="utf-8")
    return tshark.with_keys(path)


def shown(packets: list[list[dict]]) -> list[list[tuple[str, str, str]]]:
    """Return device, direction and text id of each frame of each packet."""
    names = ("patrolink.device", "patrolink.direction", "patrolink.text_state.text_id")
    return [[tuple(tshark.values(layer)[name][0] for name in names) for layer in packet] for packet in packets]


@pytest.mark.parametrize("port", [1883, 21883])
@pytest.mark.parametrize("passes", [(), ("-2",)], ids=["one-pass", "two-passes"])
def test_frames_in_mqtt_have_device_and_direction(tmp_path, keys, port, passes):
    """Several frames in a packet, a frame in two packets, a topic of somebody else, an empty payload."""
    stream = tshark.publish("p/vest-1/u", seal(VEST, 1)) + tshark.publish("p/vest-2/u", seal(OTHER, 2), qos=0)
    stream += tshark.publish("p/vest-1/status", b"online") + tshark.publish("p/vest-1/u", b"")
    cut = len(stream) + 20
    stream += tshark.publish("p/vest-1/d", seal(HUB, 3)) + tshark.publish("p/vest-1/u/more", seal(VEST, 4))
    connection = tshark.Connection(target=("10.0.0.1", port))
    packets = [connection.send(stream[:cut]), connection.send(stream[cut:])]
    path = tshark.write_pcap(tmp_path / "mqtt.pcap", packets, tshark.LINKTYPE_RAW_IP)
    layers = tshark.dissect(path, *keys, *passes)
    assert shown(layers) == [[("vest-1", "0", "1"), ("vest-2", "0", "2")], [("vest-1", "1", "3")]]
    assert not [info for packet in layers for layer in packet for info in tshark.expert_infos(layer)]
    lines = tshark.run(path, *keys, *passes).splitlines()
    assert "Patrolink" in lines[0] and lines[0].endswith("vest-1 text_state 1; vest-2 text_state 2")
    assert tshark.run(path, "-Y", "_ws.malformed") == ""


def test_frames_in_websockets_are_found(tmp_path, keys):
    request = b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhl\r\n"
    request += b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    answer += b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    message = tshark.publish("p/vest-1/d", seal(HUB, 1)) + tshark.publish("p/vest-1/d", seal(HUB, 2))
    client, server = (tshark.Connection(*ends) for ends in ((CLIENT, WEB_SERVER), (WEB_SERVER, CLIENT)))
    packets = [client.send(request), server.send(answer + b"\x82" + bytes([len(message)]) + message)]
    path = tshark.write_pcap(tmp_path / "websocket.pcap", packets, tshark.LINKTYPE_RAW_IP)
    assert shown(tshark.dissect(path, *keys))[1] == [("vest-1", "1", "1"), ("vest-1", "1", "2")]


def test_each_subscriber_is_a_receiver_of_its_own(tmp_path, keys):
    """A broker forwards a frame to two subscribers: no frame is a repeated one."""
    message = tshark.publish("p/vest-1/u", seal(VEST, 1))
    hops = [(("10.0.0.2", 50000), ("10.0.0.1", 1883)), *((("10.0.0.1", 1883), ("10.0.0.3", 40000 + i)) for i in (0, 1))]
    packets = [tshark.Connection(*hop).send(message) for hop in hops]
    packets.append(tshark.Connection(("10.0.0.2", 50001), hops[0][1]).send(message))
    path = tshark.write_pcap(tmp_path / "mqtt.pcap", packets, tshark.LINKTYPE_RAW_IP)
    infos = [tshark.expert_infos(layer) for (layer,) in tshark.dissect(path, *keys)]
    assert infos == [[], [], [], ["counter 1 was accepted before; a receiver drops this frame"]]


@pytest.mark.parametrize("carriage", ["line", "tcp"])
def test_serial_packets_are_found_however_the_bytes_arrive(tmp_path, keys, carriage):
    rnd = random.Random(SEED)
    for turn in range(4):
        frames = [seal(rnd.choice((VEST, OTHER)), c) for c in range(1, 12)]
        frames.insert(5, VEST.seal(m.DUTY, 90, bytes(rnd.randrange(256) for _ in range(900)), 0))
        stream = b"\0" + b"".join(tshark.serial(frame) + b"\0" * rnd.randrange(3) for frame in frames)
        first = len(tshark.serial(frames[0])) + 1
        cuts = sorted({0, first, len(stream), *(rnd.randrange(first, len(stream)) for _ in range(rnd.randrange(40)))})
        parts = [stream[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
        if carriage == "tcp":
            connection = tshark.Connection(target=("10.0.0.1", 4001))
            parts = [connection.send(part) for part in parts]
        linktype = tshark.LINKTYPE_RAW_IP if carriage == "tcp" else tshark.LINKTYPE_USER1
        path = tshark.write_pcap(tmp_path / "serial.pcap", parts, linktype)
        passes = ("-2",) if turn % 2 else ()
        packets = tshark.dissect(path, *keys, *passes)
        fields = [tshark.values(layer) for packet in packets for layer in packet]
        counters = [v["patrolink.counter"][0] for v in fields if "patrolink.counter" in v]
        assert counters == ["1", "2", "3", "4", "5", "90", "6", "7", "8", "9", "10", "11"], (SEED, turn)
        verified = [v["patrolink.text_state.text_id"][0] for v in fields if "patrolink.text_state.text_id" in v]
        assert verified == [str(c) for c in range(1, 12)], (SEED, turn)


def test_damaged_serial_packet_is_reported_and_the_next_one_is_read(tmp_path, keys):
    bad = bytearray(tshark.serial(seal(VEST, 1)))
    bad[9] ^= 0x80
    stream = [bytes(bad) + b"\x09\x09\0" + tshark.serial(seal(VEST, 2)), b"\x05" * 3000]
    path = tshark.write_pcap(tmp_path / "serial.pcap", stream, tshark.LINKTYPE_USER1)
    layers, rest = tshark.dissect(path, *keys)
    infos = [tshark.expert_infos(layer) for layer in layers]
    assert infos[0][0].startswith("the CRC is 0x") and infos[1] == ["no COBS packet with a frame of at most 1024 bytes"]
    assert tshark.values(layers[2])["patrolink.text_state.text_id"] == ["2"] and not infos[2]
    assert tshark.expert_infos(rest) == ["no zero byte ends this packet"]
    layer = tshark.dissect(path, "-o", "patrolink.serial_device:vest-9")[0][2]
    assert tshark.values(layer)["patrolink.device"] == ["vest-9"]


def test_frame_that_was_not_captured_as_a_whole_is_not_judged(tmp_path):
    packet = tshark.pseudo("vest-1", UP, seal(VEST, 1))
    path = tshark.write_pcap(tmp_path / "cut.pcap", [packet], tshark.LINKTYPE_USER0)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 32, 20)  # the captured length of the record
    path.write_bytes(data[: 40 + 20])
    ((layer,),) = tshark.dissect(path)
    assert tshark.expert_infos(layer) == ["the capture has only the first 20 bytes of this packet"]


def test_second_capture_knows_nothing_of_the_first(tmp_path):
    """Neither its counters nor its keys. A packet that is dissected again shows the same."""
    keys = tmp_path / "keys.toml"
    settings = tmp_path / ".config" / "wireshark"
    settings.mkdir(parents=True)
    (settings / "preferences").write_text(f"patrolink.keys: {keys}\n", encoding="utf-8")
    captures = []
    for name, counters in (("first", (7, 9)), ("second", (5, 6))):
        packets = [tshark.pseudo("vest-1", UP, seal(VEST, c)) for c in counters]
        captures.append(tshark.write_pcap(tmp_path / f"{name}.pcap", packets, tshark.LINKTYPE_USER0))
    sharkd = Sharkd(tmp_path)
    answers = []
    for capture, key in zip((*captures, captures[0]), (KEY, KEY, OTHER.key), strict=True):
        keys.write_text(f'[devices]\nvest-1 = "{key.hex()}"\n', encoding="utf-8")
        assert '"OK"' in sharkd.ask("load", file=str(capture))
        answers.append([sharkd.ask("frame", frame=number, proto=True) for number in (2, 1, 2)])
    sharkd.close()
    for first, _, second in answers:
        assert first == second
    assert ["missing so far: 8" in frames[0] for frames in answers] == [True, False, False]
    assert ["Authentic: True" in frames[0] for frames in answers] == [True, True, False]
    assert not [text for frames in answers for text in frames if "was accepted before" in text]


# --- hostile bytes ----------------------------------------------------------------------------------------------------


def damaged(rnd: random.Random, good: list[bytes]) -> bytes:
    """Return random bytes, or a frame with bits flipped or its end cut off."""
    if rnd.random() < 0.3:
        return bytes([0x20 | rnd.randrange(32)]) + rnd.randbytes(rnd.randrange(1, 90))
    data = bytearray(rnd.choice(good))
    for _ in range(rnd.randrange(4)):
        data[rnd.randrange(len(data))] ^= 1 << rnd.randrange(8)
    return bytes(data[: rnd.choice((len(data), rnd.randrange(1, len(data))))])


def hostile_frame(rnd: random.Random) -> bytes:
    """Return an authentic frame with a random body: what the device itself can send."""
    size = rnd.choice((0, 1, 5, 30, 300, 1000 - 24))
    return VEST.seal(rnd.randrange(32), rnd.randrange(1 << 28), rnd.randbytes(size), rnd.choice((0, 1, 2, 8, 10)))


@pytest.fixture(scope="module")
def vector_frames() -> list[bytes]:
    folder = tshark.ROOT / "protocol" / "vectors"
    frames = []
    for name in ("messages.json", "batches.json"):
        vectors = json.loads((folder / name).read_text(encoding="utf-8"))["vectors"]
        frames += [bytes.fromhex(vector["frame"]) for vector in vectors[::5]]
    return frames


def test_damaged_frames_cause_no_error(tmp_path, keys, vector_frames):
    """`tshark.run` raises on an error of the dissector, which tshark shows in the tree."""
    rnd = random.Random(SEED)
    frames = [damaged(rnd, vector_frames) for _ in range(1500)] + [hostile_frame(rnd) for _ in range(1500)]
    packets = [tshark.pseudo("vest-1", rnd.randrange(3), frame) for frame in frames]
    packets += [frame[: rnd.randrange(9)] for frame in frames[:300]]
    path = tshark.write_pcap(tmp_path / "user0.pcap", packets, tshark.LINKTYPE_USER0)
    assert len(tshark.run(path, *keys, "-V").splitlines()) > 10_000, SEED
    topics = ("p/vest-1/u", "p/vest-1/d", "p/x/status", "p//u", "p/" + "x" * 40 + "/u", "p/v\0/u")
    packets = []
    for i in range(300):
        stream = b"".join(tshark.publish(rnd.choice(topics), rnd.choice(frames), rnd.randrange(3)) for _ in range(3))
        port = rnd.choice((1883, 1884))
        packets.append(tshark.Connection(("10.0.0.2", 20000 + i), ("10.0.0.1", port)).send(damaged(rnd, [stream])))
    tshark.run(tshark.write_pcap(tmp_path / "mqtt.pcap", packets, tshark.LINKTYPE_RAW_IP), *keys, "-V")


def test_damaged_serial_lines_cause_no_error(tmp_path, keys, vector_frames):
    rnd = random.Random(SEED)
    packets = []
    for _ in range(400):
        line = b"".join(tshark.serial(rnd.choice(vector_frames)) for _ in range(3))
        packets.append(damaged(rnd, [line]) or b"\0")
    tshark.run(tshark.write_pcap(tmp_path / "line.pcap", packets, tshark.LINKTYPE_USER1), *keys, "-V")
    segments = [tshark.Connection(("10.0.0.2", 20000 + i), ("10.0.0.1", 4001)).send(p) for i, p in enumerate(packets)]
    tshark.run(tshark.write_pcap(tmp_path / "tcp.pcap", segments, tshark.LINKTYPE_RAW_IP), *keys, "-V")


def test_two_passes_show_the_same(tmp_path, keys, vector_frames):
    rnd = random.Random(SEED)
    connection = tshark.Connection()
    packets = [
        connection.send(b"".join(tshark.publish("p/vest-1/u", seal(VEST, rnd.randrange(60))) for _ in range(3)))
        for _ in range(60)
    ]
    path = tshark.write_pcap(tmp_path / "x.pcap", packets, tshark.LINKTYPE_RAW_IP)
    assert tshark.run(path, *keys, "-O", "patrolink") == tshark.run(path, *keys, "-O", "patrolink", "-2")
