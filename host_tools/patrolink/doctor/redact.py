"""Removes secrets, identities of subscribers and positions from text that leaves the machine.

The rules remove too much rather than too little: a long checksum or the rest of a line after `password:` is lost.
A short secret without a name beside it cannot be recognized.
"""

import re
from typing import Any, NamedTuple

REMOVED = "[removed]"
POSITION = "[position]"

_NOT_REMOVED = r"(?!\[(?:removed|position)\])"
# Names of secrets: those that occur in any compound, and short words that are complete names or end one.
_STRONG = r"(?:password|passwd|passphrase|passcode|secret|token|credential|authorization|api[_-]?key)"
_WEAK = r"(?:pass|pwd|pw|cookie|psk|puk\d?|pin\d?|ki|opc?|key|otp|salt|session|signature|auth)"
_NAME = (
    rf"(?:{_STRONG}[\w-]{{0,16}}"
    rf"|(?:(?<![A-Za-z0-9])|(?-i:(?<=[a-z0-9])(?=[A-Z]))){_WEAK}(?:s|[_-]?(?:hex|base64|b64|value|data|text|id|\d+))?)"
)
_QUOTED = r'"""[\s\S]*?(?:"""|\Z)|' r"'''[\s\S]*?(?:'''|\Z)|" r'"(?:[^"\\\n]|\\.)*(?:"|$)|' r"'(?:[^'\\\n]|\\.)*(?:'|$)"
_VALUE = rf"(?:[bru]?(?:{_QUOTED})[^\s,;}}\])]*|[|>][+-]?[ \t]*\n(?:[ \t]+[^\n]*\n?)+|[^\r\n]+)"

# (pattern, replacement): a group is kept, everything else of the match is removed.
_SECRETS = (
    re.compile(
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|[\sA-Za-z0-9+/=\\:,.-]*)()"
    ),
    # Lines of base64, also those at the start of a log that was cut inside a key, with the short last line.
    re.compile(r"(?:^[ \t]*[A-Za-z0-9+/_-]{40,}={0,2}[ \t]*\r?\n)+[ \t]*[A-Za-z0-9+/_-]*={0,2}[ \t]*$()", re.M),
    re.compile(r"(://)(?!\[removed\]@)[^\s\"'<>]*(?=@)"),
    re.compile(
        rf"((?<![\w-])--?(?:[a-z]+-){{0,4}}(?:{_STRONG}|{_WEAK})s?(?:-[a-z]+)?[\"']?[\s=,]+[\"']?){_NOT_REMOVED}[^\s\"',\]=][^\s\"',\]]*",
        re.I,
    ),
    re.compile(r"(AT\+(?:CPIN|CPWD|CLCK|CGAUTH|CSTT|QICSGP|QMT\w*|CMQTT\w*|QSSL\w*|CCERT\w*)=)[^\r\n]*", re.I),
    re.compile(rf"(<[\w-]{{0,40}}(?:{_STRONG}|{_WEAK})[\w-]{{0,40}}(?:\s[^>]*)?>){_NOT_REMOVED}[^<]+", re.I),
    re.compile(rf"\b({_STRONG}s? (?:is|was|to|of)[ :]+){_NOT_REMOVED}[^\r\n]+", re.I),
    re.compile(rf"\b((?:{_STRONG}|PIN\d?|PUK\d?)[ \t]+)(?!(?:is|was|to|of)\b){_NOT_REMOVED}[^\s:=]+", re.I),
    re.compile(rf"\b((?:Bearer|Basic|Digest)[ \t]+){_NOT_REMOVED}[\w.~+/=-]{{4,}}", re.I),
    re.compile(rf"({_NAME}[\"'\])]*\s*(?:=>|:=|[=:])\s*)(?![{{\[]\s*$){_NOT_REMOVED}{_VALUE}", re.I | re.M),
    re.compile(r"\beyJ[\w-]*\.[\w-]*\.[\w-]*()"),
    re.compile(r"(?<![0-9a-f])(?:0x)?[0-9a-f]{2}(?:(?:[:\s-]|,\s*)(?:0x)?[0-9a-f]{2}){11,}(?![0-9a-f])()", re.I),
    re.compile(r"(?<![0-9a-f])[0-9a-f]{4,8}(?:[ :-][0-9a-f]{4,8}){3,}(?![0-9a-f])()", re.I),
    re.compile(r"[0-9a-f]{24,}()", re.I),
    re.compile(r"(?<!\d)\d{1,3}(?:,\s*\d{1,3}){15,}(?!\d)()"),
    re.compile(r"\+\d(?:[ /-]?\d){7,14}(?!\d)()"),  # phone numbers
    re.compile(r"(?<!\d)(?:\d[ /-]?){13,}[\dF](?!\d)()", re.I),  # IMEI, IMSI, ICCID
)
_POSITIONS = (
    re.compile(r"(\$?(?:[A-Z]{2}(?:GGA|RMC|GLL|GNS)|PUBX,00),)[^\r\n\"']*"),
    re.compile(r"(\+(?:QGPSLOC|CGPSINFO|CGNSSINFO|CGNSINF|CLBS|QLBS):)[^\r\n]*"),
    re.compile(
        r"((?<![A-Za-z0-9])(?:lat|lon|lng|latitude|longitude)(?:_?(?:deg|e[567]))?[\"']?\s*[=:]\s*[\"']?)[-+]?\d+(?:\.\d+)?",
        re.I,
    ),
    re.compile(
        r"()\d{1,3}\s*°\s*[\d.]+\s*['\u2032][^,\n]{0,12}?[NSEW]?[ ,;]*\d{1,3}\s*°\s*[\d.]+\s*['\u2032]?[^\s,]{0,8}"
    ),
    re.compile(r"()(?<![\d.])[-+]?\d{1,5}\.\d{3,}°?[\s,;/]*[NSEW]?[\s,;/]+[NSEW]?\s*[-+]?\d{1,5}\.\d{3,}"),
)
_STRING = re.compile(r"b?(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")")
_ESCAPES = re.compile(r"(?:\\x[0-9a-f]{2}){4,}", re.IGNORECASE)
_ESCAPED_BYTES_MIN = 4
_LONG_RUN = re.compile(r"[A-Za-z0-9+/_-]{20,}(?:={1,2}(?![\w\[\"']))?")
_PATH = re.compile(r"/?[A-Z]?[a-z0-9_-]{1,24}(?:/[A-Z]?[a-z0-9_-]{1,24})+/?")
_WORDS = re.compile(r"[a-z]{1,20}(?:[_-][a-z]{1,20})+|PATROLINK_[A-Z_]+")
_SECRET_NAME = re.compile(rf"{_NAME}$", re.IGNORECASE)


