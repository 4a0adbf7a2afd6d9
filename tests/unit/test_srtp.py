"""SRTP: vectors of RFC 3711 and RFC 2202, replays, forged and truncated packets."""

from binascii import unhexlify as x

from allocation import allocated
from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter
from patrolink_protocol.sha1 import HmacSha1
from seeded_random import seeded

MASTER, SALT = x("E1F97A0D3E018BE0D64FA32C06DE4139"), x("0EC675AD498AFEEBB6960B3AABE6")


def rtp(sequence, n=160, ssrc=0x01020304):
    head = bytes([0x80, 8, sequence >> 8, sequence & 255]) + bytes(4) + ssrc.to_bytes(4, "big")
    return head + bytes([i & 255 for i in range(n)])


def with_overhead(packet):
    return bytearray(packet) + bytearray(srtp.SRTCP_OVERHEAD_BYTES)


def is_refused(function, *args):
    try:
        function(*args)
    except srtp.SrtpError:
        return True
    return False


def test_key_stream_matches_rfc_3711_b_2():
    cipher = srtp._Cipher(encrypter, bytes(16), bytes(14), 0, 64)
    cipher._salt = x("F0F1F2F3F4F5F6F7F8F9FAFBFCFD")
    cipher._encrypt = encrypter(x("2B7E151628AED2A6ABF7158809CF4F3C"))
    buf = bytearray(48)
    cipher.crypt(buf, 0, 48, 0, 0, 0)
    expected = "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB41E95B3BB0A2E8DD477901E4FCA894C0"
    assert bytes(buf) == x(expected)


def test_key_derivation_matches_rfc_3711_b_3():
    assert srtp._session_key(encrypter, MASTER, SALT, 0, 16) == x("C61E7A93744F39EE10734AFE3FF7A087")
    assert srtp._session_key(encrypter, MASTER, SALT, 2, 14) == x("30CBBC08863D8C85D49DB34A9AE1")
    auth = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE"
    auth += "E049646C43D9327AD175578EF72270986371C10C9A369AC2"
    assert srtp._session_key(encrypter, MASTER, SALT, 1, 56) == x(auth)


