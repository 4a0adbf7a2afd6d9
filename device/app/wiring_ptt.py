"""The parts of push-to-talk, put together, on a board that has sound and a network stack."""

import patrolink_messages as m
from agent.link.commands import CALL, DONE, REFUSED, STARTED
from agent.ptt.client import Radio
from agent.ptt.grant_log import Grants
from agent.ptt.hub_link import Shield
from agent.ptt.jitter_buffer import RING, Listener
from agent.ptt.playback import Sound
from agent.ptt.receive_arbiter import Hearing
from agent.ptt.rtp_sender import Talker
from agent.ptt.transmit_session import Speaking
from compat import aes
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import derive_key

_SLICE_MS = 5
_OPUS = 111  # RTP payload type
_AMBIENT = "ambient"  # value of `call`: listen in
_AMBIENT_S = 30  # then it ends by itself


def radio(device, config, hal, store, counter, microphone, log):
    """Return the agent.ptt.client.Radio of an assembly.Device, with the hub's commands led to it."""
    audio, given, key = config["audio"], config["ptt"], config["key"]
    now_ms, reporter = device.now_ms, device.reporter
    device.net.slice_ms = _SLICE_MS
    epoch = device.downlink.epoch
    ring = bytearray(RING)
    listener = Listener(ring)
    sound = hal.audio()

    def report(values, started_ms):
        values["start_ms"] = reporter.unix_ms(started_ms) or 0
        reporter.send(m.PTT_BURST, values)

    sounds = Sound(sound.Speaker(audio["speaker"], now_ms, log), listener, given["replay_s"])
    talker = Talker(microphone, given["frame_ms"], ring)
    codecs = sound.codecs(given["frame_ms"])
    hearing = Hearing(listener, sounds, codecs, report)
    it = Radio(
        ("sip:%s@%s" % (config["device"], given["site"])).encode(),
        aes.decrypter(derive_key(key, b"patrolink-ptt-wrap", epoch)[:16]),
        aes.encrypter,
        Shield(aes.encrypter, lambda label: srtp.derive_master(key, b"patrolink-ptt-" + label, epoch), counter.take),
        lambda host, port: sound.Udp(host, port, device.inputs),
        Speaking(talker, sounds, hearing, Grants(store), codecs.get(_OPUS), report, hal.randbelow, log),
        hearing,
        sounds,
        log,
        given["groups"],
    )

    def call(message):
        group = it.find(message["number"])
        if group is None:
            return REFUSED, "not a member of that group", None
        if message["value"] == _AMBIENT:
            return listen_in(group)
        it.selected = group
        return DONE, group.name, None

    def listen_in(group):
        if not given["listen_in"]:
            return REFUSED, "this device's site does not allow ambient listening", None
        if reporter.unix_ms(now_ms()) is None:
            return REFUSED, "the time is not known", None
        why = it.speaking.listen_in(group, _AMBIENT_S, now_ms())
        return (REFUSED, why, None) if why else (STARTED, "", None)

    device.commands.duties[CALL] = call
    device.downlink.duties[m.PTT_GROUP] = lambda message: it.take_group(message, now_ms())
    log("ptt: on, packets of %d ms" % given["frame_ms"])
    return it
