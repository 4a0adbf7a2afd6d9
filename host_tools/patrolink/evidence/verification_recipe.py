"""Commands with which a third party can verify a clip again: with patrolink, and with standard tools only."""

import shlex

from patrolink.evidence.clip_folders import manifest_name
from patrolink.evidence.verify import ClipVerdict

# SubjectPublicKeyInfo (RFC 5480) of a compressed point on P-256, up to the point.
_SPKI = "3039301306072a8648ce3d020106082a8648ce3d030107032200"
# For bash, sed, sha256sum and openssl 3. Chain and signature: protocol/CLIP.md, "Manifest".
_SCRIPT = r"""export LC_ALL=C; manifest=%(manifest)s
signer=%(signer)s
chain=%(previous)s
r=%(r)s
s=%(s)s
work=$(mktemp -d)
unhex() { printf '%%b' "$(printf %%s "$1" | sed 's/../\\x&/g')"; }
# Each file has the SHA-256 that the manifest lists.
sed -nE 's/^\{"(seg|thumb)":"([0-9-]*)","bytes":[0-9]*,"sha256":"([0-9a-f]*)".*/\3  \2.pls/p' $manifest | sha256sum -c
# Every line of the manifest except the last is hashed into the chain; the last line holds the chain value.
while IFS= read -r line; do
  chain=$({ unhex $chain; printf '%%s\n' "$line"; } | sha256sum | cut -c1-64)
done < <(sed '$d' $manifest)
tail -n 1 $manifest | grep -q "{\"chain\":\"$chain\"," && echo chain: OK || echo chain: FAILED
# The device signed the chain value.
printf '%%s\n' asn1=SEQUENCE:sig '[sig]' r=INTEGER:0x$r s=INTEGER:0x$s > $work/sig.cnf
openssl asn1parse -genconf $work/sig.cnf -noout -out $work/sig.der
unhex %(spki)s$signer | openssl pkey -pubin -inform DER -out $work/signer.pem
{ printf patrolink-clip; unhex $chain; } | openssl dgst -sha256 -verify $work/signer.pem -signature $work/sig.der
"""


def patrolink_command(result: ClipVerdict) -> str:
    """Return the patrolink command to run in the folder of all clips."""
    folder = result.folder.resolve()
    return f"patrolink clip verify --signers signers.toml {shlex.quote(f'{folder.parent.name}/{folder.name}')}"


def shell_script(result: ClipVerdict) -> str:
    """Return a bash script to run in the clip's folder; empty for a clip without a first line or a seal."""
    head, seal = result.manifest.head, result.manifest.seal
    if not head or not seal:
        return ""
    return _SCRIPT % {
        "manifest": manifest_name(result.number),
        "signer": head["signer"],
        "previous": head["previous"],
        "r": seal["sig"][:64],
        "s": seal["sig"][64:],
        "spki": _SPKI,
    }
