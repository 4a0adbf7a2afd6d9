"""The program that `patrolink flash` pastes into a board: the serial receiver of the agent's sources, made small."""

import ast
import base64
import functools
import re
import zlib

from patrolink.core import resources

_SOURCES = ("compat/inflate_stream.py", "agent/update/serial_receiver.py", "hal/baremetal/file_target.py")
_WINDOW_BITS = 12
# Board, unique id and architecture are those of the board; a refusal comes before anything is written.
_START = """
import binascii, gc, json, machine, micropython, sys
ARCHITECTURES = ["", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"]
ARCHITECTURES += ["xtensa", "xtensawin", "rv32imc"]
def board_name():
    try:
        with open("/config.json") as file:
            return json.load(file)["board"]
    except (OSError, ValueError, KeyError):
        return sys.platform
def field(header, start, end):
    return bytes(header[start:end]).rstrip(bytes(1)).decode()
def version():
    try:
        with open(CONTENT + ".header", "rb") as file:
            return field(file.read(), 156, 180)
    except OSError:
        return ""
def main():
    board = board_name()
    architecture = ARCHITECTURES[sys.implementation._mpy >> 10 & 15]
    unique_id = binascii.hexlify(machine.unique_id()).decode()
    info = {"board": board, "unique_id": unique_id, "architecture": architecture, "version": version()}
    def check(header):
        if field(header, 120, 144) != board:
            raise RefusedError("it is for board " + field(header, 120, 144))
    target = FileTarget(CONTENT, check)
    out = sys.stdout.buffer.write
    receiver = SerialReceiver(sys.stdin.buffer.readinto, out, InflateStream, target, json.dumps(info).encode())
    gc.collect()
    micropython.kbd_intr(-1)
    try:
        restart = receiver.run()
    finally:
        micropython.kbd_intr(3)
    if restart:
        machine.reset()
"""


@functools.cache
def receiver_program(content_path: str) -> str:
    """Return the program.

    Args:
        content_path: File on the board that holds the content of the agent image.
    """
    folder = resources.root() / "device"
    text = "".join((folder / name).read_text(encoding="utf-8") + "\n" for name in _SOURCES) + _START
    source = f"{_small(text)}\nCONTENT={content_path!r}\nmain()\n"
    deflater = zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS)
    packed = base64.b64encode(deflater.compress(source.encode()) + deflater.flush()).decode()
    return (
        "import binascii,deflate,io\n"
        f"exec(deflate.DeflateIO(io.BytesIO(binascii.a2b_base64('{packed}')),deflate.RAW,{_WINDOW_BITS}).read())\n"
    )


def _small(text: str) -> str:
    """Return Python source without comments and docstrings, with indentation by one space."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ] or [ast.Pass()]
    lines = ast.unparse(tree).splitlines()
    return "\n".join(re.sub(r"^((?:    )+)", lambda match: " " * (len(match[1]) // 4), line) for line in lines)
