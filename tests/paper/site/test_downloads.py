"""The tables of results, in both formats, and where the pages link to them."""

import re

import nbformat
import pandas as pd
import pytest

from locties_paper.site import downloads

RUNS = pd.DataFrame(
    {"encoder": ["melt", "Köln, xyz"], "seed": [0, 1], "value": [1 / 3, float("nan")]}
)


@pytest.fixture
def book(tmp_path):
    results, book = tmp_path / "results", tmp_path / "book"
    results.mkdir()
    book.mkdir()
    RUNS.assign(code="abc", data="def").to_parquet(results / "effects.parquet", index=False)
    RUNS.to_csv(results / "more.csv", index=False)
    for name, source in {"reads": 'table = read("effects.parquet")', "measures": "1 + 1"}.items():
        cells = [nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), book / f"{name}.ipynb")
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


def test_a_page_names_the_rows_that_it_reads_and_how_they_were_made(book):
    line = nbformat.read(book / "reads.ipynb", as_version=4).cells[-1].source
    for part in (
        "results/effects.csv",
        downloads.TABLES["effects"].command,
        "code abc",
        "data def",
    ):
        assert part in line
    assert "more" not in line
    assert len(nbformat.read(book / "measures.ipynb", as_version=4).cells) == 1


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
