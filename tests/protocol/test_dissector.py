"""The Wireshark dissector agrees with the codec on every vector and every sequence of vectors."""

import binascii
import json
import re
import shutil
import subprocess
from itertools import groupby
from pathlib import Path

import pytest
from targets import model, vectors

from tests.support import dissected_frames, tshark
from tests.support.paths import ROOT

PROTOCOL = ROOT / "protocol"
REASONS = ("length", "version", "type", "tag", "key", "replay", "range", "critical")
SCALES = {"lat": 1e7, "lon": 1e7, "alt": 1e3, "speed": 1e3, "course": 1e2, "hacc": 1e3}

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")


def load(name: str) -> list[dict]:
    return json.loads((PROTOCOL / "vectors" / name).read_text(encoding="utf-8"))["vectors"]


def by_key(vector: dict) -> tuple:
    return vector["key"] or "", vector["device"], vector["epoch"]


def write_keys(path: Path, vector: dict) -> Path:
    """Write a keys file with the key of a vector; without a key, with that of another device."""
    device, key = (vector["device"], vector["key"]) if vector["key"] else ("another-device", "00" * 32)
    path.write_text(f'[devices]\n"{device}" = {{ key = "{key}", epoch = {vector["epoch"]} }}\n', encoding="utf-8")
    return path


def dissect_vectors(folder: Path, selected: list[dict]) -> list[dict]:
    """Return the layer of each vector. All have one key; each goes to a subscriber of its own, a new receiver."""
    packets = []
    for i, vector in enumerate(selected):
        connection = tshark.Connection(("10.0.0.1", 1883), ("10.0.0.2", 20000 + i))
        topic = f"p/{vector['device']}/{'ud'[vector['direction']]}"
        packets.append(connection.send(tshark.publish(topic, bytes.fromhex(vector["frame"]))))
    path = tshark.write_pcap(folder / "vectors.pcap", packets, tshark.LINKTYPE_RAW_IP)
    layers = tshark.dissect(path, *tshark.with_keys(write_keys(folder / "keys.toml", selected[0])))
    assert [len(packet) for packet in layers] == [1] * len(selected)
    return [packet[0] for packet in layers]


def reasons(vector: dict) -> list[str]:
    return [vector["reject"]] if isinstance(vector["reject"], str) else vector["reject"]


def compare(vector: dict, layer: dict, schema: model.Schema) -> None:
    shown = tshark.values(layer)
    infos = tshark.expert_infos(layer)
    if "reject" in vector:
        expected = ["no key verifies" if reason == "key" else reason + ": " for reason in reasons(vector)]
        assert any(info.startswith(tuple(expected)) for info in infos), (vector["id"], infos)
        return
    refused = [info for info in infos if info.split(":")[0] in REASONS]
    assert not refused, (vector["id"], refused)
    assert shown["patrolink.counter"] == [str(vector["counter"])]
    assert shown["patrolink.authentic"] == ["1"], vector["id"]
    message = vector["message"]
    if message["message"] == "position_batch":
        check_rows(vector, shown)
        return
    for f in next(m for m in schema.messages if m.name == message["message"]).fields:
        value = f.unknown if message[f.name] is None else message[f.name]
        text = shown.get(f"patrolink.{message['message']}.{f.name}", [""])[0]
        if f.type == "bytes":
            text = text.replace(":", "")
        # U+2400 stands for a zero byte, where tshark would end the text.
        assert text == str(value).replace("\0", "\u2400"), (vector["id"], f.name)


def check_rows(vector: dict, shown: dict[str, list[str]]) -> None:
    rows = vector["message"]["rows"]
    assert shown["patrolink.batch.rows"] == [str(len(rows))]
    assert len(shown["patrolink.row.time"]) == len(rows)
    for j, name in enumerate(vectors.COLUMNS[1:], 1):
        expected = [row[j] / SCALES.get(name, 1) for row in rows if row[j] is not None]
        actual = [float(v) for v in shown.get(f"patrolink.row.{name}", [])]
        assert actual == pytest.approx(expected, rel=1e-12, abs=1e-12), (vector["id"], name)


