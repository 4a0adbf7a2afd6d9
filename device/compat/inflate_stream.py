"""A stream of raw deflate (RFC 1951) that arrives in parts: `deflate` on boards, `zlib` on CPython."""

import io

WINDOW_BITS = 14  # 16 KB of memory

try:
    import deflate
except ImportError:
    import zlib

    class InflateStream:
        """Inflates parts of one stream; each ends with a flush of the compressor."""

        def __init__(self):
            self._inflater = zlib.decompressobj(-WINDOW_BITS)

        def inflate(self, data, buffer):
            """Fill a buffer from the next part. Raises ValueError if the part does not fill it exactly."""
            out = self._inflater.decompress(bytes(data))
            if len(out) != len(buffer):
                raise ValueError("deflate")
            buffer[:] = out

else:

    class InflateStream:
        """Inflates parts of one stream; each ends with a flush of the compressor."""

        def __init__(self):
            self._input = io.BytesIO()
            self._end = 0
            self._output = deflate.DeflateIO(self._input, deflate.RAW, WINDOW_BITS)

        def inflate(self, data, buffer):
            """Fill a buffer from the next part. Raises ValueError if the part does not fill it."""
            # The end of a flush is read with the next part.
            rest = self._input.read(self._end - self._input.tell())
            self._input.seek(0)
            self._input.write(rest)
            self._input.write(data)
            self._end = self._input.tell()
            self._input.seek(0)
            if self._output.readinto(buffer) != len(buffer):
                raise ValueError("deflate")
