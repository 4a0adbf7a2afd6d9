"""AES on whole blocks (ECB), on which counter modes and key wrapping are built, and the loops of counter modes.

`encrypter(key)` and `decrypter(key)` return a function f(blocks, out); both buffers may be the same. They come from
MicroPython's cryptolib, where f allocates nothing, or from CPython's `cryptography`. `kernels` is `cipher_kernels`.
MicroPython subset.
"""

try:
    from . import cipher_kernels as kernels
except SyntaxError:  # a MicroPython without the native code emitter
    from .native_fallback import load_interpreted

    kernels = load_interpreted(__file__[: __file__.rfind("/")] + "/cipher_kernels.py")

try:
    from cryptolib import aes as _aes
except ImportError:
    from .aes_cpython import decrypter as decrypter
    from .aes_cpython import encrypter as encrypter
else:

    def encrypter(key):
        """Return f(blocks, out), which encrypts whole blocks."""
        return _aes(key, 1).encrypt

    def decrypter(key):
        """Return f(blocks, out), which decrypts whole blocks."""
        return _aes(key, 1).decrypt
