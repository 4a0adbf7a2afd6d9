"""Loads hardware.toml, which lists the boards under test. Without it the tests run on emulated boards."""

from pathlib import Path
from typing import Any, Literal

from patrolink.core import boards, settings_file
from patrolink.core.boards import Board
from patrolink.core.errors import UserError
from pydantic import BaseModel, ConfigDict, Field, model_validator
from serial.tools import list_ports


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SwitchSpec(_Strict):
    """A switch: either a command that receives `on` or `off` as its last word, or a line of a serial port.

    The line belongs to the console's port unless `port` names another one.
    """

    command: list[str] | None = Field(default=None, min_length=1)
    line: Literal["dtr", "rts"] | None = None
    port: str | None = None
    inverted: bool = False

    @model_validator(mode="after")
    def _check_kind(self) -> "SwitchSpec":
        if (self.command is None) == (self.line is None):
            raise ValueError("give either command or line")
        if self.command and (self.port or self.inverted):
            raise ValueError("port and inverted go with line, not with command")
        return self


class UartPort(_Strict):
    """A serial port that is wired to a UART of the board; `uart` is its value in the board's configuration."""

    port: str
    uart: int | dict[str, int]


class Entry(_Strict):
    """A [[board]] of hardware.toml. A real board has a console, power and UART ports, an emulated one only `board`."""

    board: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$")
    console: str | None = None
    power: SwitchSpec | None = None
    gps: UartPort | None = None
    modem: UartPort | None = None
    buttons: dict[Literal["sos", "off"], SwitchSpec] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_complete(self) -> "Entry":
        roles = {"power": self.power, "gps": self.gps}
        if self.console is None:
            extra = [name for name in (*roles, "modem", "buttons", "config") if getattr(self, name)]
            if extra:
                raise ValueError(
                    f"{', '.join(extra)} without console; add console, or remove them for an emulated board"
                )
        else:
            missing = [name for name, role in roles.items() if role is None]
            if missing:
                raise ValueError(f"a board with a console needs {' and '.join(missing)}")
        return self

    @property
    def label(self) -> str:
        """Name in reports."""
        return self.name or self.board

    @property
    def spec(self) -> Board:
        """Description from board.toml."""
        return boards.find(self.board)

    def skip_reason(self, feature: str) -> str | None:
        """Return why a test that needs this feature cannot run on this board, or None if it can."""
        if feature not in self.spec.features:
            return f"boards/{self.board} has no {feature}"
        wired = {"gps": self.gps, "modem": self.modem, "buttons": len(self.buttons) == 2}
        if self.console and not wired.get(feature, True):
            return f"{feature} is not wired in hardware.toml"
        return None


class Hardware(_Strict):
    """Content of hardware.toml."""

    board: list[Entry] = Field(min_length=1)


EMULATED = [Entry(board="unix"), Entry(board="mps2_an385")]
_KEYS = [name for model in (Hardware, Entry, UartPort, SwitchSpec) for name in model.model_fields]


def load(path: Path) -> list[Entry]:
    """Return the entries of a hardware.toml.

    Raises:
        UserError: The file cannot be read or is invalid; the message names the key, the reason and the correction.
    """
    example = "boards/README.md"
    entries = settings_file.load(path, Hardware, _KEYS, example, f"{example} describes hardware.toml").board
    labels = [entry.label for entry in entries]
    for i, entry in enumerate(entries):
        try:
            runtime = entry.spec.runtime
        except UserError as e:
            raise UserError(f"{path}: board.{i}.board: {e}") from None
        if labels.index(entry.label) != i:
            raise UserError(f"{path}: board.{i}.name: duplicate name {entry.label!r}; give each board its own name")
        if entry.console and runtime != "micropython":
            raise UserError(
                f"{path}: board.{i}.board: {entry.board} has no REPL; only MicroPython boards can be "
                "tested on real hardware"
            )
    return entries


def resolve(port: str, key: str) -> str:
    """Return the path of a serial port.

    Args:
        port: Path or USB serial number.
        key: Key of hardware.toml, for error messages.

    Raises:
        UserError: No port, or more than one, matches; the message lists the candidates.
    """
    if port.startswith("/"):
        if not Path(port).exists():
            raise UserError(
                f"{key}: {port} does not exist; connect it, or name another port (`patrolink devices` lists them)"
            )
        return port
    all_ports = list_ports.comports()
    matches = sorted(p.device for p in all_ports if p.serial_number == port)
    if len(matches) == 1:
        return str(matches[0])
    if matches:
        raise UserError(
            f"{key}: {', '.join(matches)} all have USB serial number {port}; name one by its /dev/serial/by-id/..."
        )
    available = ", ".join(f"{p.serial_number} ({p.device})" for p in all_ports if p.serial_number) or "none"
    raise UserError(f"{key}: no port has USB serial number {port}; connect it. Available: {available}")