def test_dissector_agrees_with_every_vector(tmp_path):
    schema = model.load(PROTOCOL / "schema.toml")
    chosen = [v for name in ("frames.json", "messages.json", "batches.json") for v in load(name) if v["frame"]]
    compared = 0
    for _, group in groupby(sorted(chosen, key=by_key), key=by_key):
        selected = list(group)
        for vector, layer in zip(selected, dissect_vectors(tmp_path, selected), strict=True):
            compare(vector, layer, schema)
            compared += 1
    assert compared == len(chosen) > 400


def test_dissector_runs_in_lua_5_4(tmp_path):
    """Wireshark has Lua 5.4 from version 4.4 on, which has other integers and no bit32."""
    if shutil.which("lua5.4") is None:
        pytest.skip("no lua5.4 (apt-get install lua5.4)")
    schema = model.load(PROTOCOL / "schema.toml")
    chosen = [v for name in ("frames.json", "messages.json", "batches.json") for v in load(name) if v["frame"]]
    compared = 0
    for _, group in groupby(sorted(chosen, key=by_key), key=by_key):
        selected = list(group)
        keys = write_keys(tmp_path / "keys.toml", selected[0])
        requests = "".join(f"{v['direction']} {v['device']} {v['frame']}\n" for v in selected)
        command = ["lua5.4", str(ROOT / "tests" / "protocol" / "lua" / "wireshark.lua"), str(tshark.SCRIPT), str(keys)]
        process = subprocess.run(command, input=requests, capture_output=True, text=True, timeout=100)
        assert process.returncode == 0, process.stderr
        for vector, answer in zip(selected, process.stdout.split("\n.\n")[:-1], strict=True):
            compare(vector, lua_layer(answer), schema)
            compared += 1
    assert compared == len(chosen) > 400


def lua_layer(answer: str) -> dict[str, list[str]]:
    """Return fields and expert information of an answer of wireshark.lua, as `tshark.values` returns them."""
    layer: dict[str, list[str]] = {}
    for line in re.split(r"\n(?=[=!] )", answer):
        name, _, value = line[2:].partition(" ") if line[0] == "=" else ("_ws.expert.message", "", line[2:])
        layer.setdefault(name, []).append(value)
    return layer


def verdict(layer: dict) -> str:
    """Return the verdict on a frame in the words of sequences.json."""
    infos = tshark.expert_infos(layer)
    if any("was accepted before" in info for info in infos):
        return "repeated"  # whatever its body holds
    refused = [info.split(":")[0] for info in infos if info.split(":")[0] in REASONS]
    if refused:
        return refused[0]
    if any("no key verifies" in info for info in infos):
        return "key"
    return "accepted"


@pytest.mark.parametrize("vector", load("sequences.json"), ids=lambda vector: vector["id"])
@pytest.mark.parametrize("passes", [(), ("-2",)], ids=["one-pass", "two-passes"])
def test_dissector_judges_a_sequence_as_a_receiver_does(tmp_path, vector, passes):
    steps = [step for step in vector["steps"] if step.get("frame")]
    packets = [tshark.pseudo(vector["device"], vector["direction"], bytes.fromhex(step["frame"])) for step in steps]
    path = tshark.write_pcap(tmp_path / "sequence.pcap", packets, tshark.LINKTYPE_USER0)
    keys = tshark.with_keys(write_keys(tmp_path / "keys.toml", vector))
    layers = [packet[0] for packet in tshark.dissect(path, *keys, *passes)]
    assert [verdict(layer) for layer in layers] == [step["expect"] for step in steps]


def test_documentation_shows_what_tshark_shows():
    committed = (ROOT / "docs" / "guide" / "dissected-frames.txt").read_text(encoding="utf-8")
    assert committed == dissected_frames.text(), "run `make dissected`"


def test_dissector_agrees_with_every_serial_vector(tmp_path):
    chosen = load("serial.json")
    packets = [bytes.fromhex(vector["bytes"]) for vector in chosen]
    path = tshark.write_pcap(tmp_path / "serial.pcap", packets, tshark.LINKTYPE_USER1)
    for vector, layers in zip(chosen, tshark.dissect(path), strict=True):
        fields = tshark.values(layers)
        crcs = [int(text, 16) for text in fields.get("patrolink.serial.crc", [])]
        # The dissector shows the CRC of a packet if it is that of the bytes which it decoded.
        assert crcs == [binascii.crc_hqx(bytes.fromhex(frame), 0xFFFF) for frame in vector["frames"]], vector["id"]
        assert len(fields.get("patrolink.serial.invalid", [])) == vector["invalid"], vector["id"]
