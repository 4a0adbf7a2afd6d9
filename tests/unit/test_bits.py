from patrolink_protocol import bits


def test_zigzag_is_its_own_undoing():
    for value in (0, -1, 1, -2, 2, 1 << 30, -(1 << 30), 7200000000):
        assert bits.unzigzag(bits.zigzag(value)) == value
    assert [bits.zigzag(v) for v in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]


def test_what_is_put_is_got():
    buf = bytearray(64)
    out = bits.BitWriter(buf, 3)
    values = ((5, 3), (0, 1), (0xFFFF, 16), (0x123456789, 34), (1, 1), (0, 0), (0x7FFFFFFF, 32))
    for value, n in values:
        out.put(value, n)
    for code in (0, 1, 7, 8, 255, 65536, 1 << 33):
        out.put_eg(code, 0)
        out.put_eg(code, 4)
    end = out.end()
    assert buf[:3] == b"\0\0\0"
    reader = bits.BitReader(memoryview(buf)[3:end])
    for value, n in values:
        assert reader.get(n) == value
    for code in (0, 1, 7, 8, 255, 65536, 1 << 33):
        assert reader.get_eg(0) == code
        assert reader.get_eg(4) == code
    assert reader.spare() == 0


def test_exp_golomb_is_h264s():
    # ITU-T H.264 table 9-2: 1, 010, 011, 00100 for 0, 1, 2, 3
    buf = bytearray(4)
    out = bits.BitWriter(buf, 0)
    for code in (0, 1, 2, 3):
        out.put_eg(code, 0)
    end = out.end()
    assert bytes(buf[:end]) == bytes([0b10100110, 0b01000000])


def test_reading_past_the_end_is_told():
    reader = bits.BitReader(b"\x00\x00\x00\x00\x00\x00")
    for read in (lambda: reader.get_eg(0), lambda: bits.BitReader(b"\xff").get(9)):
        try:
            read()
        except bits.OutOfBits:
            continue
        raise AssertionError("not refused")


def test_a_full_buffer_is_told():
    out = bits.BitWriter(bytearray(1), 0)
    try:
        out.put(0xFFFF, 16)
    except IndexError:
        return
    raise AssertionError("not refused")
