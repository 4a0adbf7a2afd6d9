"""A device uploads its clips: through the sockets of an AT modem, and to a hub that does not respond."""

import contextlib
import socket
import time

import pytest
from patrolink.emulator.network import certificates
from patrolink.emulator.peripherals import nmea

from tests.integration.clips.test_upload import running_server, server, uploaded_files  # noqa: F401
from tests.support import clip_maker
from tests.support.device_rig import walk


@pytest.fixture
def boot_with_clip(tmp_path, rig):
    """Return a function that boots a board with a clip on its storage and returns (rig, files of the clip)."""

    def make(board, upload, **options):
        source = clip_maker.Device("source", tmp_path / "evidence.pem")
        source.run(1)
        source.recorder.trigger(0, 0, "", source.now, 500)
        source.run(6)
        source.copy_state(tmp_path / "device" / "state")
        folder = source.write(tmp_path / "expected")
        files = sorted(path.read_bytes() for path in folder.glob("*/*.p*"))
        camera = {"source": str(tmp_path / "none"), "indicator": str(tmp_path / "camera.led")}
        clips = {"evidence_key": source.evidence.public.hex(), "upload": upload}
        device_rig = rig(board, nmea.speak(walk(600)), 1.0, camera=camera, clips=clips, **options)
        device_rig.receiver.start()
        return device_rig, files

    return make


@pytest.mark.timeout(400)
@pytest.mark.parametrize("board, dialect", [("linux", "quectel"), ("unix", "simcom")])
def test_a_clip_is_uploaded_through_the_sockets_of_a_modem(boot_with_clip, server, board, dialect):  # noqa: F811
    port, folder = server
    device_rig, files = boot_with_clip(board, {"host": "hub.example", "port": port, "kbps": 4000}, modem=dialect)
    device_rig.listen(lambda: sorted(uploaded_files(folder)) == files, 120)
    assert sum(map(len, files)) > 40_000


@contextlib.contextmanager
def black_hole():
    """Yield a port that accepts no connection because its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@contextlib.contextmanager
def silent_server():
    """Yield a port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("board, hub", [("linux", silent_server), ("unix", black_hole)])
def test_an_sos_is_not_delayed_by_an_unresponsive_upload_server(boot_with_clip, tmp_path, board, hub):
    tls = {"ca": str(certificates.make(tmp_path / "tls", "localhost").ca)}
    with hub() as port:
        device_rig, _ = boot_with_clip(
            board, {"host": "127.0.0.1", "port": port, "tls": tls if hub is silent_server else {}}
        )
        device_rig.listen(lambda: "clips: upload interrupted" in device_rig.device.console_text())
        interrupted = [
            line for line in device_rig.device.console_text().splitlines() if "clips: upload interrupted" in line
        ]
        time.sleep(int(interrupted[-1].split(" ")[-2]) / 1000 + 1)  # the uploader is then connecting, for up to 5 s
        device_rig.device.press("sos")
        device_rig.listen(lambda: any(row["record"] == "event" and row["kind"] == "sos" for row in device_rig.rows))
        assert "interrupted to send an event" in device_rig.device.console_text()
