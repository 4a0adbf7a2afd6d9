"""The Wireshark dissector verifies, decrypts and judges frames, and reports what is remarkable about them."""

import json
import random
import shutil
import struct
import subprocess
from pathlib import Path

import patrolink_messages as m
import pytest
from patrolink.core import keys as device_keys
from patrolink.core.errors import UserError
from targets import vectors

from tests.support import tshark
from tests.support.paths import ROOT
from tests.support.sealed_frames import DOWN, ENCRYPTED, KEY, RESERVED, TAIL, Sender

SEED = 20
VEST = Sender()
HUB = Sender(direction=DOWN)
START_MS = 1_700_000_000_000
ROW = [311234600, 1211234700, 3, 12000, 1400, 35200, 4000, 9, 80]

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")


def no_fix(reason: int = 0, cell: bytes = b"", later: bytes = b"") -> bytes:
    return struct.pack(">QIBBiiB", START_MS, 7, reason, 5, 1, 2, len(cell)) + cell + later


def text_state(text_id: int = 1) -> bytes:
    return struct.pack(">IBQ", text_id, 2, START_MS)


def keys_file(folder: Path, text: str = f'[devices]\n"vest-1" = "{KEY.hex()}"\n') -> Path:
    path = folder / "keys.toml"
    path.write_text(text, encoding="utf-8")
    return path


def dissect(folder: Path, frames: list[bytes], direction: int = 0, *options: str) -> list[dict]:
    """Return the layer of each frame of vest-1."""
    packets = [tshark.pseudo("vest-1", direction, frame) for frame in frames]
    path = tshark.write_pcap(folder / "frames.pcap", packets, tshark.LINKTYPE_USER0)
    return [packet[0] for packet in tshark.dissect(path, *options)]


def verified(folder: Path, frames: list[bytes], direction: int = 0) -> list[dict]:
    return dissect(folder, frames, direction, *tshark.with_keys(keys_file(folder)))


def test_encrypted_body_is_decrypted_once_its_tag_holds(tmp_path):
    good = VEST.seal(m.NO_FIX, 1, no_fix(3, b"460-00-1-2" * 3), ENCRYPTED)
    wrong = bytearray(VEST.seal(m.NO_FIX, 2, no_fix(3), ENCRYPTED))
    wrong[7] ^= 1
    batch = VEST.seal(m.POSITION_BATCH, 3, vectors.batch([[START_MS, *ROW]] * 40), ENCRYPTED)
    tailed = VEST.seal(m.NO_FIX, 4, no_fix(1) + b"\x01\x02ab\x04", ENCRYPTED | TAIL)
    long_tag = VEST.seal(m.ANSWER, 5, struct.pack(">IBQIB", 1, 0, START_MS, 7, 0), ENCRYPTED)
    half_tag = bytearray(VEST.seal(m.ANSWER, 6, b"", 0))
    half_tag[-1] ^= 1
    layers = verified(tmp_path, [good, bytes(wrong), batch, tailed, long_tag, bytes(half_tag)])
    shown = [tshark.values(layer) for layer in layers]
    assert shown[0]["patrolink.no_fix.cell"] == ["460-00-1-2" * 3] and shown[0]["patrolink.authentic"] == ["1"]
    assert "patrolink.no_fix.reason" not in shown[1] and shown[1]["patrolink.ciphertext"]
    assert any(info.startswith("tag: wrong for vest-1 up, epoch 0") for info in tshark.expert_infos(layers[1]))
    assert shown[2]["patrolink.batch.rows"] == ["40"]
    assert shown[3]["patrolink.no_fix.reason"] == ["1"] and shown[3]["patrolink.extension"] == ["01:02:61:62"]
    assert shown[4]["patrolink.answer.ref"] == ["7"] and shown[5]["patrolink.authentic"] == ["0"]


def test_without_a_key_nothing_is_decrypted_or_claimed(tmp_path):
    frames = [VEST.seal(m.NO_FIX, 1, no_fix(), ENCRYPTED), VEST.seal(m.NO_FIX, 2, no_fix(3))]
    layers = dissect(tmp_path, frames)
    for layer in layers:
        assert "patrolink.authentic" not in tshark.values(layer)
    assert "patrolink.no_fix.reason" not in tshark.values(layers[0])
    assert tshark.values(layers[1])["patrolink.no_fix.reason"] == ["3"]
    assert tshark.expert_infos(layers[1]) == ["a sender encrypts no_fix"]


