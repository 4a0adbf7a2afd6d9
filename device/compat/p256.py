"""P-256 (SP 800-186) for MicroPython, which has no elliptic curves. compat.crypto uses it.

Long operations are steps (compat.steps) of at most 1.3 million instructions each on a 32-bit board. Their time and
memory accesses depend on the key. They are for operations that a device starts once per boot, clip or update, not for
answers to requests that an attacker can repeat.
"""

from binascii import unhexlify

from compat.p256_field import (
    P,
    combine,
    from_montgomery,
    is_zero,
    load_montgomery,
    multiply,
    power,
    to_montgomery,
)
from compat.steps import run_to_completion
from patrolink_protocol.key_derivation import hmac, hmac_pads

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_BASE_STEP, _STEP = 1, 4  # bits of a scalar per step, for the base point and for other points
_DIVISIONS = 32
# Comb table: entry i, 64 bytes from 64 * (i - 1), is the sum of 2**(64 j) G over the bits j of i, x and y in Montgomery
# form. It takes one addition per four bits.
_COMB = unhexlify(
    b"8905f76b53755c669fb732b7762251075ba95fc4fedb60179e730d418a9143c1571ff18a5885d8552e88688dd21f3258b4ab8e43a19e45cd"
    b"df25357ce95560a8f5e69621d1b667f7241cf3a57c62c8b0d5cc16bfa6234994f922fc516a0d2bb2648f9177d6f0f7a14911b37071fdb523"
    b"d20b44c709561925c15c70bf5a01797fabe0285633d001561c4276179d73463e434469e3a6a0bec9e566847e137bbbc54bb725bfb6f73827"
    b"c93156278e6cc37573d9f4bb3260c0792aa837cc04c7dab91d587d481d324f5fa96a5d5dd38706391c19ac32fdce86762a8c244bfe209256"
    b"a11fe133621efbd20f8441e05bab43e2384800763778b65e87673a2a37173eaf86eb04c6f13bedc66d03d678ac5ca8e01ba8d5b61923c231"
    b"c891f2b2cb19ffd59d5ac0880864f11178fd6c056c652fa1e81a33c0819ede20c35c6e527e8ed091b6de65273b266b0a77e7c9aa79ec2936"
    b"73b8af5f1bdddc062577734d2b533d5b0b4619abd18b99b65ac83d19b3cfc27d6a0afd3703a7480e7e9303ab65259b36d0f27b33eebffcc7"
    b"b130014ee5f87edb8b7652ab9e73658bd6a38e11ae5aa1c944a566d556ec48ce7c1dfe0ac019a719c955b2fbdbbc83aca9246317a730a552"
    b"03f3e034d42ab1a8a406b8e6d9c87c197241afe447b266a56f8410ef4f8b16a8097440f1067adc106097273ad8e197fa83b85f67bbad05f7"
    b"f0309a804dbec69c1af32d6815f1f2f30314459176c68efa8ee068a941df8d1846a56f2c379ab34f3d0f13102d41c8ae613a41848d7723f8"
    b"37cffbad72f67bc99c375315d75bd5020bbb4d9c9902169f314092622626ffc6fe799830934f3c6ed93e225d5be5a2b5b10011821fe49c32"
    b"1a8099b0236e0f665422c3ff81dcdb2378191c6e57ec63e2d55899a53fbae0ba144f3aad19adcbbc385f5a1898270fcfc68b5c59b391593d"
    b"6e4c551f49d6040ba7a9eaf43c0322ad2e03c3f91e734c993b88b8e74b82ff4ead27149cb7e63aea8bc5a072f4a5d67f6ce1169d255be825"
    b"fe14bfe80ec21fef7387de40f0e1a839a7dc875c2aade7d37a9a83bde251ae690c0b6ac29ab05b3737b85c16ef0c47ddf7a1408f505aecea"
    b"5cffcd796086c741e9ecc49a56c0dd7bc135ac989f628d51ba453fac39cef4efd6d4bbedb388f233596b6e4cc0e6a8f9109f9cc51ece8ffd"
    b"e418403df63d4ac2961c47f7bf362bf0a1c729495c8f8becbc3344fbeee1ee0f4692b8d7a40449bb9083d964deb85c0c2d095d0589457059"
    b"9591d527f1a4cc1269ca665b310732a55491b2728a542b10d5ae356429130742376551f78ef332bb200d49680baa189be7eef413f5f84e1e"
    b"76f5b6bb84f983f6"
)


def _inverse(a, m):
    """Steps to 1 / a modulo a prime, a in 1..m - 1 (Euclid's algorithm: a tenth of the time of a power)."""
    b, x, y = m, 1, 0
    n = 0
    while a != 1:
        q = b // a
        a, b = b - q * a, a
        x, y = y - q * x, x
        n += 1
        if not n % _DIVISIONS:
            yield
    return x % m


