"""The copy of the agent that MicroPython boards run: compiled, numbers in place of constants, created once."""

import re
import shutil
import subprocess
import sys

import pytest
from patrolink.core import resources
from patrolink.core.errors import UserError
from patrolink.emulator.boards import deployment

INPUTS = ("device", "protocol", "build/device-lib")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in (*INPUTS, "boards"):
        shutil.copytree(resources.root() / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "port"))
    monkeypatch.setenv("PATROLINK_HOME", str(tmp_path))
    deployment._deployed.cache_clear()
    yield tmp_path
    deployment._deployed.cache_clear()


def test_cpython_runs_the_checkout(checkout):
    assert deployment.agent_main("cpython") == checkout / "device" / "main.py"


def test_micropython_runs_a_copy_without_named_constants(checkout):
    main = deployment.agent_main("micropython")
    copy = main.parent.parent
    assert copy.parent == checkout / "build" / "agent"
    for path in copy.rglob("*.py"):
        assert not re.search(r"^ *import patrolink_enums|\benums\.[A-Z]", path.read_text(), flags=re.M), path
    assert not (copy / "protocol" / "generated" / "patrolink_enums.py").exists()
    compiled = {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*.mpy")}
    assert not [name for name, data in compiled.items() if b"patrolink_enums" in data or b"EVENT_KIND_SOS" in data]
    assert b"ALARMS_MAX" in compiled["device/agent/wearer/sos.mpy"] and main.read_text().startswith('"""')
    assert not (copy / "device/agent/wearer/sos.py").exists()


def test_module_that_cannot_be_compiled_is_an_error(checkout):
    with (checkout / "device" / "agent" / "wearer" / "sos.py").open("a") as source:
        source.write("return 1\n")
    with pytest.raises(UserError, match=r"mpy-cross refuses device/agent/wearer/sos\.py; correct it"):
        deployment.agent_main("micropython")


def test_copy_is_reused_until_a_source_changes(checkout):
    first = deployment.agent_main("micropython")
    deployment._deployed.cache_clear()
    assert deployment.agent_main("micropython") == first
    with (checkout / "device" / "main.py").open("a") as source:
        source.write("# changed\n")
    deployment._deployed.cache_clear()
    second = deployment.agent_main("micropython")
    assert second != first and second.read_text().endswith("# changed\n") and first.is_file()


def test_concurrent_deployments_agree(checkout):
    code = "from patrolink.emulator.boards.deployment import agent_main; print(agent_main('micropython'))"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = {run.communicate(timeout=60)[0] for run in runs}
    assert len(outputs) == 1 and [run.returncode for run in runs] == [0] * 4
    assert [path.name for path in (checkout / "build" / "agent").iterdir()] == [outputs.pop().split("/")[-3]]


def test_unknown_constant_is_an_error(checkout):
    with (checkout / "device" / "main.py").open("a") as source:
        source.write("import patrolink_enums as enums\nprint(enums.EVENT_KIND_NOTHING)\n")
    with pytest.raises(UserError, match=r"main\.py: line \d+: use only constants that exist"):
        deployment.agent_main("micropython")
