"""`patrolink provision` when storage fails, a signal arrives, or the process is killed, at every step."""

import contextlib
import errno
import os
import signal
import sys

import pytest
from patrolink.core import keys
from patrolink.flash import ledger
from patrolink.flash.provision import configuration

from tests.support.provision_site import ROWS, ProvisionedSite


@pytest.fixture
def site(tmp_path):
    """A site that was not provisioned yet."""
    return ProvisionedSite(tmp_path)


def at_call(monkeypatch, number: int, act) -> list[int]:
    """Call `act` in place of the `number`-th call that changes storage; return a list that grows with each call."""
    calls: list[int] = []
    for name in ("open", "write", "fsync", "replace", "link", "mkdir"):
        function = getattr(os, name)

        def wrapped(*args, function=function, name=name, **options):
            if name != "open" or args[1] & (os.O_WRONLY | os.O_RDWR):
                calls.append(len(calls))
                if len(calls) - 1 == number:
                    act()
            return function(*args, **options)

        monkeypatch.setattr(os, name, wrapped)
    return calls


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def quick(monkeypatch):
    """The configurations are not checked by the agent, which takes a third of a second."""
    monkeypatch.setattr(configuration, "check", lambda paths: [""] * len(paths))


@pytest.mark.parametrize(("fault", "code"), [(no_space, 2), (interrupt, 130)])
def test_fault_at_any_step_leaves_no_partial_result(tmp_path, monkeypatch, quick, capsys, fault, code):
    number, finished = 0, False
    while not finished:
        folder = tmp_path / str(number)
        folder.mkdir()
        site = ProvisionedSite(folder)
        site.write_table(ROWS[0])
        assert site.run() == 0
        site.write_table(*ROWS)
        before = site.files()
        with monkeypatch.context() as patch:
            calls = at_call(patch, number, fault)
            result = site.run("--rotate", "vest-1", *site.labels())
            finished = number >= len(calls)
        if site.files() != before:  # complete: a signal during the change takes effect after it
            assert result in (0, 130) and keys.load(site.folder / "keys.toml")["vest-1"].epoch == 1, number
            assert [event.step for event in site.history().events[-4:]] == ["provision", "label"] * 2, number
        else:
            assert result == code, number
        assert site.run("--rotate", "vest-1", *site.labels()) == 0 and site.run("--check") in (0, 1), number
        assert not [name for name in site.files() if name.endswith((".new", ".old", ".part"))], number
        number += 1
    assert number > 20
    assert "Traceback" not in capsys.readouterr().err


def test_kill_at_any_step_is_repaired_by_the_next_run(tmp_path, monkeypatch, quick):
    number, finished = 0, False
    complete = None
    while not finished:
        folder = tmp_path / str(number)
        folder.mkdir()
        site = ProvisionedSite(folder)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
                at_call(monkeypatch, number, lambda: os._exit(9))
                os._exit(site.run(*site.labels()))
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finished = code == 0
        assert code in (0, 9), number
        assert site.run(*site.labels()) == 0, number
        names = {name for name in site.files() if not name.endswith((".new", ".old"))}
        complete = complete or names
        assert names == complete, number
        assert [event.step for event in site.history().events] == ["provision", "label"] * 2, number
        number += 1
    assert number > 20
    assert names == set(site.files())


def test_two_operators_at_the_same_time_are_kept_apart(site, capsys):
    with ledger.Ledger(site.folder / "ledger.jsonl", lambda: 0):
        before = site.files()
        assert site.run() == 2 and site.files() == before
    assert "another command has this ledger open" in capsys.readouterr().err
