"""The console of a board: boot messages, REPL and mpremote."""

import pytest
from patrolink.emulator.peripherals import nmea

from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S

pytestmark = pytest.mark.needs("gps", "modem")


def test_each_boot_is_reported_on_the_console(rig, dut):
    bench = rig(nmea.speak(walk(5)), 1, modem="quectel")
    dut.expect_exact("device: ready, boot 1", timeout=TIMEOUT_S)
    bench.cycle()
    dut.expect_exact("device: ready, boot 2", timeout=TIMEOUT_S)


@pytest.mark.needs("console")
def test_ctrl_c_ends_the_agent_and_starts_the_repl(rig, dut):
    rig(nmea.speak(walk(5)), 1, modem="quectel")
    dut.serial.proc.write(b"\x03")
    dut.expect_exact("stopped by the console", timeout=TIMEOUT_S)
    dut.expect_exact(">>> ", timeout=TIMEOUT_S)
    dut.serial.proc.write(b"print(6 * 7)\r\n")
    dut.expect(r"\n42\r\n", timeout=TIMEOUT_S)


@pytest.mark.needs("console")
def test_file_written_by_mpremote_survives_power_cycle(rig, console, tmp_path):
    bench = rig(nmea.speak(walk(5)), 1, modem="quectel")
    note = tmp_path / "note.txt"
    note.write_text("kept\n" * 1000)
    console.mpremote("fs", "cp", str(note), ":/note.txt")
    assert "stopped by the console" in console.console_text()
    bench.cycle()
    assert console.mpremote("fs", "cat", ":/note.txt") == note.read_text()
    console.mpremote("fs", "rm", ":/note.txt")
