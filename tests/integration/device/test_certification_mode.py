"""The agent in a process, at a broker: it can be certified, and reports the frames that it refuses."""

from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink
from patrolink_messages import CERTIFY
from patrolink_names import NAMES

from tests.support.device_rig import walk

OPERATIONS = {name: code for code, name in NAMES["certify", "operation"].items()}


def request(operation: str, payload: bytes = b"", seconds: int = 0) -> dict:
    counts = {"frames_accepted": 0, "frames_refused": 0}
    return {"operation": OPERATIONS[operation], "seconds": seconds, "payload": payload, **counts}


def test_a_tester_certifies_a_device(rig):
    device_rig = rig("unix", nmea.speak(walk(60)), speed=10)
    downlink = Downlink({device_rig.device_id: DeviceKey(device_rig.key)})
    device_rig.receiver.start()

    def publish(data: bytes) -> None:
        device_rig.transport.publish(device_rig.device_id, data)

    def results(record: str) -> list[dict]:
        return [row for row in device_rig.rows if row["record"] == record]

    device_rig.listen(lambda: device_rig.rows)
    device_id = device_rig.device_id
    publish(downlink.seal(device_id, CERTIFY, request("enter", seconds=600)))
    publish(downlink.seal(device_id, CERTIFY, request("echo", b"\x00\xff")))
    publish(downlink.seal_body(device_id, CERTIFY, b"\x03"))  # ends inside its second field
    publish(downlink.seal(device_id, CERTIFY, request("report_counters")))
    device_rig.listen(lambda: len(results("certify")) == 3 and results("reject"))
    entered, echoed, counters = results("certify")
    assert entered["operation"] == "result" and echoed["payload"] == "00ff"
    assert (counters["frames_accepted"], counters["frames_refused"]) == (3, 1)
    [reject] = results("reject")
    assert (reject["message_type"], reject["reason"]) == (CERTIFY, 1)
    assert device_rig.finish()["dropped"] == 0
