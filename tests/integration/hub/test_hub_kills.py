"""A hub is killed at each step of an upload: no clip is lost, and each clip is released after its verdict."""

import json
import random

from patrolink_enums import CLIP_STATE_STATE_VERIFIED as VERIFIED

from tests.support import simulated_clips, upload_clients
from tests.support.simulated_network import SimulatedStream

SEED = 20261127
DEVICE = upload_clients.DEVICE

site = simulated_clips.site


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
    site.network.run_until(lambda: {row["verdict"] for row in site.rows().values()} == {"valid"}, site.rows)


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
            site.network.run_until(
                lambda path=path: path.exists() and "valid" in json.loads(path.read_text())["verdict"], context
            )
        if step == "answered":
            site.network.run_until(lambda: site.session.process() or site.session.clip_states, context)
        site.hub.kill()
        site.session.process()
        site.session.clip_states.clear()  # lost with the connection
        site.hub.start()
        deadline_ms = site.network.now_ms() + 60_000
        while index.find(number).state != 3:  # VERIFIED
            assert site.network.now_ms() < deadline_ms, (SEED, round_, step)
            site.uploader.run_until(site.uploader.is_done)
            site.uploader.announce_clips()
            for _ in range(20):
                site.uploader.receive_states()
                site.network.sleep_ms(20)
        folder = site.clips / DEVICE / f"{number:06d}"
        for path in folder.glob("*.p*"):
            assert path.read_bytes() == bytes(site.device.files.data[path.name]), (SEED, round_)
    site.network.run_until(lambda: {row["verdict"] for row in site.rows().values()} == {"valid"}, site.rows)
    assert not list(site.clips.glob("*/*/*.part")) and not list(site.clips.glob("*/*/*.bad"))


class BitErrorStream(SimulatedStream):
    """A stream that flips one bit of a body, once per process."""

    errors_left = 1

    def send(self, view):
        if BitErrorStream.errors_left and len(view) == 1024:
            BitErrorStream.errors_left -= 1
            data = bytearray(view)
            data[500] ^= 4
            return super().send(data)
        return super().send(view)


def test_a_bit_error_in_transit_costs_one_file_and_is_shown(site):
    number = site.record_clip()
    files = site.device.files.data
    sizes = [
        len(data) for name, data in files.items() if name.endswith(".pls") and name[:13].encode() in files["000001.plm"]
    ]
    site.uploader = upload_clients.DeviceUploader(
        site.device, site.network, site.port, site.session, stream=lambda net: BitErrorStream(site.network, net)
    )
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
