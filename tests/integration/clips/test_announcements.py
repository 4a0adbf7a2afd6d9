"""A device repeats the announcement of a clip until the hub has answered."""

import patrolink_messages
import pytest
from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink
from patrolink_enums import CLIP_STATE_STATE_VERIFIED as VERIFIED

from tests.support import clip_maker, upload_clients
from tests.support.device_rig import walk


@pytest.mark.parametrize("board", ["linux", "unix"])
def test_a_device_repeats_an_announcement_until_it_has_an_answer(tmp_path, rig, board):
    source = clip_maker.Device("source", tmp_path / "evidence.pem")
    source.run(1)
    number = source.recorder.trigger(0, 0, "", source.now, 500)
    source.run(6)
    clip_store = source.clip_store
    clip_store.index.mark_announced(clip_store.index.find(number))
    while items := list(clip_store.uploads.pending()):
        for item in items:
            clip_store.uploads.mark_uploaded(item.clip, item.name)
    source.run(1)
    source.copy_state(tmp_path / "device" / "state")
    camera = {"source": str(tmp_path / "none"), "indicator": str(tmp_path / "camera.led")}
    clips = {"evidence_key": source.evidence.public.hex(), "upload": {"host": "127.0.0.1", "port": 9}}
    device = rig(board, nmea.speak(walk(600)), 1.0, camera=camera, clips=clips)
    device.receiver.start()

    def announcements():
        return [row for row in device.rows if row["record"] == "clip_manifest"]

    device.listen(announcements)
    values = upload_clients.manifest_values(clip_store, number)
    assert (announcements()[0]["clip_id"], announcements()[0]["chain"]) == (number, values["chain"].hex())
    journal = tmp_path / "device" / "state" / "clips"

    def is_verified():
        files = [path for path in journal.iterdir() if path.suffix not in (".pls", ".plm")]
        return any(b'"verified":' in path.read_bytes() for path in files)

    assert not is_verified()
    downlink = Downlink({device.device_id: DeviceKey(device.key)})
    state = {"clip_id": number, "state": VERIFIED, "bytes_done": 0, "time_ms": 1}
    device.transport.publish(device.device_id, downlink.seal(device.device_id, patrolink_messages.CLIP_STATE, state))
    device.listen(is_verified)
    # After the next boot the clip is not announced.
    device.cycle()
    hellos = len([row for row in device.rows if row["record"] == "hello"])
    device.listen(lambda: len([row for row in device.rows if row["record"] == "hello"]) > hellos)
    count = len(announcements())
    device.listen(lambda: device.rows[-1]["record"] == "position" and device.rows[-1]["counter"] > 3)
    assert len(announcements()) == count
