"""Directive `boards`: a table of all boards, taken from their board.toml."""

import json

from docutils import nodes
from patrolink.core import boards
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def _section(board: boards.Board) -> list[str]:
    heap = f", {board.heap_kb} KiB heap" if board.heap_kb else ""
    facts = {
        "runtime": board.runtime + heap,
        "features": " ".join(board.features),
        "emulation": board.emulated or f"none; {board.run}",
        "firmware": "not needed" if board.flash == "none" else f"flashed with {board.flash}",
        "receiver": f"{board.gps.baud} baud",
        "needs": ", ".join([*board.tools.values(), *board.modules.values()]) or "nothing else",
    }
    lines = [f"### {board.name}", "", f"{board.title}. [Page of the board](/boards/{board.name}/README.md)", ""]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    if board.config():
        lines += ["Part of the device configuration:", "", "```json", json.dumps(board.config(), indent=2), "```", ""]
    return lines


class Boards(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """Return a section per board."""
        lines = [line for name in boards.names() for line in _section(boards.find(name))]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("boards", Boards)
    return {"parallel_read_safe": True}
