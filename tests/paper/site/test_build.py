"""The stage of the book: text as it is written, outputs as they were computed."""

import copy
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from locties_paper.site import build
from locties_paper.site.notebook import REPOSITORY


def printed(text: str) -> list[nbformat.NotebookNode]:
    return [new_output("stream", text=text)]


@pytest.fixture
def book(tmp_path, monkeypatch) -> Path:
    """A book of one notebook that ran with other parameters, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder in ("book/_static", "executed", "results"):
        Path(folder).mkdir(parents=True)
    Path("_config.yml").write_text("html: {title: A book}\n")
    for file in ("_toc.yml", "book/references.bib", "book/method.md"):
        Path(file).touch()
    notebook = new_notebook(
        cells=[
            new_markdown_cell("Before."),
            new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
            new_markdown_cell("Between."),
            new_code_cell("print(seed)", execution_count=2, outputs=printed("0")),
        ]
    )
    nbformat.write(notebook, "book/page.ipynb")
    ran = copy.deepcopy(notebook)
    ran.cells[3].update(execution_count=3, outputs=printed("1"))
    ran.cells.insert(2, new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]}))
    nbformat.write(ran, "executed/page.ipynb")
    return tmp_path


def change(cell: int, source: str, **metadata) -> None:
    """Write a cell of the book's notebook anew."""
    notebook = nbformat.read("book/page.ipynb", as_version=4)
    notebook.cells[cell].source = source
    notebook.cells[cell].metadata.update(metadata)
    nbformat.write(notebook, "book/page.ipynb")


def staged(executed: str = "executed", **options) -> nbformat.NotebookNode:
    build.stage(Path(executed), **options)
    page = nbformat.read(build.STAGE / "book/page.ipynb", as_version=4)
    nbformat.validate(page)
    return page


def test_changed_text_and_captions_stand_beside_the_outputs_of_the_execution(book):
    change(0, "Reworded.")
    change(2, "Reworded too.")
    change(3, "print(seed)", mystnb={"figure": {"caption": "A seed."}})
    page = staged()
    sources = ["Reworded.", "seed = 0", "seed = 1", "Reworded too.", "print(seed)"]
    assert [cell.source for cell in page.cells] == sources
    assert page.cells[4].metadata.mystnb.figure.caption == "A seed."
    assert (page.cells[4].outputs, page.cells[4].execution_count) == (printed("1"), 3)


def test_a_paragraph_may_come_and_go(book):
    notebook = nbformat.read("book/page.ipynb", as_version=4)
    notebook.cells = [notebook.cells[1], notebook.cells[3], new_markdown_cell("After.")]
    nbformat.write(notebook, "book/page.ipynb")
    sources = ["seed = 0", "seed = 1", "print(seed)", "After."]
    assert [cell.source for cell in staged().cells] == sources


def test_outputs_of_other_code_are_refused(book):
    change(3, "print(seed + 1)")
    with pytest.raises(ValueError, match=r"delete executed/page\.ipynb"):
        staged()


def test_a_preview_shows_the_committed_outputs_and_a_banner(book):
    page = staged("book", announcement="A preview.")
    assert page == nbformat.read("book/page.ipynb", as_version=4)
    config = build.STAGE / "_config.yml"
    assert yaml.safe_load(config.read_text())["html"] == {
        "title": "A book",
        "announcement": "A preview.",
    }
    staged()
    assert not yaml.safe_load(config.read_text())["html"]["announcement"]


def test_a_stage_has_nothing_of_the_one_before(book):
    staged()
    Path("book/method.md").unlink()
    staged()
    assert not (build.STAGE / "book/method.md").exists()


def test_a_failed_build_ends_the_program_and_leaves_the_former_site(book, monkeypatch):
    Path("site").mkdir()
    failed = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(build.subprocess, "run", lambda command: failed)
    with pytest.raises(SystemExit) as error:
        build.build(Path("executed"), Path("site"))
    assert error.value.code == 3
    assert Path("site").is_dir()


def test_every_committed_notebook_can_be_staged():
    for page in (REPOSITORY / "book").glob("*.ipynb"):
        assert build.merged(page, page) == nbformat.read(page, as_version=4)
