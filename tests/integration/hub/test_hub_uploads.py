"""Uploads to a hub on virtual time: the agent's uploader, an independent client, kills, limits, invalid requests."""

import hashlib
import json
import random
from types import SimpleNamespace

import aiohttp
import pytest
import yarl
from patrolink.hub.clips import upload_store

from tests.support import clip_maker, simulated_clips, site_file, upload_clients
from tests.support.simulated_clips import NAME, random_bytes
from tests.support.simulated_site import UPLOAD_PORT, SimulatedSite, site_text

SEED = 20261125
start_server = simulated_clips.start_server
DEVICES = ("linux-1", "linux-2")


@pytest.fixture
def site(tmp_path):
    """A site whose hub receives uploads of two devices."""
    groups = site_file.GROUP_TEMPLATE.format(id=1, devices=json.dumps(DEVICES), more="")
    simulated = SimulatedSite(tmp_path, site_text(groups, hub=f'uploads = "127.0.0.1:{UPLOAD_PORT}"'), DEVICES)
    yield simulated
    simulated.close()


@pytest.fixture
def clips(site):
    """Folder of the clips."""
    return site.folder / "clips"


@pytest.fixture
def raw(site):
    return upload_clients.RawTusClient("linux-1", site, UPLOAD_PORT)


def recorded_device(tmp_path):
    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem")
    device.run(5)
    device.event("button", 11)
    device.run(3)
    return device


def test_the_clips_of_a_device_arrive_unchanged(site, clips, tmp_path):
    device = recorded_device(tmp_path)
    uploader = upload_clients.DeviceUploader(device, site, UPLOAD_PORT)
    uploader.run_until(uploader.is_done)
    expected = device.write(tmp_path / "expected")
    received = clips / "linux-1"
    names = {path.relative_to(expected) for path in expected.glob("*/*")}
    assert len(names) > 3 and {path.relative_to(received) for path in received.glob("*/*.p*")} == names
    for name in names:
        assert (received / name).read_bytes() == (expected / name).read_bytes()
    assert site.hub.stop()["uploads"] == len(names)


def test_a_killed_hub_continues_pending_uploads(site, clips, tmp_path):
    device = recorded_device(tmp_path)
    uploader = upload_clients.DeviceUploader(device, site, UPLOAD_PORT, kbps=8000)
    size = sum(len(data) for name, data in device.files.data.items() if name.endswith((".plm", ".pls")))
    for part in (1, 2, 3):
        uploader.run_until(lambda: uploader.agent.sent > size * part / 5)  # noqa: B023
        site.hub.kill()
        site.hub.start()
    uploader.run_until(uploader.is_done, 40)
    expected = device.write(tmp_path / "expected")
    for path in expected.glob("*/*"):
        assert (clips / "linux-1" / path.relative_to(expected)).read_bytes() == path.read_bytes()
    assert not list(clips.glob("*/*/*.part"))


@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_an_independent_client_uploads_a_file(site, clips, raw, size, tmp_path):
    aiotus = pytest.importorskip("aiotus", reason="pip install aiotus")
    data = random_bytes(size)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def add_authorization(request, handler):
        length = {"POST": "Upload-Length", "PATCH": "Upload-Offset"}.get(request.method)
        number = request.headers[length] if length else ""
        metadata = request.headers.get("Upload-Metadata", "")
        tag = raw.authorization(request.method, request.url.raw_path, number, metadata)
        request.headers["Authorization"] = tag
        return await handler(request)

    async def upload():
        async with aiohttp.ClientSession(connector=site.connector(), middlewares=(add_authorization,)) as session:
            with path.open("rb") as f:
                metadata = {"device": b"linux-1", "clip": b"7", "name": NAME.encode()}
                metadata["sha256"] = hashlib.sha256(data).hexdigest().encode()
                url = f"http://127.0.0.1:{UPLOAD_PORT}/clips"
                config = await aiotus.core.configuration(session, url)
                location = await aiotus.creation.create(session, url, f, metadata)
                location = yarl.URL(url).join(location)
                await aiotus.core.upload_buffer(session, location, f, chunksize=1 << 20)
                return config, await aiotus.core.offset(session, location)

    config, offset = site.run(upload())
    assert config.protocol_extensions == ["creation", "creation-with-upload"] and offset == size
    assert (clips / "linux-1" / "000007" / NAME).read_bytes() == data


