"""A site on virtual time that receives clips, and a device that records."""

import contextlib
import random
from pathlib import Path

import pytest
from aiohttp import web
from patrolink.core.keys import DeviceKey
from patrolink.hub.clips import upload_store
from patrolink.hub.clips.tus_server import TusServer
from patrolink.hub.clips.upload_authorization import UploadAuthorization
from patrolink.hub.infra import http_server
from patrolink.hub.infra.metrics import Metrics

from tests.support import clip_maker, site_file, upload_clients
from tests.support.simulated_network import SimulatedNetwork
from tests.support.simulated_site import CONSOLE_PORT, FLOOR_PORT, MEDIA_PORT, UPLOAD_PORT, SimulatedSite

NAME = "000001-000002.pls"


class SimulatedClipSite(upload_clients.ClipSite):
    """A simulated hub that receives clips, with a console, and a device that records.

    Args:
        folder: Folder of the site.
        evidence: Whether the hub has the evidence key.
    """

    def __init__(self, folder: Path, evidence: bool = True) -> None:
        device = clip_maker.Device(upload_clients.DEVICE, folder / "evidence.pem")
        ports = FLOOR_PORT, MEDIA_PORT
        text = upload_clients.clip_site_text("mqtt://broker", ports, UPLOAD_PORT, CONSOLE_PORT, evidence)
        network = SimulatedSite(folder, text, [upload_clients.DEVICE])
        super().__init__(folder, device, network.hub, network, UPLOAD_PORT, CONSOLE_PORT)

    def close(self) -> None:
        """End the simulation; no exception may have been left unhandled."""
        self.network.close()


@pytest.fixture
def site(tmp_path):
    """A SimulatedClipSite with an evidence key."""
    with contextlib.closing(SimulatedClipSite(tmp_path)) as clip_site:
        yield clip_site


def random_bytes(size: int, seed: int = 20261125) -> bytes:
    """Return bytes that a seed determines."""
    return random.Random(seed).randbytes(size)  # noqa: S311


class NoEvents:
    """A receiver of upload events that ignores them."""

    async def file_stored(self, file):
        pass

    def upload_progressed(self, file):
        pass

    def upload_damaged(self, file):
        pass


@pytest.fixture
def start_server(tmp_path):
    """Return a function that starts an upload server for one device and returns a client. Argument: limit in bytes."""
    network, runners = SimulatedNetwork(), []

    async def serve(bytes_max):
        key = DeviceKey(site_file.keys_of(["linux-1"])["linux-1"])
        authorization = UploadAuthorization({"linux-1": key}.get, network.clock)
        store = upload_store.UploadStore(tmp_path, bytes_max)
        uploads = TusServer(store, authorization, NoEvents(), Metrics(), lambda *args, **fields: None)
        app = web.Application()
        uploads.attach(app)
        port = UPLOAD_PORT + len(runners)
        address = f"127.0.0.1:{port}"
        runners.append(await http_server.start(app, address, None, "upload", Metrics(), network.listen_tcp))
        return upload_clients.RawTusClient("linux-1", network, port)

    yield lambda bytes_max=1 << 30: network.run(serve(bytes_max))
    for runner in runners:
        network.run(runner.cleanup())
    network.close()
