"""A hub is killed at each step of an upload: no clip is lost, and each clip is released after its verdict."""

import json
import random
import time

import patrolink_messages
import pytest
from compat.netsock import TcpSocket
from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink
from patrolink_enums import CLIP_STATE_STATE_VERIFIED as VERIFIED

from tests.support import clip_maker, upload_clients
from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S, wait_until

SEED = 20261127
DEVICE = upload_clients.DEVICE

site = upload_clients.site


def test_an_sos_is_uploaded_before_an_older_clip_and_both_are_valid(site):
    first, second = site.record_clip("button"), site.record_clip("sos")
    site.uploader.announce_clips()
    pending = site.uploader.uploads.pending
    site.uploader.run_until(lambda: all(item.clip == first for item in pending()))
    assert site.wait_for_states(1) == [(second, VERIFIED)]
    row = site.rows()[second]
    assert (row["verdict"], row["findings"][0]["kind"]) == ("valid with gaps", "chain")
    site.uploader.run_until(site.uploader.is_done)
    assert site.wait_for_states(1) == [(first, VERIFIED)]
    wait_until(lambda: {row["verdict"] for row in site.rows().values()} == {"valid"}, site.rows)


@pytest.mark.timeout(300)
def test_a_hub_killed_at_any_step_loses_no_clip_and_releases_each(site):
    """The device repeats its announcements until it has received the answer."""
    index = site.uploader.index
    for round_ in range(4):
        context = f"seed {SEED}, round {round_}"
        number = site.record_clip("sos" if round_ & 1 else "button")
        site.uploader.announce_clips()
        step = ("uploading", "uploaded", "verified", "answered")[round_]
        size = sum(len(data) for name, data in site.device.files.data.items() if name.endswith((".pls", ".plm")))
        if step == "uploading":
            kill_at = random.Random(SEED).randrange(size)
            site.uploader.run_until(
                lambda kill_at=kill_at: site.uploader.is_done() or site.uploader.agent.sent > kill_at
            )
        else:
            site.uploader.run_until(site.uploader.is_done)
        if step in ("verified", "answered"):
            path = site.clips / DEVICE / f"{number:06d}" / "hub.json"
            wait_until(lambda path=path: path.exists() and "valid" in json.loads(path.read_text())["verdict"], context)
        if step == "answered":
            wait_until(lambda: site.session.process() or site.session.clip_states, context)
        site.hub.kill()
        site.session.process()
        site.session.clip_states.clear()  # lost with the connection
        site.hub.start()
        deadline = time.monotonic() + TIMEOUT_S
        while index.find(number).state != 3:  # VERIFIED
            assert time.monotonic() < deadline, (SEED, round_, step, (site.folder / "hub.log").read_text())
            site.uploader.run_until(site.uploader.is_done)
            site.uploader.announce_clips()
            for _ in range(20):
                site.uploader.receive_states()
                time.sleep(0.02)
        folder = site.clips / DEVICE / f"{number:06d}"
        for path in folder.glob("*.p*"):
            assert path.read_bytes() == bytes(site.device.files.data[path.name]), (SEED, round_)
    wait_until(lambda: {row["verdict"] for row in site.rows().values()} == {"valid"}, site.rows)
    assert not list(site.clips.glob("*/*/*.part")) and not list(site.clips.glob("*/*/*.bad"))


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


class BitErrorSocket(TcpSocket):
    """A socket that flips one bit of a body, `errors_left` times."""

    errors_left = 1

    def send(self, view):
        if BitErrorSocket.errors_left and len(view) == 1024:
            BitErrorSocket.errors_left -= 1
            data = bytearray(view)
            data[500] ^= 4
            assert TcpSocket.send(self, memoryview(data)) == len(data)
            return len(data)
        return TcpSocket.send(self, view)


def test_a_bit_error_in_transit_costs_one_file_and_is_shown(site):
    number = site.record_clip()
    files = site.device.files.data
    sizes = [
        len(data) for name, data in files.items() if name.endswith(".pls") and name[:13].encode() in files["000001.plm"]
    ]
    site.uploader = upload_clients.DeviceUploader(site.device, site.port, site.session, socket_type=BitErrorSocket)
    site.uploader.announce_clips()
    log = site.folder / "state" / "shard-0" / "audit.jsonl"
    site.uploader.run_until(lambda: log.exists() and '"upload damaged"' in log.read_text())
    findings = site.rows()[number]["findings"]
    assert [(finding["grade"], finding["kind"]) for finding in findings] == [("note", "upload")]
    site.uploader.run_until(site.uploader.is_done)
    assert site.wait_for_states(1) == [(number, VERIFIED)]
    row = site.rows()[number]
    assert row["verdict"] == "valid" and not row["findings"]
    assert log.read_text().count('"upload damaged"') == 1
    assert site.uploader.agent.sent < sum(sizes) + max(sizes) + 20_000
