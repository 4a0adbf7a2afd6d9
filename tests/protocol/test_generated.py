"""Committed generated files are current, invalid schemas are refused, constants can be inlined."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "protocol"))

import inline_constants  # noqa: E402
import patrolink_enums  # noqa: E402
import patrolink_names  # noqa: E402
from patrolink_names import BITS, NAMES  # noqa: E402
from targets import markdown, model, python  # noqa: E402


def test_generated_files_are_current():
    process = subprocess.run(
        [sys.executable, str(ROOT / "protocol" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('type = "u32"', 'type = "u33"'),
        ("type = 2\n", "type = 1\n"),
        ("type = 2\n", "type = 32\n"),
        ("max = 100,", "max = 300,"),
    ],
)
def test_invalid_schema_is_refused(tmp_path, old, new):
    text = (ROOT / "protocol" / "schema.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "schema.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(model.SchemaError):
        model.load(path)


def test_unknown_table_is_refused():
    schema = model.load(ROOT / "protocol" / "schema.toml")
    with pytest.raises(model.SchemaError):
        markdown.fill("<!-- table:nothing -->\n<!-- end -->", schema)


def test_enums_agree_with_names():
    values = {
        f"{message}_{field}_{name}".upper(): code
        for (message, field), names in NAMES.items()
        for code, name in names.items()
    }
    masks = {
        f"{message}_{field}_{name}".upper(): 1 << bit
        for (message, field), names in BITS.items()
        for bit, name in enumerate(names)
    }
    assert values and masks
    timers = {name: value for name, value in vars(patrolink_names).items() if name.startswith("TIMER_")}
    known = {"UNKNOWN": -(1 << 30), **values, **masks, **timers}
    constants = inline_constants.constants("patrolink_enums")
    assert {name: known[name] for name in constants} == constants
    used = python.used_enums([ROOT / "device", ROOT / "protocol" / "patrolink_protocol"])
    assert used == set(constants), "run `make generate`"
    assert patrolink_enums.EVENT_KIND_SOS == 1


MODULE = """import patrolink_enums as enums

def f(kind):
    import patrolink_enums as enums  # a comment
    return (enums.EVENT_KIND_SOS, "enums.EVENT_KIND_SOS", kind == enums.EVENT_KIND_STORAGE_LOW)
"""


def test_inlined_constants_leave_no_import():
    text = inline_constants.inline(MODULE, "patrolink_enums", inline_constants.constants("patrolink_enums"))
    assert "import" not in text and len(text.splitlines()) == len(MODULE.splitlines())
    names = {}
    exec(text, names)  # noqa: S102 - inlined form of MODULE
    assert names["f"](12) == (1, "enums.EVENT_KIND_SOS", True)


@pytest.mark.parametrize(
    "text",
    [
        "import patrolink_enums as enums\nenums.EVENT_KIND_NOTHING\n",
        "import patrolink_enums as enums\nx = enums\n",
        "from patrolink_enums import EVENT_KIND_SOS\n",
        "import patrolink_enums\n",
    ],
)
def test_constants_used_in_another_way_are_refused(text):
    with pytest.raises(ValueError, match="line [12]: "):
        inline_constants.inline(text, "patrolink_enums", inline_constants.constants("patrolink_enums"))


def test_texts_of_messages_are_not_inlined():
    values = inline_constants.constants("patrolink_messages")
    assert values["HELLO"] == 1 and "MESSAGES" not in values
    text = "import patrolink_messages as m\nx = m.HELLO\n"
    assert inline_constants.inline(text, "patrolink_messages", values) == "pass\nx = 1\n"
    text = "import patrolink_messages as m\nx = m.MESSAGES[m.HELLO]\n"
    expected = "import patrolink_messages as m\nx = m.MESSAGES[1]\n"
    assert inline_constants.inline(text, "patrolink_messages", values) == expected


def test_a_folder_of_sources_is_inlined(tmp_path):
    generated = ROOT / "protocol" / "generated"
    text = (generated / "patrolink_messages.py").read_text(encoding="utf-8")
    (tmp_path / "patrolink_messages.py").write_text(text, encoding="utf-8")
    (tmp_path / "user.py").write_text(
        "import patrolink_enums as enums\nimport patrolink_messages as m\n"
        "x = (enums.EVENT_KIND_SOS, m.EVENT, m.REASONS)\n",
        encoding="utf-8",
    )
    script = ROOT / "protocol" / "inline_constants.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    process = subprocess.run(
        [sys.executable, "-c", "import user, patrolink_messages as m; print(user.x, hasattr(m, 'HELLO'))"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert process.stdout == "(1, 5, 'length version type tag key replay range critical') False\n"
