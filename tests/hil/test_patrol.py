"""The same patrol on every board: a process, firmware on an emulated board, a real one. In real time."""

import pytest
from patrolink.core.errors import DeviceError
from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink

from tests.support.device_rig import walk

pytestmark = pytest.mark.needs("gps", "modem", "buttons")


def test_a_patrol_with_an_sos_and_a_power_cut(rig):
    it = rig(nmea.speak(walk(240)), speed=10, modem="quectel", batch_fixes=20)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 40)
    it.device.press("sos")
    it.listen(lambda: any(row["message"] == "event" for row in it.rows))
    event = next(row for row in it.rows if row["message"] == "event")
    downlink = Downlink({it.device_id: DeviceKey(it.key)})
    it.transport.publish(it.device_id, downlink.acknowledge_event(it.device_id, event["event_id"], 0))
    it.listen(lambda: it.decoder.stats.fixes >= 60)
    it.cycle()
    it.listen(it.spoken, 60)
    told = it.device.power_off()
    it.listen(lambda: len(it.times()) >= told["fixes"])
    times = it.times()
    assert len(times) == len(set(times)) and it.decoder.stats.rejected == {}
    assert told["left"] == told["dropped"] == 0
    assert [row["boot"] for row in it.rows if row["message"] == "hello"] == [1, 2]


def test_a_configuration_that_cannot_be_used_is_told_on_the_console(rig, console):
    with pytest.raises(DeviceError, match="64 hexadecimal digits"):
        rig([], 1, modem="quectel", key="deadbeef")
    said = console.console_text(0)
    assert "64 hexadecimal digits" in said and "deadbeef" not in said