class Redacted(NamedTuple):
    """Text without secrets.

    Attributes:
        text: The text.
        secrets: Number of places from which secrets or identities were removed.
        positions: Number of positions that were removed.
    """

    text: str
    secrets: int
    positions: int


def redact(text: str, keep_positions: bool = False) -> Redacted:
    """Remove secrets, identities of subscribers and positions.

    Removed are private keys, device keys, tokens, passwords and PINs, credentials in URLs, ICCID, IMSI, IMEI and phone
    numbers; and positions, unless they are kept.

    Args:
        text: Any text: a log or a configuration.
        keep_positions: Leave positions in the text.
    """
    positions = 0
    for pattern in () if keep_positions else _POSITIONS:
        text, count = pattern.subn(rf"\g<1>{POSITION}", text)
        positions += count
    for pattern in _SECRETS:
        text = pattern.sub(_replacement, text)
    for pattern, replacement in ((_STRING, _string), (_ESCAPES, _removed), (_LONG_RUN, _long_run)):
        text = pattern.sub(replacement, text)
    return Redacted(text, text.count(REMOVED), positions)


def redact_json(value: Any) -> Any:
    """Return a JSON-ready value without secrets; its structure is kept."""
    if isinstance(value, dict):
        return {
            redact(str(key)).text: REMOVED
            if _SECRET_NAME.search(str(key)) and not isinstance(entry, (dict, list))
            else redact_json(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [redact_json(entry) for entry in value]
    return redact(value).text if isinstance(value, str) else value


def _replacement(match: "re.Match[str]") -> str:
    return f"{match[1]}{REMOVED}"


def _removed(match: "re.Match[str]") -> str:
    return REMOVED


def _string(match: "re.Match[str]") -> str:
    """Return a string literal, removed if it is binary data: a key that was printed as Python bytes."""
    return f"'{REMOVED}'" if match[0].count("\\x") >= _ESCAPED_BYTES_MIN else match[0]


def _long_run(match: "re.Match[str]") -> str:
    """Return a run of base64 characters, removed unless it is a path or words."""
    run = match[0]
    return run if _PATH.fullmatch(run) or _WORDS.fullmatch(run) else REMOVED
