"""Header of a JPEG file whose RTP packets carry only the scan (RFC 2435)."""

import struct

# ITU-T T.81 Annex K: table class and destination, number of codes of each length, symbols.
_HUFFMAN_TABLES = tuple(
    (destination, bytes.fromhex(counts), bytes.fromhex(symbols))
    for destination, counts, symbols in (
        (
            0x00,
            "00010501010101010100000000000000",
            "000102030405060708090a0b",
        ),
        (
            0x10,
            "0002010303020403050504040000017d",
            "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728"
            "292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a83848586878889"
            "8a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2"
            "e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa",
        ),
        (
            0x01,
            "00030101010101010101010000000000",
            "000102030405060708090a0b",
        ),
        (
            0x11,
            "00020102040403040705040400010277",
            "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a26"
            "2728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a828384858687"
            "88898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9da"
            "e2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa",
        ),
    )
)


def jpeg_header(jpeg_type: int, width: int, height: int, quantization_tables: bytes, restart_interval: int) -> bytes:
    """Return the bytes of a JPEG file before its scan (RFC 2435, appendix B).

    Args:
        jpeg_type: 0 for 4:2:2 sampling, 1 for 4:2:0 (RFC 2435, 4.1).
        width: In pixels.
        height: In pixels.
        quantization_tables: Tables of luminance and chrominance, 64 bytes each, in zigzag order.
        restart_interval: In MCUs; 0 without restart markers.
    """
    header = b"\xff\xd8"
    for i in range(2):
        header += b"\xff\xdb" + struct.pack(">HB", 67, i) + quantization_tables[64 * i : 64 * i + 64]
    if restart_interval:
        header += struct.pack(">HHH", 0xFFDD, 4, restart_interval)
    sampling = 0x22 if jpeg_type else 0x21
    components = (1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1)
    header += b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(components)
    for destination, counts, symbols in _HUFFMAN_TABLES:
        header += b"\xff\xc4" + struct.pack(">HB", 19 + len(symbols), destination) + counts + symbols
    return header + b"\xff\xda" + struct.pack(">HB", 12, 3) + bytes((1, 0, 2, 0x11, 3, 0x11, 0, 63, 0))
