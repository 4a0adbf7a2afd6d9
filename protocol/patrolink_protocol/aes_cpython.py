"""`aes` for CPython, with `cryptography`. Boards do not have this module."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def _ecb(key):
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - counter modes and key wrapping are built on it


def block_encrypter(key):
    """Return f(blocks), which returns whole blocks encrypted."""
    return _ecb(key).encryptor().update


def _write_into(update):
    def f(blocks, out):
        out[:] = update(blocks)

    return f


def encrypter(key):
    """See `aes.encrypter`."""
    return _write_into(block_encrypter(key))


def decrypter(key):
    """See `aes.decrypter`."""
    return _write_into(_ecb(key).decryptor().update)
