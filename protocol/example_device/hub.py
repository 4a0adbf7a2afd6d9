"""Plays the hub for a device on a pipe: prints what the device sends, answers its SOS, and sends it a command.

python3 hub.py CHECK KEY_FILE SECONDS PROGRAM ID [ARGUMENT ...]

CHECK is the program of ../vectors/check.c, which encodes and decodes; PROGRAM is the device. Needs only Python's
standard library. Exit code 0, or 1 if a frame of the device is refused.
"""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

UP, DOWN = 0, 1
EVENT_STATE, COMMAND = 20, 24
LOCATE = 8
RECEIVED, RESOLVED = 1, 5
ENCRYPTED = 2  # flag
FRAME_MAX_BYTES = 1024


class Codec:
    """A codec on a pipe, see ../vectors/README.md.

    Args:
        program: Path of the program.
        key: Key of the device, hexadecimal.
        device: Id of the device.
    """

    def __init__(self, program: str, key: str, device: str) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._at = f"{key} {device}"

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def decode(self, frame: bytes, epoch: int) -> dict[str, Any]:
        """Return a frame from the device as an object, {"reject": reason} if it is refused."""
        return self._ask(f"F {self._at} {UP} {epoch} {frame.hex()}")

    def encode(self, kind: int, message: dict[str, Any], counter: int, epoch: int = 0, flags: int = ENCRYPTED) -> bytes:
        """Return a frame to the device, encrypted unless `flags` are others.

        Raises:
            ValueError: The message cannot be encoded.
        """
        answer = self._ask(f"E {self._at} {DOWN} {epoch} {counter} {flags} {kind} {json.dumps(message)}")
        if "frame" not in answer:
            raise ValueError(f"{message} cannot be encoded: {answer}")
        return bytes.fromhex(answer["frame"])

    def close(self) -> None:
        """End the program."""
        self._process.communicate()


class Device:
    """A device on a pipe: 4 bytes of length, little-endian, before each frame.

    Args:
        command: Program and arguments.
    """

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._frames: queue.Queue[bytes] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with open(stream.fileno(), "rb", closefd=False) as buffered:
            while len(head := buffered.read(4)) == 4:
                n = int.from_bytes(head, "little")
                if n > FRAME_MAX_BYTES:
                    break
                self._frames.put(buffered.read(n))

    def send(self, frame: bytes) -> None:
        """Send a frame to the device."""
        assert self._process.stdin is not None
        self._process.stdin.write(len(frame).to_bytes(4, "little") + frame)

    def frames(self, seconds: float) -> Iterator[bytes]:
        """Yield the frames of the device until this time is over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                yield self._frames.get(timeout=left)
            except queue.Empty:
                return

    def close(self) -> int:
        """Close the pipe, and return the exit code of the device."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._thread.join(10)
        return self._process.wait(10)


def event_state(event_id: int, state: int) -> dict[str, Any]:
    """Return the answer to an event."""
    now = time.time_ns() // 1_000_000
    return {
        "message": "event_state",
        "event_id": event_id,
        "state": state,
        "time_ms": now,
        "eta_s": None,
        "who": "station",
    }


def command(action: int, number: int | None = None, expires_ms: int | None = None) -> dict[str, Any]:
    """Return a command, which expires in a day."""
    expires = time.time_ns() // 1_000_000 + 86_400_000 if expires_ms is None else expires_ms
    return {
        "message": "command",
        "command_id": action,
        "action": action,
        "expires_ms": expires,
        "operator": "station",
        "number": number,
        "name": "",
        "value": "",
    }


def main(arguments: list[str]) -> int:
    """Run the device for some seconds; return the exit code."""
    if len(arguments) < 5:
        print(__doc__, file=sys.stderr)
        return 2
    check, key_file, seconds, *program = arguments
    codec = Codec(check, Path(key_file).read_text(encoding="ascii").strip(), program[1])
    device = Device(program)
    counter = time.time_ns() // 1_000_000_000 & 0xFFFFFFF  # above that of an earlier run
    refused = events = 0
    for frame in device.frames(float(seconds)):
        decoded = codec.decode(frame, epoch=0)
        print(json.dumps(decoded.get("message", decoded)), flush=True)
        refused += "reject" in decoded
        message = decoded.get("message", {})
        if message.get("message") == "event":
            events += 1
            state = RECEIVED if events == 1 else RESOLVED
            device.send(codec.encode(EVENT_STATE, event_state(message["event_id"], state), counter + events))
            if state == RESOLVED:
                device.send(codec.encode(COMMAND, command(LOCATE), counter + events + 1))
    device.close()
    codec.close()
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
