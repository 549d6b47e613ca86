"""Sphinx directives that write the reference of commands and keys from their parsers, when the site is built.

``{command} predict`` lists the options of a command; ``{keys} prithvi_tg.tasks.PrithviSegmentationTask`` lists the
keys of a class in a configuration.
"""

import argparse
from importlib import import_module
from typing import Any

from command_parsers import default_of, described_actions, invocation, parser_of, text_of
from docutils import nodes
from jsonargparse import ArgumentParser
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class CommandDirective(SphinxDirective):
    """Usage and options of a command."""

    required_arguments = 1
    final_argument_whitespace = True  # a command of a group, such as area sample

    def run(self) -> list[nodes.Node]:
        """The nodes of the description and the options."""
        command = self.arguments[0]
        parser = parser_of(command)
        lines = [str(parser.description), "", f"```{{program}} prithvi-tg {command}", "```", ""]
        for action in described_actions(parser):
            lines += [f"````{{option}} {invocation(action)}", "", text_of(action, parser)]
            if default := default_of(action):
                lines += ["", f"Default: `{default}`"]
            lines += ["````", ""]
        if parser.epilog:
            lines += ["", text_of(argparse.Action([], "", help=parser.epilog.replace("%", "%%")), parser)]
        return self.parse_text_to_nodes("\n".join(lines))


class KeysDirective(SphinxDirective):
    """Keys of a class in a configuration."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A definition list of the keys."""
        module, _, name = self.arguments[0].rpartition(".")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(getattr(import_module(module), name), "init_args", fail_untyped=False)
        lines = []
        for action in parser._actions:
            key = action.dest.removeprefix("init_args.")
            if action.dest == key or action.option_strings[0].endswith(".help"):
                continue
            default = "required" if action.required else f"default `{_yaml(action.default)}`"
            lines += [f"`{key}` ({default})", f": {text_of(action, parser)}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def _yaml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value)) if value.__hash__ else str(value)
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("command", CommandDirective)
    app.add_directive("keys", KeysDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
