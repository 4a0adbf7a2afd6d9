"""The Wireshark dissector agrees with the codec on every vector, and has no error on damaged frames."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from patrolink.core.capture import Record
from patrolink.report import pcap
from targets import model, vectors

PROTOCOL = Path(vectors.__file__).resolve().parent.parent
SCRIPT = PROTOCOL / "generated" / "patrolink.lua"
SEED = 11
SCALES = {"lat": 1e7, "lon": 1e7, "alt": 1e3, "speed": 1e3, "course": 1e2, "hacc": 1e3}

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")


def dissect(tmp_path, frames, direction=0):
    """Return the layers of each packet from the JSON output of tshark."""
    path = tmp_path / "x.pcap"
    with path.open("wb") as out:
        pcap.write(out, [Record(1_700_000_000_000, vectors.DEVICE, data) for data in frames], direction)
    command = ["tshark", "-X", f"lua_script:{SCRIPT}", "-r", str(path), "-T", "json", "--no-duplicate-keys"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert process.returncode == 0, process.stderr
    assert "Error" not in process.stderr, process.stderr
    assert "Lua Error" not in process.stdout, process.stdout[:2000]
    packets = json.loads(process.stdout)
    assert len(packets) == len(frames)
    return [p["_source"]["layers"] for p in packets]


def flatten(node, out=None):
    """Return all fields below a node: list of values by name."""
    out = {} if out is None else out
    if isinstance(node, dict):
        for key, value in node.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, (dict, list)):
                    flatten(item, out)
                else:
                    out.setdefault(key, []).append(item)
    elif isinstance(node, list):
        for item in node:
            flatten(item, out)
    return out


def load(name):
    return json.loads((PROTOCOL / "vectors" / name).read_text(encoding="utf-8"))["vectors"]


def compare(vector, layers, schema):
    shown = flatten(layers)
    refused = [v for key, values in shown.items() for v in values if key == "_ws.expert.message"]
    if "reject" in vector:
        if vector["reject"] in ("tag", "key"):
            return  # the dissector has no keys
        if vector["reject"] == "critical" and vector["id"] == "frame-phase":
            return
        assert any(r.startswith(vector["reject"]) for r in refused), (vector["id"], refused)
        return
    assert not refused, (vector["id"], refused)
    assert shown["patrolink.counter"] == [str(vector["counter"])]
    message = vector["message"]
    if message["message"] == "position_batch":
        check_rows(vector, shown)
        return
    fields = next(m for m in schema.messages if m.name == message["message"]).fields
    for f in fields:
        value = message[f.name]
        text = shown.get(f"patrolink.{message['message']}.{f.name}", [""])[0]
        if value is None:
            value = f.unknown
        if f.type == "bytes":
            text = text.replace(":", "")
        assert text == str(value), (vector["id"], f.name)


def check_rows(vector, shown):
    rows = vector["message"]["rows"]
    assert shown["patrolink.batch.rows"] == [str(len(rows))]
    assert len(shown["patrolink.row.time"]) == len(rows)
    for j, name in enumerate(vectors.COLUMNS[1:], 1):
        expected = [row[j] / SCALES.get(name, 1) for row in rows if row[j] is not None]
        values = [float(v) for v in shown.get(f"patrolink.row.{name}", [])]
        assert values == pytest.approx(expected, rel=1e-12, abs=1e-12), (vector["id"], name)


@pytest.mark.parametrize("direction", [0, 1])
def test_dissector_agrees_with_every_vector(tmp_path, direction):
    schema = model.load(PROTOCOL / "schema.toml")
    selected = [
        v
        for name in ("frames.json", "messages.json", "batches.json")
        for v in load(name)
        if v["direction"] == direction and v["frame"]
    ]
    for vector, layers in zip(
        selected, dissect(tmp_path, [bytes.fromhex(v["frame"]) for v in selected], direction), strict=True
    ):
        compare(vector, layers, schema)


def test_damaged_frames_cause_no_error(tmp_path):
    rnd = random.Random(SEED)
    good = [bytes.fromhex(v["frame"]) for name in ("messages.json", "batches.json") for v in load(name)[::5]]
    frames = []
    for data in good:
        for _ in range(4):
            bad = bytearray(data)
            for _ in range(rnd.choice((1, 1, 3))):
                bad[rnd.randrange(5, len(bad))] ^= 1 << rnd.randrange(8)
            frames.append(bytes(bad[: rnd.choice((len(bad), rnd.randrange(1, len(bad))))]))
    frames += [bytes([0x20 | rnd.randrange(32)]) + rnd.randbytes(rnd.randrange(1, 90)) for _ in range(300)]
    dissect(tmp_path, frames)
