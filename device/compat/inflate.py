"""Decompression of raw deflate (RFC 1951) with a window of 1 KB: `deflate` on MicroPython, `zlib` on CPython."""

_WINDOW_BITS = 10

try:
    import deflate

    def inflate(stream):
        """Return the stream of the decompressed data.

        Its readinto(view) fills the view, except at the end of the data. It raises OSError for data that are not
        valid and EOFError if they are incomplete.

        Args:
            stream: Stream of the compressed data, a file or derived from `io.IOBase`.
        """
        return deflate.DeflateIO(stream, deflate.RAW, _WINDOW_BITS)

except ImportError:
    import zlib

    _PIECE_BYTES = 512

    class _InflatedStream:
        def __init__(self, stream):
            self._stream = stream
            self._decompressor = zlib.decompressobj(-_WINDOW_BITS)
            self._input = b""

        def readinto(self, view):
            filled = 0
            while filled < len(view) and not self._decompressor.eof:
                try:
                    data = self._decompressor.decompress(self._input, len(view) - filled)
                except zlib.error as e:
                    raise OSError(str(e)) from None
                self._input = self._decompressor.unconsumed_tail
                view[filled : filled + len(data)] = data
                filled += len(data)
                if not data and not self._input and not self._decompressor.eof:
                    self._input = self._stream.read(_PIECE_BYTES)
                    if not self._input:
                        raise EOFError
            return filled

    def inflate(stream):
        """Return the stream of the decompressed data.

        Its readinto(view) fills the view, except at the end of the data. It raises OSError for data that are not
        valid and EOFError if they are incomplete.

        Args:
            stream: Stream of the compressed data, a file or derived from `io.IOBase`.
        """
        return _InflatedStream(stream)