def _bit(number, at):
    """Return a bit of a big-endian number. A big integer would allocate."""
    return number[len(number) - 1 - (at >> 3)] >> (at & 7) & 1


class _PointAccumulator:
    """A point that others are added to in place, in Jacobian coordinates: x / z**2, y / z**3. Begins at infinity."""

    def __init__(self):
        self.x, self.y, self.z = to_montgomery(), to_montgomery(), to_montgomery()
        self.at_infinity = True
        self._t, self._u, self._v, self._w = to_montgomery(), to_montgomery(), to_montgomery(), to_montgomery()

    def double(self):
        """Double the point."""
        if self.at_infinity:
            return
        x = self.x
        y = self.y
        z = self.z
        t = self._t
        u = self._u
        yy = self._v
        multiply(z, z, u)
        combine(x, 1, u, -1, t)
        combine(x, 1, u, 1, u)
        multiply(t, u, t)
        combine(t, 2, t, 1, t)  # the slope, 3 (x - z^2) (x + z^2)
        multiply(y, z, z)
        combine(z, 1, z, 1, z)
        multiply(y, y, yy)
        multiply(x, yy, u)
        multiply(t, t, x)
        combine(x, 1, u, -8, x)
        combine(u, 4, x, -1, u)
        multiply(t, u, u)
        multiply(yy, yy, yy)
        combine(u, 1, yy, -8, y)

    def add(self, x2, y2):
        """Add the affine point (x2, y2)."""
        x = self.x
        y = self.y
        z = self.z
        h = self._t
        r = self._u
        hh = self._v
        v = self._w
        if self.at_infinity:
            self.at_infinity = False
            x[:] = x2
            y[:] = y2
            z[:] = to_montgomery(1)
            return
        multiply(z, z, v)
        multiply(v, x2, h)
        combine(h, 1, x, -1, h)
        multiply(v, z, v)
        multiply(v, y2, r)
        combine(r, 1, y, -1, r)
        if is_zero(h):
            if is_zero(r):
                self.double()
            else:
                self.at_infinity = True
            return
        multiply(z, h, z)
        multiply(h, h, hh)
        multiply(x, hh, v)
        multiply(h, hh, hh)
        multiply(r, r, x)
        combine(x, 1, hh, -1, x)
        combine(x, 1, v, -2, x)
        combine(v, 1, x, -1, v)
        multiply(r, v, v)
        multiply(y, hh, y)
        combine(v, 1, y, -1, y)

    def affine(self):
        """Steps to the affine coordinates."""
        w = yield from _inverse(from_montgomery(self.z), P)
        w = to_montgomery(w)
        multiply(w, w, self._t)
        multiply(self._t, w, w)
        multiply(self.x, self._t, self._t)
        multiply(self.y, w, w)
        return from_montgomery(self._t), from_montgomery(w)


def _add_base(total, k, at, x, y):
    """Add the point of the comb table for bits at, at + 64, at + 128 and at + 192 of k. Overwrites x and y."""
    i = 0
    for j in range(4):
        i |= _bit(k, at + 64 * j) << j
    if i:
        load_montgomery(_COMB, 64 * i - 64, x)
        load_montgomery(_COMB, 64 * i - 32, y)
        total.add(x, y)


def _multiply_base(k):
    """Steps to k G in affine coordinates; k in 1..ORDER - 1."""
    total = _PointAccumulator()
    x, y = to_montgomery(), to_montgomery()
    k = _to_bytes(k)
    for at in range(63, -1, -1):
        total.double()
        _add_base(total, k, at, x, y)
        if not at % _BASE_STEP:
            yield
    point = yield from total.affine()
    return point


def _multiply_point(k, x, y):
    """Steps to k (x, y) in affine coordinates; k in 1..ORDER - 1.

    Digits are -1, 0 and 1 (non-adjacent form), from the bits of 3 k.
    """
    total = _PointAccumulator()
    x, y, minus = to_montgomery(x), to_montgomery(y), to_montgomery(P - y)
    k3 = (3 * k).to_bytes(34, "big")
    k = k.to_bytes(34, "big")
    for at in range(257, 0, -1):
        total.double()
        digit = _bit(k3, at) - _bit(k, at)
        if digit:
            total.add(x, y if digit > 0 else minus)
        if not at % _STEP:
            yield
    point = yield from total.affine()
    return point


