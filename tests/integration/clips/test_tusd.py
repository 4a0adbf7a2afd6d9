"""Clips by way of tusd and nginx to a hub, as protocol/CLIP.md has a site run them; the real ones, where installed."""

import random
import threading
import time

import pytest

from tests.support import upload_clients
from tests.support.tcp_proxy import TcpProxy
from tests.support.tusd_site import Front, needs

SEED = 20261127


@pytest.fixture(params=["disk", "objects"])
def site(request, tmp_path, broker):
    objects = request.param == "objects"
    needs(objects)
    it = upload_clients.ClipSite(tmp_path, broker)
    try:
        it.front = Front(tmp_path / "front", it.port, [upload_clients.DEVICE, "linux-2"], objects)
        it.uploader = upload_clients.DeviceUploader(it.device, it.front.port, it.session)
        yield it
        it.front.close()
    finally:
        it.close()


def arrived(site):
    there = site.device.write(site.folder / "expected")
    names = [path.relative_to(there) for path in there.glob("*/*")]
    return names and all(
        (site.clips / upload_clients.DEVICE / it).read_bytes() == (there / it).read_bytes() for it in names
    )


def test_a_clip_goes_by_way_of_tusd_and_is_released(site):
    number = site.record_clip()
    site.upload_all()
    assert arrived(site) and site.wait_for_states(1) == [(number, 5)]


def test_cut_off_again_and_again(site):
    number = site.record_clip()
    proxy = TcpProxy(site.front.port)
    rng, over = random.Random(SEED), threading.Event()  # noqa: S311

    def cut():
        while not over.wait(rng.uniform(1, 2.5)):
            proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        site.uploader = upload_clients.DeviceUploader(site.device, proxy.port, site.session, kbps=2000)
        site.upload_all()
    finally:
        over.set()
        thread.join()
        proxy.close()
    assert arrived(site), (SEED, site.uploader.log)
    assert proxy.accepted > 1 and site.wait_for_states(1) == [(number, 5)], (SEED, site.uploader.log)


def test_killed_and_started_again_it_goes_on(site):
    number = site.record_clip()
    site.uploader = upload_clients.DeviceUploader(site.device, site.front.port, site.session, kbps=3000)
    site.uploader.announce_clips()
    for part in (1, 2, 3):
        size = sum(len(data) for data in site.device.files.data.values())
        site.uploader.run_until(lambda: site.uploader.agent.sent > size * part / 8)  # noqa: B023
        site.front.kill()
        site.front.start()
    site.uploader.run_until(site.uploader.is_done)
    assert arrived(site) and site.wait_for_states(1) == [(number, 5)], site.uploader.log


def test_while_the_hub_is_away_nothing_counts_as_sent(site):
    number = site.record_clip()
    site.hub.kill()
    site.uploader.run_until(lambda: site.front.between.finished)
    end = time.monotonic() + 3
    with pytest.raises(AssertionError):
        site.uploader.run_until(lambda: site.uploader.is_done() or site.uploader.agent.files, 3)
    assert time.monotonic() >= end and not site.uploader.agent.files
    site.hub.start()
    site.upload_all()
    assert arrived(site) and site.wait_for_states(1) == [(number, 5)], site.uploader.log


def test_bytes_that_are_not_those_that_were_told_come_again(site):
    number = site.record_clip()
    uploads, read, spoilt = site.uploader.uploads, site.uploader.uploads.read, []

    def once(name, at, buf):
        n = read(name, at, buf)
        if not spoilt and name.endswith(".pls"):
            spoilt.append(name)
            buf[0] ^= 1
        return n

    uploads.read = once
    site.upload_all()
    assert spoilt and arrived(site) and site.wait_for_states(1) == [(number, 5)], site.uploader.log


def test_only_devices_get_in_and_only_to_their_own(site):
    data = bytes(40000)
    own, other = (
        upload_clients.RawTusClient(upload_clients.DEVICE, site.front.port),
        upload_clients.RawTusClient("linux-2", site.front.port),
    )
    status, fields, _ = own.create(7, "000001-000002.pls", data)
    assert status == 201
    path = "/clips/" + fields["Location"].partition("/clips/")[2]
    assert own.request("HEAD", path)[0] == 200 and other.request("HEAD", path)[0] == 403
    assert other.request("PATCH", path, data, Upload_Offset="0")[0] == 403
    for method, at in (("POST", "/clips"), ("HEAD", path), ("PATCH", path)):
        fields = {"Upload_Length": "9", "Upload_Offset": "0", "Authorization": "Patrolink linux-1:1:" + "0" * 64}
        assert own.request(method, at, b"", **fields)[0] == 401, method
    assert own.request("GET", path)[0] == own.request("DELETE", path)[0] == 403
    assert own.request("PATCH", path, data, Upload_Offset="0")[0] == 204
    assert (site.clips / upload_clients.DEVICE / "000007" / "000001-000002.pls").read_bytes() == data
    assert own.create(8, "000001-000002.pls", data, data, "0" * 64)[0] == 460
