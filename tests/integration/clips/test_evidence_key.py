"""The evidence key: its file, and the segment keys that are derived from it."""

import hashlib
import json
import random
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from compat import crypto, p256
from compat.steps import run_to_completion
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from patrolink.cli import main
from patrolink.core.errors import UserError
from patrolink.evidence import evidence_key
from patrolink_protocol import clip

SEED = 9


def header(evidence, ephemeral, step):
    return clip.SegmentHeader(clip.MJPEG_AVI, 0, 320, 240, 1, step, 0, clip.key_id(evidence.public), ephemeral)


def pem(private, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("implementation", [crypto, p256], ids=["library", "big integers"])
def test_the_site_derives_the_segment_keys_of_the_device(tmp_path, implementation):
    evidence = evidence_key.create(tmp_path / "key.pem")
    boot = crypto.generate_private_key()
    ephemeral = run_to_completion(implementation.derive_public_key(boot))
    chain = clip.first_chain_key(
        run_to_completion(implementation.derive_shared_secret(boot, evidence.public)), ephemeral, evidence.public
    )
    expected = []
    for _ in range(700):
        expected.append(clip.segment_key(chain))
        chain = clip.next_chain_key(chain)
    assert len(set(expected)) == len(expected)
    steps = [0, 1, 63, 64, 65, 699, 128, 127, 0, *range(700), *random.Random(SEED).sample(range(700), 200)]
    for key in (evidence, evidence_key.load(tmp_path / "key.pem")):
        for step in steps:
            assert key.segment_key(header(evidence, ephemeral, step)) == expected[step], (SEED, step)


def test_keys_of_more_boots_than_the_cache_holds_are_derived(tmp_path):
    evidence = evidence_key.create(tmp_path / "key.pem")
    publics = [
        run_to_completion(crypto.derive_public_key(crypto.generate_private_key()))
        for _ in range(evidence_key._CACHED_BOOTS_MAX + 10)
    ]
    boots = [header(evidence, public, 3) for public in publics]
    first = [evidence.segment_key(boot) for boot in boots]
    assert [evidence.segment_key(boot) for boot in boots] == first and len(set(first)) == len(boots)
    assert len(evidence._chains) == evidence_key._CACHED_BOOTS_MAX


def test_a_key_can_be_used_by_several_threads(tmp_path):
    """The hub decrypts pictures for dispatchers while it verifies clips."""
    key = evidence_key.create(tmp_path / "key.pem")
    ephemeral = run_to_completion(crypto.derive_public_key(crypto.generate_private_key()))
    steps = [*range(400), *random.Random(SEED).sample(range(400), 200)]
    expected = {
        step: evidence_key.load(tmp_path / "key.pem").segment_key(header(key, ephemeral, step)) for step in (0, 399)
    }
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda step: key.segment_key(header(key, ephemeral, step)), steps))
    by_step = dict(zip(steps, keys, strict=True))
    assert all(by_step[step] == derived for step, derived in zip(steps, keys, strict=True))
    assert len(set(by_step.values())) == 400 and {step: by_step[step] for step in expected} == expected


def test_a_segment_for_another_key_or_with_a_damaged_header_is_refused(tmp_path):
    evidence, other = evidence_key.create(tmp_path / "a.pem"), evidence_key.create(tmp_path / "b.pem")
    ephemeral = run_to_completion(crypto.derive_public_key(crypto.generate_private_key()))
    with pytest.raises(UserError, match=f"for the evidence key {other.id.hex()}"):
        evidence.segment_key(header(other, ephemeral, 0))
    with pytest.raises(UserError, match="step 4294967295 of a boot"):
        evidence.segment_key(header(evidence, ephemeral, 0xFFFFFFFF))
    for ephemeral in (bytes(33), b"\x02" + b"\xff" * 32):
        with pytest.raises(UserError, match="not a point on P-256"):
            evidence.segment_key(header(evidence, ephemeral, 0))


def test_the_key_file_is_private_and_never_replaced(tmp_path, capsys):
    path = tmp_path / "key.pem"
    key = evidence_key.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    digest = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(UserError, match="the file exists"):
        evidence_key.create(path)
    assert hashlib.sha256(path.read_bytes()).digest() == digest
    assert evidence_key.load(path).public == key.public and capsys.readouterr().err == ""
    path.chmod(0o640)
    evidence_key.load(path)
    assert f"run `chmod 600 {path}`" in capsys.readouterr().err
    with pytest.raises(UserError, match="give a file that can be written"):
        evidence_key.create(tmp_path / "no" / "key.pem")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "not a private key in PEM"),
        (b"\xff\0-----BEGIN", "not a private key in PEM"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "must be a key on the curve P-256"),
        (pem(rsa.generate_private_key(65537, 2048)), "must be a key on the curve P-256"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"word"), "protected by a password"),
        (None, "No such file"),
    ],
    ids=["empty", "bytes", "another curve", "rsa", "password", "absent"],
)
def test_a_file_that_is_not_an_evidence_key_is_an_error(tmp_path, content, words):
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        evidence_key.load(path)
    assert str(path) in str(error.value)


def test_a_key_in_the_traditional_openssl_format_is_accepted(tmp_path):
    private = ec.generate_private_key(ec.SECP256R1())
    key_format = serialization.PrivateFormat.TraditionalOpenSSL  # "EC PRIVATE KEY"
    text = private.private_bytes(serialization.Encoding.PEM, key_format, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(text)
    (tmp_path / "key.pem").chmod(0o600)
    numbers = private.public_key().public_numbers()
    assert evidence_key.load(tmp_path / "key.pem").public == bytes([2 | numbers.y & 1]) + numbers.x.to_bytes(32, "big")


def test_the_hub_command_creates_a_key(tmp_path, capsys):
    first, other = tmp_path / "a.pem", tmp_path / "b.pem"
    assert main(["hub", "--new-evidence-key", str(first)]) == 0
    out, err = capsys.readouterr()
    assert out == evidence_key.load(first).public.hex() + "\n" and "with a backup" in err
    assert main(["hub", "--new-evidence-key", str(other), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    public = evidence_key.load(other).public.hex()
    assert document == {"record": "evidence_key", "file": str(other), "evidence_key": public}
    assert main(["hub", "--new-evidence-key", str(first)]) == 2
    assert "the file exists" in capsys.readouterr().err
