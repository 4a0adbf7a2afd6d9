"""A whole device that uploads its clips: through the sockets of an AT modem, and to a hub that does not answer."""

import contextlib
import json
import socket
import time

import pytest
from patrolink.emulator.network import certificates
from patrolink.emulator.peripherals import nmea

from tests.integration.clips.test_upload import arrived, server  # noqa: F401
from tests.support import clip_maker
from tests.support.device_rig import walk


@pytest.fixture
def filmed(tmp_path, rig):
    """Boot a board whose storage holds a clip: filmed(board, upload) -> Rig, the clip's files."""

    def make(board, upload, **more):
        film = clip_maker.Device("filmed", tmp_path / "evidence.pem")
        film.run(1)
        film.recorder.trigger(0, 0, "", film.now, 500)
        film.run(6)
        film.copy_state(tmp_path / "device" / "state")
        there = film.write(tmp_path / "expected")
        files = sorted(path.read_bytes() for path in there.glob("*/*.p*"))
        camera = {"source": str(tmp_path / "none"), "indicator": str(tmp_path / "camera.led")}
        clips = {"evidence_key": film.evidence.public.hex(), "upload": upload}
        it = rig(board, nmea.speak(walk(600)), 1.0, camera=camera, clips=clips, **more)
        it.receiver.start()
        return it, files

    return make


@pytest.mark.timeout(400)
@pytest.mark.parametrize("board", ["linux", "unix"])
@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
def test_a_clip_arrives_through_the_sockets_of_a_modem(filmed, server, board, dialect):  # noqa: F811
    port, folder = server
    it, files = filmed(board, {"host": "hub.example", "port": port, "kbps": 4000}, modem=dialect)
    it.listen(lambda: sorted(arrived(folder)) == files, 120)
    assert sum(map(len, files)) > 100000


@contextlib.contextmanager
def black_hole():
    """A port that answers no connection: its queue is full."""
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
def silence():
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as taker:
        yield taker.getsockname()[1]


@pytest.mark.parametrize("board", ["linux", "unix"])
@pytest.mark.parametrize("hub", [black_hole, silence])
def test_an_sos_does_not_wait_for_a_hub_of_clips_that_does_not_answer(filmed, tmp_path, board, hub):
    tls = {"ca": str(certificates.make(tmp_path / "tls", "localhost").ca)}
    with hub() as port:
        it, _ = filmed(board, {"host": "127.0.0.1", "port": port, "tls": tls if hub is silence else {}})
        it.listen(lambda: "clips: upload interrupted" in it.device.console_text())
        stopped = [line for line in it.device.console_text().splitlines() if "clips: upload interrupted" in line]
        time.sleep(int(stopped[-1].split(" ")[-2]) / 1000 + 1)  # it connects again, and would do so for 5 s
        it.device.press("sos")
        pressed = time.monotonic()
        it.listen(lambda: any(row["message"] == "event" and row["kind"] == "sos" for row in it.rows))
        took = time.monotonic() - pressed
        print(json.dumps({"board": board, "hub": hub.__name__, "sos_ms": round(took * 1000)}))
        assert "interrupted to send an event" in it.device.console_text()
        assert took < 3  # of the 4 s that are left of those 5
