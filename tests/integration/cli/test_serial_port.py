"""Serial ports: one program at a time, the holder's name, permissions, and senders found by their keys."""

import errno
import fcntl
import grp
import os
import pty
import subprocess
import sys
import threading
import tty

import patrolink_messages as m
import pytest
import serial
from patrolink.cli import main
from patrolink.core.capture import CaptureReader
from patrolink.core.errors import DeviceError, UserError
from patrolink.core.keys import DeviceKey
from patrolink.core.sender_lookup import SenderLookup
from patrolink.transport import serial_port
from patrolink.transport.serial_line import pack_frame
from patrolink_protocol import frame

from tests.support.polling import wait_until_opened

HOLD = """
import serial, sys
port = serial.Serial(sys.argv[1], exclusive=True)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def line():
    """A PTY: (descriptor of the controlling end, path of the port)."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


@pytest.fixture
def keys():
    return {f"dev-{i}": DeviceKey(bytes([i]) * 32) for i in range(20)}


def signed(keys: dict[str, DeviceKey], device: str, counter: int, epoch: int = 0) -> bytes:
    """Return a genuine position frame of a device; its body is not valid."""
    buf = bytearray(64)
    channel = frame.Channel(keys[device].secret, device.encode(), frame.UPLINK, epoch)
    return bytes(buf[: channel.seal_into(buf, m.POSITION_BATCH, counter, frame.HEADER_BYTES + 4)])


