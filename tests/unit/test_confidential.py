"""Confidential bodies: what is encrypted, when it is decrypted, and that no key stream is used twice."""

from binascii import unhexlify as x

import patrolink_messages as m
from allocation import allocated
from patrolink_protocol import frame, tail
from patrolink_protocol.aes import encrypter
from patrolink_protocol.errors import RejectError
from patrolink_protocol.key_derivation import derive_key, hmac
from patrolink_protocol.receiver import Receiver
from seeded_random import seeded

SEED = 20261130
KEY = bytes(range(32))
DEVICE = b"dev-1"
BODY = frame.HEADER_BYTES


def seal(channel, kind, counter, body, extensions=None):
    buf = bytearray(m.MAX_FRAME)
    end = BODY + len(body)
    buf[BODY:end] = body
    if extensions is not None:
        end = tail.write_into(buf, end, extensions)
    return bytes(buf[: channel.seal_into(buf, kind, counter, end, extensions is not None)])


def retag(channel, data):
    """Return the frame with the correct tag of its bytes, as whoever has the key can send it."""
    n = frame.tag_bytes(data[0] & 31)
    return data[:-n] + hmac(channel.pads, channel.context, data[:-n])[:n]


def reason(function, *args):
    try:
        function(*args)
    except RejectError as e:
        return e.name
    return None


def types_of(direction):
    mask = m.DOWN if direction else m.UP
    return [kind for kind in range(32) if mask >> kind & 1]


def random_bytes(below, n):
    return bytes([below(256) for _ in range(n)])


def test_a_sender_encrypts_the_confidential_types_only():
    for direction in (frame.UPLINK, frame.DOWNLINK):
        channel = frame.Channel(KEY, DEVICE, direction)
        for kind in types_of(direction):
            data = seal(channel, kind, 9, b"where and who")
            confidential = m.CONFIDENTIAL >> kind & 1
            assert data[1] >> 4 == (m.FLAG_ENCRYPTED if confidential else 0), kind
            assert (data[BODY : BODY + 13] == b"where and who") == (not confidential), kind
            assert len(data) == BODY + 13 + frame.tag_bytes(kind), "not a byte longer"
    for kind in (m.HELLO, m.DEVICE_STATUS, m.TIME_SYNC, m.REJECT, m.FIRMWARE, m.FIRMWARE_STATUS, m.CERTIFY):
        assert not m.CONFIDENTIAL >> kind & 1
    for kind in (m.POSITION_BATCH, m.NO_FIX, m.EVENT, m.EVENT_STATE, m.TEXT, m.COMMAND, m.ANSWER, m.PTT_GROUP):
        assert m.CONFIDENTIAL >> kind & 1


def test_body_is_combined_with_the_blocks_that_the_specification_names():
    body = bytes(range(40))
    for direction, label in ((0, b"patrolink-up-cipher"), (1, b"patrolink-down-cipher")):
        data = seal(frame.Channel(KEY, DEVICE, direction, 3), m.TEXT, 0x0ABCDEF, body, [(1, 0, b"t")])
        assert data[:5] == bytes([0x20 | m.TEXT]) + x("e0abcdef"), "tail, phase and encrypted flag"
        encrypt = encrypter(derive_key(KEY, label, 3)[:16])
        stream = b""
        for i in range(3):
            block = bytearray(16)
            encrypt(data[:5] + bytes(7) + i.to_bytes(4, "big"), block)
            stream += bytes(block)
        plain = body + b"\x01\x01t\x03"
        assert data[5:-8] == bytes([a ^ b for a, b in zip(plain, stream)])


def test_random_frames_round_trip_and_stay_as_received():
    """Types, lengths from 0 to 1000, epochs and counters of both directions."""
    below = seeded(SEED)
    for i in range(300):
        direction = below(2)
        kinds = types_of(direction)
        kind = kinds[below(len(kinds))]
        epoch = (0, 1, below(1 << 16), (1 << 32) - 1)[below(4)]
        counter = (0, below(1 << 23), frame.COUNTER_MAX)[below(3)]
        body = random_bytes(below, (below(40), below(1000), 1000)[below(3)])
        extensions = [(64, 0, random_bytes(below, below(30)))] if below(2) and len(body) < 900 else None
        channel = frame.Channel(KEY, DEVICE, direction, epoch)
        data = seal(channel, kind, counter, body, extensions)
        where = (SEED, i, kind, epoch, counter)
        for received in (data, bytearray(data), memoryview(bytearray(data))):
            result = frame.Channel(KEY, DEVICE, direction, epoch).open_frame(received)
            assert (result[0], result[1], bytes(result[2])) == (kind, counter, body), where
            assert result[3] == (extensions or []) and bytes(received) == data, where
        receiver = Receiver(KEY, DEVICE, direction, epoch)
        assert receiver.accept(data) == (kind, counter, False) and bytes(receiver.read(data)[0]) == body, where


