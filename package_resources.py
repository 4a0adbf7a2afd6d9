"""Build hook of the wheel: adds the sources of devices and boards, which emulated boards and firmware are made of.

A development install has none of these files: there the tools use the checkout.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_MODULES = ("patrolink_enums", "patrolink_messages", "patrolink_names")
# Their layout below patrolink/_resources is that of the checkout.
_RESOURCES = (
    "boards",
    "build/device-lib",
    "device",
    "protocol/CLIP.md",
    "protocol/IMAGE.md",
    "protocol/PTT.md",
    "protocol/SPEC.md",
    "protocol/adapters",
    "protocol/example_device",
    "protocol/generated",
    "protocol/inline_constants.py",
    "protocol/patrolink_protocol",
    "protocol/schema.toml",
    "protocol/vectors",
)


class PackageResources(BuildHookInterface[Any]):
    """Adds the files to a wheel that is installed; hatchling calls it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Map files of the checkout to the wheel.

        Args:
            version: "standard" or "editable".
            build_data: Hatchling's, changed in place.

        Raises:
            FileNotFoundError: The MicroPython packages of devices were not fetched.
        """
        if version != "standard":
            return
        if not (Path(self.root) / "build" / "device-lib").is_dir():
            raise FileNotFoundError("build/device-lib is missing; run `make device-lib`")
        files = {f"protocol/generated/{name}.py": f"{name}.py" for name in _MODULES}
        files.update((name, f"patrolink/_resources/{name}") for name in _RESOURCES)
        build_data["force_include"].update(files)