def test_port_of_another_program_is_refused_and_its_holder_named(line, capsys):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, line[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
    os.write(line[0], b"for the holder")
    assert main(["monitor", line[1], "--for", "1"]) == 3
    err = capsys.readouterr().err
    assert f"{line[1]}: in use by process {holder.pid} (" in err and "Traceback" not in err
    assert len(err.splitlines()) == 1 and all(text.isprintable() for text in err.splitlines())
    holder.communicate()
    assert main(["monitor", line[1], "--for", "0"]) == 0


def test_second_monitor_does_not_take_bytes_of_the_first(line):
    first = serial_port.open_port(line[1], 115200, 5.0)
    with pytest.raises(DeviceError, match=f"process {os.getpid()} "):
        serial_port.open_port(line[1], 115200, 0.1)
    os.write(line[0], b"whole")
    assert first.read(5) == b"whole"
    first.close()


def test_lock_without_serial_port_names_all_that_have_opened_it(line):
    assert any(f"process {os.getpid()} " in holder for holder in serial_port.holders(line[1]))
    descriptor = os.open(line[1], os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert len(serial_port.holders(line[1])) == 1
    os.close(descriptor)


@pytest.mark.parametrize("port", ["/dev/null-port", "/etc/hostname", "COM99"])
def test_holders_of_what_is_no_port_are_unknown(port):
    assert serial_port.holders(port) == []


def test_windows_refusal_is_explained(monkeypatch):
    # pyserial's serialwin32 raises this for a port that another program has opened.
    text = "could not open port 'COM10': PermissionError(13, 'Access is denied.', None, 5)"

    def refuse(*args, **options):
        raise serial.SerialException(text)

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(DeviceError, match="COM10: in use by another program; close it"):
        serial_port.open_port("COM10", 115200, 0.1)


def give_to_group(port: str) -> grp.struct_group:
    """Let a group other than root's open the port; return the group."""
    os.chmod(port, 0o660)
    if os.stat(port).st_gid == 0:
        os.chown(port, -1, next(group.gr_gid for group in grp.getgrall() if group.gr_gid))
    return grp.getgrgid(os.stat(port).st_gid)


def refused(monkeypatch, port: str) -> str:
    """Return the error of a port that this user must not open; root may open all."""

    def refuse(*args, **options):
        raise serial.SerialException(errno.EACCES, f"could not open port {port}")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(UserError) as e:
        serial_port.open_port(port, 115200, 0.1)
    assert e.value.exit_code == 3
    return str(e.value)


def test_permission_error_names_the_group_of_the_port_and_the_command(line, monkeypatch):
    group = give_to_group(line[1]).gr_name
    monkeypatch.setenv("LOGNAME", "somebody")
    text = refused(monkeypatch, line[1])
    assert f"its group {group} may open it; run `sudo usermod -aG {group} somebody`, then log in again" in text


def test_permission_error_of_a_new_member_asks_for_a_login(line, monkeypatch):
    entry = give_to_group(line[1])
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((entry.gr_name, "x", entry.gr_gid, ["somebody"])))
    monkeypatch.setenv("LOGNAME", "somebody")
    assert "log out and in again" in refused(monkeypatch, line[1])


def test_permission_error_of_a_port_without_group_access_names_a_udev_rule(line, monkeypatch):
    os.chmod(line[1], 0o600)
    text = refused(monkeypatch, line[1])
    assert "(crw-------)" in text and "udev rule" in text


def test_permission_error_in_an_unreadable_folder_is_explained(monkeypatch):
    assert "ask the administrator" in refused(monkeypatch, "/dev/not-there")


def test_senders_are_found_by_their_keys(keys):
    lookup = SenderLookup(keys)
    for i, device in enumerate(["dev-7", "dev-7", "dev-19", "dev-0", "dev-7"]):
        assert lookup.find(signed(keys, device, i)) == device
    assert lookup.find(signed({"dev-1": DeviceKey(bytes(32))}, "dev-1", 9)) is None
    for data in (b"", b"x", bytes(5), bytes(2000), b"\xff" * 40):
        assert lookup.find(data) is None


def test_sender_is_found_after_key_rotation(keys):
    lookup = SenderLookup(keys)
    for epoch in range(3):
        assert lookup.find(signed(keys, "dev-3", 1, epoch)) == "dev-3"


def test_forged_frames_use_a_bounded_number_of_trials(keys, monkeypatch):
    """Beyond the rate, only the last sender's key is tried, so its frames are still recognised."""
    trials = 0
    original = frame.Channel.open_frame

    def counted(self, data):
        nonlocal trials
        trials += 1
        return original(self, data)

    now_s = 0.0
    lookup = SenderLookup(keys, lambda: now_s)
    assert lookup.find(signed(keys, "dev-5", 0)) == "dev-5"
    monkeypatch.setattr(frame.Channel, "open_frame", counted)
    forged = signed({"dev-5": DeviceKey(bytes(32))}, "dev-5", 1)
    for _ in range(20_000):
        assert lookup.find(forged) is None
    assert trials <= 2 * 20_000
    assert lookup.find(signed(keys, "dev-5", 2)) == "dev-5"
    assert lookup.find(signed(keys, "dev-6", 3)) is None
    now_s = 1.0
    assert lookup.find(signed(keys, "dev-6", 4)) == "dev-6"


def write_keys(path, keys: dict[str, DeviceKey]) -> str:
    path.write_text("[devices]\n" + "".join(f'"{name}" = "{key.secret.hex()}"\n' for name, key in keys.items()))
    path.chmod(0o600)
    return str(path)


def test_monitor_finds_the_device_of_a_serial_line(line, keys, tmp_path, capsys):
    record = tmp_path / "r.plcap"
    unknown = signed({"dev-1": DeviceKey(bytes(32))}, "dev-1", 1)

    def send():
        wait_until_opened(line[1])
        os.write(line[0], pack_frame(signed(keys, "dev-2", 1)) + pack_frame(unknown))

    threading.Thread(target=send).start()
    command = ["monitor", line[1], "--keys", write_keys(tmp_path / "keys.toml", keys), "--record", str(record)]
    assert main([*command, "--count", "2", "--for", "60"]) == 1
    captured = capsys.readouterr()
    # The body of the test's frame is not valid: the frame passed the tag and was refused later.
    assert captured.out.startswith("dev-2: refused (") and "(tag)" not in captured.out
    assert captured.out.splitlines()[1].startswith("serial: refused (no key)")
    with record.open("rb") as f:
        assert [r.device for r in CaptureReader(f, "r")] == ["dev-2", "serial"]
    assert captured.err.endswith("refused (key)\n")


def test_record_does_not_replace_a_capture_without_force(line, tmp_path, capsys):
    record = tmp_path / "r.plcap"
    record.write_bytes(b"evidence")
    command = ["monitor", line[1], "--for", "0", "--record", str(record)]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "exists already" in err and "--force" in err and "another file" in err
    assert record.read_bytes() == b"evidence"
    assert main([*command, "--force"]) == 0
    assert record.read_bytes().startswith(b"PLCAP")


def test_record_to_a_device_needs_no_force(line):
    assert main(["monitor", line[1], "--for", "0", "--record", "/dev/null"]) == 0
