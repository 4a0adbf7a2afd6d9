"""Push-to-talk, on a board with sound and a network stack. Loaded only where it is configured."""

from collections import namedtuple

import patrolink_enums as enums
import patrolink_messages as m
from agent.audio.microphone import MicrophoneMultiplexer
from agent.link.commands import Result
from agent.ptt.client import PttClient
from agent.ptt.grant_log import GrantLog
from agent.ptt.heard_log import HeardLog
from agent.ptt.hub_link import SrtcpContext
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.playback import Playback
from agent.ptt.receive_arbiter import ReceiveArbiter
from agent.ptt.rtp_sender import RtpSender
from agent.ptt.status import PttStatus
from agent.ptt.transmit_session import TransmitSession
from app.errors import ConfigError
from patrolink_protocol import aes, srtp
from patrolink_protocol.key_derivation import derive_key

_OPUS = 111  # RTP payload type
_AMBIENT = "ambient"  # command.value of a call: ambient listening
_AMBIENT_S = 30

# The client, its PttStatus, a function that plays a tone, and the handlers for Commands and for Downlink.
PushToTalk = namedtuple("PushToTalk", ("client", "status", "play_tone", "command_handlers", "message_handlers"))


def build_microphone(settings, hal, indicators, inputs, log):
    """Return the agent.audio.microphone.MicrophoneMultiplexer of the board's microphone.

    Args:
        settings: "audio" of the configuration.
        hal: The platform.
        indicators: agent.wearer.indicator.Indicators.
        inputs: hal Inputs that the microphone wakes.
        log: Function of one string.

    Raises:
        ConfigError: The board has no sound.
    """
    if not hasattr(hal, "audio"):
        raise ConfigError("audio: this board has no sound; remove it from the configuration")
    microphone = hal.audio().Microphone(settings["mic"], indicators.add_user(settings["indicator"]), inputs, log)
    return MicrophoneMultiplexer(microphone)


class _BurstReport:
    """Sends ptt_burst messages."""

    def __init__(self, reporter):
        self._reporter = reporter

    def send(self, values, started_ms):
        values["start_ms"] = self._reporter.clock.unix_ms(started_ms) or 0
        self._reporter.send(m.PTT_BURST, values)


class _Keys:
    """Keys of floor control in one key epoch."""

    def __init__(self, device_key, epoch):
        self._device_key = device_key
        self._epoch = epoch

    def srtcp_master(self, direction):
        return srtp.derive_master(self._device_key, b"patrolink-ptt-" + direction, self._epoch)

    def wrapping_key(self):
        return derive_key(self._device_key, b"patrolink-ptt-wrap", self._epoch)[:16]


class _Handlers:
    """Carries out the hub's `call` command and its ptt_group messages."""

    def __init__(self, client, ambient_allowed, reporter, now_ms):
        self._client = client
        self._ambient_allowed = ambient_allowed
        self._reporter = reporter
        self._now_ms = now_ms

    def call(self, message):
        group = self._client.find_group(message["number"])
        if group is None:
            return Result(enums.ANSWER_RESULT_REFUSED, "the device is not a member of this group", None)
        if message["value"] == _AMBIENT:
            return self._listen(group)
        self._client.select(group)
        return Result(enums.ANSWER_RESULT_DONE, group.name, None)

    def _listen(self, group):
        now_ms = self._now_ms()
        if not self._ambient_allowed:
            return Result(enums.ANSWER_RESULT_REFUSED, "the site does not allow ambient listening", None)
        if self._reporter.clock.unix_ms(now_ms) is None:
            return Result(enums.ANSWER_RESULT_REFUSED, "the time is not known yet", None)
        reason = self._client.transmit_session.start_ambient(group, _AMBIENT_S, now_ms)
        if reason:
            return Result(enums.ANSWER_RESULT_REFUSED, reason, None)
        return Result(enums.ANSWER_RESULT_STARTED, "", None)

    def group(self, message):
        self._client.on_group_message(message, self._now_ms())


def build_ptt(core, open_udp, microphone):
    """Return the PushToTalk of a device.

    Args:
        core: app.wiring_media.Core.
        open_udp: Function (host, port) -> UDP socket.
        microphone: Channel of the MicrophoneMultiplexer.
    """
    config, hal, log = core.config, core.hal, core.log
    settings = config["ptt"]
    frame_ms = settings["frame_ms"]
    audio = hal.audio()
    keys = _Keys(config["key"], core.downlink.epoch)
    report = _BurstReport(core.reporter).send
    ring = bytearray(RING)
    jitter_buffer = JitterBuffer(ring)
    sounds = Playback(audio.Speaker(config["audio"]["speaker"], core.now_ms, log), jitter_buffer, settings["replay_s"])
    sender = RtpSender(microphone, frame_ms, ring)
    codecs = audio.codecs(frame_ms)
    receive_arbiter = ReceiveArbiter(jitter_buffer, sounds, codecs, report)
    client = PttClient(
        ("sip:%s@%s" % (config["device"], settings["site"])).encode(),
        aes.decrypter(keys.wrapping_key()),
        aes.encrypter,
        SrtcpContext(aes.encrypter, keys.srtcp_master, core.counter.take),
        open_udp,
        TransmitSession(
            sender, sounds, receive_arbiter, GrantLog(core.store), codecs.get(_OPUS), report, hal.randbelow, log
        ),
        receive_arbiter,
        sounds,
        log,
        settings["groups"],
        HeardLog(core.store, log),
    )
    status = PttStatus(client, core.session, core.reporter.send, config["status_s"])
    handlers = _Handlers(client, settings["listen_in"], core.reporter, core.now_ms)
    log("ptt: on, packets of %d ms" % frame_ms)
    return PushToTalk(
        client, status, sounds.play_tone, {enums.COMMAND_ACTION_CALL: handlers.call}, {m.PTT_GROUP: handlers.group}
    )
