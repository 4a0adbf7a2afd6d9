"""A codec that misbehaves in one way, at the first request that contains a text; else it answers what the vectors say.

python hostile_codec.py MODE TEXT          (MODE early: it answers before it is asked)
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

VECTORS = Path(__file__).resolve().parent.parent.parent / "protocol" / "vectors"
LATE_S = 3.0  # above the kit's limit in the tests
VERSION = json.dumps({"protocol": "1.0", "codec": "hostile", "rice": True})


def answers() -> dict[str, str]:
    """Return the right answer for each frame of the vectors."""
    known = {}
    for name in ("frames.json", "messages.json", "batches.json"):
        for vector in json.loads((VECTORS / name).read_text())["vectors"]:
            keys = ("type", "counter", "extensions", "message")
            answer = {key: vector[key] for key in keys} if "reject" not in vector else {"reject": vector["reject"]}
            known[request(vector)] = json.dumps(answer)
    return known


def request(vector: dict) -> str:
    """Return the request for a vector."""
    at = f"{vector['key'] or '-'} {vector['device']} {vector['direction']} {vector['epoch']}"
    return f"F {at} {vector['frame'] or '-'}"


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def forever(text: str) -> None:
    while True:
        write(text)


def close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    time.sleep(600)


def child_keeps_the_pipes() -> None:
    if os.fork():
        os._exit(0)
    time.sleep(600)


MODES = {
    "hang": lambda: time.sleep(600),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit_3": lambda: (print("assertion failed: counter", file=sys.stderr, flush=True), os._exit(3)),
    "exit_0": lambda: os._exit(0),
    "half": lambda: (write('{"type": 1'), time.sleep(600)),
    "half_exit": lambda: (write('{"type": 1'), os._exit(0)),
    "bad_json": lambda: write("{'type': 1}\n"),
    "no_object": lambda: write("[]\n"),
    "nan": lambda: write('{"type": NaN}\n'),
    "twice_in_object": lambda: write('{"reject": "tag", "reject": "length"}\n'),
    "deep": lambda: write("[" * 20000 + "\n"),
    "not_utf8": lambda: (sys.stdout.buffer.write(b'{"a": "\xff"}\n'), sys.stdout.buffer.flush()),
    "long_number": lambda: write('{"counter": ' + "9" * 5000 + "}\n"),
    "surrogate": lambda: write('{"reject": "\\ud800"}\n'),
    "empty": lambda: write("\n"),
    "megabyte": lambda: (write("x" * 1_000_000), write("\n")),
    "flood": lambda: forever("{}\n" * 1000),
    "flood_without_lines": lambda: forever("x" * 1000),
    "two_answers": lambda: write('{"reject": "tag"}\n{"reject": "tag"}\n'),
    "closed_output": lambda: close(1),
    "closed_input": lambda: close(0),
    "all_closed": lambda: close(0, 1, 2),
    "child": child_keeps_the_pipes,
    "late": lambda: (time.sleep(LATE_S), write('{"reject": "tag"}\n')),
    "half_then_rest": lambda: (write('{"reject"'), time.sleep(LATE_S), write(': "tag"}\n')),
    "answer_in_two_lines": lambda: write('{"reject":\n"tag"}\n'),
    "zero_bytes": lambda: write("\0" * 100 + "\n"),
    "depth_900": lambda: write('{"a": ' + "[" * 900 + "]" * 900 + "}\n"),
    "abort_with_output": lambda: (write('{"reject": "t'), os.abort()),
    "answers_in_threads": lambda: write('{"reject": "tag"}{"reject": "tag"}\n'),
    "wrong": lambda: write('{"reject": "type"}\n'),
}


def pieces(text: str) -> None:
    for character in text:
        write(character)


def main(mode: str, text: str) -> None:
    known = answers()
    if mode == "early":
        write('{"reject": "tag"}\n')
    for line in sys.stdin:
        if line == "V\n":
            write(VERSION + "\n")
        elif text in line and mode == "pieces":
            pieces(known[line.strip()] + "\n")
        elif text in line and mode == "errors":
            for _ in range(2000):
                sys.stderr.write("e" * 1000 + "\n")
            write(known[line.strip()] + "\n")
        elif text in line:
            MODES[mode]()
        elif line[0] != "R":
            write(known.get(line.strip(), '{"step": "accepted"}') + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
