"""Clips between a device and a hub that is killed at any step: none is lost, each is let go of once it is verified."""

import json
import random
import time

import patrolink_messages
import pytest
from compat.netsock import TcpSocket
from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink

from tests.support import clip_maker, upload_clients
from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S, wait_until

SEED = 20261127
VERIFIED = 5
DEVICE = upload_clients.DEVICE

site = upload_clients.site


def test_an_sos_comes_before_what_was_filmed_before_it_and_both_are_valid(site):
    first, second = site.film("button"), site.film("sos")
    site.courier.manifests()
    pending = site.courier.uploads.pending
    site.courier.run(lambda: all(item.clip == first for item in pending()))
    assert site.states(1) == [(second, VERIFIED)]
    row = site.rows()[second]
    assert (row["verdict"], row["findings"][0]["kind"]) == ("valid with gaps", "chain")
    site.courier.run(site.courier.all_sent)
    assert site.states(1) == [(first, VERIFIED)]
    wait_until(lambda: {row["verdict"] for row in site.rows().values()} == {"valid"}, site.rows)


@pytest.mark.timeout(300)
def test_killed_at_any_step_a_hub_loses_no_clip_and_every_one_is_let_go_of(site):
    """The device tells its clips again until it has heard of them, as it does every two minutes."""
    index = site.courier.index
    for round_ in range(4):
        number = site.film("sos" if round_ & 1 else "button")
        site.courier.manifests()
        step = ("sending", "sent", "verdict", "told")[round_]
        size = sum(len(data) for name, data in site.device.files.data.items() if name.endswith((".pls", ".plm")))
        if step == "sending":
            goal = random.Random(SEED).randrange(size)
            site.courier.run(lambda goal=goal: site.courier.all_sent() or site.courier.uploader.sent > goal)
        else:
            site.courier.run(site.courier.all_sent)
        if step in ("verdict", "told"):
            path = site.clips / DEVICE / f"{number:06d}" / "hub.json"
            seen = f"seed {SEED}, round {round_}"
            wait_until(lambda path=path: path.exists() and "valid" in json.loads(path.read_text())["verdict"], seen)
        if step == "told":
            wait_until(lambda: site.link.pump() or site.link.clip_states, f"seed {SEED}, round {round_}")
        site.hub.kill()
        site.link.pump()
        site.link.clip_states.clear()  # the connection breaks, and what was on its way is lost
        site.hub.start()
        deadline = time.monotonic() + TIMEOUT_S
        while index.find(number).state != 3:  # VERIFIED
            assert time.monotonic() < deadline, (SEED, round_, step, (site.folder / "hub.log").read_text())
            site.courier.run(site.courier.all_sent)
            site.courier.manifests()
            for _ in range(20):
                site.courier.states()
                time.sleep(0.02)
        folder = site.clips / DEVICE / f"{number:06d}"
        for path in folder.glob("*.p*"):
            assert path.read_bytes() == bytes(site.device.files.data[path.name]), (SEED, round_)
    wait_until(lambda: {row["verdict"] for row in site.rows().values()} == {"valid"}, site.rows)
    assert not list(site.clips.glob("*/*/*.part")) and not list(site.clips.glob("*/*/*.bad"))


@pytest.mark.parametrize("board", ["linux", "unix"])
def test_a_device_that_has_heard_nothing_of_a_clip_tells_it_again_until_it_has(tmp_path, rig, board):
    film = clip_maker.Device("filmed", tmp_path / "evidence.pem")
    film.run(1)
    number = film.recorder.trigger(0, 0, "", film.now, 500)
    film.run(6)
    clip_store = film.clip_store
    clip_store.index.mark_announced(clip_store.index.find(number))
    while items := list(clip_store.uploads.pending()):
        for item in items:
            clip_store.uploads.mark_uploaded(item.clip, item.name)
    film.run(1)
    film.leave(tmp_path / "device" / "state")
    camera = {"source": str(tmp_path / "none"), "indicator": str(tmp_path / "camera.led")}
    clips = {"evidence_key": film.evidence.public.hex(), "upload": {"host": "127.0.0.1", "port": 9}}
    it = rig(board, nmea.speak(walk(600)), 1.0, camera=camera, clips=clips)
    it.receiver.start()

    def told():
        return [row for row in it.rows if row["message"] == "clip_manifest"]

    it.listen(told)
    values = upload_clients.manifest_values(clip_store, number)
    assert (told()[0]["clip_id"], told()[0]["chain"]) == (number, values["chain"].hex())
    journal = tmp_path / "device" / "state" / "clips"

    def verified():
        files = [path for path in journal.iterdir() if path.suffix not in (".pls", ".plm")]
        return any(b'"verified":' in path.read_bytes() for path in files)

    assert not verified()
    downlink = Downlink({it.device_id: DeviceKey(it.key)})
    state = {"clip_id": number, "state": VERIFIED, "bytes_done": 0, "time_ms": 1}
    it.transport.publish(it.device_id, downlink.seal(it.device_id, patrolink_messages.CLIP_STATE, state))
    it.listen(verified)
    # After the next boot it has nothing to ask.
    it.cycle()
    hellos = len([row for row in it.rows if row["message"] == "hello"])
    it.listen(lambda: len([row for row in it.rows if row["message"] == "hello"]) > hellos)
    before = len(told())
    it.listen(lambda: it.rows[-1]["message"] == "position" and it.rows[-1]["counter"] > 3)
    assert len(told()) == before


class Bent(TcpSocket):
    """A way on which one bit of a body turns over."""

    left = 1

    def send(self, view):
        if Bent.left and len(view) == 1024:
            Bent.left -= 1
            data = bytearray(view)
            data[500] ^= 4
            assert TcpSocket.send(self, memoryview(data)) == len(data)
            return len(data)
        return TcpSocket.send(self, view)


def test_a_bit_that_turns_over_on_the_way_costs_one_file_and_is_told(site):
    number = site.film()
    files = site.device.files.data
    sizes = [
        len(data) for name, data in files.items() if name.endswith(".pls") and name[:13].encode() in files["000001.plm"]
    ]
    site.courier.manifests()
    site.courier.uploader._net.raw = Bent
    log = site.folder / "state" / "shard-0" / "audit.jsonl"
    site.courier.run(lambda: log.exists() and '"upload damaged"' in log.read_text())
    findings = site.rows()[number]["findings"]
    assert [(it["grade"], it["kind"]) for it in findings] == [("note", "upload")]
    site.courier.run(site.courier.all_sent)
    assert site.states(1) == [(number, VERIFIED)]
    row = site.rows()[number]
    assert row["verdict"] == "valid" and not row["findings"]
    assert log.read_text().count('"upload damaged"') == 1
    assert site.courier.uploader.sent < sum(sizes) + max(sizes) + 20_000
