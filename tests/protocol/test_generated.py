"""What is committed is what the generator prints, and a schema that cannot be is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "protocol"))

from targets import markdown, model  # noqa: E402


def test_generated_files_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "protocol" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('type = "u32"', 'type = "u33"'),
        ("type = 2\n", "type = 1\n"),
        ("type = 2\n", "type = 32\n"),
        ("max = 100,", "max = 300,"),
    ],
)
def test_wrong_schema_is_refused(tmp_path, old, new):
    text = (ROOT / "protocol" / "schema.toml").read_text(encoding="utf-8")
    assert old in text
    wrong = tmp_path / "schema.toml"
    wrong.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(model.SchemaError):
        model.load(wrong)


def test_unknown_table_is_refused():
    schema = model.load(ROOT / "protocol" / "schema.toml")
    with pytest.raises(model.SchemaError):
        markdown.fill("<!-- table:nothing -->\n<!-- end -->", schema)
