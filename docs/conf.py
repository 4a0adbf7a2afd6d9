"""Configuration of the documentation site (Sphinx with MyST): `make docs` builds it into build/docs.

The source folder is the root of the repository, so that links between pages work on a forge and on the site.
"""

import os
import sys
from pathlib import Path

from patrolink import __version__

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs" / "_ext"), str(ROOT / "device")]
# The reference of the command line must not show the settings of whoever builds the site.
os.environ["PATROLINK_CONFIG"] = ""
for name in [name for name in os.environ if name.startswith("PATROLINK_") and name != "PATROLINK_CONFIG"]:
    del os.environ[name]

project = "Patrolink"
author = "the Patrolink authors"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "protocol/*.md",
    "protocol/*/README.md",
    "boards/README.md",
    "boards/*/README.md",
    "device/hal/contract.md",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
]
exclude_patterns = ["build", ".*", "**/node_modules", "docs/benchmarks/template.md", "host_tools", "tests"]
extensions = ["myst_parser", "board_table", "keys", "verbs"]

myst_heading_anchors = 4

smartquotes = False  # they turn the two hyphens of an option into a dash

html_theme = "furo"
html_title = f"Patrolink {release}"
html_extra_path = ["static"]
html_copy_source = html_show_copyright = False
