"""The example device in C on a pipe, with hub.py and the C codec on the other end."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOCOL = ROOT / "protocol"
EXAMPLE = PROTOCOL / "example_device"
sys.path.insert(0, str(EXAMPLE))
import hub  # noqa: E402

WARNINGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-pedantic"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
KEY = bytes(range(1, 33)).hex()
ID = "vest-c"
PLAIN, ENCRYPTED = 0, 2
ROTATE_KEY, STATUS, REBOOT = 12, 13, 9
DONE, STARTED, REFUSED, UNSUPPORTED, EXPIRED = 0, 1, 2, 3, 4
TIMEOUT_S = 60

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler (apt-get install gcc)"),
    pytest.mark.unchanged_inputs(
        *("protocol/example_device", "protocol/generated/patrolink.c", "protocol/generated/patrolink.h"),
        *("protocol/vectors/check.c", "protocol/vectors/json_text.h", "protocol/vectors/aes128.h"),
        programs=("gcc",),
    ),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Return the folder of the compiled programs `check` and `device`."""
    folder = tmp_path_factory.mktemp("programs")
    sources = [*EXAMPLE.glob("*.c"), PROTOCOL / "generated" / "patrolink.c"]
    include = [f"-I{PROTOCOL / 'generated'}", f"-I{PROTOCOL / 'vectors'}"]
    subprocess.run(["gcc", *WARNINGS, *SANITIZE, *include, "-o", folder / "device", *sources], check=True)
    subprocess.run(["gcc", *WARNINGS, "-o", folder / "check", PROTOCOL / "vectors" / "check.c"], check=True)
    return folder


