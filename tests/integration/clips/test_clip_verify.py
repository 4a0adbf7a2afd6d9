"""`patrolink clip` list, verify and fetch: as a dispatcher and a court's expert run them."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
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
from tests.support import clip_maker, console_site
from tests.support.polling import TIMEOUT_S

pytestmark = pytest.mark.skipif(not clip_maker.DEMO_VIDEO.exists(), reason="no build/media/bikes.mp4: run `make media`")
TOKEN = "a dispatcher's"  # noqa: S105


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A site's clips, of two devices."""
    work = tmp_path_factory.mktemp("site")
    clips = work / "clips"
    keys = []
    for name in ("linux-1", "wearer 2"):
        keys.append(f'"{name}" = ["{clip_maker.make(clips, name).signer}"]\n')
    (clips / "signers.toml").write_text("[signers]\n" + "".join(keys))
    return clips


@pytest.fixture
def clips(made, tmp_path):
    return shutil.copytree(made, tmp_path / "clips")


def patrolink(*args, token=TOKEN) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATROLINK_HUB_TOKEN": token}
    command = [sys.executable, "-m", "patrolink", "clip", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_verify_tells_each_clip_and_how_deep_it_looked(made):
    found = patrolink("verify", made)
    assert found.returncode == 0 and found.stderr == ""
    assert found.stdout.splitlines()[0] == "linux-1 clip 1: valid (5 segments; files, chain and signature only)"
    assert len(found.stdout.splitlines()) == 8
    one = patrolink("verify", made / "linux-1" / "000002", "--evidence-key", made.parent / "evidence.pem", "--json")
    (told,) = json.loads(one.stdout)
    assert (told["clip"], told["verdict"], told["looked_inside"], told["findings"]) == (2, "valid", True, [])


def test_a_key_that_opens_nothing_is_told_once_a_clip(clips, tmp_path):
    evidence_key.create(tmp_path / "other.pem")
    found = patrolink("verify", clips / "linux-1", "--evidence-key", tmp_path / "other.pem")
    assert found.returncode == 0 and found.stdout.count("files, chain and signature only)") == 4
    lines = found.stderr.splitlines()
    assert len(lines) == 4 and "use the key that the device was configured with at that time" in lines[0], lines
    assert lines[0].endswith("(5 more of this kind)"), lines


def test_the_exit_code_is_the_verdicts(clips):
    (clips / "linux-1" / "000002" / "000001-000010.pls").unlink()
    found = patrolink("verify", clips / "linux-1")
    assert found.returncode == 0 and "linux-1 clip 2: valid with gaps" in found.stdout
    assert found.stderr == "linux-1 clip 2: gap: 000001-000010.pls: the file is missing\n"
    assert patrolink("verify", clips, "--strict").returncode == 1
    alterations.flip(clips / "linux-1" / "000001" / "000001-000001.pls", 1000)
    assert patrolink("verify", clips).returncode == 1
    # Of one clip only that one is told; the others stand beside it for the chain.
    assert patrolink("verify", clips / "linux-1" / "000003", "--strict").returncode == 0
    shutil.rmtree(clips / "linux-1" / "000002")
    alone = patrolink("verify", clips / "linux-1" / "000003")
    assert alone.returncode == 0 and "clip 2 before this one is missing" in alone.stderr
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
        (["fetch", "http://127.0.0.1:1"], "no connection"),
    ],
)
def test_what_cannot_be_done_is_told_in_words(made, args, words):
    found = patrolink(*(str(made) if it == "CLIPS" else it for it in args))
    assert found.returncode == 2 and words in found.stderr and found.stdout == "", found
    assert found.stderr.startswith("error: ") and "Traceback" not in found.stderr


def test_list_tells_what_lies_in_a_folder(made):
    lines = patrolink("list", made).stdout.splitlines()
    assert len(lines) == 8 and lines[1].startswith("linux-1 clip 2: sos, 2026-11-18T11:06:59.500Z, 6 files, ")
    (told,) = json.loads(patrolink("list", made / "linux-1" / "000003", "--json").stdout)
    assert told["trigger"] == "photo" and {it["name"] for it in told["files"]} == {
        path.name for path in (made / "linux-1" / "000003").iterdir()
    }


