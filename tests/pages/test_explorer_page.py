"""The explorer as a person uses it, by mouse, touch and keyboard, in a headless Chromium.

It is tried alone, with three small encoders, and as the page of the built book where there is one.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from locties import LocationEncoder
from locties.lonlat import to_xyz
from locties_paper.figures.explorer import Explorer, cosine, explore
from locties_paper.site.notebook import REPOSITORY

BOOK = REPOSITORY / "_build" / "html"
NAIROBI, LAGOS = "Nairobi, Kenya", "Lagos, Nigeria"
ACROSS, DOWN = 0.536, 0.62  # of the first map: between Kinshasa and Lake Victoria
MAPS = ".explorer canvas"
pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    directions = 2 * torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    encoders = {
        "MELT": to_xyz,
        "SALT": lambda lonlat: torch.cos(to_xyz(lonlat) @ directions),
        "Baseline": lambda lonlat: torch.sin(lonlat / 30),
    }
    return explore(encoders, resolution=5, population=1_000_000)


def written(folder: Path, explorer: Explorer) -> Path:
    """The folder, with an explorer as a page of its own."""
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    (folder / "explorer.html").write_text(f"{head}<main>{explorer.html()}</main>", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory, explorer) -> Path:
    return written(tmp_path_factory.mktemp("alone"), explorer)


@pytest.fixture(scope="module")
def of_months() -> Explorer:
    """Two encoders; the second takes a month."""
    seasonal = LocationEncoder("xyz", "mlp", dim=16, time="month").eval()
    return explore({"MELT": to_xyz, "Seasonal": seasonal}, resolution=5, population=1_000_000)


@pytest.fixture(scope="module")
def with_months(tmp_path_factory, of_months) -> Path:
    return written(tmp_path_factory.mktemp("months"), of_months)


@pytest.fixture(scope="module", params=["alone", "book"])
def opened(request, open_page):
    """A function that opens the explorer."""
    folder, path = BOOK, "book/explorer.html"
    if request.param == "alone":
        folder, path = request.getfixturevalue("alone"), "explorer.html"
    elif not (folder / path).exists():
        pytest.skip("the built book has no explorer: run `make book`")
    return lambda **options: open_page(folder, path, **options)


@pytest.fixture
def page(opened):
    page = opened()
    page.wait_for_selector(".explorer:not([hidden]) tbody tr")
    yield page
    page.context.close()


def said(page) -> str:
    return page.locator(".explorer [aria-live=polite]").text_content()


def lists(page) -> list[list[list[str]]]:
    """The cells of every row of every list."""
    return page.evaluate(
        """[...document.querySelectorAll(".explorer tbody")].map((list) =>
            [...list.rows].map((row) => [...row.cells].map((cell) => cell.textContent)))"""
    )


def colours(page) -> list[str]:
    """A fingerprint of the pixels of every map."""
    return page.eval_on_selector_all(
        MAPS, "(maps) => maps.map((map) => map.toDataURL().slice(-4000))"
    )


def place(page) -> dict[str, float]:
    """A place in Africa on the first map, from the map's corner."""
    box = page.locator(MAPS).first.bounding_box()
    return {"x": ACROSS * box["width"], "y": DOWN * box["height"]}


def expect_new_places(before, page) -> None:
    for old, new in zip(before, lists(page), strict=True):
        assert new != old
        assert new[0][0] in said(page), "the nearest place is spoken"
        assert int(new[0][2].replace(",", "")) < 1500


def test_it_begins_with_a_place_in_three_encoders(page):
    assert len(lists(page)) == len(colours(page)) == 3
    for rows in lists(page):
        assert len(rows) == 8
        assert rows[0] == [NAIROBI, "1.00", "0"]
        similarity = [float(row[1].replace("−", "-")) for row in rows]
        assert similarity == sorted(similarity, reverse=True)
    assert said(page).startswith(NAIROBI)


def test_a_click_leads_to_the_nearest_places(page):
    before, drawn = lists(page), colours(page)
    page.locator(MAPS).first.click(position=place(page))
    expect_new_places(before, page)
    assert all(old != new for old, new in zip(drawn, colours(page), strict=True))


def test_the_keyboard_leads_to_the_nearest_places(page):
    before = lists(page)
    page.locator(".explorer-choice select").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Use your own points"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "application"
    page.keyboard.press("ArrowLeft")
    assert "1.3° S" in said(page)
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert lists(page) == before, "a cursor that moves chooses nothing"
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    chosen = lists(page)
    assert chosen != before
    page.keyboard.press("Shift+ArrowRight")
    assert said(page).startswith("Sea")
    page.keyboard.press("Enter")
    assert lists(page) == chosen, "nothing is chosen at sea"


