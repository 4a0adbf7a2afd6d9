"""Recording, on a board with a camera and the site's evidence key. Loaded only where it is configured."""

from collections import namedtuple

from agent.recording.clip_recorder import ClipRecorder
from agent.recording.clip_store import ClipStore
from agent.recording.controller import Recording, RecordingController
from agent.recording.ring_recorder import RingRecorder
from agent.recording.signer import Signer
from app.errors import ConfigError

# Container of the clips, function that encodes a picture as JPEG, and the camera, with its stamp where there is one.
Video = namedtuple("Video", ("container", "encode_jpeg", "camera"))


def preload(config):
    """Import the modules that this configuration needs: compiling them takes heap that is free only at the start."""
    if config["camera"].get("kind") == "vc0706":
        import agent.live_view.rtp_jpeg
        import agent.recording.avi
        import agent.recording.vc0706
    if config["clips"]["upload"]:
        import agent.upload.uploader
    if config.get("modem"):
        import agent.modem.datagrams
    import agent.live_view.session  # noqa: F401

    try:
        import cryptolib  # noqa: F401 - only where compat.crypto uses p256
    except ImportError:
        return
    import compat.p256  # noqa: F401


class _RecordingBuilder:
    """Builds the Recording of a device; again whenever storage could not be read."""

    def __init__(self, core, video, microphone, viewer, upload):
        self._core = core
        self._video = video
        self._microphone = microphone
        self._viewer = viewer
        self._upload = upload

    def build(self, on_low, on_sealed):
        """Return a Recording. Raises OSError."""
        core = self._core
        clips = core.config["clips"]
        store = ClipStore(
            core.hal.clip_storage(clips["dir"]),
            core.store,
            Signer(core.store),
            clips,
            core.config["device"],
            core.counter.boot,
            self._unix_ms,
            on_low,
            on_sealed,
        )
        ring_recorder = RingRecorder(
            store,
            self._video.camera,
            self._video.container,
            self._video.encode_jpeg,
            clips["evidence_key"],
            clips,
            self._unix_ms,
            self._time_source,
            self._microphone,
        )
        recorder = ClipRecorder(store, ring_recorder, clips, self._unix_ms, self._viewer)
        uploader = self._upload.build(store.uploads, self._unix_ms) if self._upload is not None else None
        return Recording(store, recorder, ring_recorder, uploader)

    def _unix_ms(self, mono_ms):
        return self._core.reporter.clock.unix_ms(mono_ms) or 0

    def _time_source(self):
        return self._core.reporter.clock.source


class _Stamp:
    """Time and position that are drawn into the pictures."""

    def __init__(self, reporter):
        self._reporter = reporter

    def at(self, mono_ms):
        """Return (unix ms or 0, latitude and longitude in 1e-7 degrees or None)."""
        lat_e7, lon_e7 = self._reporter.position() or (None, None)
        return self._reporter.clock.unix_ms(mono_ms) or 0, lat_e7, lon_e7


def _unchanged(picture):
    return picture  # pictures of a vc0706 are JPEGs


def _build_video(core, camera, with_sound):
    config = core.config
    if config["camera"].get("kind") == "vc0706":
        from agent.recording.avi import AviMuxer

        config["clips"]["stamp"] = False
        return Video(AviMuxer(camera.width, camera.height, camera.fps, with_sound), _unchanged, camera)
    video = core.hal.video()
    container = video.H264Muxer(camera.width, camera.height, camera.fps, sound=with_sound)
    if config["clips"]["stamp"]:
        camera = video.StampedCamera(camera, config["device"], _Stamp(core.reporter).at)
    return Video(container, video.encode_jpeg, camera)


def build_recording(core, camera, microphone, viewer, upload, answer):
    """Return the agent.recording.controller.RecordingController of a device.

    Args:
        core: app.wiring_media.Core.
        camera: hal camera.
        microphone: Channel of the MicrophoneMultiplexer, or None.
        viewer: agent.live_view.session.LiveView that gets the pictures, or None.
        upload: app.wiring_upload.UploadBuilder, or None.
        answer: Function (command message, Result) that answers a command later.

    Raises:
        ConfigError: The platform lacks a module, or cannot make clips of these pictures.
    """
    try:
        with_sound = microphone is not None and core.config["clips"]["sound"] != "never"
        video = _build_video(core, camera, with_sound)
        builder = _RecordingBuilder(core, video, microphone, viewer, upload)
        return RecordingController(
            builder.build, core.reporter, core.net, core.outbox, answer, camera, core.now_ms, core.log
        )
    except (ImportError, ValueError) as e:
        raise ConfigError("clips: %s" % e)