def test_a_hub_lists_and_gives_its_clips_and_writes_down_to_whom(made, tmp_path, broker):
    shutil.copytree(made, tmp_path / "clips")
    hub = console_site.ConsoleSite(tmp_path, broker, hub=f'uploads = "127.0.0.1:{console_site.free_port()}"')
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while (told := patrolink("list", hub.url, token=console_site.TOKEN)).stdout.count(", valid\n") < 8:
            assert told.returncode == 0 and time.monotonic() < deadline, told
        here = patrolink("list", made).stdout.splitlines()
        assert sorted(told.stdout.splitlines()) == sorted(f"{line}, valid" for line in here)
        # Half of a file is here from before.
        half = Path("wearer 2", "000002", "000001-000010.pls")
        (tmp_path / "got" / half).parent.mkdir(parents=True)
        (tmp_path / "got" / f"{half}.part").write_bytes((made / half).read_bytes()[:150_000])
        found = patrolink("fetch", hub.url, "--out", tmp_path / "got", token=console_site.TOKEN)
        assert found.returncode == 0 and found.stderr == "" and found.stdout.count(": valid (") == 8, found
        assert same(made, tmp_path / "got")
        assert patrolink("fetch", hub.url, "--out", tmp_path / "got", token="a guess").returncode == 2
    finally:
        hub.process.stop()
    looked = [json.loads(line) for line in (tmp_path / "clips" / "access.jsonl").read_text().splitlines()]
    segments = {it["name"] for it in looked if it["what"] == "fetched" and it.get("device") == "wearer 2"}
    assert {path.name for path in (made / "wearer 2").rglob("*.pl?")} == segments
    assert {it["who"] for it in looked} == {"duty"}
    assert [(it["name"], it["part"]) for it in looked if "part" in it] == [(half.name, "bytes=150000-")]


# --- fetch: a console whose network is bad, or that lies --------------------------------------------------------------


class Console:
    """The routes that fetch asks for, over a folder of clips.

    cut     bytes after which an answer breaks off, 0 never; ranges: those that were asked for
    change  function(list of clips) of what the console says in its place
    """

    def __init__(self, clips: Path) -> None:
        self.clips, self.cut, self.ranges = clips, 0, list[str]()
        self.change = lambda told: told

    async def _list(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        return web.json_response(self.change([clip.to_json() for clip in ClipSource(self.clips).listing()]))

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = self.clips.joinpath(*(request.match_info[part] for part in ("device", "clip", "name")))
        if not path.exists():
            raise web.HTTPNotFound
        asked = request.headers.get("Range", "")
        self.ranges += [asked] if asked else []
        if not self.cut:
            return web.FileResponse(path)
        at = int(asked[6:-1]) if asked else 0
        size = path.stat().st_size
        headers = {"Content-Length": str(size - at)}
        if at:
            headers["Content-Range"] = f"bytes {at}-{size - 1}/{size}"
        response = web.StreamResponse(status=206 if at else 200, headers=headers)
        await response.prepare(request)
        data = path.read_bytes()[at : at + self.cut]
        await response.write(data)
        if at + len(data) < size:
            await asyncio.sleep(0.01)  # so that it is sent
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
def serving(console: Console):
    """Give the console's address, served from a thread."""
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


def same(a: Path, b: Path) -> bool:
    files = [{path.relative_to(top): path.read_bytes() for path in top.rglob("*.pl?")} for top in (a, b)]
    return bool(files[0]) and files[0] == files[1] and not list(b.rglob("*.part"))


def test_fetch_brings_everything_once_and_verifies_it(made, tmp_path):
    console = Console(made)
    with serving(console) as url:
        assert len(json.loads(patrolink("list", url, "--json").stdout)) == 8
        found = patrolink("fetch", url, "--out", tmp_path / "got", "--evidence-key", made.parent / "evidence.pem")
        assert found.returncode == 0 and found.stderr == "", found
        assert found.stdout.splitlines()[-1] == "wearer 2 clip 4: valid (5 segments; content decrypted)"
        assert same(made, tmp_path / "got")
        # A file that is damaged here is got again, the others are not.
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "got").rglob("*.pls")}
        damaged = tmp_path / "got" / "linux-1" / "000002" / "000001-000010.pls"
        alterations.flip(damaged, 70000)
        assert patrolink("fetch", url, "--out", tmp_path / "got", "--device", "linux-1", "--clip", 2).returncode == 0
        assert same(made, tmp_path / "got")
        after = {path for path, when in before.items() if path.stat().st_mtime_ns != when}
        assert after == {damaged}
        assert "not known at this site" in patrolink("fetch", url, token="another").stderr
        assert "no such clip" in patrolink("fetch", url, "--clip", 77, "--out", tmp_path / "got").stderr


def test_fetch_goes_on_where_the_line_broke(made, tmp_path):
    console = Console(made)
    console.cut = 100_000
    with serving(console) as url:
        found = patrolink("fetch", url, "--out", tmp_path / "got", "--clip", 2, "--device", "linux-1")
    assert found.returncode == 0, found
    assert same(made / "linux-1" / "000002", tmp_path / "got" / "linux-1" / "000002")
    assert {"bytes=100000-", "bytes=200000-", "bytes=300000-"} <= set(console.ranges)


