"""`patrolink clip list`, `verify` and `fetch` with folders, a real hub, and a faulty or hostile console."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from aiohttp import web
from patrolink.core.errors import UserError
from patrolink.evidence import evidence_key, fetch
from patrolink.evidence.clip_folders import ClipSource, read_signers
from patrolink.hub.dispatch import client

from tests.simulation import clip_alterations as alterations
from tests.support import clip_maker, console_site, site_file
from tests.support.command import run_command
from tests.support.json_lines import records, summary
from tests.support.polling import TIMEOUT_S
from tests.support.progress_lines import without_progress

pytestmark = pytest.mark.skipif(not clip_maker.DEMO_VIDEO.exists(), reason="no build/media/bikes.mp4: run `make media`")
TOKEN = "a dispatcher's"  # noqa: S105


@pytest.fixture(scope="module")
def site_clips(tmp_path_factory):
    """Return the folder with the clips of a site with two devices."""
    work = tmp_path_factory.mktemp("site")
    clips = work / "clips"
    lines = []
    for name in ("linux-1", "wearer 2"):
        lines.append(f'"{name}" = ["{clip_maker.make(clips, name).signer}"]\n')
    (clips / "signers.toml").write_text("[signers]\n" + "".join(lines))
    return clips


@pytest.fixture
def clips(site_clips, tmp_path):
    return shutil.copytree(site_clips, tmp_path / "clips")


def patrolink(*args, token=TOKEN) -> subprocess.CompletedProcess:
    result = run_command("clip", *args, PATROLINK_HUB_TOKEN=token)
    result.stderr = without_progress(result.stderr)
    return result


def test_verify_prints_verdict_and_depth_of_each_clip(site_clips):
    result = patrolink("verify", site_clips)
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.splitlines()[0] == "linux-1 clip 1: valid (5 segments; files, chain and signature only)"
    assert len(result.stdout.splitlines()) == 8
    result = patrolink(
        "verify", site_clips / "linux-1" / "000002", "--evidence-key", site_clips.parent / "evidence.pem", "--json"
    )
    (document,) = records(result.stdout, "clip")
    values = [document[key] for key in ("clip", "verdict", "decrypted", "findings")]
    assert values == [2, "valid", True, []]
    assert summary(result.stdout) == {"clips": 1, "verdicts": {"valid": 1}}


def test_a_wrong_key_is_reported_once_per_clip(clips, tmp_path):
    evidence_key.create(tmp_path / "other.pem")
    result = patrolink("verify", clips / "linux-1", "--evidence-key", tmp_path / "other.pem")
    assert result.returncode == 0 and result.stdout.count("files, chain and signature only)") == 4
    lines = result.stderr.splitlines()
    assert len(lines) == 4 and "use the key that the device was configured with at that time" in lines[0], lines
    assert lines[0].endswith("(5 more of this kind)"), lines


def test_the_exit_code_follows_the_verdicts(clips):
    (clips / "linux-1" / "000002" / "000001-000010.pls").unlink()
    result = patrolink("verify", clips / "linux-1")
    assert result.returncode == 0 and "linux-1 clip 2: valid with gaps" in result.stdout
    assert result.stderr == "linux-1 clip 2: gap: 000001-000010.pls: the file is missing\n"
    assert patrolink("verify", clips, "--strict").returncode == 1
    alterations.flip(clips / "linux-1" / "000001" / "000001-000001.pls", 1000)
    assert patrolink("verify", clips).returncode == 1
    # If the folder of one clip is given, only that clip is reported. The others are read for the chain.
    assert patrolink("verify", clips / "linux-1" / "000003", "--strict").returncode == 0
    shutil.rmtree(clips / "linux-1" / "000002")
    result = patrolink("verify", clips / "linux-1" / "000003")
    assert result.returncode == 0 and "clip 2 before this one is missing" in result.stderr
    (clips / "signers.toml").unlink()
    assert patrolink("verify", clips / "wearer 2").returncode == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["verify", "no such folder"], "not a folder"),
        (["verify", "."], "no clips found"),
        (["verify", "CLIPS", "--signers", "no.toml"], "no.toml: No such file"),
        (["verify", "CLIPS", "--evidence-key", "no.pem"], "no.pem: No such file"),
        (["list", "no such folder"], "not a folder"),
        (["list", "https://hub/else"], "not the address of a hub console"),
        (["fetch", "http://192.0.2.1:80"], "unencrypted"),
    ],
)
def test_errors_name_the_cause(site_clips, args, words):
    result = patrolink(*(str(site_clips) if arg == "CLIPS" else arg for arg in args))
    assert result.returncode == 2 and words in result.stderr and result.stdout == "", result
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", ["fetch", "list"])
def test_a_hub_that_cannot_be_reached_is_exit_code_3(verb):
    result = patrolink(verb, "http://127.0.0.1:1", "--json")
    assert result.returncode == 3 and "no connection" in result.stderr, result
    (error,) = records(result.stdout)
    assert error["record"] == "error" and error["exit_code"] == 3 and "no connection" in error["text"]


def test_list_shows_the_clips_of_a_folder(site_clips):
    lines = patrolink("list", site_clips).stdout.splitlines()
    assert len(lines) == 8 and lines[1].startswith("linux-1 clip 2: sos, 2026-11-18T11:06:59.500Z, 6 files, ")
    (document,) = records(patrolink("list", site_clips / "linux-1" / "000003", "--json").stdout, "clip")
    assert document["trigger"] == "photo" and set(document["files"]) == {
        path.name for path in (site_clips / "linux-1" / "000003").iterdir()
    }


def test_a_hub_serves_its_clips_and_logs_each_access(site_clips, tmp_path, broker):
    shutil.copytree(site_clips, tmp_path / "clips")
    hub = console_site.ConsoleSite(tmp_path, broker, hub=f'uploads = "127.0.0.1:{console_site.free_port()}"')
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while (listing := patrolink("list", hub.url, token=site_file.TOKEN)).stdout.count(", valid\n") < 8:
            assert listing.returncode == 0 and time.monotonic() < deadline, listing
        expected = patrolink("list", site_clips).stdout.splitlines()
        assert sorted(listing.stdout.splitlines()) == sorted(f"{line}, valid" for line in expected)
        # An earlier fetch has downloaded part of one file.
        partial = Path("wearer 2", "000002", "000001-000010.pls")
        (tmp_path / "fetched" / partial).parent.mkdir(parents=True)
        (tmp_path / "fetched" / f"{partial}.part").write_bytes((site_clips / partial).read_bytes()[:40_000])
        result = patrolink("fetch", hub.url, "--out", tmp_path / "fetched", token=site_file.TOKEN)
        assert result.returncode == 0 and result.stderr == "" and result.stdout.count(": valid (") == 8, result
        assert same_files(site_clips, tmp_path / "fetched")
        assert patrolink("fetch", hub.url, "--out", tmp_path / "fetched", token="a guess").returncode == 3
    finally:
        hub.process.stop()
    accesses = [json.loads(line) for line in (tmp_path / "clips" / "access.jsonl").read_text().splitlines()]
    segments = {row["name"] for row in accesses if row["what"] == "fetched" and row.get("device") == "wearer 2"}
    assert {path.name for path in (site_clips / "wearer 2").rglob("*.pl?")} == segments
    assert {row["who"] for row in accesses} == {"duty"}
    assert [(row["name"], row["part"]) for row in accesses if "part" in row] == [(partial.name, "bytes=40000-")]


# --- fetch from a faulty or hostile console ---------------------------------------------------------------------------


def hub_row(clip) -> dict:
    """Return a clip as a hub lists it."""
    files = [{"name": name, "bytes": size} for name, size in clip.files.items()]
    names = {"device": clip.device, "clip": clip.number, "trigger": clip.trigger, "time_ms": clip.time_ms}
    return {**names, "verdict": clip.verdict, "files": files}


class FakeConsole:
    """The clip routes of a console, with faults.

    Attributes:
        cut_bytes: Bytes after which a response is cut off; 0 for never.
        ranges: Range headers of the requests.
        change: Function that returns the list to send instead of the real list.

    Args:
        clips: The folder of clips to serve.
    """

    def __init__(self, clips: Path) -> None:
        self.clips, self.cut_bytes, self.ranges = clips, 0, list[str]()
        self.change = lambda listings: listings

    async def _list(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        return web.json_response(self.change([hub_row(clip) for clip in ClipSource(self.clips).listing()]))

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = self.clips.joinpath(*(request.match_info[part] for part in ("device", "clip", "name")))
        if not path.exists():
            raise web.HTTPNotFound
        requested = request.headers.get("Range", "")
        self.ranges += [requested] if requested else []
        if not self.cut_bytes:
            return web.FileResponse(path)
        offset = int(requested[6:-1]) if requested else 0
        size = path.stat().st_size
        headers = {"Content-Length": str(size - offset)}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
        response = web.StreamResponse(status=206 if offset else 200, headers=headers)
        await response.prepare(request)
        data = path.read_bytes()[offset : offset + self.cut_bytes]
        await response.write(data)
        if offset + len(data) < size:
            await asyncio.sleep(0.01)  # lets the transport send the data
            request.transport.close()
        return response

    async def _signers(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self.clips / "signers.toml")

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/clips", self._list)
        app.router.add_get("/clips/signers.toml", self._signers)
        app.router.add_get("/clips/{device}/{clip}/{name}", self._file)
        return app


@contextlib.contextmanager
def serving(console: FakeConsole):
    """Serve the console in a thread and yield its address."""
    loop = asyncio.new_event_loop()

    async def start():
        runner = web.AppRunner(console.app(), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, site._server.sockets[0].getsockname()[1]

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def same_files(a: Path, b: Path) -> bool:
    files = [{path.relative_to(top): path.read_bytes() for path in top.rglob("*.pl?")} for top in (a, b)]
    return bool(files[0]) and files[0] == files[1] and not list(b.rglob("*.part"))


def test_fetch_downloads_each_file_once_and_verifies_the_clips(site_clips, tmp_path):
    console = FakeConsole(site_clips)
    with serving(console) as url:
        assert len(records(patrolink("list", url, "--json").stdout, "clip")) == 8
        result = patrolink(
            "fetch", url, "--out", tmp_path / "fetched", "--evidence-key", site_clips.parent / "evidence.pem"
        )
        assert result.returncode == 0 and result.stderr == "", result
        assert result.stdout.splitlines()[-1] == "wearer 2 clip 4: valid (5 segments; content decrypted)"
        assert same_files(site_clips, tmp_path / "fetched")
        # A damaged file is downloaded again, the others are not.
        mtimes = {path: path.stat().st_mtime_ns for path in (tmp_path / "fetched").rglob("*.pls")}
        damaged = tmp_path / "fetched" / "linux-1" / "000002" / "000001-000010.pls"
        alterations.flip(damaged, 70000)
        assert (
            patrolink("fetch", url, "--out", tmp_path / "fetched", "--device", "linux-1", "--clip", 2).returncode == 0
        )
        assert same_files(site_clips, tmp_path / "fetched")
        changed = {path for path, mtime in mtimes.items() if path.stat().st_mtime_ns != mtime}
        assert changed == {damaged}
        assert "not known at this site" in patrolink("fetch", url, token="another").stderr
        assert "no such clip" in patrolink("fetch", url, "--clip", 77, "--out", tmp_path / "fetched").stderr


def test_fetch_continues_after_a_lost_connection(site_clips, tmp_path):
    console = FakeConsole(site_clips)
    console.cut_bytes = 30_000
    with serving(console) as url:
        result = patrolink("fetch", url, "--out", tmp_path / "fetched", "--clip", 2, "--device", "linux-1")
    assert result.returncode == 0, result
    assert same_files(site_clips / "linux-1" / "000002", tmp_path / "fetched" / "linux-1" / "000002")
    assert {"bytes=30000-", "bytes=60000-", "bytes=90000-"} <= set(console.ranges)


def test_a_partial_file_with_other_content_is_discarded(site_clips, tmp_path):
    folder = tmp_path / "fetched" / "linux-1" / "000002"
    folder.mkdir(parents=True)
    (folder / "000001-000009.pls.part").write_bytes(bytes(50_000))
    (folder / "000001-000010.pls.part").write_bytes(bytes(5_000_000))
    with serving(FakeConsole(site_clips)) as url:
        result = patrolink("fetch", url, "--out", tmp_path / "fetched", "--clip", 2, "--device", "linux-1")
    assert result.returncode == 0 and same_files(site_clips / "linux-1" / "000002", folder), result


def test_a_known_key_is_not_replaced(site_clips, tmp_path):
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "signers.toml").write_text('[signers]\n"linux-1" = ["02' + "11" * 32 + '"]\n')
    with serving(FakeConsole(site_clips)) as url:
        result = patrolink("fetch", url, "--out", tmp_path / "fetched")
    assert result.returncode == 1 and "other keys for linux-1" in result.stderr
    assert "linux-1 clip 1: unverifiable" in result.stdout and "wearer 2 clip 1: valid" in result.stdout


INVALID_ROWS = {
    "a device name that leaves the folder": lambda row: row | {"device": ".."},
    "a device name with a path": lambda row: row | {"device": "a/../../b"},
    "a device name with control characters": lambda row: row | {"device": "a\x1b[2J"},
    "a file name that leaves the folder": lambda row: row | {"files": [{"name": "../x.pls", "bytes": 1}]},
    "another kind of file": lambda row: row | {"files": [{"name": "signers.toml", "bytes": 1}]},
    "an endless file": lambda row: row | {"files": [{"name": "000001-000001.pls", "bytes": 1 << 40}]},
    "a negative size": lambda row: row | {"files": [{"name": "000001-000001.pls", "bytes": -1}]},
    "a clip number that is a path": lambda row: row | {"clip": "../../7"},
    "no files": lambda row: {"device": "linux-1", "clip": 2},
    "not an object": lambda row: 7,
}


@pytest.mark.parametrize("name", INVALID_ROWS)
def test_an_invalid_list_is_refused(site_clips, tmp_path, name):
    console = FakeConsole(site_clips)
    console.change = lambda listings: [INVALID_ROWS[name](listings[0])]
    with serving(console) as url:
        result = patrolink("fetch", url, "--out", tmp_path / "fetched")
    assert result.returncode == 3 and "not a valid list of clips" in result.stderr, result
    assert list(tmp_path.rglob("*")) == []


def test_public_keys_of_devices_with_any_name_are_stored(tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    names = ["\\U0001F600", "\\u007F", 'a\\"b', "Živa"]
    lines = "".join(f'"{name}" = ["02{"11" * 32}"]\n' for name in names)
    (tmp_path / "hub" / "signers.toml").write_text(f"[signers]\n{lines}", encoding="utf-8")
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)

    async def fetch_signers(url):
        async with client.http_session(url) as hub:
            assert await fetch.fetch_signers(hub, tmp_path) == []

    with serving(FakeConsole(tmp_path / "hub")) as url:
        asyncio.run(fetch_signers(url))
    signers = read_signers(tmp_path / "signers.toml")
    assert signers == read_signers(tmp_path / "hub" / "signers.toml") and len(signers) == 4


def test_an_endless_list_is_refused(site_clips, tmp_path, monkeypatch):
    async def send_endlessly(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1 << 16))
        return response

    monkeypatch.setattr(fetch, "_LIST_BYTES_MAX", 1 << 20)
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    for handler in ("_list", "_signers"):
        console = FakeConsole(site_clips)
        setattr(console, handler, send_endlessly)
        with serving(console) as url, pytest.raises(UserError, match="exceeds 1 MB"):
            asyncio.run(_fetch_all(url, tmp_path, signers=True))


@pytest.mark.parametrize(
    ("difference", "words"), [(-1, "more than the"), (1, "does not deliver its"), (None, "deliver its 5 bytes")]
)
def test_wrong_sizes_and_missing_files_are_errors(site_clips, tmp_path, difference, words, monkeypatch):
    console = FakeConsole(site_clips)

    def change(listings):
        (listing,) = [row for row in listings if (row["device"], row["clip"]) == ("linux-1", 2)]
        if difference is None:
            listing["files"].append({"name": "000009-000009.pls", "bytes": 5})
        else:
            listing["files"][0]["bytes"] += difference
        return [listing]

    console.change = change
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    monkeypatch.setattr(fetch, "_RETRY_S", 0.01)
    with serving(console) as url, pytest.raises(UserError, match=words):
        asyncio.run(_fetch_all(url, tmp_path))


async def _fetch_all(url: str, out: Path, signers: bool = False) -> None:
    async with client.http_session(url) as hub:
        if signers:
            await fetch.fetch_signers(hub, out)
        for listing in await fetch.list_clips(hub):
            await fetch.fetch_clip(hub, listing, out, lambda _: None)


def test_unwritable_folder_is_named_in_the_error(site_clips, tmp_path):
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "linux-1").write_text("a file")
    with serving(FakeConsole(site_clips)) as url:
        result = patrolink("fetch", url, "--out", tmp_path / "fetched", "--device", "linux-1")
    assert result.returncode == 2 and "linux-1" in result.stderr and "no connection" not in result.stderr, result
