"""The ranking as a person uses it, in a headless Chromium: alone, and in the built book."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from locties_paper.figures import ranking
from locties_paper.results import PUBLISHED_ROWS
from locties_paper.site.notebook import REPOSITORY

BOOK = REPOSITORY / "_build" / "html"
pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Scores of contenders, with and without training."""
    levels = {"melt": 0.6, "melt+harmonics_10": 0.62, "clip-relief": 0.7, "xyz": 0.4}
    values = [list(levels), ["elevation", "country"], ["random", "block"], ["ridge", "knn"]]
    names = ["encoder", "task", "split", "probe", "labels", "draw"]
    index = pd.MultiIndex.from_product([*values, ["all", "50"], range(4)], names=names)
    table = index.to_frame(index=False).assign(tier="embedded")
    noise = np.random.default_rng(0).normal(0, 0.005, len(table))
    return table.assign(
        value=table["encoder"].map(levels) + noise,
        seed=np.where(table["encoder"] == "xyz", 0, 20 + table["draw"]),
        metric=table["task"].map({"elevation": "r2", "country": "accuracy"}),
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory, rows) -> Path:
    """A folder with the ranking as a page of its own."""
    folder = tmp_path_factory.mktemp("alone")
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Ranking</title>'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    page = ranking.html(
        {"study": ranking.Source(rows, "rows", ["study_main_table", "study_main_baselines"])}
    )
    (folder / "ranking.html").write_text(f"{head}<main>{page}</main>", encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["alone", "book"])
def opened(request, open_page):
    """A function that opens the ranking."""
    folder, path = BOOK, "book/ranking.html"
    if request.param == "alone":
        folder, path = request.getfixturevalue("alone"), "ranking.html"
    elif not (folder / path).exists():
        pytest.skip("the built book has no ranking: run `make book`")
    return lambda **options: open_page(folder, path, **options)


@pytest.fixture
def page(opened):
    page = opened()
    page.wait_for_selector(".ranking tbody tr")
    yield page
    page.context.close()


@pytest.fixture
def of_study(open_page, alone):
    page = open_page(alone, "ranking.html")
    yield page
    page.context.close()


def scores(page) -> list[float]:
    """The scores shown, from the top."""
    texts = page.locator(".ranking tbody button").all_inner_texts()
    return [float(text.replace("−", "-")) for text in texts]


def names(page) -> list[str]:
    heads = page.locator(".ranking tbody th").all()
    return [head.evaluate("(head) => head.firstChild.textContent") for head in heads]


def said(page) -> str:
    return page.locator(".ranking [role=status]").text_content()


def test_the_best_contender_is_first(page):
    shown = scores(page)
    assert shown == sorted(shown, reverse=True)
    assert len(shown) >= 3
    assert said(page).startswith(f"{len(shown)} contenders. First: {names(page)[0]}, ")


def test_every_choice_leads_to_a_ranking(page):
    for name in ("task", "split", "probe", "labels"):
        select = page.locator(f".ranking select[name={name}]")
        for option in select.locator("option").all():
            select.select_option(option.get_attribute("value"))
            assert scores(page), f"{name}: {option.inner_text()}"


def condition(page, row: int) -> str:
    """The condition on rows that a score names, once it is opened."""
    page.locator(".ranking tbody button").nth(row).click()
    code = page.locator(".ranking-rows pre").nth(2 * row).inner_text()
    return re.search(r"query\(\s*'(.+)'\s*\)", code, re.DOTALL)[1]


def test_a_score_is_the_mean_of_the_rows_it_names(of_study, rows):
    of_study.locator("select[name=task]").select_option("elevation")
    of_study.locator("select[name=labels]").select_option("50")
    for row, shown in enumerate(scores(of_study)):
        mine = rows.query(condition(of_study, row))
        assert len(mine) == 4
        assert shown == pytest.approx(mine["value"].mean(), abs=6e-4)
    of_study.locator(".ranking tbody button").first.click()
    assert not of_study.locator(".ranking-rows").first.is_visible()


def test_a_mean_of_tasks_is_the_mean_of_the_rows_it_names(page, rows):
    first = page.locator(".ranking select[name=task] option").first.inner_text()
    assert first == ranking.ALL
    if page.locator("article").count():
        title = page.locator("select[name=table]").input_value()
        rows = ranking.sources(PUBLISHED_ROWS)[title].rows
    mine = rows.query(condition(page, 0))
    assert len(set(mine["task"])) > 1
    assert scores(page)[0] == pytest.approx(mine["value"].mean(), abs=6e-4)


def test_a_mean_says_how_many_tasks_it_has(of_study):
    caption = of_study.locator(".ranking caption")
    assert caption.inner_text().startswith("mean of all tasks (2), R² or accuracy: spatial blocks")


def test_leaking_contenders_can_be_left_out(of_study):
    of_study.locator("select[name=task]").select_option("elevation")
    assert "saw relief: a leak into the task" in of_study.locator("tbody").inner_text()
    of_study.get_by_label("leave out contenders with a leaking modality").check()
    assert names(of_study) == ["xyz"]
    assert "Left out: 3" in said(of_study)
    of_study.locator("select[name=task]").select_option("country")
    assert names(of_study) == ["clip-relief", "xyz"]


def test_the_keyboard_opens_the_rows_of_a_score(page):
    page.locator(".ranking select[name=labels]").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.ranking tbody button')")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert page.locator(".ranking tbody button").first.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Tab")
    link = page.evaluate("document.activeElement.getAttribute('href')")
    assert link.endswith(".parquet")


def test_links_lead_to_the_rows(page):
    if not page.locator("article").count():
        pytest.skip("the files are in the built book")
    page.locator(".ranking tbody button").first.click()
    parquet, csv = page.locator(".ranking-rows a").all()[:2]
    file = (BOOK / "book" / parquet.get_attribute("href")).resolve()
    assert len(pd.read_parquet(file))
    path, _, anchor = csv.get_attribute("href").partition("#")
    assert f'id="{anchor}"' in (BOOK / "book" / path).read_text("utf-8")


def test_a_screen_reader_finds_a_table_and_its_state(page):
    assert page.locator(".ranking").get_by_role("status").count() == 1
    table = page.get_by_role("table", name=re.compile("all labels$"))
    assert table.get_by_role("columnheader").count() == 4
    assert table.get_by_role("rowheader").count() == len(scores(page))
    for name in ("Tier", "Task", "Split", "Probe", "Labels"):
        assert page.get_by_role("combobox", name=name).count() == 1
    first = page.locator(".ranking tbody button").first
    assert (
        first.get_attribute("aria-label")
        == f"{first.inner_text()}: show the rows of {names(page)[0]}"
    )


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_shows_all_of_it(opened, width):
    page = opened(viewport={"width": width, "height": 780}, has_touch=True, is_mobile=True)
    page.locator(".ranking tbody button").first.tap()
    assert page.locator(".ranking-rows").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_table_stands_in_where_no_script_runs(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("noscript table").is_visible()
    assert not page.locator(".ranking").is_visible()


def test_print_shows_the_ranking_without_the_controls(page):
    page.emulate_media(media="print")
    assert not page.locator(".page-controls").is_visible()
    assert page.locator(".ranking tbody th").first.is_visible()