def test_a_part_of_other_bytes_is_not_gone_on_with(made, tmp_path):
    folder = tmp_path / "got" / "linux-1" / "000002"
    folder.mkdir(parents=True)
    (folder / "000001-000009.pls.part").write_bytes(bytes(50_000))
    (folder / "000001-000010.pls.part").write_bytes(bytes(5_000_000))
    with serving(Console(made)) as url:
        found = patrolink("fetch", url, "--out", tmp_path / "got", "--clip", 2, "--device", "linux-1")
    assert found.returncode == 0 and same(made / "linux-1" / "000002", folder), found


def test_a_key_that_is_here_stays(made, tmp_path):
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "signers.toml").write_text('[signers]\n"linux-1" = ["02' + "11" * 32 + '"]\n')
    with serving(Console(made)) as url:
        found = patrolink("fetch", url, "--out", tmp_path / "got")
    assert found.returncode == 1 and "other keys for linux-1" in found.stderr
    assert "linux-1 clip 1: unverifiable" in found.stdout and "wearer 2 clip 1: valid" in found.stdout


LIES = {
    "a device that leads out of the folder": lambda one: one | {"device": ".."},
    "a device of two folders": lambda one: one | {"device": "a/../../b"},
    "a device that speaks to the terminal": lambda one: one | {"device": "a\x1b[2J"},
    "a file that leads out of the folder": lambda one: one | {"files": [{"name": "../x.pls", "bytes": 1}]},
    "another kind of file": lambda one: one | {"files": [{"name": "signers.toml", "bytes": 1}]},
    "a file without end": lambda one: one | {"files": [{"name": "000001-000001.pls", "bytes": 1 << 40}]},
    "a negative size": lambda one: one | {"files": [{"name": "000001-000001.pls", "bytes": -1}]},
    "a number that is none": lambda one: one | {"clip": "../../7"},
    "no files": lambda one: {"device": "linux-1", "clip": 2},
    "no clip": lambda one: 7,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_list_that_is_none_is_not_followed(made, tmp_path, lie):
    console = Console(made)
    console.change = lambda told: [LIES[lie](told[0])]
    with serving(console) as url:
        found = patrolink("fetch", url, "--out", tmp_path / "got")
    assert found.returncode == 2 and "not a valid list of clips" in found.stderr, found
    assert list(tmp_path.rglob("*")) == []


def test_keys_of_devices_of_any_name_are_taken(made, tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    names = ["\\U0001F600", "\\u007F", 'a\\"b', "Živa"]
    lines = "".join(f'"{name}" = ["02{"11" * 32}"]\n' for name in names)
    (tmp_path / "hub" / "signers.toml").write_text(f"[signers]\n{lines}", encoding="utf-8")
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)

    async def get(url):
        async with client.http_session(url) as hub:
            assert await fetch.fetch_signers(hub, tmp_path) == []

    with serving(Console(tmp_path / "hub")) as url:
        asyncio.run(get(url))
    told = read_signers(tmp_path / "signers.toml")
    assert told == read_signers(tmp_path / "hub" / "signers.toml") and len(told) == 4


def test_a_list_without_end_is_not_taken_in(made, tmp_path, monkeypatch):
    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1 << 16))
        return response

    monkeypatch.setattr(fetch, "_LIST_BYTES_MAX", 1 << 20)
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    for path in ("_list", "_signers"):
        console = Console(made)
        setattr(console, path, endless)
        with serving(console) as url, pytest.raises(UserError, match="exceeds 1 MB"):
            asyncio.run(_get_all(url, tmp_path, signers=True))


@pytest.mark.parametrize(
    ("off", "words"), [(-1, "more than the"), (1, "does not deliver its"), (None, "deliver its 5 bytes")]
)
def test_sizes_that_are_wrong_and_files_that_go_are_told(made, tmp_path, off, words, monkeypatch):
    console = Console(made)

    def change(told):
        (one,) = [it for it in told if (it["device"], it["clip"]) == ("linux-1", 2)]
        if off is None:
            one["files"].append({"name": "000009-000009.pls", "bytes": 5})
        else:
            one["files"][0]["bytes"] += off
        return [one]

    console.change = change
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    monkeypatch.setattr(fetch, "_RETRY_S", 0.01)
    with serving(console) as url, pytest.raises(UserError, match=words):
        asyncio.run(_get_all(url, tmp_path))


async def _get_all(url: str, out: Path, signers: bool = False) -> None:
    async with client.http_session(url) as hub:
        if signers:
            await fetch.fetch_signers(hub, out)
        for one in await fetch.list_clips(hub):
            await fetch.fetch_clip(hub, one, out, lambda _: None)


def test_a_folder_that_cannot_be_written_is_named(made, tmp_path):
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "linux-1").write_text("a file")
    with serving(Console(made)) as url:
        found = patrolink("fetch", url, "--out", tmp_path / "got", "--device", "linux-1")
    assert found.returncode == 2 and "linux-1" in found.stderr and "no connection" not in found.stderr, found
