"""The link below each table that saves it as CSV, in a headless Chromium."""

import io
import re
from urllib.parse import unquote

import pandas as pd
import pytest

from locties_paper.site.notebook import REPOSITORY

SCRIPT = REPOSITORY / "book" / "_static" / "tables.js"
WIDE = pd.DataFrame(
    [[0.25, -1.5, "a, b"], [1e-3, 2.0, 'said "no"'], [3.0, 4.0, "Köln"]],
    index=pd.MultiIndex.from_tuples([("melt", 0), ("melt", 1), ("xyz", 0)], names=["of", "seed"]),
    columns=pd.MultiIndex.from_tuples([("ridge", "r2"), ("ridge", "low"), ("knn", "note")]),
)
pytestmark = pytest.mark.site


def opened(tmp_path_factory, open_page, body: str):
    """A page with the script and the style of the book."""
    folder = tmp_path_factory.mktemp("book")
    style = SCRIPT.with_name("locties.css").read_text()
    (folder / "results.html").write_text(
        f"<!doctype html><meta charset='utf-8'><script>{SCRIPT.read_text()}</script>"
        f"<style>{style}</style>"
        f"<table><tr><td>menu</td></tr></table><article class='bd-article'>{body}</article>",
        encoding="utf-8",
    )
    return open_page(folder, "results.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory, open_page):
    plain = pd.DataFrame({"task": ["elevation", "biome"], "value": [0.5, 0.75]})
    body = (
        f'<div class="pst-scrollable-table-container">{plain.to_html(index=False)}</div>'
        f'<div class="cell_output">{WIDE.to_html()}</div>'
        '<div class="explorer"><table><tr><td>Nairobi</td></tr></table></div>'
        '<dl class="field-list"><dd><table><tr><td>x</td></tr></table></dd></dl>'
    )
    return opened(tmp_path_factory, open_page, body)


def links(page, what: str) -> list[str]:
    return page.evaluate(f"[...document.querySelectorAll('a.table-csv')].map((a) => a.{what})")


def saved(page, which: int) -> str:
    kind, text = links(page, "href")[which].split(",", 1)
    assert kind == "data:text/csv;charset=utf-8"
    return unquote(text)


def test_what_is_saved_is_what_is_shown(page):
    table = pd.read_csv(io.StringIO(saved(page, 0)))
    assert table.to_dict("list") == {"task": ["elevation", "biome"], "value": [0.5, 0.75]}


def test_a_cell_that_spans_several_is_in_each(page):
    assert saved(page, 1).splitlines()[0] == ",,ridge,ridge,knn"
    table = pd.read_csv(io.StringIO(saved(page, 1)), header=[0, 1], skiprows=[2], dtype=str)
    assert table.iloc[:, 0].tolist() == ["melt", "melt", "xyz"]
    assert table["knn", "note"].tolist() == WIDE["knn", "note"].tolist(), "commas, quotes, umlauts"
    assert table["ridge", "low"].astype(float).tolist() == [-1.5, 2.0, 4.0]


def test_only_tables_of_the_text_have_a_link_below_them(page):
    assert links(page, "download") == ["results-1.csv", "results-2.csv"]
    assert links(page, "textContent") == ["CSV", "CSV"]
    before = links(page, "previousElementSibling.className")
    assert before == ["pst-scrollable-table-container", "dataframe"]


def test_a_screen_reader_tells_them_apart_and_print_leaves_them_out(page):
    names = links(page, "ariaLabel")
    assert names == [f"Save table {i} of this page as CSV" for i in (1, 2)]
    styles = (SCRIPT.parent / "locties.css").read_text().split("@media print")[1]
    assert re.search(r"\.table-csv \{\s*display: none", styles)


def test_an_interval_stays_on_one_line_where_it_fits(tmp_path_factory, open_page):
    table = "<table><tr><td>+0.1 [-0.05, +0.15]</td></tr></table>"
    body = f'<div style="overflow: auto; width: 300px">{table}</div>'
    page = opened(tmp_path_factory, open_page, body + body.replace("300px", "60px"))
    wide, narrow = page.eval_on_selector_all(
        ".interval", "(all) => all.map((interval) => interval.getClientRects().length)"
    )
    assert wide == 1
    assert narrow > 1
    assert saved(page, 0).strip() == '"+0.1 [-0.05, +0.15]"'
