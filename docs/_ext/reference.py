"""Two directives that read the reference from the code, so that it cannot differ from it.

`dimpoint-commands` documents every command of the command line; `dimpoint-names` every public name.
"""

from __future__ import annotations

import inspect
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import dimpoint
from dimpoint.cli import build_command


class Commands(SphinxDirective):
    """One section for each command, with its usage, arguments and options."""

    def run(self) -> list[nodes.Node]:
        return [self._section(path, command) for path, command in _leaves(build_command())]

    def _section(self, path: list[str], command: Any) -> nodes.section:
        name = " ".join(path)
        section = nodes.section(ids=[nodes.make_id(name)], names=[name])
        section += nodes.title("", "", nodes.literal("", name))
        context = command.context_class(command, info_name=name)
        usage = command.collect_usage_pieces(context)
        section += nodes.literal_block("", f"{name} {' '.join(usage)}", language="text")
        for part in (command.help or "").split("\n\n"):
            section += nodes.paragraph("", " ".join(part.replace("\b", "").split()))
        records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        options = nodes.definition_list()
        for term, text in filter(None, records):
            item = nodes.definition_list_item(
                "", nodes.term("", "", nodes.literal("", " ".join(term.split())))
            )
            item += nodes.definition("", nodes.paragraph("", text))
            options += item
        if options.children:
            section += options
        return section


def _leaves(command: Any, path: tuple[str, ...] = ("dimpoint",)) -> list[tuple[list[str], Any]]:
    """Every command that does something by itself, with the words that call it."""
    inner = getattr(command, "commands", {})
    found = [] if inner and not command.invoke_without_command else [(list(path), command)]
    for name, one in inner.items():
        found += _leaves(one, (*path, name))
    return found


class Names(SphinxDirective):
    """Autodoc of every name in `dimpoint.__all__`, functions first."""

    def run(self) -> list[nodes.Node]:
        public = [(name, getattr(dimpoint, name)) for name in dimpoint.__all__]
        functions = [name for name, one in public if inspect.isroutine(one)]
        classes = [name for name, one in public if inspect.isclass(one)]
        lines = []
        for directive, names in (("autofunction", functions), ("autoclass", classes)):
            for name in sorted(names):
                lines += ["```{eval-rst}", f".. {directive}:: dimpoint.{name}", "```", ""]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), 0, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("dimpoint-commands", Commands)
    app.add_directive("dimpoint-names", Names)
    return {"parallel_read_safe": True}
