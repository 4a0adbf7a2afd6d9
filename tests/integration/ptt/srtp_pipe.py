"""Protect and open SRTP packets that are read from standard input, one per line.

Usage: python|micropython srtp_pipe.py KEY SALT

    rtp ROC HEX     protect an RTP packet      rtcp INDEX HEX   protect an RTCP packet
    open-rtp HEX    open an SRTP packet        open-rtcp HEX    open an SRTCP packet

Prints the resulting packet of each line in hexadecimal digits, or "refused" and the reason.
"""

import sys

FOLDER = __file__.rsplit("/", 1)[0]
for path in ("/../../../protocol", "/../../../device"):
    sys.path.insert(0, FOLDER + path)

from binascii import hexlify, unhexlify  # noqa: E402

from patrolink_protocol import srtp  # noqa: E402

try:
    import cryptolib

    def aes(key):
        return cryptolib.aes(key, 1).encrypt

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def aes(key):
        update = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305

        def encrypt(blocks, out):
            out[:] = update(bytes(blocks))

        return encrypt


def main(key, salt):
    rtp, rtcp = srtp.SrtpTransform(aes, key, salt), srtp.SrtcpTransform(aes, key, salt)
    streams = {}
    buf = bytearray(2048)
    while True:
        words = sys.stdin.readline().split()
        if not words:
            return
        packet = unhexlify(words[-1])
        n = len(packet)
        buf[:n] = packet
        try:
            if words[0] == "rtp":
                n = rtp.protect(buf, n, int(words[1]))
            elif words[0] == "rtcp":
                n = rtcp.protect(buf, n, int(words[1]))
            elif words[0] == "open-rtp":
                ssrc = packet[8:12]
                if ssrc not in streams:
                    streams[ssrc] = srtp.SrtpStream()
                n = rtp.open(buf, n, streams[ssrc])
            else:
                n = rtcp.open(buf, n)
            print(hexlify(bytes(buf[:n])).decode())
        except srtp.SrtpError as e:
            print("refused %s" % e)
        if hasattr(sys.stdout, "flush"):
            sys.stdout.flush()


if __name__ == "__main__":
    main(unhexlify(sys.argv[1]), unhexlify(sys.argv[2]))
