"""The same patrol in real time on every board: a process, firmware on an emulated board, a real board."""

import pytest
from patrolink.core.errors import DeviceError
from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink
from patrolink_messages import EVENT_STATE
from patrolink_names import NAMES

from tests.support.device_rig import walk

RESOLVED = next(code for code, name in NAMES["event_state", "state"].items() if name == "resolved")

pytestmark = pytest.mark.needs("gps", "modem", "buttons")


@pytest.mark.long(25)
def test_patrol_with_sos_and_power_cut(rig):
    bench = rig(nmea.speak(walk(240)), speed=10, modem="quectel", batch_fixes=20)
    bench.receiver.start()
    bench.listen(lambda: bench.decoder.stats.fixes >= 40)
    bench.device.press("sos")
    bench.listen(lambda: any(row["record"] == "event" for row in bench.rows))
    event = next(row for row in bench.rows if row["record"] == "event")
    downlink = Downlink({bench.device_id: DeviceKey(bench.key)})
    values = {"event_id": event["event_id"], "state": RESOLVED, "time_ms": 0, "who": b"duty"}
    bench.transport.publish(bench.device_id, downlink.seal(bench.device_id, EVENT_STATE, values))
    bench.listen(lambda: bench.decoder.stats.fixes >= 60)
    bench.cycle()
    bench.listen(bench.input_consumed, 60)
    summary = bench.device.power_off()
    bench.listen(lambda: len(bench.times()) >= summary["fixes"])
    times = bench.times()
    assert len(times) == len(set(times)) and bench.decoder.stats.rejected == {}
    # A frame whose acknowledgement does not arrive before the power goes stays stored: it is not lost.
    assert summary["dropped"] == 0
    assert [row["boot"] for row in bench.rows if row["record"] == "hello"] == [1, 2]


def test_invalid_configuration_is_reported_on_the_console(rig, console):
    with pytest.raises(DeviceError, match="64 hexadecimal digits"):
        rig([], 1, modem="quectel", key="deadbeef")
    text = console.console_text(0)
    assert "64 hexadecimal digits" in text and "deadbeef" not in text