def test_a_city_is_found_by_its_name(page):
    city = page.get_by_label("City")
    city.fill("lagos")
    city.press("Enter")
    assert [rows[0] for rows in lists(page)] == [[LAGOS, "1.00", "0"]] * 3
    assert said(page).startswith(LAGOS)
    city.fill("Atlantis")
    city.press("Enter")
    assert "Atlantis" in said(page)
    assert lists(page)[0][0][0] == LAGOS


def test_the_list_can_leave_out_what_is_near(page):
    page.locator(".explorer-choice select").select_option("5000")
    for rows in lists(page):
        assert len(rows) == 8
        assert min(int(row[2].replace(",", "")) for row in rows) >= 5000


def test_a_slider_changes_the_month_of_encoders_that_take_one(open_page, with_months, of_months):
    page = open_page(with_months, "explorer.html")
    slider = page.get_by_role("slider", name="Month", exact=True)
    assert slider.get_attribute("aria-valuetext") == "January"
    before, drawn = lists(page), colours(page)
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "July"
    assert page.locator("label", has=slider).inner_text().split() == ["Month", "July"]
    assert page.locator("figcaption").all_inner_texts() == ["MELT", "Seasonal in July"]
    assert "In Seasonal in July: " in said(page)
    assert [old == new for old, new in zip(drawn, colours(page), strict=True)] == [True, False]
    assert lists(page)[0] == before[0]
    cells = of_months.cells.find(torch.from_numpy(of_months.lonlat))
    nairobi = int(cells[of_months.cities.index("Nairobi")])
    similar = cosine(of_months.encoders["Seasonal"][6].codes, nairobi)
    best = np.sort(similar[np.unique(cells)])[::-1][:8]
    assert [row[1] for row in lists(page)[1]] == [f"{value:.2f}" for value in best]


def test_the_month_stays_when_another_place_is_chosen(open_page, with_months):
    page = open_page(with_months, "explorer.html")
    page.get_by_label("City").fill("lagos")
    page.keyboard.press("Enter")
    january = lists(page)
    page.get_by_role("slider").fill("7")
    july = lists(page)
    assert july[1] != january[1]
    page.get_by_label("City").fill("nairobi")
    page.keyboard.press("Enter")
    page.get_by_label("City").fill("lagos")
    page.keyboard.press("Enter")
    assert lists(page) == july


