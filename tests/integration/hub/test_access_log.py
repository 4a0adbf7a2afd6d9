"""The access log of clips: changed, removed and truncated lines are detected. A full disk leaves no partial line."""

import errno
import os
from pathlib import Path

import pytest
from patrolink.core.clock import SystemClock
from patrolink.core.errors import UserError
from patrolink.hub.clips.access_log import AccessLog, verify_access_log


def _write_log(tmp_path: Path) -> Path:
    path = tmp_path / "access.jsonl"
    for n in range(3):  # each line by a new object, as after a restart
        AccessLog(path, SystemClock()).write("anna", "fetched", device="d1", clip=n)
    return path


def test_a_log_continues_after_a_restart(tmp_path: Path) -> None:
    path = _write_log(tmp_path)
    assert verify_access_log(path).lines == 3
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", [1, 2])
def test_a_removed_or_changed_line_is_detected(tmp_path: Path, line: int) -> None:
    path = _write_log(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: line - 1] + lines[line:]))
    with pytest.raises(UserError, match=f"line {line} "):
        verify_access_log(path)
    lines[line - 1] = lines[line - 1].replace(b"anna", b"otto")
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=f"line {line + 1} "):
        AccessLog(path, SystemClock())


def test_a_truncated_line_is_detected(tmp_path: Path) -> None:
    path = _write_log(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="line 3 "):
        verify_access_log(path)


def test_a_full_disk_leaves_no_partial_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = _write_log(tmp_path), os.write
    log = AccessLog(path, SystemClock())

    def full_disk(handle: int, data: bytes) -> int:
        write(handle, data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as m:
        m.setattr(os, "write", full_disk)
        with pytest.raises(UserError, match="access refused"):
            log.write("anna", "listed")
    log.write("anna", "listed")
    assert verify_access_log(path).lines == 4