def test_a_pending_upload_continues_and_a_stored_file_is_never_replaced(raw, clips):
    data = random_bytes(70_000)
    status, fields, _ = raw.create(3, NAME, data)
    url = fields["Location"]
    assert (status, fields["Upload-Offset"]) == (201, "0")
    assert raw.request("PATCH", url, data[:5000], Upload_Offset="0")[0] == 204
    assert raw.create(3, NAME, data)[1]["Upload-Offset"] == "5000"  # the pending upload is continued
    metadata = upload_clients.upload_metadata("linux-1", 3, NAME, hashlib.sha256(data).hexdigest())
    assert raw.request("HEAD", url)[1]["Upload-Metadata"] == metadata
    status, fields, _ = raw.request("PATCH", url, data[5000:], Upload_Offset="5000")
    assert (status, fields["Upload-Offset"]) == (204, "70000")
    status, fields, _ = raw.create(3, NAME, data)
    assert (status, fields["Upload-Offset"]) == (201, "70000")
    fields = raw.request("HEAD", url)[1]
    assert (fields["Upload-Offset"], fields["Upload-Metadata"]) == ("70000", metadata)
    assert raw.create(3, NAME, b"other" + data)[0] == 409
    assert raw.request("PATCH", url, b"more", Upload_Offset="70000")[0] == 409
    assert (clips / "linux-1" / "000003" / NAME).read_bytes() == data


def test_a_file_with_a_wrong_hash_is_deleted(raw, clips):
    data = random_bytes(50_000)
    url = raw.create(3, NAME, data)[1]["Location"]
    assert raw.request("PATCH", url, data[:-1] + b"x", Upload_Offset="0")[0] == 460
    assert raw.request("HEAD", url)[0] == 404 and not list(clips.glob("*/*/*"))
    audit = (clips.parent / "state" / "shard-0" / "audit.jsonl").read_text()
    assert '"upload damaged"' in audit and NAME in audit
    assert raw.create(3, NAME, data, data)[0] == 201  # restarted with the right content
    assert (clips / "linux-1" / "000003" / NAME).read_bytes() == data


def test_a_partial_upload_is_preserved_and_wrong_lengths_are_refused(raw, clips):
    data = random_bytes(90_000)
    url = raw.create(3, NAME, data)[1]["Location"]
    raw.request("PATCH", url, data[:40_000], content_length=90_000, Upload_Offset="0")
    assert raw.request("HEAD", url)[1]["Upload-Offset"] == "40000"
    assert raw.request("PATCH", url, data, Upload_Offset="40000")[0] == 413
    assert raw.request("PATCH", url, data[50_000:], Upload_Offset="50000")[0] == 409
    assert raw.request("PATCH", url, b"x", Upload_Offset="-1")[0] == 400
    assert raw.request("PATCH", url, b"x", Upload_Offset="40000", Content_Type="text/plain")[0] == 415
    assert raw.request("HEAD", url, Tus_Resumable="0.2.2")[0] == 412
    too_large = {
        "Upload_Length": str(1 << 33),
        "Upload_Metadata": upload_clients.upload_metadata("linux-1", 3, NAME, "0" * 64),
    }
    assert raw.request("POST", "/clips", **too_large)[0] == 413
    assert raw.request("POST", "/clips", b"abc", **{**too_large, "Upload_Length": "2"})[0] == 413
    assert raw.request("PATCH", url, data[40_000:], Upload_Offset="40000")[0] == 204


