"""AES on whole blocks (ECB), from MicroPython's cryptolib or CPython's `cryptography`.

`encrypter(key)` and `decrypter(key)` return a function f(blocks, out); both buffers may be the same. On MicroPython the
function allocates nothing.
"""

try:
    from cryptolib import aes as _aes

    def encrypter(key):
        """Return f(blocks, out), which encrypts whole blocks."""
        return _aes(key, 1).encrypt

    def decrypter(key):
        """Return f(blocks, out), which decrypts whole blocks."""
        return _aes(key, 1).decrypt

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def _write_into(update):
        def f(blocks, out):
            out[:] = update(blocks)

        return f

    def encrypter(key):
        """Return f(blocks, out), which encrypts whole blocks."""
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - the caller builds counter mode from it
        return _write_into(cipher.encryptor().update)

    def decrypter(key):
        """Return f(blocks, out), which decrypts whole blocks."""
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - the caller unwraps keys with it
        return _write_into(cipher.decryptor().update)
