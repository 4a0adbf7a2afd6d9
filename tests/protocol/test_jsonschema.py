"""The JSON Schema of the decoded form accepts every decoded line and rejects impossible ones."""

import copy
import json
from pathlib import Path

import pytest
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from targets import vectors

PROTOCOL = Path(vectors.__file__).resolve().parent.parent
DOCUMENT = json.loads((PROTOCOL / "generated" / "patrolink.schema.json").read_text(encoding="utf-8"))


def rows():
    for name in ("messages.json", "batches.json", "frames.json"):
        for vector in json.loads((PROTOCOL / "vectors" / name).read_text(encoding="utf-8"))["vectors"]:
            if "reject" not in vector and not vector["direction"]:
                decoder = Decoder({vector["device"]: DeviceKey(bytes.fromhex(vector["key"]), vector["epoch"])})
                decoded = decoder.rows(Record(1_700_000_000_000, vector["device"], bytes.fromhex(vector["frame"])))
                assert decoded, (vector["id"], decoder.reject_reason)
                yield from decoded[:20]


@pytest.fixture(scope="module")
def jsonschema():
    """The library, imported when it is needed: it compiles grammars for a second, in every worker of a run."""
    import jsonschema

    return jsonschema


def test_every_decoded_line_is_valid(jsonschema):
    jsonschema.Draft202012Validator.check_schema(DOCUMENT)
    validator = jsonschema.Draft202012Validator(DOCUMENT)
    messages = set()
    for row in rows():
        line = json.loads(json.dumps(row))
        messages.add(line["record"])
        validator.validate(line)
    known = {m["properties"]["record"]["const"] for m in DOCUMENT["oneOf"]}
    assert messages == known


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gps_mode", 9),
        ("battery_pct", 101),
        ("uptime_s", None),
        ("errors", "gps_silent"),
        ("surplus", 1),
        ("counter", -1),
    ],
)
def test_impossible_values_are_invalid(jsonschema, name, value):
    row = next(r for r in rows() if r["record"] == "device_status")
    invalid = copy.deepcopy(row)
    invalid[name] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(json.dumps(invalid)), DOCUMENT)
