"""Run `patrolink` without the parts of Python's library that Windows does not have.

`python tests/support/without_posix.py VERB ...` is used as a program. The modules are hidden and the attributes deleted
before the tool is imported. Python's own modules and pyserial, which choose their code for the platform, are imported
before.
"""

import asyncio
import asyncio.unix_events
import os
import signal
import socket
import sys

import platformdirs.unix  # noqa: F401
import psutil  # noqa: F401
import serial.tools.list_ports  # noqa: F401

HIDDEN_MODULES = ("fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "syslog", "termios", "tty")
HIDDEN_NAMES = {
    os: "chown fchmod fchown fork forkpty geteuid getgid getgroups getpgid getuid killpg mkfifo mknod nice openpty "
    "sched_getaffinity setsid statvfs sync",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH pthread_kill setitimer",
    socket: "MSG_DONTWAIT",
    asyncio.unix_events._UnixSelectorEventLoop: "add_signal_handler remove_signal_handler create_unix_server",
}


def hide() -> None:
    """Hide modules, functions and constants that need POSIX."""
    for name in HIDDEN_MODULES:
        sys.modules[name] = None
    for owner, names in HIDDEN_NAMES.items():
        for name in names.split():
            if name in vars(owner):
                delattr(owner, name)


if __name__ == "__main__":
    hide()
    from patrolink.cli import main

    sys.exit(main())
