"""Text for a support bundle: no secret of any shape is left, and what helps to find a fault is."""

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st
from patrolink.doctor.redact import POSITION, REMOVED, redact, redact_json

from tests.support.properties import untimed

KEYS = st.binary(min_size=16, max_size=64)
# A password: no line break; the two brackets are those of the mark that replaces it.
PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\"'\\[]<>", exclude_categories=("C", "Z")), min_size=4
)
NAMES = st.sampled_from(
    [
        "password",
        "passwd",
        "mqtt_password",
        "PATROLINK_MQTT_PASSWORD",
        "token",
        "PATROLINK_HUB_TOKEN",
        "accessToken",
        "api_key",
        "api-key",
        "secret",
        "client_secret",
        "key",
        "evidence_key",
        "psk",
        "PUK",
        "pin",
        "PIN1",
        "pass",
        "pwd",
        "salt",
        "cookie",
        "Set-Cookie",
        "authorization",
        "passphrase",
    ]
)
DIGITS = st.text("0123456789", min_size=15, max_size=20)


def left(secret: str, text: str, **options) -> bool:
    """Return whether a part of a secret that identifies it is left in the redacted text."""
    shown = redact(text, **options).text.replace(REMOVED, "").replace(POSITION, "")
    return secret in shown


ENCODINGS = {
    "hex": bytes.hex,
    "upper hex": lambda key: key.hex().upper(),
    "colons": lambda key: key.hex(":"),
    "spaces": lambda key: key.hex(" "),
    "words": lambda key: key[:16].hex(" ", 4),
    "base64": lambda key: base64.b64encode(key).decode(),
    "base64url": lambda key: base64.urlsafe_b64encode(key).decode().rstrip("="),
    "python bytes": lambda key: repr(bytes(b | 0x80 for b in key)),
    "escapes": lambda key: "".join(f"\\x{b:02x}" for b in key),
    "integers": lambda key: ", ".join(map(str, key)),
    "C array": lambda key: ", ".join(f"0x{b:02x}" for b in key),
}


LINES = ("{}", "2026-11-30 05:12:33 loaded {} from keys.toml", '"vest-1" = "{}"', "x={};y=1")


@pytest.mark.parametrize("encoding", ENCODINGS)
@untimed(key=KEYS, line=st.sampled_from(LINES))
def test_keys_are_removed_in_every_encoding(encoding, key, line):
    secret = ENCODINGS[encoding](key)
    assert not left(secret, line.format(secret))


FORMS = {
    "environment": "{name}={secret}",
    "TOML": '{name} = "{secret}"',
    "TOML, single quotes": "{name} = '{secret}'",
    "JSON": '{{"a": 1, "{name}": "{secret}", "b": 2}}',
    "YAML": "  {name}: {secret}",
    "YAML block": "{name}: |\n    {secret}\n",
    "next line": "{name}:\n  {secret}",
    "Python": "{{'{name}': '{secret}'}}",
    "header": "{name}: Bearer {secret}",
    "XML": "<{name}>{secret}</{name}>",
    "query": "GET /x?{name}={secret}",
    "log": "2026-11-30 05:12:33 INFO link: {name}={secret}",
    "several lines": '{name} = """\n{secret}\n"""\n',
}


@pytest.mark.parametrize("form", FORMS)
@untimed(name=NAMES, secret=PASSWORDS)
def test_named_secrets_are_removed_in_every_form(form, name, secret):
    secret = f"Zq{secret}"  # not a word of the form itself
    assert not left(secret, FORMS[form].format(name=name, secret=secret))


@untimed(PASSWORDS, PASSWORDS, st.sampled_from(["mqtt", "mqtts", "http", "https", "rtsp", "postgresql"]))
def test_credentials_in_urls_are_removed_and_the_host_stays(user, password, scheme):
    text = redact(f"connecting to {scheme}://Zq{user}:Zq{password}@broker.example:8883/x today").text
    assert f"Zq{user}:" not in text and f"Zq{password}" not in text and "@broker.example:8883" in text


@untimed(PASSWORDS)
def test_options_and_prose_are_removed(secret):
    secret = f"Zq{secret.replace(',', '')}"
    for line in (
        "patrolink x --token {}",
        "x --mqtt-password={}",
        'argv: ["x", "--token", "{}"]',
        "the password is {}",
    ):
        assert not left(secret, line.format(secret)), line