def test_hmac_sha1_matches_rfc_2202():
    for key, data, expected in (
        (b"\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
        (b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (b"\xaa" * 20, b"\xdd" * 50, "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        (bytes(range(1, 26)), b"\xcd" * 50, "4c9007f4026250c6bc8414f9bf50c86c2d7235da"),
    ):
        out = bytearray(24)
        HmacSha1(key).tag_into(data, len(data), None, out, 2, 20)
        assert bytes(out) == b"\0\0" + x(expected) + b"\0\0"
        out = bytearray(20)  # the same data in two parts
        HmacSha1(key).tag_into(data, len(data) - 4, data[-4:], out, 0, 20)
        assert bytes(out) == x(expected)


def test_hmac_sha1_matches_hashlib_for_every_length():
    import hashlib

    key = bytes(range(20))
    pads = [bytes([k ^ p for k in key + bytes(44)]) for p in (0x36, 0x5C)]
    mac = HmacSha1(key)
    out = bytearray(20)
    for n in range(200):
        data = bytes([(7 * i) & 255 for i in range(n)])
        for extra in (None, b"\1\2\3\4"):
            mac.tag_into(data, n, extra, out, 0, 20)
            inner = hashlib.sha1(pads[0] + data + (extra or b"")).digest()  # noqa: S324
            assert bytes(out) == hashlib.sha1(pads[1] + inner).digest(), (n, extra)  # noqa: S324


def test_rtp_packets_of_every_length_round_trip():
    sender, receiver = srtp.SrtpTransform(encrypter, MASTER, SALT), srtp.SrtpTransform(encrypter, MASTER, SALT)
    stream = srtp.SrtpStream()
    for n in range(0, 500, 7):
        plain = rtp(n, n)
        buf = with_overhead(plain)
        end = sender.protect(buf, len(plain), 0)
        assert end == len(plain) + 10 and bytes(buf[:12]) == plain[:12]
        assert n < 8 or bytes(buf[12 : len(plain)]) != plain[12:]
        assert receiver.open(buf, end, stream) == len(plain) and bytes(buf[: len(plain)]) == plain


def test_every_truncation_and_every_flipped_bit_is_refused():
    context = srtp.SrtpTransform(encrypter, MASTER, SALT)
    buf = with_overhead(rtp(5, 20))
    end = context.protect(buf, 32, 0)
    packet = bytes(buf[:end])
    control = srtp.SrtcpTransform(encrypter, MASTER, SALT)
    buf = with_overhead(bytes([0x80, 201, 0, 1, 1, 2, 3, 4]) + bytes(8))
    control_end = control.protect(buf, 16, 77)
    control_packet = bytes(buf[:control_end])
    for n in range(end):
        assert is_refused(context.open, bytearray(packet[:n]), n, srtp.SrtpStream())
    for n in range(control_end):
        assert is_refused(control.open, bytearray(control_packet[:n]), n)
    for bit in range(8 * end):
        bad = bytearray(packet)
        bad[bit >> 3] ^= 1 << (bit & 7)
        stream = srtp.SrtpStream()
        assert is_refused(context.open, bad, end, stream), bit
        assert stream.highest == -1  # a forged packet does not change the state
    for bit in range(8 * control_end):
        bad = bytearray(control_packet)
        bad[bit >> 3] ^= 1 << (bit & 7)
        assert is_refused(control.open, bad, control_end), bit
    assert control.replay_list.highest == -1
    assert context.open(bytearray(packet), end, srtp.SrtpStream()) == 32
    assert control.open(bytearray(control_packet), control_end) == 16


def test_replays_are_refused_and_reordered_packets_within_the_window_accepted():
    context = srtp.SrtpTransform(encrypter, MASTER, SALT)
    packets = []
    for sequence in range(200):
        buf = with_overhead(rtp(sequence, 20))
        packets.append(bytes(buf[: context.protect(buf, 32, 0)]))
    stream = srtp.SrtpStream()
    below = seeded(3711)
    order = list(range(200))
    for i in range(0, 200, 8):  # reorders within the window
        for j in range(i, min(i + 8, 200)):
            k = i + below(min(8, 200 - i))
            order[j], order[k] = order[k], order[j]
    for sequence in order:
        assert context.open(bytearray(packets[sequence]), 42, stream) == 32, "seed 3711"
        assert is_refused(context.open, bytearray(packets[sequence]), 42, stream)
    late = srtp.SrtpStream()
    context.open(bytearray(packets[199]), 42, late)
    assert is_refused(context.open, bytearray(packets[199 - 64]), 42, late)
    assert context.open(bytearray(packets[199 - 63]), 42, late) == 32


def test_roll_over_counter_of_sender_and_receiver_agree():
    context = srtp.SrtpTransform(encrypter, MASTER, SALT)
    stream = srtp.SrtpStream()
    for index in list(range(65530, 65536)) + [65537, 65536, 65538, 98000, 130700, 131071, 131072]:
        buf = with_overhead(rtp(index & 0xFFFF, 20))
        end = context.protect(buf, 32, index >> 16)
        assert context.open(buf, end, stream) == 32 and stream.highest >= index
    assert stream.highest == 131072
    buf = with_overhead(rtp(5, 20))  # sequence number 5 with the roll-over counter of another cycle
    end = context.protect(buf, 32, 0)
    assert is_refused(context.open, buf, end, stream)


def test_packets_with_other_keys_or_salts_are_refused():
    buf = with_overhead(rtp(1))
    end = srtp.SrtpTransform(encrypter, MASTER, SALT).protect(buf, 172, 0)
    for key, salt in ((bytes(16), SALT), (MASTER, bytes(14))):
        assert is_refused(srtp.SrtpTransform(encrypter, key, salt).open, bytearray(buf), end, srtp.SrtpStream())
    control = srtp.SrtcpTransform(encrypter, MASTER, SALT)
    assert is_refused(control.open, bytearray(buf), end)


def test_unencrypted_packet_with_a_correct_tag_is_refused():
    control = srtp.SrtcpTransform(encrypter, MASTER, SALT)
    buf = with_overhead(bytes([0x80, 201, 0, 1, 1, 2, 3, 4]) + bytes(4))
    end = control.protect(buf, 12, 5)
    buf[12] &= 0x7F
    control._cipher.auth.tag_into(buf, 16, None, buf, 16, 10)
    assert is_refused(control.open, buf, end)


def test_each_index_is_accepted_once():
    sender, receiver = srtp.SrtcpTransform(encrypter, MASTER, SALT), srtp.SrtcpTransform(encrypter, MASTER, SALT)
    packets = []
    for index in (9, 10, 80, srtp.INDEX_MAX):
        buf = with_overhead(bytes([0x80, 201, 0, 1, 1, 2, 3, 4]) + bytes(4))
        packets.append(bytes(buf[: sender.protect(buf, 12, index)]))
    assert receiver.open(bytearray(packets[1]), 26) == 12
    assert receiver.open(bytearray(packets[0]), 26) == 12
    assert is_refused(receiver.open, bytearray(packets[0]), 26)
    assert receiver.open(bytearray(packets[2]), 26) == 12
    assert is_refused(receiver.open, bytearray(packets[1]), 26)
    receiver.replay_list.reject_up_to(100)
    assert is_refused(receiver.open, bytearray(packets[2]), 26)
    assert receiver.open(bytearray(packets[3]), 26) == 12
    for index in (-1, srtp.INDEX_MAX + 1):
        try:
            sender.protect(bytearray(40), 12, index)
        except IndexError:
            continue
        raise AssertionError(index)


def test_packets_allocate_nothing():
    sender, receiver = srtp.SrtpTransform(encrypter, MASTER, SALT), srtp.SrtpTransform(encrypter, MASTER, SALT)
    control = srtp.SrtcpTransform(encrypter, MASTER, SALT)
    buf = bytearray(rtp(0, 480)) + bytearray(14)
    stream = srtp.SrtpStream()

    def exchange():
        buf[3] += 1
        receiver.open(buf, sender.protect(buf, 492, 0), stream)
        control.protect(buf, 480, buf[3])
        buf[0], buf[1] = 0x80, 8

    assert allocated(exchange) == 0
