"""Writes the pages of docs/notebooks as Jupyter notebooks beside their HTML."""

from pathlib import Path

import jupytext
from sphinx.application import Sphinx


def write_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Convert each page that has a kernel."""
    folder = Path(app.outdir) / "notebooks"
    for path in sorted((Path(app.srcdir) / "notebooks").glob("*.md")):
        notebook = jupytext.read(path)
        if error is None and "kernelspec" in notebook.metadata:
            jupytext.write(notebook, folder / f"{path.stem}.ipynb")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write notebooks at the end of a build."""
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
