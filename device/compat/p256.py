"""P-256 (SP 800-186) in big integers, for MicroPython, which brings none. compat.crypto uses it.

How long it takes depends on the key: it is for what a device does by itself once a boot or a clip, not for an answer
that somebody may ask for again and again. Points are (x, y, z) with x / z^2 and y / z^3, z = 0 at infinity.
"""

from binascii import unhexlify

from patrolink_protocol import frame

P = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_INFINITY = (1, 1, 0)
# Entry i, 64 bytes from 64 * (i - 1), is the sum of 2^(64 j) G over the bits j of i: one addition for four bits.
_COMB = unhexlify(
    b"6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ece"
    b"cbb6406837bf51f50fa822bc2811aaa58492592e326e25de29493baaad651f7e90e75cb48e14db63bff44ae8f5dba80d6f4ad4bcb3df188b"
    b"34b1a65050fe82f5e41124545f462ee7300a4bbc89d6726fb257c0de95e02789e96c98fd0d35f1fa93391ce2097992af72aac7e0d09b4644"
    b"7f1ddb25ff1e3c6f5bb1eeada9d806a5aa54a291c08127a0447d739beedb5e67fb982fd588c6766efc35ff7dc297eac357c84fc9d789bd85"
    b"2d4825ab834131eee12e9d953a4aaff73d349b95a7fae5000c7e33c972e25b32ef9519328a9c72ffddc6068bb91dfc60ef7fbd2b1a0a11b7"
    b"13949c932a1d367f611e9fc37dbb2c9bc1ee9807022c219c23183b0895ca1740196035a77376d8a8550663797b51f5d87dea6482e11238bf"
    b"2936df5ec6c9bc36cae2b1920b57f4bc157164848aecb8510afa40018d9d50e59fb3d576dbdefbe144ffe216348a964ceb5d7745b21141ea"
    b"a2e8f483f43e43917ccd84e70d715f26e48ecafffc5cde01eafd72ebdbecc17b0990e6a158006cee85f22cfe2844b645cac917e2731a3479"
    b"a6d39677a78492762736ff8344315fc596439591a3c6b94a6cf20ffb313728be674f84749b0b881666b8babd2d27ecdf824a920c2284059b"
    b"f2bab833c357f5f44e769e7672c9ddad31855f7db8c7fedb74e02f080203a56b2df48c04677c8a3e42b99082de8306631ec0057206947281"
    b"fb9ae16f3b9122a5a4c36165b824bbb078878ef61c6ce04d7fdc1ca008a1c478d1f89e799c0ce1316ef95150dda868b9b6cb3f5d7b72c321"
    b"de53142c12309def6ace570ebde08d4f9c62b9121fe0d9760c88bc4d716b1287595c5220812ffcae5b82dd5bd54fb4967f991ed2c31a3573"
    b"dd5ddea3f3901dc618d1b5b39c04e6aa7c8181f4df2564f33a57bf635f48aca868f344af6b317466efe0a423083e49f343a0a28c42ba792f"
    b"e96a79fb3e72ad0c31b9c405f8540a20604ed93c24d67ff3668bfc2271f5c626cdfe17db3fb24d4a4052bf4b6f461db9663c62c3edbad7a0"
    b"0d1a10144ec39c28d36b4789a2582e7ffecf4d5190b0fc61862be6bd71d70cc8e724f33999bfcc5b235a27c3188d25eb1eddbae2c802e41a"
    b"123202a8f62bff7aafdf5cc08526a7a474346c10a1d4cfac43104d86560ebcfc0c45f45273db33a036e06b7e4c7019178fa0af2dd603f844"
    b"b48e26b484f7a21c0a4a46fb6aaf363a66b0de3225c4744b9615b5110d1d78e5fac015404d4d3dab64131bcdfed6f668c004e4048b7b0f98"
    b"06ebb0f621a01b2d"
)


def _double(x, y, z):
    zz = z * z % P
    yy = y * y % P
    xyy = x * yy % P
    slope = 3 * (x - zz) * (x + zz) % P
    x3 = (slope * slope - 8 * xyy) % P
    return x3, (slope * (4 * xyy - x3) - 8 * yy * yy) % P, 2 * y * z % P


