"""The console of a board: what it tells, its REPL, and mpremote."""

import pytest
from patrolink.emulator.peripherals import nmea

from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S

pytestmark = pytest.mark.needs("gps", "modem")


def test_each_life_begins_on_the_console(rig, dut):
    it = rig(nmea.speak(walk(5)), 1, modem="quectel")
    dut.expect_exact("device: ready, boot 1", timeout=TIMEOUT_S)
    it.cycle()
    dut.expect_exact("device: ready, boot 2", timeout=TIMEOUT_S)


@pytest.mark.needs("console")
def test_ctrl_c_ends_the_agent_and_gives_the_repl(rig, dut):
    rig(nmea.speak(walk(5)), 1, modem="quectel")
    dut.serial.proc.write(b"\x03")
    dut.expect_exact("stopped by the console", timeout=TIMEOUT_S)
    dut.expect_exact(">>> ", timeout=TIMEOUT_S)
    dut.serial.proc.write(b"print(6 * 7)\r\n")
    dut.expect(r"\n42\r\n", timeout=TIMEOUT_S)


@pytest.mark.needs("console")
def test_mpremote_puts_a_file_on_the_board_that_outlives_its_power(rig, console, tmp_path):
    it = rig(nmea.speak(walk(5)), 1, modem="quectel")
    note = tmp_path / "note.txt"
    note.write_text("kept\n" * 1000)
    console.mpremote("fs", "cp", str(note), ":/note.txt")
    assert "stopped by the console" in console.console_text()
    it.cycle()
    assert console.mpremote("fs", "cat", ":/note.txt") == note.read_text()
    console.mpremote("fs", "rm", ":/note.txt")
