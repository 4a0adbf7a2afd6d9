"""Push-to-talk, camera, recording and live view of a device. Loaded only where sound or a camera is configured."""

from collections import namedtuple

import patrolink_messages as m
from agent.wearer.indicator import Indicators
from app.wiring_commands import build_commands
from app.wiring_network import udp_opener

# The parts of every device that these ones need.
Core = namedtuple(
    "Core", "config hal log now_ms inputs store counter reporter event_queue outbox net modem session downlink serve"
)
# What they are, None for those that are not configured; `play_tone` is a function of playback's tones.
Media = namedtuple("Media", "ptt ptt_status play_tone camera self_test recording live_view")


class _UrgentTraffic:
    """Decides whether live view must leave the network to events and voice."""

    def __init__(self, event_queue, ptt):
        self._event_queue = event_queue
        self._ptt = ptt

    def waits(self):
        return self._event_queue.due_count() > 0 or self._ptt is not None and self._ptt.is_busy()


def build_media(core):
    """Return the Media of a device, with their commands and messages registered.

    Args:
        core: Core.

    Raises:
        ConfigError: The board lacks what the configuration asks for.
    """
    config, hal = core.config, core.hal
    commands = build_commands(config["state_dir"], hal, core.reporter, core.downlink, core.now_ms)
    open_udp = udp_opener(core.modem, hal, core.inputs)
    ptt = ptt_status = play_tone = microphones = camera = self_test = recording = live_view = None
    indicators = Indicators(hal.Pin)
    if config.get("audio") is not None:
        from app import wiring_ptt

        microphones = wiring_ptt.build_microphone(config["audio"], hal, indicators, core.inputs, core.log)
        if core.modem is None:
            voice = wiring_ptt.build_ptt(core, open_udp, microphones.make_channel())
            ptt, ptt_status, play_tone = voice.client, voice.status, voice.play_tone
            commands.add_handlers(voice.command_handlers)
            core.downlink.add_handlers(voice.message_handlers)
        else:
            core.log("ptt: off; voice over UDP is not supported through the AT modem")
    if config.get("camera") is not None:
        from app.wiring_camera import CameraSelfTest, build_camera

        camera = build_camera(config["camera"], hal, indicators, core.inputs, core.now_ms, core.log)
        if config.get("clips") is None:
            self_test = CameraSelfTest(camera)
        else:
            urgent = _UrgentTraffic(core.event_queue, ptt)
            recording, live_view = _build_clips(core, commands, open_udp, microphones, camera, urgent)
    return Media(ptt, ptt_status, play_tone, camera, self_test, recording, live_view)


def _build_clips(core, commands, open_udp, microphones, camera, urgent):
    from app.wiring_recording import build_recording

    viewer = upload = live_view = None
    if open_udp is not None:
        from app.wiring_live_view import build_live_view

        viewer = build_live_view(core, open_udp, camera, urgent.waits)
    if core.config["clips"]["upload"]:
        from app.wiring_upload import UploadBuilder

        upload = UploadBuilder(core)
    microphone = None if microphones is None else microphones.make_channel()
    recording = build_recording(core, camera, microphone, viewer, upload, commands.answer)
    commands.add_handlers(recording.commands())
    core.downlink.add_handlers({m.CLIP_STATE: recording.on_clip_state})
    if viewer is not None:
        from agent.live_view.controller import LiveViewController

        live_view = LiveViewController(viewer, recording, core.reporter, core.now_ms)
        commands.add_handlers(live_view.commands())
    return recording, live_view
