"""The tables of results, in both formats, and where the pages link to them."""

import itertools
import re

import nbformat
import pandas as pd
import pytest

from locties_paper.site import downloads

RUNS = pd.DataFrame(
    {"encoder": ["melt", "Köln, xyz"], "seed": [0, 1], "value": [1 / 3, float("nan")]}
)


def shown(kind: str, content: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", {kind: content})


@pytest.fixture
def book(tmp_path):
    results, book = tmp_path / "results", tmp_path / "book"
    results.mkdir()
    book.mkdir()
    RUNS.assign(code="abc", data="def").to_parquet(results / "effects.parquet", index=False)
    RUNS.to_csv(results / "more.csv", index=False)
    cells = [
        nbformat.v4.new_code_cell(source, outputs=[output], id=id)
        for id, source, output in (
            (
                "table",
                'table = read("effects.parquet")\ntable',
                shown("text/html", "<table></table>"),
            ),
            ("figure", "table.plot()", shown("image/png", "")),
            ("own", "plt.plot([1, 2])", shown("image/png", "")),
            ("text", "print(table)", nbformat.v4.new_output("stream", text="1")),
        )
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), book / "page.ipynb")
    downloads.write(results, book)
    return book


def test_each_table_is_there_as_it_was(book):
    for name in ("effects", "more"):
        csv = pd.read_csv(book / downloads.FILES / f"{name}.csv")
        parquet = pd.read_parquet(book / downloads.FILES / f"{name}.parquet")
        pd.testing.assert_frame_equal(csv[RUNS.columns], RUNS)
        pd.testing.assert_frame_equal(parquet[RUNS.columns], RUNS, check_dtype=False)


def test_every_table_is_listed_with_links_to_its_files(book):
    listed = (book / downloads.LIST).read_text("utf-8")
    assert re.findall(r'id="rows-(\w+)"', listed) == ["effects", "more"]
    for link in re.findall(r'href="\.\./([^"]+)"', listed):
        assert (book / link).is_file()


def test_under_a_figure_are_its_rows_and_how_they_were_made(book):
    cells = nbformat.read(book / "page.ipynb", as_version=4).cells
    below = {cell.id: after.source for cell, after in itertools.pairwise(cells)}
    for id in ("table", "figure"):
        for part in (
            "results/effects.csv",
            "results/effects.parquet",
            downloads.TABLES["effects"].command,
            "code abc",
            "data def",
        ):
            assert part in below[id]
        assert "more" not in below[id]
    assert "_sources/book/page.ipynb" in below["own"], "it has no table, so the notebook"
    assert "rows-text" not in {cell.id for cell in cells}, "nothing to see, so no line"


@pytest.mark.parametrize(
    ("cells", "last"),
    [
        (['t = read("a.csv")', "u = t + 1", "draw(u)"], ["a.csv"]),
        (['t = read("a.csv")', "t = 1", "draw(t)"], []),
        (['t = read("a.csv")', "def f():\n    return t", "draw(f())"], ["a.csv"]),
        (['t = {}\nif 1:\n    t["x"] = read("a.csv")', "draw(t)"], ["a.csv"]),
        (['t = [r for r in read("a.csv")]', "r = 1", "draw(r)"], []),
        (['kind = "b"\ndraw(read(f"{kind}_c.csv"))'], ["b_c.csv"]),
        (['draw(f"{1}")'], []),
        (['t = read("a.csv")', "def f(t):\n    return t", "draw(f(1))"], []),
        (['t = read("a.csv")', "def f():\n    t = 1\n    return t", "draw(f())"], []),
        (['t = read("a.csv")', "draw([t for t in range(3)])"], []),
        (["t = read_rows(folder)", "draw(t)"], ["study_main_table.parquet"]),
    ],
)
def test_a_cell_is_traced_to_its_files(cells, last):
    assert downloads.origins(cells, ["a.csv", "b_c.csv", "study_main_table.parquet"])[-1] == last


def test_a_large_table_is_compressed_and_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "LARGE", 10)
    (tmp_path / "results").mkdir()
    RUNS.to_parquet(tmp_path / "results" / "runs.parquet", index=False)
    contents = []
    for book in ("once", "again"):
        downloads.write(tmp_path / "results", tmp_path / book)
        contents.append((tmp_path / book / downloads.FILES / "runs.csv.gz").read_bytes())
        assert not (tmp_path / book / downloads.FILES / "runs.csv").exists()
    assert contents[0] == contents[1]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "once" / downloads.FILES / "runs.csv.gz"), RUNS
    )
