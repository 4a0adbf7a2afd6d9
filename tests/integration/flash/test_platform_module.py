"""The module `platform_build` of a firmware: release keys of a trust store, which only the standard library reads."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from patrolink.flash.image import release_key

from tests.support.paths import ROOT
from tests.support.release_keys import TRUST, private_key

SCRIPT = ROOT / "boards" / "platform_module.py"


def run(folder: Path, *trust: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(folder), "mps2_an385", *trust]
    return subprocess.run(command, capture_output=True, text=True)


def written(folder: Path) -> dict:
    return runpy.run_path(str(folder / "platform_build.py"))


def test_module_has_board_architecture_and_keys(tmp_path):
    keys = [private_key(name).public_key() for name in ("one", "two")]
    trust = tmp_path / "trust.pem"
    trust.write_text("a comment\n" + "".join(release_key.public_pem(key) for key in keys))
    assert run(tmp_path, str(trust)).returncode == 0
    module = written(tmp_path)
    assert module["RELEASE_KEYS"] == tuple(release_key.point(key) for key in keys)
    assert (module["BOARD"], module["ARCHITECTURE"], module["PLATFORM"]) == ("mps2_an385", "armv7m", 1)


def test_platform_without_a_trust_store_has_no_keys(tmp_path):
    assert run(tmp_path).returncode == 0 and written(tmp_path)["RELEASE_KEYS"] == ()


def test_key_of_the_emulated_board_is_that_of_the_tests(tmp_path):
    assert run(tmp_path, str(TRUST)).returncode == 0
    assert written(tmp_path)["RELEASE_KEYS"] == (release_key.point(private_key().public_key()),)


OTHER_CURVE = release_key.public_pem(ec.derive_private_key(7, ec.SECP384R1()).public_key())
GOOD = release_key.public_pem(private_key().public_key())
OFF_CURVE = GOOD.replace("6g==", "6w==")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a file of public keys in PEM format alone"),
        (GOOD.replace("PUBLIC", "PRIVATE"), "not a file of public keys in PEM format alone"),
        (GOOD + GOOD[:80], "not a file of public keys in PEM format alone"),
        (GOOD + OTHER_CURVE, "key 2 is not on the curve P-256"),
        (GOOD.replace("MFkw", "MF*w"), "key 1 is not on the curve P-256"),
        (OFF_CURVE, "key 1 is not a point of the curve P-256"),
        ("x" * 65537, "more than 65536 bytes"),
    ],
)
def test_bad_trust_store_is_refused(tmp_path, text, message):
    trust = tmp_path / "trust.pem"
    trust.write_text(text)
    done = run(tmp_path, str(trust))
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "platform_build.py").exists()


def test_missing_trust_store_is_named(tmp_path):
    done = run(tmp_path, str(tmp_path / "nothing.pem"))
    assert done.returncode == 2 and "nothing.pem: No such file" in done.stderr
