"""The same patrol on boards that are a process and on firmware that runs on an emulated board, in real time."""

import time

import pytest
from patrolink import boards
from patrolink.emulator import nmea
from patrolink.emulator.device import boot
from patrolink.errors import DeviceError
from patrolink.hub.events import EventDesk
from patrolink.keys import DeviceKey

from tests.rig import walk

BOARDS = ("unix", "mps2_an385")


@pytest.fixture(params=BOARDS)
def board(request):
    missing = boards.find(request.param).missing()
    if missing:
        pytest.skip(f"{request.param}: apt-get install {' '.join(missing)}")
    return request.param


def test_a_patrol_with_an_sos_and_a_power_cut(rig, board):
    it = rig(board, nmea.speak(walk(240)), speed=10, modem="quectel", batch_fixes=20)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 40)
    it.device.press("sos")
    it.listen(lambda: any(row["message"] == "event" for row in it.rows))
    event = next(row for row in it.rows if row["message"] == "event")
    desk = EventDesk({it.device_id: DeviceKey(it.key)})
    it.transport.publish(it.device_id, desk.answer(it.device_id, event["event_id"], 0))
    it.listen(lambda: it.decoder.stats.fixes >= 60)
    it.device.kill()
    it.device = it.boot()
    it.listen(lambda: it.receiver.done and it.receiver.drained(), 60)
    told = it.device.power_off()
    it.listen(lambda: len(it.times()) >= told["fixes"])
    times = it.times()
    assert len(times) == len(set(times)) and it.decoder.stats.rejected == {}
    assert told["left"] == told["dropped"] == 0
    assert [row["boot"] for row in it.rows if row["message"] == "hello"] == [1, 2]
    if told["board"]:
        assert told["board"]["overruns"] == told["board"]["violations"] == 0


def test_a_configuration_that_cannot_be_used_is_told_on_the_console(tmp_path, board):
    config = {"device": "x", "key": "deadbeef", "broker": {}, "gps_uart": "/dev/null"}
    device = boot(boards.find(board), tmp_path, config)
    try:
        with pytest.raises(DeviceError, match="64 hexadecimal digits"):
            for _ in range(100):
                device.check()
                time.sleep(0.1)
        assert "deadbeef" not in device.log.read_text()
    finally:
        device.kill()
