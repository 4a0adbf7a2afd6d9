"""The parts of push-to-talk, put together, on a board that has sound and a network stack."""

import patrolink_messages as m
from agent.link.commands import CALL, DONE, REFUSED, STARTED
from agent.ptt.client import PttClient
from agent.ptt.grant_log import GrantLog
from agent.ptt.hub_link import SrtcpContext
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.playback import Playback
from agent.ptt.receive_arbiter import ReceiveArbiter
from agent.ptt.rtp_sender import RtpSender
from agent.ptt.transmit_session import TransmitSession
from compat import aes
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import derive_key

_SLICE_MS = 5
_OPUS = 111  # RTP payload type
_AMBIENT = "ambient"  # value of `call`: listen in
_AMBIENT_S = 30  # then it ends by itself


def radio(device, config, hal, store, counter, microphone, log):
    """Return the agent.ptt.client.PttClient of an assembly.Device, with the hub's commands led to it."""
    audio, given, key = config["audio"], config["ptt"], config["key"]
    now_ms, reporter = device.now_ms, device.reporter
    device.net.slice_ms = _SLICE_MS
    epoch = device.downlink.epoch
    ring = bytearray(RING)
    jitter_buffer = JitterBuffer(ring)
    sound = hal.audio()

    def report(values, started_ms):
        values["start_ms"] = reporter.unix_ms(started_ms) or 0
        reporter.send(m.PTT_BURST, values)

    sounds = Playback(sound.Speaker(audio["speaker"], now_ms, log), jitter_buffer, given["replay_s"])
    sender = RtpSender(microphone, given["frame_ms"], ring)
    codecs = sound.codecs(given["frame_ms"])
    receive_arbiter = ReceiveArbiter(jitter_buffer, sounds, codecs, report)
    it = PttClient(
        ("sip:%s@%s" % (config["device"], given["site"])).encode(),
        aes.decrypter(derive_key(key, b"patrolink-ptt-wrap", epoch)[:16]),
        aes.encrypter,
        SrtcpContext(
            aes.encrypter, lambda label: srtp.derive_master(key, b"patrolink-ptt-" + label, epoch), counter.take
        ),
        lambda host, port: sound.Udp(host, port, device.inputs),
        TransmitSession(
            sender, sounds, receive_arbiter, GrantLog(store), codecs.get(_OPUS), report, hal.randbelow, log
        ),
        receive_arbiter,
        sounds,
        log,
        given["groups"],
    )

    def call(message):
        group = it.find_group(message["number"])
        if group is None:
            return REFUSED, "not a member of that group", None
        if message["value"] == _AMBIENT:
            return listen_in(group)
        it.select(group)
        return DONE, group.name, None

    def listen_in(group):
        if not given["listen_in"]:
            return REFUSED, "this device's site does not allow ambient listening", None
        if reporter.unix_ms(now_ms()) is None:
            return REFUSED, "the time is not known", None
        why = it.transmit_session.start_ambient(group, _AMBIENT_S, now_ms())
        return (REFUSED, why, None) if why else (STARTED, "", None)

    device.commands.duties[CALL] = call
    device.downlink.duties[m.PTT_GROUP] = lambda message: it.on_group_message(message, now_ms())
    log("ptt: on, packets of %d ms" % given["frame_ms"])
    return it
