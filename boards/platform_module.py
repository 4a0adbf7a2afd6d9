"""Writes the module `platform_build` into a folder of modules to freeze: what a platform is, and whose images it takes.

usage: python boards/platform_module.py FOLDER BOARD [TRUST]

TRUST is a trust store: public release keys (P-256, PEM), one after the other. Without it the platform accepts no agent
image. Only the standard library is used: recipes run it by the Python of the system. Exit code: 0, 2 for a bad file.
"""

import base64
import binascii
import re
import sys
from pathlib import Path

PLATFORM = 1  # number of the platform, see minimum_platform of an image
_BOARDS = Path(__file__).resolve().parent
_TRUST_BYTES_MAX = 65536
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----([^-]+)-----END PUBLIC KEY-----")
# SubjectPublicKeyInfo (RFC 5480) of an uncompressed point on P-256, up to the point.
_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_POINT_BYTES = 65
_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def points(data: bytes) -> list[bytes]:
    """Return the public keys of a trust store, each 65 bytes, uncompressed (SEC 1, 2.3.3).

    Raises:
        ValueError: There is none, or one that is not a point on P-256.
    """
    if len(data) > _TRUST_BYTES_MAX:
        raise ValueError(f"more than {_TRUST_BYTES_MAX} bytes, which no trust store has")
    blocks = _PEM.findall(data)
    if not blocks or len(blocks) != data.count(b"-----BEGIN"):
        raise ValueError("not a file of public keys in PEM format alone")
    return [_point(block, n) for n, block in enumerate(blocks, 1)]


def _point(block: bytes, n: int) -> bytes:
    try:
        der = base64.b64decode(b"".join(block.split()), validate=True)
    except binascii.Error:
        der = b""
    point = der[len(_SPKI) :]
    if not der.startswith(_SPKI) or len(point) != _POINT_BYTES or point[0] != 4:
        raise ValueError(f"key {n} is not on the curve P-256, as release keys are")
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    if max(x, y) >= _P or (y * y - x * x * x + 3 * x - _B) % _P:
        raise ValueError(f"key {n} is not a point of the curve P-256")
    return point


def module(board: str, architecture: str, slot_kb: int, keys: list[bytes]) -> str:
    """Return the source of the module. A board without slots has a slot_kb of 0."""
    return (
        '"""What this platform is; boards/platform_module.py has generated it."""\n\n'
        f"BOARD = {board!r}\nARCHITECTURE = {architecture!r}\nPLATFORM = {PLATFORM}\nSLOT_BYTES = {slot_kb * 1024}\n"
        f"RELEASE_KEYS = ({''.join(f'{key!r}, ' for key in keys)})\n"
    )


def main() -> int:
    """Write the module; return the exit code."""
    folder, board, *trust = sys.argv[1:]
    description = (_BOARDS / board / "board.toml").read_text(encoding="utf-8")
    architecture = re.search(r'^architecture = "(\w+)"$', description, re.MULTILINE)
    assert architecture, f"boards/{board}/board.toml has no architecture"
    slot_kb = re.search(r"^slot_kb = (\d+)$", description, re.MULTILINE)
    try:
        keys = points(Path(trust[0]).read_bytes()) if trust else []
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        print(f"error: {trust[0]}: {reason}; give a trust store of `patrolink image key`", file=sys.stderr)
        return 2
    text = module(board, architecture[1], int(slot_kb[1]) if slot_kb else 0, keys)
    (Path(folder) / "platform_build.py").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
