"""Which boards the tests run on: hardware.toml, checked; without one the boards that are emulated."""

import sys
from pathlib import Path
from typing import Any, Literal

from patrolink.core import boards
from patrolink.core.boards import Board
from patrolink.core.errors import UserError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from serial.tools import list_ports

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SwitchSpec(_Strict):
    """A command that gets `on` or `off` as its last word, or a line of a serial port: the console's, or `port`."""

    command: list[str] | None = Field(default=None, min_length=1)
    line: Literal["dtr", "rts"] | None = None
    port: str | None = None
    inverted: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "SwitchSpec":
        if (self.command is None) == (self.line is None):
            raise ValueError("give either command or line")
        if self.command and (self.port or self.inverted):
            raise ValueError("port and inverted go with line, not with command")
        return self


class Feed(_Strict):
    """A serial port wired to a UART of the board; `uart` is what the board's configuration calls it."""

    port: str
    uart: int | dict[str, int]


class Entry(_Strict):
    """A [[board]]: an emulated one by its folder alone, a real one with its console, power and feeds."""

    board: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$")
    console: str | None = None
    power: SwitchSpec | None = None
    gps: Feed | None = None
    modem: Feed | None = None
    buttons: dict[Literal["sos", "off"], SwitchSpec] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> "Entry":
        roles = {"power": self.power, "gps": self.gps}
        if self.console is None:
            given = [name for name in (*roles, "modem", "buttons", "config") if getattr(self, name)]
            if given:
                raise ValueError(
                    f"{', '.join(given)} without console; give it, or leave them out for an emulated board"
                )
        else:
            missing = [name for name, given in roles.items() if given is None]
            if missing:
                raise ValueError(f"a board with a console needs {' and '.join(missing)}, too")
        return self

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.name or self.board

    @property
    def spec(self) -> Board:
        """Its board.toml."""
        return boards.find(self.board)

    def lacks(self, feature: str) -> str | None:
        """Return why a test that needs this feature cannot run here, or None when it can."""
        if feature not in self.spec.features:
            return f"boards/{self.board} has no {feature}"
        wired = {"gps": self.gps, "modem": self.modem, "buttons": len(self.buttons) == 2}
        if self.console and not wired.get(feature, True):
            return f"{feature} is not wired in hardware.toml"
        return None


class Hardware(_Strict):
    """A hardware.toml."""

    board: list[Entry] = Field(min_length=1)


EMULATED = [Entry(board="unix"), Entry(board="mps2_an385")]
_KEYS = [name for model in (Hardware, Entry, Feed, SwitchSpec) for name in model.model_fields]


def load(path: Path) -> list[Entry]:
    """Return the entries of the hardware.toml at `path`; UserError says which key is wrong, why, and what to do."""
    try:
        entries = Hardware.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).board
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; boards/README.md tells how to write a hardware.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not TOML: {e}") from None
    except ValidationError as e:
        raise UserError(boards.describe_errors(path, e, _KEYS, "boards/README.md")) from None
    labels = [entry.label for entry in entries]
    for i, entry in enumerate(entries):
        try:
            runtime = entry.spec.runtime
        except UserError as e:
            raise UserError(f"{path}: board.{i}.board: {e}") from None
        if labels.index(entry.label) != i:
            raise UserError(f"{path}: board.{i}.name: {entry.label!r} is there already; give each board a name")
        if entry.console and runtime != "micropython":
            raise UserError(
                f"{path}: board.{i}.board: {entry.board} has no REPL to be configured by; only MicroPython boards "
                "can be real here"
            )
    return entries


def resolve(port: str, key: str) -> str:
    """Return the path of a port named by its path or USB serial number; UserError lists the candidates."""
    if port.startswith("/"):
        if not Path(port).exists():
            raise UserError(f"{key}: {port} is not there; plug it in, or name another (`patrolink devices` lists them)")
        return port
    all_ports = list_ports.comports()
    found = sorted(p.device for p in all_ports if p.serial_number == port)
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UserError(
            f"{key}: {', '.join(found)} all have USB serial number {port}; name one by its /dev/serial/by-id/..."
        )
    seen = ", ".join(f"{p.serial_number} ({p.device})" for p in all_ports if p.serial_number) or "none"
    raise UserError(f"{key}: no port has USB serial number {port}; plug it in. There are: {seen}")