def test_counters_and_times_are_judged_in_the_order_of_the_capture(tmp_path):
    later, earlier = (
        vectors.batch([[START_MS + 9000, *ROW]]),
        vectors.batch([[START_MS, *ROW], [START_MS - 3000, *ROW]]),
    )
    frames = [
        VEST.seal(m.TEXT_STATE, 5, text_state(), ENCRYPTED),
        VEST.seal(m.POSITION_BATCH, 9, later, ENCRYPTED),
        VEST.seal(m.POSITION_BATCH, 7, earlier, ENCRYPTED),
        VEST.seal(m.TEXT_STATE, 5, text_state(), ENCRYPTED),
        VEST.seal(m.TEXT_STATE, 100_000, text_state(), ENCRYPTED),
        VEST.seal(m.TEXT_STATE, 9, text_state(), ENCRYPTED),
    ]
    infos = [tshark.expert_infos(layer) for layer in verified(tmp_path, frames)]
    assert infos == [
        [],
        ["missing so far: 6 to 8"],
        [
            "counter 7 arrives after 9",
            "the batch begins 9.000 s before the end of an earlier one",
            "3.000 s before the row above",
        ],
        ["counter 5 was accepted before; a receiver drops this frame"],
        ["missing so far: 10 to 99999"],
        ["replay: counter 9 is below the window of 100000"],
    ]


def test_device_accepts_higher_counters_only(tmp_path):
    frames = [HUB.seal(m.TIME_SYNC, c, struct.pack(">QQQ", 1, 2, 3)) for c in (4, 4, 3, 5)]
    infos = [tshark.expert_infos(layer) for layer in verified(tmp_path, frames, DOWN)]
    assert infos == [[], ["replay: counter 4 is not above 4"], ["replay: counter 3 is not above 4"], []]


def test_next_epoch_ends_the_epoch_before(tmp_path):
    old, new = VEST, Sender(epoch=1)
    frames = [old.seal(m.TEXT_STATE, 8, text_state(), ENCRYPTED), new.seal(m.TEXT_STATE, 0, text_state(), ENCRYPTED)]
    layers = verified(tmp_path, [*frames, frames[0]])
    assert [tshark.values(layer)["patrolink.epoch"] for layer in layers] == [["0"], ["1"], ["2"]]
    infos = [tshark.expert_infos(layer) for layer in layers]
    assert infos == [[], ["epoch 1 ends epoch 0"], ["tag: wrong for vest-1 up, epoch 2"]]


def test_contents_of_a_later_minor_version_are_reported(tmp_path):
    extension = b"\x42\x01x\x03"  # type 66
    frames = [
        VEST.seal(m.NO_FIX, 1, no_fix(200, later=b"\1\2\3"), ENCRYPTED),
        VEST.seal(m.NO_FIX, 2, no_fix() + extension, ENCRYPTED | TAIL),
        VEST.seal(m.NO_FIX, 3, no_fix() + bytes([0xC2]) + extension[1:], ENCRYPTED | TAIL),
        VEST.seal(m.NO_FIX, 4, no_fix(), ENCRYPTED | RESERVED),
        VEST.seal(m.NO_FIX, 5, no_fix()),
        VEST.seal(16, 6, b"abc", ENCRYPTED),
    ]
    infos = [tshark.expert_infos(layer) for layer in verified(tmp_path, frames)]
    assert infos == [
        ["reason 200 has no name in this version", "3 bytes behind the last known field"],
        ["extension 66 is ignored by this version"],
        ["critical: extension 66"],
        ["critical: reserved flag"],
        ["missing so far: 4", "a sender encrypts no_fix"],
        ["type: type 16 is unknown"],
    ]


