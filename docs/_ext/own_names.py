"""References to our own names by any path under which they can be imported, such as ``prithvi_tg.load_task``."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def defined_at(path: str) -> str | None:
    """Where the object of a path is defined; ``None`` if there is no such object, or it does not record that."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
            for part in parts[length:]:
                found = getattr(found, part)
        except (ImportError, AttributeError):
            continue
        name = getattr(found, "__qualname__", None)
        return f"{found.__module__}.{name}" if name else None
    return None


def documented_at(path: str, known: Iterable[str]) -> str | None:
    """The documented name of what can be imported from a path; ``None`` if there is none, or more than one."""
    package, _, name = path.rpartition(".")
    found = [one for one in known if one.startswith(f"{package}.") and one.endswith(f".{name}")]
    return found[0] if len(found) == 1 else None


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.reference | None:
    """Resolve a reference that Sphinx does not find under the name that was written."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or not target.startswith("prithvi_tg."):
        return None
    domain = env.domains.python_domain
    path = defined_at(target) or documented_at(target, domain.objects)
    if path is None or path == target:
        return None
    document = str(node.get("refdoc", env.docname))
    return domain.resolve_xref(env, document, app.builder, "obj", path, node, contnode)  # type: ignore[return-value]  # of a reference


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
