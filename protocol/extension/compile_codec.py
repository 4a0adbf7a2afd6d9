"""Build hook of the wheel patrolink-codec: compiles the module with the platform's C compiler."""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).resolve().parent
MODULE = "patrolink_codec.abi3.so"


def compile_module(folder: Path, version: str) -> Path:
    """Compile the module and return its path.

    Args:
        folder: Folder of the module; it exists.
        version: Version of Patrolink.

    Raises:
        RuntimeError: There is no C compiler, or it failed; the message has what it printed.
    """
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    includes = [f"-I{path}" for path in (FOLDER.parent / "generated", sysconfig.get_path("include"))]
    output = folder / MODULE
    command = [*compiler, "-std=c99", "-O3", "-fPIC", *shared, f'-DPATROLINK_VERSION="{version}"', *includes]
    try:
        subprocess.run(
            [*command, str(FOLDER / "patrolink_codec.c"), "-o", str(output)], check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise RuntimeError(f"the C compiler {compiler[0]} is missing; install it, or name another one in CC") from None
    except subprocess.CalledProcessError as e:
        raise RuntimeError(f"the C compiler failed: {e.stderr.strip()}") from None
    return output


class CodecModule(BuildHookInterface[Any]):
    """Compiles the module into the wheel; hatchling calls it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the module and name the platform.

        Args:
            version: "standard" or "editable".
            build_data: Hatchling's, changed in place.
        """
        self._folder = tempfile.TemporaryDirectory()
        module = compile_module(Path(self._folder.name), self.metadata.version)
        build_data["force_include"][str(module)] = MODULE
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp310-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Delete the compiled module: the wheel has it."""
        self._folder.cleanup()
