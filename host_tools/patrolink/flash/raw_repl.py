"""Starts a program on a MicroPython board by the raw REPL and raw-paste mode ("reference/repl" of MicroPython)."""

from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.flash.link import Link

_INTERRUPT, _RAW, _END, _PASTE = b"\r\x03\x03", b"\r\x01", b"\x04", b"\x05A\x01"
_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"
_RESTARTED = b"soft reboot\r\n"
_TRY_S = 1.0
_ANSWER_S = 5.0
_RESTART_S = 15.0  # a soft reset mounts the file system


def enter(link: Link, limit_s: float) -> None:
    """Interrupt what runs on a board, and restart its interpreter in the raw REPL with an empty heap.

    Raises:
        DeadlineError: There is no REPL.
    """
    deadline_s = link.now_s() + limit_s
    while True:
        link.write(_INTERRUPT + _RAW)
        try:
            link.read_until(_PROMPT, _TRY_S)
            break
        except DeadlineError:
            if link.now_s() > deadline_s:
                raise
    link.write(_END)
    link.read_until(_RESTARTED, _RESTART_S)  # a slow board may still print the prompts of earlier attempts
    link.read_until(_PROMPT, _RESTART_S)


def start(link: Link, program: str) -> None:
    """Start a program in the raw REPL; its output follows.

    Raises:
        DeviceError: The board has no raw-paste mode.
    """
    link.write(_PASTE)
    if link.read(2, _ANSWER_S) != b"R\x01":
        raise DeviceError(f"{link.port}: MicroPython without raw-paste mode; flash a newer platform image first")
    window = int.from_bytes(link.read(2, _ANSWER_S), "little")
    code, left = program.encode(), window
    while code:
        if not left:
            if link.read(1, _ANSWER_S) != b"\x01":
                raise DeviceError(f"{link.port}: the board has stopped the transfer of the program; repeat the command")
            left += window
        link.write(code[:left])
        code, left = code[left:], max(0, left - len(code))
    link.write(_END)
    link.read_until(_END, _ANSWER_S)