@pytest.mark.parametrize(
    "fields",
    [
        ("linux-2", 3, NAME),
        ("linux-1", 3, "../" + NAME),
        ("linux-1", 3, "000001-000002.pls\0"),
        ("linux-1", 3, "000001-000002.plm"),
        ("linux-1", 3, "000004.plm"),
        ("linux-1", 3, "/etc/passwd"),
        ("linux-1", 3, "signers.toml"),
        ("linux-1", "../../x", NAME),
        ("linux-1", 1_000_000, NAME),
        ("linux-1", "٣", NAME),
        ("..", 3, NAME),
    ],
)
def test_invalid_names_of_devices_clips_and_files_are_refused(raw, clips, fields):
    headers = {"Upload_Length": "5", "Upload_Metadata": upload_clients.upload_metadata(*fields, "0" * 64)}
    assert raw.request("POST", "/clips", **headers)[0] == 400
    for path in ("/clips/linux-1/3/..%2f" + NAME, "/clips/../clips/linux-1/3/x", "/clips/linux-2/3/" + NAME):
        assert raw.request("HEAD", path)[0] == 404
    assert not list(clips.glob("**/*"))


def test_unauthorized_requests_are_refused(raw, site):
    data, other = random_bytes(100), upload_clients.RawTusClient("linux-2", site, UPLOAD_PORT)
    url = raw.create(3, NAME, data)[1]["Location"]

    def status(method="HEAD", path=url, signed=None, **options):
        tag = raw.authorization(signed or method, path, **options)
        return other.request("HEAD", path, Authorization=tag)[0]

    assert status() == 200 and status(epoch=1) == 200  # the device may already be in its next key epoch
    invalid = [
        {"epoch": 2},
        {"key": bytes(32)},
        {"ms": site.unix_ms() - 301_000},
        {"ms": site.unix_ms() + 301_000},
    ]
    assert [status(**options) for options in invalid] == [401] * 4
    assert status(signed="PATCH") == 401
    assert status(signed="PATCH") == 429  # after five failures invalid requests have to wait
    # Valid requests are served: a stranger at the same NAT address must not block the uploads of a device.
    assert status() == 200
    assert other.request("HEAD", url)[0] == 404


@pytest.mark.parametrize(
    "authorization", ["", "Patrolink", "Patrolink linux-1:1:00", "Bearer x", "Patrolink ghost:1:" + "0" * 64]
)
def test_a_request_without_a_valid_tag_creates_nothing(raw, clips, authorization):
    assert raw.create(3, NAME, b"abc", Authorization=authorization)[0] == 401
    assert not list(clips.glob("**/*"))


def test_a_replayed_request_changes_nothing(raw, clips):
    """An eavesdropper repeats a captured request."""
    data = random_bytes(1000)
    url = raw.create(3, NAME, data)[1]["Location"]
    tag = raw.authorization("PATCH", url, "0")
    for _ in range(2):
        status, _, _ = raw.request("PATCH", url, data[:500], Upload_Offset="0", Authorization=tag)
    assert status == 409
    assert raw.request("PATCH", url, data[500:], Upload_Offset="500")[0] == 204
    assert (clips / "linux-1" / "000003" / NAME).read_bytes() == data


