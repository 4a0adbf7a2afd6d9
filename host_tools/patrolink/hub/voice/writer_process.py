"""Runs the recording writer as a process."""

import asyncio
import json
import pickle
import sys
from pathlib import Path
from typing import Any

from patrolink.hub.voice.recording_writer import RecordedBurst


class WriterProcess:
    """Writes bursts in a process that is started when it is first needed, and again after it has ended.

    Args:
        folder: Where recordings are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def write(self, burst: RecordedBurst) -> dict[str, Any] | None:
        """Write a burst, and return its row; None if it holds no voice.

        Raises:
            OSError: The burst cannot be written.
            ValueError: The writer process ended.
        """
        data = pickle.dumps(tuple(burst))
        async with self._lock:
            if self._process is None or self._process.returncode is not None:
                command = [sys.executable, "-m", "patrolink.hub.voice.recording_writer", str(self._folder)]
                pipe = asyncio.subprocess.PIPE
                self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            requests, replies = self._process.stdin, self._process.stdout
            assert requests is not None and replies is not None
            requests.write(len(data).to_bytes(4, "big") + data)
            await requests.drain()
            row: dict[str, Any] | None = json.loads(await replies.readline())
        if row is not None and "error" in row:
            raise OSError(row["error"])
        return row

    async def close(self) -> None:
        """End the process when it has written everything."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
