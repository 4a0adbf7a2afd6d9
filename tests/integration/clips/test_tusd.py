"""Uploads to a hub through tusd and nginx, configured as in protocol/CLIP.md. Skipped if they are not installed."""

import random
import threading
import time

import pytest

from tests.support import console_site, upload_clients
from tests.support.tcp_proxy import TcpProxy
from tests.support.tusd_site import TusdSite, skip_if_missing

SEED = 20261127


@pytest.fixture(params=["disk", "objects"])
def site(request, tmp_path, broker):
    objects = request.param == "objects"
    skip_if_missing(objects)
    site = console_site.clip_site(tmp_path, broker)
    try:
        site.front = TusdSite(tmp_path / "front", site.port, [upload_clients.DEVICE, "linux-2"], objects)
        site.uploader = upload_clients.DeviceUploader(site.device, site.network, site.front.port, site.session)
        yield site
        site.front.close()
    finally:
        site.close()


def all_files_arrived(site):
    """Return whether the hub has the same files as the device."""
    expected = site.device.write(site.folder / "expected")
    names = [path.relative_to(expected) for path in expected.glob("*/*")]
    return names and all(
        (site.clips / upload_clients.DEVICE / name).read_bytes() == (expected / name).read_bytes() for name in names
    )


def test_a_clip_uploaded_through_tusd_is_released(site):
    number = site.record_clip()
    site.upload_all()
    assert all_files_arrived(site) and site.wait_for_states(1) == [(number, 5)]


def test_uploads_resume_after_cuts(site):
    number = site.record_clip()
    proxy = TcpProxy(site.front.port)
    rng, stopped = random.Random(SEED), threading.Event()  # noqa: S311

    def cut():
        while not stopped.wait(rng.uniform(1, 2.5)):
            proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        site.uploader = upload_clients.DeviceUploader(site.device, site.network, proxy.port, site.session, kbps=2000)
        site.upload_all()
    finally:
        stopped.set()
        thread.join()
        proxy.close()
    assert all_files_arrived(site), (SEED, site.uploader.log)
    assert proxy.accepted > 1 and site.wait_for_states(1) == [(number, 5)], (SEED, site.uploader.log)


def test_uploads_resume_after_tusd_was_killed(site):
    number = site.record_clip()
    site.uploader = upload_clients.DeviceUploader(site.device, site.network, site.front.port, site.session, kbps=3000)
    site.uploader.announce_clips()
    for part in (1, 2, 3):
        size = sum(len(data) for data in site.device.files.data.values())
        site.uploader.run_until(lambda: site.uploader.agent.sent > size * part / 8)  # noqa: B023
        site.front.kill()
        site.front.start()
    site.uploader.run_until(site.uploader.is_done)
    assert all_files_arrived(site) and site.wait_for_states(1) == [(number, 5)], site.uploader.log


def test_no_file_counts_as_uploaded_while_the_hub_is_down(site):
    number = site.record_clip()
    site.hub.kill()
    site.uploader.run_until(lambda: site.front.hooks.finished)
    end = time.monotonic() + 3
    with pytest.raises(AssertionError):
        site.uploader.run_until(lambda: site.uploader.is_done() or site.uploader.agent.files, 3)
    assert time.monotonic() >= end and not site.uploader.agent.files
    site.hub.start()
    site.upload_all()
    assert all_files_arrived(site) and site.wait_for_states(1) == [(number, 5)], site.uploader.log


def test_a_file_with_a_wrong_hash_is_uploaded_again(site):
    number = site.record_clip()
    uploads, read, corrupted = site.uploader.uploads, site.uploader.uploads.read, []

    def corrupted_once(name, at, buf):
        n = read(name, at, buf)
        if not corrupted and name.endswith(".pls"):
            corrupted.append(name)
            buf[0] ^= 1
        return n

    uploads.read = corrupted_once
    site.upload_all()
    assert corrupted and all_files_arrived(site) and site.wait_for_states(1) == [(number, 5)], site.uploader.log


def test_only_devices_have_access_and_only_to_their_uploads(site):
    data = bytes(40000)
    device, other = (
        upload_clients.RawTusClient(upload_clients.DEVICE, site.network, site.front.port),
        upload_clients.RawTusClient("linux-2", site.network, site.front.port),
    )
    status, fields, _ = device.create(7, "000001-000002.pls", data)
    assert status == 201
    path = "/clips/" + fields["Location"].partition("/clips/")[2]
    assert device.request("HEAD", path)[0] == 200 and other.request("HEAD", path)[0] == 403
    assert other.request("PATCH", path, data, Upload_Offset="0")[0] == 403
    for method, at in (("POST", "/clips"), ("HEAD", path), ("PATCH", path)):
        fields = {"Upload_Length": "9", "Upload_Offset": "0", "Authorization": "Patrolink linux-1:1:" + "0" * 64}
        assert device.request(method, at, b"", **fields)[0] == 401, method
    assert device.request("GET", path)[0] == device.request("DELETE", path)[0] == 403
    assert device.request("PATCH", path, data, Upload_Offset="0")[0] == 204
    assert (site.clips / upload_clients.DEVICE / "000007" / "000001-000002.pls").read_bytes() == data
    assert device.create(8, "000001-000002.pls", data, data, "0" * 64)[0] == 460
