"""Signed report files: canonical JSON, with an ECDSA P-256 signature over everything else in it.

A file is valid only in the one form that `render` writes, so that a change of any byte is found.
"""

import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from patrolink.conformance.evidence import canonical
from patrolink.conformance.report.document import FORMAT, FORMAT_VERSION, Document
from patrolink.core import untrusted_json
from patrolink.core.errors import UserError
from patrolink.flash.image import release_key

REPORT_MAX_BYTES = 256 << 20
VALID, INVALID, UNSIGNED = "valid", "invalid", "unsigned"
_HALF = 32
_PURPOSE = b"patrolink-conformance-report\0"


def render(document: Document) -> str:
    """Return the text of a report file."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def sign(document: Document, private: ec.EllipticCurvePrivateKey) -> Document:
    """Return the document with the signer's public key and a signature."""
    unsigned = {**document, "signer": release_key.point(private.public_key()).hex()}
    r, s = release_key.signature_of(private, _digest(unsigned))
    return {**unsigned, "signature": (r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")).hex()}


def unsigned(document: Document) -> Document:
    """Return the document, marked as not signed."""
    return {**document, "signer": None, "signature": None}


def state(document: Document) -> str:
    """Return VALID, INVALID or UNSIGNED for the signature against the key in the document."""
    signer, signature = document.get("signer"), document.get("signature")
    if signer is None and signature is None:
        return UNSIGNED
    try:
        point, value = bytes.fromhex(str(signer)), bytes.fromhex(str(signature))
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        r, s = int.from_bytes(value[:_HALF], "big"), int.from_bytes(value[_HALF:], "big")
        rest = {key: item for key, item in document.items() if key != "signature"}
        public.verify(utils.encode_dss_signature(r, s), _digest(rest), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except (ValueError, InvalidSignature):
        return INVALID
    # One form for each signature: a whole one, in lower case, with the lower s.
    canonical_form = len(value) == 2 * _HALF and value.hex() == signature and point.hex() == signer
    return VALID if canonical_form and release_key.is_low(s) else INVALID


def _digest(document: Document) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_PURPOSE + canonical(document).encode())
    return digest.finalize()


def read(path: Path) -> Document:
    """Read a report file.

    Raises:
        UserError: It is not a report, it was cut off or altered, or another version of the tool wrote it.
    """
    with path.open("rb") as f:
        data = f.read(REPORT_MAX_BYTES + 1)
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Document:
    """Return the document of a report file; as `read`."""
    if len(data) > REPORT_MAX_BYTES:
        raise UserError(f"{name}: more than {REPORT_MAX_BYTES} bytes, which no report has; name the right file")
    try:
        document: Any = untrusted_json.parse(data)
    except ValueError as e:
        raise UserError(f"{name}: not a report, or cut off or altered ({e}); get the file from its author") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{name}: not a report of `patrolink validate`; name the file of its option --report")
    if document.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{name}: format {document.get('format_version')}, this tool reads {FORMAT_VERSION}; update it")
    try:
        same = render(document).encode() == data
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise UserError(f"{name}: not in the form that `patrolink validate` writes; it was altered")
    return document
