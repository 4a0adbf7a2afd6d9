"""Release keys that the platform trusts: verification of the signature of an image header, in steps."""

from compat import crypto
from patrolink_protocol import image_header


class ReleaseKeys:
    """Public release keys.

    Args:
        points: The keys, each 65 bytes, uncompressed.
    """

    def __init__(self, points):
        self._points = {image_header.key_id(point): point for point in points}

    @property
    def key_ids(self):
        """Ids of the keys, as image headers name them."""
        return sorted(self._points)

    def verify(self, header_data):
        """Steps to the reason for refusing the signature of a header, or to "".

        Args:
            header_data: Bytes of a header that `image_header.unpack` accepts.
        """
        header = image_header.unpack(header_data)
        if not self._points:
            return "this platform has no release keys and accepts no image; build and flash one with a trust store"
        if header.signature == image_header.UNSIGNED:
            return "the image is not signed"
        point = self._points.get(header.key_id)
        if point is None:
            return "the image is signed with a release key that this platform does not have"
        valid = yield from crypto.verify(point, image_header.signed_digest(header_data), header.signature)
        return "" if valid else "the signature of the image is not valid"