class Site:
    """A hub and a device.

    Args:
        programs: Folder of the programs.
        folder: Folder for the key and the counters of the device.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.key, self.counters = folder / "key", folder / "counters"
        self.key.write_text(KEY)
        self.codec = hub.Codec(str(programs / "check"), KEY, ID)
        self.device: hub.Device | None = None
        self.frames: list[bytes] = []
        self.epoch = 0
        self.counter = 0

    def start(self, *arguments: str) -> None:
        """Start the device; its clock runs 100 times as fast."""
        self.device = hub.Device(
            [str(self.programs / "device"), ID, self.key, self.counters, "--speed", "100", *arguments]
        )

    def pressed(self) -> tuple[str, str]:
        """Press the SOS button; returns the arguments that name it."""
        button = self.folder / "button"
        button.touch()
        return "--button", str(button)

    def send(self, kind, message, epoch=None):
        """Send a message to the device; returns its frame."""
        self.counter += 1
        frame = self.codec.encode(kind, message, self.counter, self.epoch if epoch is None else epoch)
        self.device.send(frame)
        return frame

    def next(self, *kinds: str) -> dict:
        """Return the next message of one of these kinds; frames before it are passed over."""
        for frame in self.device.frames(TIMEOUT_S):
            self.frames.append(frame)
            decoded = self.codec.decode(frame, self.epoch)
            assert "reject" not in decoded, f"the device sent {frame.hex()}: {decoded}"
            if decoded["message"]["message"] in kinds:
                return decoded["message"]
        raise AssertionError(f"no {kinds} in {TIMEOUT_S} s")

    def answer_to(self, action, number=None, expires_ms=None):
        """Send a command and return the result of the next answer."""
        self.send(hub.COMMAND, hub.command(action, number, expires_ms))
        return self.next("answer")["result"]

    def stop(self) -> None:
        """End the device, which must report no error."""
        assert self.device.close() == 0
        self.device = None


@pytest.fixture
def site(programs, tmp_path):
    site = Site(programs, tmp_path)
    yield site
    if site.device is not None:
        site.stop()
    site.codec.close()


def test_device_sends_hello_status_and_positions(site):
    site.start()
    assert site.next("hello", "device_status")["boot"] == 1
    assert site.next("device_status")["battery_pct"] == 80
    rows = site.next("position_batch")["rows"]
    assert len(rows) == 10 and rows == sorted(rows)
    assert abs(rows[0][0] / 1000 - time.time()) < 3600


def test_confidential_frames_are_encrypted_and_others_are_not(site):
    site.start(*site.pressed())
    site.next("event")
    site.next("position_batch")
    encrypted = {frame[0] & 31: frame[1] >> 4 & ENCRYPTED for frame in site.frames}
    assert encrypted == {1: 0, 3: 0, 5: ENCRYPTED, 2: ENCRYPTED}


def test_sos_is_repeated_as_the_same_frame_until_it_is_closed(site):
    site.start(*site.pressed())
    first = site.next("event")
    assert site.next("event") == first
    events = [frame for frame in site.frames if frame[0] & 31 == 5]
    assert events[0] == events[1]
    site.send(hub.EVENT_STATE, hub.event_state(first["event_id"], hub.RECEIVED))
    assert site.next("event") == first, "an open event is repeated once a minute"
    site.send(hub.EVENT_STATE, hub.event_state(first["event_id"], hub.RESOLVED))
    assert site.answer_to(STATUS) == DONE
    times = [site.next("event", "position_batch")["message"] for _ in range(8)]
    assert set(times) == {"position_batch"}, "80 s without an event"


def test_open_sos_survives_a_restart(site):
    site.start(*site.pressed())
    first = site.next("event")
    site.stop()
    site.frames.clear()
    site.start()
    assert site.next("hello")["boot"] == 2
    assert site.next("event") == first


def test_no_counter_is_used_twice_across_restarts(site):
    for _ in range(4):
        site.start()
        site.next("position_batch")
        site.stop()
    counters = [int.from_bytes(frame[1:5], "big") & 0xFFFFFFF for frame in site.frames]
    assert len(counters) == 4 * 3 == len(set(counters)) and counters == sorted(counters)


def test_commands_are_answered(site):
    site.start()
    assert site.answer_to(hub.LOCATE) == DONE
    assert site.answer_to(STATUS) == DONE
    assert site.answer_to(REBOOT) == UNSUPPORTED
    assert site.answer_to(hub.LOCATE, expires_ms=1_600_000_000_000) == EXPIRED
    assert site.answer_to(ROTATE_KEY, number=7) == REFUSED


def test_key_is_rotated_and_the_open_sos_continues(site):
    site.start(*site.pressed())
    first = site.next("event")
    assert site.answer_to(ROTATE_KEY, number=1) == STARTED
    site.epoch = 1
    assert site.next("answer") | {"time_ms": 0, "command_id": 0} == {
        "message": "answer",
        "command_id": 0,
        "result": DONE,
        "time_ms": 0,
        "ref": 1,
        "text": "",
    }
    assert site.next("event") == first, "under the new key"
    assert site.answer_to(STATUS) == DONE
    site.stop()
    site.start()
    assert site.next("hello")["boot"] == 2


def test_command_is_not_obeyed_twice(site):
    """Neither a repeated frame nor one from before a restart is obeyed; only the first replay is answered."""
    site.start()
    frame = site.send(hub.COMMAND, hub.command(STATUS))
    assert site.next("answer")["result"] == DONE
    site.device.send(frame)
    reject = site.next("answer", "reject")
    assert reject == {"message": "reject", "refused_counter": 1, "message_type": hub.COMMAND, "reason": 6, "detail": ""}
    site.stop()
    site.start()
    site.device.send(frame)
    assert site.next("answer", "reject")["message"] == "reject"


def test_only_genuine_frames_are_answered_with_reject(site):
    site.start()
    genuine = site.codec.encode(hub.COMMAND, hub.command(STATUS), 1)
    forged = bytearray(genuine)
    forged[-1] ^= 1
    site.device.send(bytes(forged))
    site.device.send(b"short")
    site.device.send(bytes(1025))
    site.device.send(site.codec.encode(hub.COMMAND, hub.command(STATUS), 5)[:-16] + bytes(16))
    unknown = site.codec.encode(8, {**TEXT, "text": "hello"}, 9)
    site.device.send(unknown)  # a text is legal: it is answered
    assert site.next("reject", "text_state")["message"] == "text_state"
    bad = site.codec.encode(hub.COMMAND, hub.command(STATUS) | {"extensions": [[0x82, "00"]]}, 10, flags=8)
    site.device.send(bad)
    reject = site.next("reject", "answer")
    assert (reject["message"], reject["refused_counter"], reject["reason"]) == ("reject", 10, 8)


TEXT = {
    "message": "text",
    "text_id": 1,
    "time_ms": None,
    "priority": 0,
    "ack": 1,
    "lat_e7": None,
    "lon_e7": None,
    "sender": "station",
}


def test_damaged_counters_stop_the_device(site, programs):
    site.start()
    site.next("position_batch")
    site.stop()
    whole = site.counters.read_text()
    command = [programs / "device", ID, site.key, site.counters]
    for n in (0, 5, len(whole) // 2, len(whole) - 2):
        site.counters.write_text(whole[:n])
        done = subprocess.run(command, input=b"", capture_output=True, timeout=TIMEOUT_S)
        assert (done.returncode, done.stdout) == (3, b"") and b"counters must not be used twice" in done.stderr
    site.key.write_text("00")
    assert subprocess.run(command, input=b"", capture_output=True, timeout=TIMEOUT_S).returncode == 2