def _add_multiples(u1, u2, x, y):
    """Steps to the _PointAccumulator u1 G + u2 (x, y), with shared doublings; u1 and u2 in 0..ORDER - 1.

    Digits of u2 are those of `_multiply_point`. u1 is added from the comb table during the last 64 doublings.
    """
    total = _PointAccumulator()
    base_x, base_y = to_montgomery(), to_montgomery()
    x, y, minus = to_montgomery(x), to_montgomery(y), to_montgomery(P - y)
    k3 = (3 * u2).to_bytes(34, "big")
    k = u2.to_bytes(34, "big")
    u1 = _to_bytes(u1)
    for at in range(256, -1, -1):
        total.double()
        digit = _bit(k3, at + 1) - _bit(k, at + 1)
        if digit:
            total.add(x, y if digit > 0 else minus)
        if at < 64:
            _add_base(total, u1, at, base_x, base_y)
        if not at % _STEP:
            yield
    return total


def _decompress(public):
    """Return (x, y) of a compressed public key; raise ValueError for an invalid one."""
    if len(public) != 33 or public[0] not in (2, 3):
        raise ValueError("a P-256 public key has 33 bytes and begins with 2 or 3")
    x = int.from_bytes(bytes(public[1:]), "big")
    yy = (x * x * x - 3 * x + B) % P
    y = from_montgomery(run_to_completion(power(to_montgomery(yy), (P + 1) >> 2)))
    if x >= P or y * y % P != yy:
        raise ValueError("the P-256 public key is not on the curve")
    return x, y if y & 1 == public[0] & 1 else P - y


def _uncompressed_point(public):
    """Return (x, y) of an uncompressed public key; raise ValueError for an invalid one."""
    if len(public) != 65 or public[0] != 4:
        raise ValueError("an uncompressed P-256 public key has 65 bytes and begins with 4")
    x = int.from_bytes(bytes(public[1:33]), "big")
    y = int.from_bytes(bytes(public[33:]), "big")
    if x >= P or y >= P or (y * y - x * x * x + 3 * x - B) % P:
        raise ValueError("the P-256 public key is not on the curve")
    return x, y


def _private_scalar(private):
    """Return the scalar of a private key; raise ValueError for an invalid one."""
    k = int.from_bytes(private, "big")
    if len(private) != 32 or not 0 < k < ORDER:
        raise ValueError("a P-256 private key has 32 bytes and is in 1..order - 1")
    return k


def _to_bytes(number):
    return number.to_bytes(32, "big")


def derive_public_key(private):
    """Steps to the compressed public key of a private key."""
    x, y = yield from _multiply_base(_private_scalar(private))
    return bytes([2 | y & 1]) + _to_bytes(x)


def derive_shared_secret(private, public):
    """Steps to the shared secret, 32 bytes: x of ECDH (SP 800-56A, 5.7.1.2).

    Raises:
        ValueError: a key is invalid.
    """
    k = _private_scalar(private)
    x, y = _decompress(public)
    yield
    x, y = yield from _multiply_point(k, x, y)
    return _to_bytes(x)


def _nonces(private, e):
    """Yield candidates for k (RFC 6979, 3.2, with SHA-256)."""
    seed = private + _to_bytes(e)
    v, key = b"\x01" * 32, bytes(32)
    for i in range(2):
        key = hmac(hmac_pads(key), v, bytes([i]), seed)
        v = hmac(hmac_pads(key), v)
    while True:
        v = hmac(hmac_pads(key), v)
        yield int.from_bytes(v, "big")
        key = hmac(hmac_pads(key), v, b"\0")
        v = hmac(hmac_pads(key), v)


def sign(private, digest):
    """Steps to r | s of ECDSA over a SHA-256 digest, with the nonce of RFC 6979 and the lower s."""
    d = _private_scalar(private)
    e = int.from_bytes(digest, "big") % ORDER
    for k in _nonces(private, e):
        if 0 < k < ORDER:
            x, y = yield from _multiply_base(k)
            r = x % ORDER
            inverse = yield from _inverse(k, ORDER)
            s = inverse * (e + r * d) % ORDER
            if r and s:
                return _to_bytes(r) + _to_bytes(min(s, ORDER - s))


def verify(public, digest, signature):
    """Steps to True if r | s is a signature of ECDSA (FIPS 186-5, 6.4.2) over a SHA-256 digest, otherwise to False.

    Args:
        public: The public key, 65 bytes, uncompressed.
        digest: 32 bytes.
        signature: r | s. Other lengths than 64 bytes are not a signature. Any s from 1 to the order - 1 is accepted.

    Raises:
        ValueError: the public key is invalid.
    """
    x, y = _uncompressed_point(public)
    if len(signature) != 64:
        return False
    r = int.from_bytes(bytes(signature[:32]), "big")
    s = int.from_bytes(bytes(signature[32:]), "big")
    if not (0 < r < ORDER and 0 < s < ORDER):
        return False
    yield
    inverse = yield from _inverse(s, ORDER)
    u1 = int.from_bytes(digest, "big") * inverse % ORDER
    u2 = r * inverse % ORDER
    total = yield from _add_multiples(u1, u2, x, y)
    if total.at_infinity:
        return False
    x, y = yield from total.affine()
    return x % ORDER == r