def test_random_requests_cause_no_server_error(raw, site, clips):
    rng = random.Random(SEED)  # noqa: S311
    data = random_bytes(2000)
    url = raw.create(3, NAME, data)[1]["Location"]
    texts = [
        "",
        "0",
        "-1",
        "9" * 30,
        "1e3",
        "٣",
        "\x7f",
        "a" * 900,
        ",",
        " ",
        "name bmFtZQ==,name bmFtZQ==",
        "=",
        "0x10",
    ]
    names = [
        "Upload_Offset",
        "Upload_Length",
        "Upload_Metadata",
        "Tus_Resumable",
        "Content_Type",
        "Upload_Defer_Length",
    ]
    for i in range(300):
        method = rng.choice(["POST", "PATCH", "HEAD", "OPTIONS", "DELETE", "GET"])
        path = rng.choice(["/clips", url, url + "/", url[:-1], "/", "/clips/linux-1/3"])
        fields = {name: rng.choice(texts) for name in rng.sample(names, rng.randrange(4))}
        body = rng.randbytes(rng.randrange(64)) if method != "HEAD" else b""
        status = raw.request(method, path, body, **fields)[0]
        assert status < 500 or status == 507, (SEED, i, method, path, fields, status)
    offset = int(raw.request("HEAD", url)[1]["Upload-Offset"])
    if offset:  # one of the random requests was a valid PATCH
        assert raw.create(3, NAME, data, data)[0] == 201
    else:
        assert raw.request("PATCH", url, data, Upload_Offset="0")[0] == 204
    assert (clips / "linux-1" / "000003" / NAME).read_bytes() == data
    assert site.hub.stop()["uploads"] == 1


def test_the_bytes_of_a_device_are_limited_over_restarts(start_server):
    data = random_bytes(40_000)
    raw = start_server(100_000)
    assert raw.create(1, NAME, data, data)[0] == 201
    assert raw.create(2, NAME, data)[0] == 201  # a pending file counts with its full length
    assert raw.create(3, NAME, data)[0] == 507
    raw = start_server(100_000)
    assert raw.create(3, NAME, data)[0] == 507
    assert raw.create(2, NAME, data[:1000])[0] == 201  # replaces the pending file
    assert raw.create(3, NAME, data)[0] == 201
    # A file counts as at least 16 KB, because it needs an inode and memory.
    raw = start_server(170_000)
    assert [raw.create(4, f"000001-{i:06d}.pls", b"x")[0] for i in range(5)] == [201] * 4 + [507]


def test_pending_clips_of_a_device_are_limited(start_server):
    raw = start_server()
    statuses = [raw.create(number, NAME, b"abc")[0] for number in range(17)]
    assert statuses == [201] * 16 + [429]
    assert raw.create(3, NAME, b"abc", b"abc")[0] == 201
    assert raw.create(16, NAME, b"abc")[0] == 201


def test_a_full_or_failing_disk_is_reported_and_loses_nothing(start_server, monkeypatch, tmp_path):
    data = random_bytes(400_000)
    raw = start_server()
    url = raw.create(1, NAME, data)[1]["Location"]
    assert raw.request("PATCH", url, data[:100_000], Upload_Offset="0")[0] == 204
    with monkeypatch.context() as patch:
        patch.setattr(upload_store.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 28))
        assert raw.create(2, NAME, data)[0] == 507
    with monkeypatch.context() as patch:
        patch.setattr(
            upload_store.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        assert raw.request("PATCH", url, data[100_000:], Upload_Offset="100000")[0] == 507
        assert raw.request("HEAD", url)[0] == 507  # must not be reported as complete
    assert raw.request("HEAD", url)[1]["Upload-Offset"] == "400000"
    assert (tmp_path / "linux-1" / "000001" / NAME).read_bytes() == data


@pytest.mark.parametrize("intact", [True, False])
def test_a_file_received_before_a_stop_is_verified_before_it_is_complete(start_server, tmp_path, intact):
    data = random_bytes(50_000)
    folder = tmp_path / "linux-1" / "000001"
    folder.mkdir(parents=True)
    part = folder / f"{NAME}.{len(data)}.{hashlib.sha256(data).hexdigest()}.part"
    part.write_bytes(data if intact else bytes(len(data)))  # a power cut may leave zeros
    raw = start_server()
    status, fields, _ = raw.request("HEAD", f"/clips/linux-1/1/{NAME}")
    assert (status, fields.get("Upload-Offset")) == ((200, "50000") if intact else (460, None))
    assert [path.name for path in folder.iterdir()] == ([NAME] if intact else [])
