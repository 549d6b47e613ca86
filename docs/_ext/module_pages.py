"""The Sphinx directive ``{modules} prithvi_tg.tasks``: every module of a package, when the site is built."""

import ast
import pkgutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ModulesDirective(SphinxDirective):
    """A section for each module of the packages and modules that are named."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The nodes of the sections."""
        lines = []
        for module, members in _modules(self.arguments[0].split()):
            own = ["   :members: " + ", ".join(members)] if members else ["   :no-members:"]
            lines += [
                f"## {module.removeprefix('prithvi_tg.')}",
                "",
                "```{eval-rst}",
                f".. automodule:: {module}",
                *([] if members is None else own),
                "```",
                "",
            ]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _modules(names: list[str]) -> Iterator[tuple[str, list[str] | None]]:
    """Modules below some names, and for a package the members that it defines itself."""
    for name in names:
        spec = find_spec(name)
        assert spec is not None, name
        if spec.submodule_search_locations is None:
            yield name, None
            continue
        yield name, _own_members(Path(str(spec.origin)))
        below = [one.name for one in pkgutil.iter_modules(spec.submodule_search_locations, f"{name}.")]
        yield from _modules(sorted(below))


def _own_members(path: Path) -> list[str]:
    found = []
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found.append(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in found if not name.startswith("_")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("modules", ModulesDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