@untimed(DIGITS, st.sampled_from(["{}", "IMEI: {}", "+CCID: {}F", "imsi={}", '"iccid": {}', "subscriber.{}"]))
def test_identities_of_subscribers_are_removed(digits, line):
    assert digits not in redact(line.format(digits)).text
    spaced = " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))
    assert spaced not in redact(line.format(spaced)).text


@pytest.mark.parametrize(
    "line",
    [
        'AT+CPIN="1234"',
        'AT+QICSGP=1,1,"internet","user","hunter2",1',
        'AT+CGAUTH=1,1,"user","hunter2"',
        'AT+QMTCONN=0,"vest-1","user","hunter2"',
        "SIM PIN 1234 accepted",
        "login as user with password hunter2 failed",
        "IMEI 35-209900-176148-1",
        "call from +49 171 1234567",
        "Authorization: Basic dXNlcjpodW50ZXIy",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    ],
)
def test_known_shapes_are_removed(line):
    text = redact(line).text
    assert REMOVED in text and not any(word in text for word in ("1234", "hunter2", "176148", "dXNl", "eyJz"))


@pytest.mark.parametrize("cut", range(0, 240, 20))
@pytest.mark.parametrize("form", ["{}", "line {}", '"{}"'])
def test_private_keys_are_removed_also_when_the_log_begins_or_ends_inside_one(cut, form):
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    for layout in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        pem = key.private_bytes(encoding, layout, no_password).decode()
        lines = [line for line in pem.splitlines() if not line.startswith("-----")]
        for text in (pem, pem.replace("\n", "\\n"), pem.replace("\n", "\r\n"), pem[cut:], pem[: 60 + cut]):
            shown = redact(form.format(text)).text
            assert not any(line[:30] in shown for line in lines if len(line) >= 30)
            assert len(shown) < 140, shown


@untimed(st.floats(-89, 89), st.floats(-179, 179))
def test_positions_are_removed_unless_they_are_kept(lat, lon):
    north, west = f"{lat:.6f}", f"{lon:.6f}"
    for line in (
        f"fix {north} {west} 3D",
        f"lat={north} lon={west}",
        f'{{"lat_deg": {north}, "lon_deg": {west}}}',
        f"[{west}, {north}]",
        f"geo:{north},{west}",
        f"$GNRMC,120000.00,A,{north},N,{west},E,0.1,,301126,,,A*68",
        f"+QGPSLOC: 120000.0,{north}N,{west}E,1.2",
    ):
        text, _, positions = redact(line)
        assert north not in text and west not in text and positions, line
        text, _, positions = redact(line, keep_positions=True)
        assert north in text and west in text and not positions


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-30 05:12:33.123 INFO link: connected to mqtt://broker.example:1883 in 1234 ms",
        "device: ready, boot 3, heap 123456 bytes free, time_ms 1764479521123",
        "+CSQ: 20,99",
        "+CPIN: READY",
        "error: board mps2_an385 needs missing tools; run: apt-get install qemu-system-arm gcc-arm-none-eabi",
        'File "/home/anna/Projects/patrolink/host_tools/patrolink/emulator/scenarios/patrol.py", line 12, in step',
        "opencv-python-headless 4.8.1.78",
        "monkey: banana, keyboard layout de",
        "PATROLINK_MQTT_PASSWORD=[removed]",
        "==============================",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_helps_is_kept(line):
    assert redact(line).text == line


@untimed(st.text())
def test_redacting_twice_changes_nothing_more(text):
    once = redact(text).text
    assert redact(once).text == once


def test_json_keeps_its_structure():
    document = {"token": "hunter2", "counts": {"ok": 1}, "list": ["mqtt://u:hunter2@h", 12, None], "key": 1234}
    redacted = redact_json(document)
    assert "hunter2" not in json.dumps(redacted) and redacted["counts"] == {"ok": 1} and redacted["key"] == REMOVED
    assert redacted["list"] == [f"mqtt://{REMOVED}@h", 12, None]


@pytest.mark.parametrize(
    "unit", ["a", "0", "\\x", "'", "=", "key", "-----BEGIN PRIVATE KEY-----", "://", "1.2345 ", "+1"]
)
def test_time_grows_with_the_length_of_the_text(unit):
    def seconds(length: int) -> float:
        text = (unit * length)[:length]
        start = time.process_time()
        redact(text)
        return time.process_time() - start

    assert seconds(40_000) < 40 * max(seconds(10_000), 0.01)
