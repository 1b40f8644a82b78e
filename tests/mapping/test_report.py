"""The report: one page that needs nothing else, and shows text of others as text."""

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import locties
from locties.evaluation.tasks import Task
from locties.mapping import LocationMap

pytestmark = pytest.mark.slow

NASTY = "temp [degC] ph [/] $x$ <b>&\x1b[31m"
SHOWN = r"temp [degC] ph [/] $x$ <b>&\x1b[31m"
CLASSES = ("<script>alert(1)</script>", "täiga $x$", "steppe [/]\x1b")
COMMAND = "locties map 'my points.csv' --target '<b>' --report r.html"
EUROPE = (5.0, 43.0, 15.0, 50.0)
OPTIONS = {
    "bounds": EUROPE,
    "resolution": 0.1,
    "sea": True,
    "command": COMMAND,
    "progress": False,
}


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._hidden = "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._hidden = tag == "style"

    def handle_data(self, data):
        self.text += "" if self._hidden else data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def task(kind: str) -> Task:
    rng = np.random.default_rng(0)
    lonlat = rng.uniform([6, 44], [14, 49], (60, 2))
    if kind == "regression":
        target = lonlat[:, 1] + rng.normal(size=60)
        return Task(NASTY, lonlat, target, unit="<i>°C</i>")
    target = np.digitize(lonlat[:, 1], [45.5, 47.5])
    return Task(NASTY, lonlat, target, kind, classes=CLASSES)


def fit(kind: str) -> LocationMap:
    encoder = locties.LocationEncoder("xyz", "linear", dim=3)
    return locties.fit_map(encoder, task(kind), progress=False)


@pytest.fixture(scope="module")
def measured(no_kriging_in_module) -> LocationMap:
    return fit("regression")


@pytest.fixture(scope="module", params=["regression", "classification"])
def fitted(request, measured) -> LocationMap:
    return measured if request.param == "regression" else fit("classification")


@pytest.fixture(scope="module", autouse=True)
def small_figures() -> Iterator[None]:
    """For speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("locties.mapping.report.DPI", 40)
        yield


@pytest.fixture(scope="module")
def report(fitted, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "r.html"
    assert fitted.report(path, **OPTIONS) == path
    assert sorted(file.name for file in path.parent.iterdir()) == ["r.html", "r.png"]
    return path


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def test_the_page_needs_no_other_file(report, page):
    outside = [attributes.get("href") for _, attributes in page.tags if "href" in attributes]
    assert outside
    assert all(re.fullmatch(r"https://doi\.org/10\.\d+/\S+", address) for address in outside)
    sources = [value for _, each in page.tags for key, value in each.items() if "src" in key]
    assert len(sources) == 8  # four figures, light and dark
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    css = re.search("<style>(.*)</style>", report.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert "url(" not in css
    assert "@import" not in css
    policies = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    forbidden = {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not forbidden & {tag for tag, _ in page.tags}


def test_those_who_do_not_see_it_are_told_too(page, fitted):
    alts = [each["alt"] for each in page.all("img")]
    assert len(set(alts)) == 4
    assert all(re.search(r"\d", alt) or "most of it" in alt for alt in alts)
    assert "°" in alts[0]
    assert page.all("html")[0]["lang"] == "en"
    assert [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)] == ["h1", *["h2"] * 3]
    regions = [each for each in page.all("div") if each.get("role") == "region"]
    assert [each["tabindex"] for each in regions] == ["0", "0"]
    assert all(each["aria-label"] for each in regions)


def test_text_of_others_is_text(report, page, fitted):
    assert SHOWN in page.text
    assert "\x1b" not in report.read_text(encoding="utf-8")
    assert COMMAND in page.text
    assert not page.all("i")
    if fitted.kind == "regression":
        assert "<i>°C</i>" in page.text
    else:
        assert r"most of it is steppe [/]\x1b." in page.all("img")[0]["alt"]


def test_what_the_map_says_of_itself_is_on_the_page(page, fitted):
    for line in fitted.summary().splitlines()[1:]:
        assert line in page.text
    for _, row in fitted.scores.iloc[:-1].iterrows():
        assert row["candidate"] in page.text
    assert f"{fitted.chosen} (chosen)" in page.text
    for measured in fitted.coverage["measured"]:
        assert f"{measured:.1%}" in page.text
    assert fitted.metadata["labels_sha256"] in page.text
    assert len(page.all("a")) >= 3
    for reference in fitted.cite:
        assert reference in page.text


def test_the_picture_beside_it_has_something_on_it(report):
    pixels = matplotlib.image.imread(io.BytesIO(report.with_suffix(".png").read_bytes()))
    height, width, _ = pixels.shape
    assert min(height, width) > 300
    for part in (pixels[: height // 2], pixels[height // 2 :]):
        for half in np.array_split(part, 2, axis=1):
            assert len(np.unique(half[::7, ::7].reshape(-1, half.shape[-1]), axis=0)) > 5


@pytest.mark.parametrize("fitted", ["regression"], indirect=True)
def test_the_same_map_gives_the_same_page(fitted, report, tmp_path):
    again = fitted.report(tmp_path / "again.html", **OPTIONS)
    for ending in (".html", ".png"):
        assert again.with_suffix(ending).read_bytes() == report.with_suffix(ending).read_bytes()


def test_labels_at_sea_are_named(measured, tmp_path, monkeypatch):
    monkeypatch.setattr("locties.mapping.output.is_land", lambda lonlat: lonlat[:, 1] > 46)
    monkeypatch.setattr("locties.mapping.report._png", lambda *_: b"")  # which takes most time
    path = measured.report(tmp_path / "r.html", bounds=EUROPE, resolution=0.5, progress=False)
    wet = int((measured.task.lonlat[:, 1] <= 46).sum())
    assert f"{wet} of 60 labels lie in the sea" in Page(path.read_text(encoding="utf-8")).text


def test_another_ending_is_refused_before_any_work(measured, tmp_path):
    with pytest.raises(ValueError, match=r"r\.pdf.*\.html"):
        measured.report(tmp_path / "r.pdf")
    assert not list(tmp_path.iterdir())
