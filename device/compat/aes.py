"""AES on whole blocks (ECB), from MicroPython's cryptolib or CPython's `cryptography`.

encrypter(key) and decrypter(key) return a function f(blocks, out), in place when both are one. On MicroPython it
allocates nothing.
"""

try:
    from cryptolib import aes as _aes

    def encrypter(key):
        return _aes(key, 1).encrypt

    def decrypter(key):
        return _aes(key, 1).decrypt

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def _into(update):
        def f(blocks, out):
            out[:] = update(blocks)

        return f

    def encrypter(key):
        return _into(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update)  # noqa: S305 - counter mode is made of it

    def decrypter(key):
        return _into(Cipher(algorithms.AES(key), modes.ECB()).decryptor().update)  # noqa: S305