def test_no_block_of_the_key_stream_is_used_twice():
    """Frames of zeros show the key stream. Random counters with their neighbours, types, epochs and directions."""
    below = seeded(SEED)
    stream_blocks = set()
    blocks = 0
    for epoch in (0, 1, 2, 256):
        for direction in (frame.UPLINK, frame.DOWNLINK):
            channel = frame.Channel(KEY, DEVICE, direction, epoch)
            kinds = [kind for kind in types_of(direction) if m.CONFIDENTIAL >> kind & 1]
            start = below(1 << 23)
            for counter in (0, 1, 255, 256, start, start + 1, start + 2, frame.COUNTER_MAX - 1, frame.COUNTER_MAX):
                data = seal(channel, kinds[below(len(kinds))], counter, bytes((16, 320, 992)[below(3)]))
                for at in range(BODY, len(data) - 31, 16):
                    stream_blocks.add(data[at : at + 16])
                    blocks += 1
    assert len(stream_blocks) == blocks > 500, SEED


def test_devices_epochs_and_directions_have_different_keys():
    plain = seal(frame.Channel(KEY, DEVICE), m.TEXT, 1, bytes(64))
    others = (
        frame.Channel(bytes(32), DEVICE),
        frame.Channel(KEY, DEVICE, frame.DOWNLINK),
        frame.Channel(KEY, DEVICE, frame.UPLINK, 2),
    )
    for other in others:
        data = seal(other, m.TEXT, 1, bytes(64))
        assert data[:5] == plain[:5] and data[5:21] != plain[5:21]


def test_a_receiver_accepts_confidential_types_in_plain_and_others_encrypted():
    channel = frame.Channel(KEY, DEVICE)
    data = bytearray(seal(channel, m.TEXT, 3, b"text"))
    data[1] &= 15
    data[BODY : BODY + 4] = b"open"
    assert bytes(channel.open_frame(retag(channel, bytes(data)))[2]) == b"open"
    data = bytearray(seal(channel, m.HELLO, 3, b"hello"))
    data[1] |= m.FLAG_ENCRYPTED << 4
    channel.cipher.apply(data, data, BODY, BODY + 5)
    assert data[BODY : BODY + 5] != b"hello"
    assert bytes(channel.open_frame(retag(channel, bytes(data)))[2]) == b"hello"


def test_nothing_is_decrypted_before_tag_phase_and_counter_hold():
    channel = frame.Channel(KEY, DEVICE)
    data = seal(channel, m.TEXT, 5, b"text")

    class Refusing:
        def apply(self, *args):
            raise AssertionError("decrypted too early")

    hub = Receiver(KEY, DEVICE)
    hub.channel._cipher = Refusing()
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit >> 3] ^= 1 << (bit & 7)
        assert reason(hub.accept, bytes(bad)) in ("tag", "version", "length"), bit
    reserved = bytearray(data)
    reserved[1] |= 0x10
    assert reason(hub.accept, retag(channel, bytes(reserved))) == "critical"
    assert hub.accept(data) == (m.TEXT, 5, False) and hub.accept(data) == (m.TEXT, 5, True)


def test_a_flipped_bit_of_an_encrypted_body_is_refused_by_its_tag():
    channel = frame.Channel(KEY, DEVICE, frame.DOWNLINK)
    data = seal(channel, m.COMMAND, 5, b"who")
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit >> 3] ^= 1 << (bit & 7)
        assert reason(channel.open_frame, bytes(bad)) in ("tag", "version", "length"), bit


def test_a_wrong_key_or_epoch_refuses_the_tag_and_shows_nothing():
    data = seal(frame.Channel(KEY, DEVICE, frame.UPLINK, 2), m.TEXT, 1, b"text")
    for key, epoch in ((bytes(32), 2), (KEY, 0), (KEY, 4)):
        assert reason(frame.Channel(key, DEVICE, frame.UPLINK, epoch).open_frame, data) == "tag"


def test_malformed_encrypted_tails_are_refused():
    channel = frame.Channel(KEY, DEVICE)
    for invalid in (b"\x01\x03ab\x04", b"\x05", b"\x01\x01", b"\xff", b""):
        buf = bytearray(64)
        buf[BODY : BODY + len(invalid)] = invalid
        n = channel.seal_into(buf, m.TEXT, 1, BODY + len(invalid), True)
        assert reason(channel.open_frame, bytes(buf[:n])) == "length", invalid


def test_encryption_adds_no_allocation_to_sealing():
    channel = frame.Channel(KEY, DEVICE)
    buf = bytearray(m.MAX_FRAME)
    for end in (BODY, 21, 147, 1000):
        plain = allocated(channel.seal_into, buf, m.HELLO, 1, end)
        assert allocated(channel.seal_into, buf, m.POSITION_BATCH, 1, end) == plain, end