def _add(to, x2, y2):
    """Return the sum of a point and one with z = 1."""
    x1, y1, z1 = to
    if not z1:
        return x2, y2, 1
    zz = z1 * z1 % P
    h = (x2 * zz - x1) % P
    r = (y2 * (zz * z1 % P) - y1) % P
    if not h:
        return _INFINITY if r else _double(x1, y1, z1)
    hh = h * h % P
    hhh = h * hh % P
    v = x1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P


def _affine(x, y, z):
    w = pow(z, P - 2, P)
    ww = w * w % P
    return x * ww % P, y * (ww * w % P) % P


def _times_base(k):
    """Return k G, affine; k in 1..N - 1."""
    to = _INFINITY
    for at in range(63, -1, -1):
        to = _double(*to)
        i = k >> at & 1 | (k >> at + 64 & 1) << 1 | (k >> at + 128 & 1) << 2 | (k >> at + 192 & 1) << 3
        if i:
            i *= 64
            x, y = int.from_bytes(_COMB[i - 64 : i - 32], "big"), int.from_bytes(_COMB[i - 32 : i], "big")
            to = _add(to, x, y)
    return _affine(*to)


def _times(k, x, y):
    """Return k (x, y), affine; k in 1..N - 1. Digits are -1, 0 and 1 (non-adjacent form), as 3 k's bits give them."""
    k3 = 3 * k
    to = _INFINITY
    for at in range(257, 0, -1):
        to = _double(*to)
        digit = (k3 >> at & 1) - (k >> at & 1)
        if digit:
            to = _add(to, x, y if digit > 0 else P - y)
    return _affine(*to)


def _point(public):
    """Return (x, y) of a compressed public key; ValueError when it is none."""
    if len(public) != 33 or public[0] not in (2, 3):
        raise ValueError("a P-256 public key has 33 bytes and begins with 2 or 3")
    x = int.from_bytes(bytes(public[1:]), "big")
    yy = (x * x * x - 3 * x + B) % P
    y = pow(yy, (P + 1) >> 2, P)
    if x >= P or y * y % P != yy:
        raise ValueError("the P-256 public key is not on the curve")
    return x, y if y & 1 == public[0] & 1 else P - y


def _factor(private):
    """Return the number that a private key is; ValueError when it is none."""
    k = int.from_bytes(private, "big")
    if len(private) != 32 or not 0 < k < N:
        raise ValueError("a P-256 private key has 32 bytes, from 1 to the order less 1")
    return k


def _bytes(number):
    return number.to_bytes(32, "big")


def public(private):
    """Return the public key of a private one, compressed."""
    x, y = _times_base(_factor(private))
    return bytes([2 | y & 1]) + _bytes(x)


def agree(private, public):
    """Return the shared secret, 32 bytes: x of ECDH (SP 800-56A, 5.7.1.2). ValueError when `public` is no key."""
    return _bytes(_times(_factor(private), *_point(public))[0])


def _nonces(private, e):
    """Yield what may be k, as RFC 6979 3.2 makes it with SHA-256."""
    seed = private + _bytes(e)
    v, key = b"\x01" * 32, bytes(32)
    for i in range(2):
        key = frame.mac(frame.mac_pads(key), v, bytes([i]), seed)
        v = frame.mac(frame.mac_pads(key), v)
    while True:
        v = frame.mac(frame.mac_pads(key), v)
        yield int.from_bytes(v, "big")
        key = frame.mac(frame.mac_pads(key), v, b"\0")
        v = frame.mac(frame.mac_pads(key), v)


def sign(private, digest):
    """Return r | s of ECDSA over a SHA-256 digest, with RFC 6979's k and the lower s."""
    d = _factor(private)
    e = int.from_bytes(digest, "big") % N
    for k in _nonces(private, e):
        if 0 < k < N:
            r = _times_base(k)[0] % N
            s = pow(k, N - 2, N) * (e + r * d) % N
            if r and s:
                return _bytes(r) + _bytes(min(s, N - s))
