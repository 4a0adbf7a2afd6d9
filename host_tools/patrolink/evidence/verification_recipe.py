"""How somebody else verifies a clip again: with patrolink, and with tools that have nothing to do with it."""

import shlex

from patrolink.evidence.verify import Verdict

# SubjectPublicKeyInfo (RFC 5480) of a compressed point on P-256, up to the point.
_SPKI = "3039301306072a8648ce3d020106082a8648ce3d030107032200"
# bash, sed, sha256sum and openssl 3. The chain and the signature: protocol/CLIP.md, "Manifest".
_SCRIPT = r"""export LC_ALL=C; manifest=%(manifest)s
signer=%(signer)s
chain=%(previous)s
r=%(r)s
s=%(s)s
work=$(mktemp -d)
unhex() { printf '%%b' "$(printf %%s "$1" | sed 's/../\\x&/g')"; }
# each file is the one that the manifest lists
sed -nE 's/^\{"(seg|thumb)":"([0-9-]*)","bytes":[0-9]*,"sha256":"([0-9a-f]*)".*/\3  \2.pls/p' $manifest | sha256sum -c
# each line of the manifest, but the last, goes into the chain; the last line has its value
while IFS= read -r line; do
  chain=$({ unhex $chain; printf '%%s\n' "$line"; } | sha256sum | cut -c1-64)
done < <(sed '$d' $manifest)
tail -n 1 $manifest | grep -q "{\"chain\":\"$chain\"," && echo chain: OK || echo chain: FAILED
# the device signed that value
printf '%%s\n' asn1=SEQUENCE:sig '[sig]' r=INTEGER:0x$r s=INTEGER:0x$s > $work/sig.cnf
openssl asn1parse -genconf $work/sig.cnf -noout -out $work/sig.der
unhex %(spki)s$signer | openssl pkey -pubin -inform DER -out $work/signer.pem
{ printf patrolink-clip; unhex $chain; } | openssl dgst -sha256 -verify $work/signer.pem -signature $work/sig.der
"""


def command(found: Verdict) -> str:
    """Return the command, to be given in the folder of all clips."""
    folder = found.folder.resolve()
    return f"patrolink clip verify --signers signers.toml {shlex.quote(f'{folder.parent.name}/{folder.name}')}"


def script(found: Verdict) -> str:
    """Return what bash does the same with, in the clip's folder; "" for a clip without a head and a seal."""
    head, seal = found.manifest.head, found.manifest.seal
    if not head or not seal:
        return ""
    return _SCRIPT % {
        "manifest": f"{found.number:06d}.plm",
        "signer": head["signer"],
        "previous": head["previous"],
        "r": seal["sig"][:64],
        "s": seal["sig"][64:],
        "spki": _SPKI,
    }
