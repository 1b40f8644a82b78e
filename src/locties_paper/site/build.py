"""Build the book's site from executed notebooks.

The pipeline runs ``python -m locties_paper.site.build EXECUTED SITE`` with their folder and the
folder of the new site. With ``--preview``, each page says that it is a preview.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from locties_paper.site import downloads

STAGE = Path("_build/stage")
PREVIEW = "This is a preview with small runs. The book will be in _build/html."


def stage(executed: Path, to: Path = STAGE, announcement: str = "") -> None:
    """Lay out the book's sources in a new folder `to`, its notebooks as `merged` returns them.

    Each page shows the announcement, if any, as a banner.
    """
    shutil.rmtree(to, ignore_errors=True)
    (to / "book").mkdir(parents=True)
    config = yaml.safe_load(Path("_config.yml").read_text("utf-8"))
    config["html"]["announcement"] = announcement
    (to / "_config.yml").write_text(yaml.safe_dump(config), "utf-8")
    shutil.copy("_toc.yml", to)
    book = Path("book")
    for page in [*book.glob("*.md"), book / "references.bib"]:
        shutil.copy(page, to / "book")
    shutil.copytree(book / "_static", to / "book/_static")
    for page in book.glob("*.ipynb"):
        nbformat.write(merged(page, executed / page.name), to / "book" / page.name)
    downloads.write(Path("results"), to / "book")


def merged(page: Path, executed: Path) -> nbformat.NotebookNode:
    """The notebook `page` with the outputs of its execution.

    Text, tags and captions are those of `page`, so a change of them needs no new execution. The
    cell of parameters that papermill injects stays.

    Raises:
        ValueError: the execution ran other code than that of `page`.
    """
    notebook, ran = (nbformat.read(path, as_version=4) for path in (page, executed))
    injected = [cell for cell in ran.cells if _tagged(cell, "injected-parameters")]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    done = [cell for cell in ran.cells if cell.cell_type == "code" and cell not in injected]
    if [cell.source for cell in code] != [cell.source for cell in done]:
        raise ValueError(
            f"{executed} ran other code than {page} has: delete {executed}, then run the same "
            "command again"
        )
    for cell, run in zip(code, done, strict=True):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    for cell in injected:
        after = next(i for i, each in enumerate(notebook.cells) if _tagged(each, "parameters"))
        notebook.cells.insert(after + 1, cell)
    return notebook


def _tagged(cell: nbformat.NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def build(executed: Path, site: Path, announcement: str = "") -> None:
    """Build the site in a new folder. A warning ends the program and leaves the former site."""
    stage(executed, STAGE, announcement)
    # A fresh stage and a fresh build each time: an incremental build hides warnings.
    command = ["jupyter-book", "build", str(STAGE), "-W", "-n", "--keep-going"]
    if status := subprocess.run(command).returncode:
        sys.exit(status)
    shutil.rmtree(site, ignore_errors=True)
    (STAGE / "_build/html").rename(site)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("executed", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--preview", action="store_true")
    asked = parser.parse_args()
    build(asked.executed, asked.site, PREVIEW if asked.preview else "")
