"""Requests of the bytes of an image file: one at a time, repeated with growing intervals. Pure."""

from patrolink_protocol.native import const

BLOCK_BYTES = const(900)  # firmware_block.data at most
RESPONSE_MS = const(15_000)  # for the first answer; doubles with each one that does not come
RESPONSE_MAX_MS = const(1_800_000)


class Download:
    """Decides when which bytes are requested.

    Args:
        image: Id of the image, 8 bytes.
        size: Bytes of the image file.
    """

    def __init__(self, image, size):
        self._image = image
        self._size = size
        self._requested_ms = None
        self._response_ms = RESPONSE_MS
        self._session = 0

    def next_request(self, received, session, now_ms):
        """Return the number of bytes to request now from offset `received`, or 0 while an answer is awaited.

        A request whose session is over is repeated at once: its answer is lost.

        Args:
            received: Bytes of the image file that are there.
            session: Number of the session, which sends a request at once.
            now_ms: Time.
        """
        if self._requested_ms is not None and session == self._session:
            if now_ms - self._requested_ms < self._response_ms:
                return 0
            self._response_ms = min(2 * self._response_ms, RESPONSE_MAX_MS)
        self._requested_ms = now_ms
        self._session = session
        return min(BLOCK_BYTES, self._size - received)

    def accepts(self, image, offset, length, received):
        """Return whether a block continues the file. Others are late, repeated or of another image."""
        return image == self._image and offset == received and 0 < length <= self._size - received

    def block_arrived(self):
        """A block was accepted: the next request need not wait."""
        self.retry_now()
        self._response_ms = RESPONSE_MS

    def retry_now(self):
        """Repeat the request without further delay."""
        self._requested_ms = None