def test_the_slider_fits_a_phone(open_page, with_months):
    phone = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
    page = open_page(with_months, "explorer.html", **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.get_by_role("slider").bounding_box()
    assert box["width"] >= 100
    assert box["height"] >= 24, "a finger can hit it"
    before = lists(page)
    page.get_by_role("slider").tap(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert lists(page) != before


def test_there_is_no_slider_where_no_encoder_takes_a_month(open_page, alone):
    page = open_page(alone, "explorer.html")
    assert page.get_by_label("City").is_visible()
    assert not page.locator("[name=month]").is_visible()


def paste(page, text: str) -> str:
    """What is said when points are pasted and compared, all by keyboard."""
    page.locator(".explorer-own summary").focus()
    if not page.locator(".explorer textarea").is_visible():
        page.keyboard.press("Enter")
    page.locator(".explorer textarea").fill(text)
    page.locator(".explorer textarea").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    return said(page)


def test_ones_own_points_are_compared_by_their_mean(open_page, alone, explorer):
    page = open_page(alone, "explorer.html")
    points = [[36.8, -1.3], [36.8, -1.3], [13.4, 52.5], [-60.0, -3.1]]
    drawn = colours(page)
    heard = paste(page, "\n".join(["lon,lat", *(f"{lon},{lat}" for lon, lat in points)]))
    assert heard.startswith("4 of 4 rows read. Most like their mean in MELT: ")
    assert all(old != new for old, new in zip(drawn, colours(page), strict=True))
    cells = explorer.cells.find(torch.tensor(points))
    cities = explorer.cells.find(torch.from_numpy(explorer.lonlat))
    for shown, [kept] in zip(lists(page), explorer.encoders.values(), strict=True):
        unit = kept.codes / np.linalg.norm(kept.codes.astype(float), axis=1, keepdims=True)
        mean = unit[cells].mean(axis=0)
        similar = unit @ (mean / np.linalg.norm(mean))
        best = np.sort(similar[np.unique(cities)])[::-1][:8]
        assert [row[1] for row in shown] == [f"{value:.2f}" for value in best]
    assert page.get_by_role("img", name="the mean of 4 points").count() == 3


def test_one_point_is_like_its_city(page):
    before = [[row[1] for row in rows] for rows in lists(page)]
    lon, lat = page.evaluate(
        """JSON.parse(document.querySelector(".explorer-data").textContent)
            .cities.find((city) => city[0] === "Nairobi").slice(2)"""
    )
    paste(page, f'"Site";"Latitude (deg)";lon\r\n"a; b";{lat};{lon}\r\n')
    assert [[row[1] for row in rows] for rows in lists(page)] == before


def test_rows_that_are_left_out_are_counted(page):
    text = "lon\tlat\n36.8\t-1.3\n\t5\n13.4\tn/a\n-150\t-40\n36.8\t95\n396.8\t1\n"
    heard = paste(page, text)
    assert heard.startswith(
        "1 of 6 rows read, 2 without two numbers, 2 outside the range of degrees, "
        "1 at sea or in Antarctica left out. "
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no row: paste a header"),
        ("lon,lat", "no row: paste a header"),
        ("36.8 -1.3\n1 2", "“36.8 -1.3” has one column: separate"),
        ("lon,lat;site\n1,2;a", "“lon,lat;site” has several separators"),
        ("x,y\n1,2", "“x,y” has no column named lon or longitude"),
        ("lon,Longitude,lat\n1,2,3", "has several columns named lon or longitude"),
        ("lon;lat\n36,8;-1,3", "“36,8;-1,3” has numbers with a comma: write"),
        ("lon,lat\n36,8,-1,3", "“36,8,-1,3” has more columns than the header"),
        ("lon,lat\n-1.3,136.8\n52.5,13.4", "beyond 90 degrees (rows: 1): lon and lat look swapped"),
        ("lon,lat\n-150,-40", "0 of 1 rows read, 1 at sea"),
    ],
)
def test_points_that_could_be_misread_are_refused(page, text, why):
    before = lists(page)
    assert why in paste(page, text)
    assert lists(page) == before


def test_a_file_of_points_is_read_and_not_sent(page, tmp_path):
    (tmp_path / "sites.csv").write_text("\ufefflon,lat\n36.8,-1.3\n", encoding="utf-8")
    page.locator(".explorer-own summary").click()
    page.locator(".explorer input[type=file]").set_input_files(tmp_path / "sites.csv")
    page.wait_for_function(
        "document.querySelector('.explorer-said').textContent.startsWith('1 of 1 rows')"
    )


@pytest.mark.parametrize("width", [360, 390])
def test_a_tap_on_a_phone_does_the_same(opened, width):
    phone = {"viewport": {"width": width, "height": 780}, "has_touch": True, "is_mobile": True}
    page = opened(**phone)
    page.wait_for_selector(".explorer:not([hidden]) tbody tr")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lefts = {each.bounding_box()["x"] for each in page.locator(MAPS).all()}
    assert len(lefts) == 1, "the maps are stacked"
    before = lists(page)
    page.locator(MAPS).first.tap(position=place(page))
    expect_new_places(before, page)


def test_it_follows_dark_mode(page):
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    light = colours(page)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(
        "(light) => document.querySelector('.explorer canvas').toDataURL().slice(-4000) !== light",
        arg=light[0],
    )


def test_a_screen_reader_finds_maps_lists_and_controls(page):
    assert page.get_by_role("application", name="World maps").count() == 1
    assert page.locator(".explorer").get_by_role("status").count() == 1
    assert page.get_by_role("img", name=NAIROBI).count() == 3
    tables = page.get_by_role("table", name=NAIROBI)
    assert tables.count() == 3
    assert tables.get_by_role("columnheader").count() >= 9
    assert page.get_by_role("combobox", name="City").count() == 1


def test_a_picture_stands_in_where_no_script_runs(opened):
    page = opened(java_script_enabled=False)
    assert page.locator(".explorer-picture").bounding_box()["height"] > 50
    assert not page.locator(".explorer").is_visible()


def test_print_shows_the_maps_without_the_controls(page):
    page.emulate_media(media="print")
    assert not page.locator(".explorer-choice").is_visible()
    assert not page.locator(".explorer-own").is_visible()
    assert page.locator(MAPS).first.is_visible()
