"""Decode many position batches with the C codec, where its package `patrolink-codec` is installed."""

import logging
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from patrolink_protocol import VERSION

from patrolink.core.batch_columns import NAMES, Part

_LOG = logging.getLogger("patrolink.codec")


def load() -> ModuleType | None:
    """Return the extension module; None if it is not installed, or was built for another version of the protocol."""
    try:
        import patrolink_codec
    except ImportError:
        return None
    if patrolink_codec.VERSION != VERSION:
        _LOG.warning(
            "patrolink-codec %s is not used: this is patrolink %s; install the same version of both",
            patrolink_codec.VERSION,
            VERSION,
        )
        return None
    module: ModuleType = patrolink_codec
    return module


class ExtensionDecoder:
    """Decodes batches with the extension module.

    Args:
        module: what `load` returned.
    """

    block_batches = 512  # whose rows fit the processor's cache

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def decode_parts(self, bodies: Sequence[bytes | memoryview]) -> list[Part]:
        """Decode all well-formed batches; the malformed ones are left out."""
        ends = np.cumsum([len(body) for body in bodies], dtype=np.uint32)
        counts, *columns = self._module.decode_batches(b"".join(bodies), ends.tobytes())
        rows = np.frombuffer(counts, np.uint8).astype(np.int64)
        indices = np.flatnonzero(rows)
        total = int(rows.sum())
        arrays = (np.frombuffer(column, np.int64 if i == 0 else np.int32, total) for i, column in enumerate(columns))
        return [Part(indices, rows[indices], dict(zip(NAMES, arrays, strict=True)))]
