"""A device on a pipe that answers each frame with a time_sync, and misbehaves in one way when it gets a frame.

python pipe_device.py MODE [FRAME]     (a MODE that ends in "virtual" has a virtual clock; FRAME: only at this frame)
"""

import os
import struct
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path += [str(ROOT / "protocol"), str(ROOT / "protocol" / "generated")]

KEY = bytes(range(32))
DEVICE = "vest-1"
VIRTUAL = 0xFFFFFFFF
ANSWER_DELAY_MS = 1500  # of the virtual device


def text_frame(counter: int) -> bytes:
    """Return a text_state from the device."""
    from patrolink_messages import TEXT_STATE
    from patrolink_protocol import codec
    from patrolink_protocol import frame as frames

    buf = bytearray(64)
    end = codec.encode_into(TEXT_STATE, {"text_id": 1, "state": 1, "time_ms": 1_700_000_000_000}, buf, 5)
    channel = frames.Channel(KEY, DEVICE.encode(), frames.UPLINK, 0)
    return bytes(buf[: channel.seal_into(buf, TEXT_STATE, counter, end)])


def frame(counter: int) -> bytes:
    """Return a time_sync from the device."""
    from patrolink_messages import TIME_SYNC
    from patrolink_protocol import codec
    from patrolink_protocol import frame as frames

    buf = bytearray(64)
    values = {"originate_ms": 1_700_000_000_000 + counter, "receive_ms": None, "transmit_ms": None}
    end = codec.encode_into(TIME_SYNC, values, buf, frames.HEADER_BYTES)
    channel = frames.Channel(KEY, DEVICE.encode(), frames.UPLINK, 0)
    return bytes(buf[: channel.seal_into(buf, TIME_SYNC, counter, end)])


def send(data: bytes) -> None:
    sys.stdout.buffer.write(struct.pack("<I", len(data)) + data)
    sys.stdout.buffer.flush()


def send_time(now_ms: int) -> None:
    sys.stdout.buffer.write(struct.pack("<IQ", VIRTUAL, now_ms))
    sys.stdout.buffer.flush()


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def flood() -> None:
    data = frame(1)
    while True:
        send(data)


def pieces(data: bytes) -> None:
    for byte in struct.pack("<I", len(data)) + data:
        write(bytes([byte]))


MODES = {
    "crash": os.abort,
    "exit": lambda: os._exit(0),
    "huge": lambda: write(struct.pack("<I", 1 << 30)),
    "zero": lambda: write(struct.pack("<I", 0)),
    "half": lambda: (write(struct.pack("<I", 100) + b"x" * 50), time.sleep(600)),
    "flood": flood,
    "closed": lambda: (os.close(1), time.sleep(600)),
    "control": lambda: send_time(5),
    "pieces": lambda: pieces(frame(1)),
    "silent": lambda: None,
    "late": lambda: (time.sleep(2), send(frame(1))),
    "early": lambda: [send(frame(1)) for _ in range(2)],
    "half exit": lambda: (write(struct.pack("<I", 100) + b"x" * 50), os._exit(0)),
    "big-endian": lambda: write(struct.pack(">I", 40) + bytes(40)),
    "megabyte": lambda: write(struct.pack("<I", 1_000_000) + bytes(1_000_000)),
    "text": lambda: write(b"device started\n" * 100),
    "closed input": lambda: (os.close(0), time.sleep(600)),
    "child": lambda: os.fork() and os._exit(0) or time.sleep(600),
    "error": lambda: (print("panic: counter", file=sys.stderr, flush=True), os._exit(7)),
    "good": lambda: send(frame(1)),
    "past virtual": lambda: send_time(0),
    "future virtual": lambda: send_time(1 << 40),
    "hang virtual": lambda: time.sleep(600),
}


def read(size: int) -> bytes:
    data = sys.stdin.buffer.read(size)
    if len(data) < size:
        sys.exit(0)
    return data


def main(mode: str, only: str = "") -> None:
    now_ms, due_ms, counter = 0, None, 0
    while True:
        (length,) = struct.unpack("<I", read(4))
        if length == VIRTUAL:
            (target_ms,) = struct.unpack("<Q", read(8))
            if due_ms is not None and due_ms <= target_ms:
                send_time(due_ms)
                counter += 1
                send(text_frame(counter) if mode == "liar virtual" else frame(counter))
                now_ms, due_ms = due_ms, None
            else:
                now_ms = target_ms
                send_time(now_ms)
            continue
        data = read(length)
        if mode in ("good virtual", "liar virtual"):
            due_ms = now_ms + ANSWER_DELAY_MS
        elif only and data.hex() != only:
            send(frame(1))
        else:
            MODES[mode]()


if __name__ == "__main__":
    main(*sys.argv[1:])
