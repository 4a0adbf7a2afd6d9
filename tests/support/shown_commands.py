"""The commands that a Markdown page shows: fenced `sh` blocks (commands) and `console` blocks (`$ ` commands, output).

A comment directly above a block says how the test runs it:

    <!-- run: hub exit=2 varies -->      needs a fixture or a program; exit code (0,1: either); numbers vary
    <!-- not run: REASON -->             the block cannot run here

Without a comment the commands need nothing but the tool and must succeed. Output is compared if it is shown; in it,
`...` stands for any text of a line, and a line `...` for any lines. The commands of a page run in order in one folder,
and keep what earlier ones export.
"""

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(
    r"^(?P<indent>[ ]*)(?:<!-- (?P<marker>(?:not )?run: .*?) -->\n+(?P=indent))?"
    r"```(?P<kind>sh|console)\n(?P<body>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_TIMEOUT_S = 400  # the first use of a firmware builds it
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass
class Command:
    """A command of a page.

    Attributes:
        text: The command.
        output: The lines shown below it; empty: not compared.
        needs: Names of fixtures and programs.
        exit_codes: The exit codes that are expected.
        varies: Whether numbers in the output are not compared.
    """

    text: str
    output: list[str] = field(default_factory=list)
    needs: frozenset[str] = frozenset()
    exit_codes: tuple[int, ...] = (0,)
    varies: bool = False


def read(page: Path) -> list[Command]:
    """Return the commands of a page that can run here, in order."""
    commands = []
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        marker = block["marker"] or "run:"
        if marker.startswith("not run:"):
            continue
        words = marker.removeprefix("run:").split()
        codes = [word.removeprefix("exit=").split(",") for word in words if word.startswith("exit=")]
        exit_codes = tuple(int(code) for code in codes[0]) if codes else (0,)
        needs = frozenset(word for word in words if word != "varies" and not word.startswith("exit="))
        lines = [line.removeprefix(block["indent"]) for line in block["body"].splitlines()]
        for text, output in _split(lines, block["kind"]):
            commands.append(Command(text, output, needs, exit_codes, "varies" in words))
    return commands


def _split(lines: list[str], kind: str) -> list[tuple[str, list[str]]]:
    """Return (command, output) pairs of a block."""
    if kind == "sh":
        text = "\n".join(lines).replace("\\\n", "")
        return [(line, []) for line in text.splitlines() if line and not line.startswith("#")]
    pairs: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            pairs.append((line[2:], []))
        elif line.startswith("> ") and pairs and not pairs[-1][1]:
            pairs[-1] = f"{pairs[-1][0]}\n{line[2:]}", []
        else:
            pairs[-1][1].append(line)
    return pairs


def run(command: Command, folder: Path, env: dict[str, str]) -> None:
    """Run a command in a folder, and check its exit code and output.

    Raises:
        AssertionError: The command does not do what the page shows.
    """
    exported = shlex.quote(str(folder.with_suffix(".env")))
    script = f"[ ! -f {exported} ] || . {exported}\n{command.text}\ncode=$?; export -p >{exported}; exit $code"
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
    )
    print(f"$ {command.text}\n{result.stdout}")
    assert result.returncode in command.exit_codes, f"{command.text}\n{result.stdout[-2000:]}"
    if command.output and not matches(command.output, result.stdout, command.varies):
        shown = "\n".join(command.output)
        raise AssertionError(f"{command.text}\n--- the page shows\n{shown}\n--- the command prints\n{result.stdout}")


def matches(shown: list[str], printed: str, varies: bool) -> bool:
    """Return whether a command prints what a page shows."""
    pattern = ""
    for line in shown:
        if varies:
            line = _NUMBER.sub("N", line)
        pattern += r"(?:.*\n)*" if line.strip() == "..." else re.escape(line.strip()).replace(r"\.\.\.", ".*") + "\n"
    lines = [line.strip() for line in (_NUMBER.sub("N", printed) if varies else printed).rstrip().splitlines()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None