WRONG_UTF8 = (
    *(b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf"),  # overlong
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80"),  # surrogates
    *(b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"),
)
RIGHT_UTF8 = (
    "\0",
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
    "\ufeffa",
)


def test_text_is_utf8_as_rfc_3629_defines_it(tmp_path):
    texts = [b"a" + text for text in WRONG_UTF8] + [text.encode() + b"b" for text in RIGHT_UTF8]
    rnd = random.Random(SEED)
    texts += [bytes(rnd.choice(b"a\x80\x9f\xa0\xbf\xc2\xe0\xed\xef\xf0\xf4") for _ in range(3)) for _ in range(200)]
    frames = [VEST.seal(m.NO_FIX, i, no_fix(cell=text), ENCRYPTED) for i, text in enumerate(texts)]
    for text, layer in zip(texts, verified(tmp_path, frames), strict=True):
        try:
            text.decode()
            expected = []
        except UnicodeDecodeError:
            expected = ["range: cell"]
        # Wireshark itself has a note on zero bytes.
        infos = [info for info in tshark.expert_infos(layer) if info != "Trailing stray characters"]
        assert infos == expected, (SEED, text)


# --- keys file --------------------------------------------------------------------------------------------------------

HEX = "00" * 31 + "aF"
LAYOUTS = (
    f'[devices]\n"a" = "{HEX}"\nb-2 = \'{HEX}\' # comment\n\n\'c\'={{key="{HEX}",epoch=3}}\n',
    f'# c\r\n[other]\r\nx = [1, "]", [2.5]]\r\ny = 2024-01-01T00:00:00Z\r\n[devices]\r\na = "{HEX}"\r\n',
    f'[devices.a]\nkey = "{HEX}"\nepoch = 4_294_967_295\n[devices.b]\nepoch = 0x1F\nkey = "{HEX}"',
    f'devices.a = "{HEX}"\ndevices."b".key = "{HEX}"\ndevices.b.epoch = +7\n',
    f'devices = {{ a = "{HEX}" , b = {{ epoch = 0 , key = "{HEX}" }} }}\n[[l]]\nx = true\n[[l]]\nx = """\n"\n"""\n',
    "[devices]\n",
    "",
    "[devices]\na = 5\n",
    f'[devices]\na = "{HEX[:-1]}"\n',
    f'[devices]\na = "{HEX}"\na = "{HEX}"\n',
    f'[devices]\na = {{ key = "{HEX}" }}\n',
    f'[devices]\na = {{ key = "{HEX}", epoch = -1 }}\n',
    f'[devices]\na = {{ key = "{HEX}", epoch = 4294967296 }}\n',
    f'[devices]\na = {{ key = "{HEX}", epoch = 1.0 }}\n',
    f'[devices]\na = {{ key = "{HEX}", epoch = 1, more = 2 }}\n',
    f'[devices]\n"{HEX}" = "a"\n',
    f'[devices]\na = "{HEX}" b = "{HEX}"\n',
    f'[devices\na = "{HEX}"\n',
    f'[devices]\na = "{HEX}\n',
    f"[devices]\na {HEX}\n",
    'devices = "a"\n',
)
KEYS_SCRIPT = """
local text = io.open("%s"):read("*a")
local load_keys = load(text .. "\\nreturn load_keys")()
for i = 1, %d do
    local keys, why = load_keys("%s/" .. i .. ".toml")
    local out = {}
    for device, key in pairs(keys) do
        local digits = key.secret:gsub(".", function(c) return string.format("%%02x", c:byte()) end)
        out[#out + 1] = string.format('"%%s": ["%%s", %%d]', device, digits, key.epoch)
    end
    print("KEYS " .. (why and "null" or "{" .. table.concat(out, ", ") .. "}"))
    assert(not why or not why:lower():find(("00"):rep(31)), why)
end
"""


def damaged(text: str, rnd: random.Random) -> str:
    """Return a text with a few characters removed, doubled or replaced."""
    for _ in range(rnd.randrange(1, 4)):
        at = rnd.randrange(len(text) + 1)
        text = text[:at] + rnd.choice(["", "[", "]", '"', "'", "=", "\n", "{", "}", ".", ",", "#"]) + text[at + 1 :]
    return text


def test_keys_file_is_read_as_the_decoder_reads_it(tmp_path):
    rnd = random.Random(SEED)
    texts = [*LAYOUTS, *(damaged(rnd.choice(LAYOUTS[:5]), rnd) for _ in range(300))]
    for i, text in enumerate(texts, 1):
        (tmp_path / f"{i}.toml").write_bytes(text.encode())
    script = tmp_path / "keys.lua"
    source = ROOT / "protocol" / "targets" / "dissector_keys.lua"
    script.write_text(KEYS_SCRIPT % (source, len(texts), tmp_path), encoding="utf-8")
    empty = tshark.write_pcap(tmp_path / "empty.pcap", [], tshark.LINKTYPE_USER0)
    command = ["tshark", "-X", f"lua_script:{script}", "-r", str(empty)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100)
    lines = [line.removeprefix("KEYS ") for line in process.stdout.splitlines() if line.startswith("KEYS ")]
    assert len(lines) == len(texts), process.stderr
    for i, (text, line) in enumerate(zip(texts, lines, strict=True)):
        try:
            keys = device_keys.parse(Path("keys.toml"), text.encode())
            expected = {device: [key.secret.hex(), key.epoch] for device, key in keys.items()}
        except UserError:
            expected = None
        actual = json.loads(line)
        # The dissector refuses some TOML that no keys file needs; it never reads other keys than the decoder.
        assert actual == expected or (i >= len(LAYOUTS) and actual is None), (SEED, text)


def test_unusable_keys_file_is_reported(tmp_path):
    keys = keys_file(tmp_path, f'[devices]\n"{KEY.hex()}" = "vest-1"\n')
    for path, reason in ((keys, 'write "id" = "key"'), (tmp_path / "absent.toml", "No such file")):
        (layer,) = dissect(tmp_path, [VEST.seal(m.TEXT_STATE, 1, text_state())], 0, *tshark.with_keys(path))
        (info,) = [info for info in tshark.expert_infos(layer) if info.startswith(str(path))]
        assert reason in info and KEY.hex() not in info
