"""The built book in a browser that reaches no host: `make check` runs it."""

import functools
import re
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pandas as pd
import pytest

from locties_paper.site.notebook import REPOSITORY

BOOK = REPOSITORY / "_build" / "html"
PAGES = sorted(path.relative_to(BOOK).as_posix() for path in BOOK.glob("book/*.html"))
pytestmark = pytest.mark.site

# Colours that are just changed would be read on their way.
FINISH_TRANSITIONS = (
    "document.getAnimations().forEach((each) => each instanceof CSSTransition && each.finish())"
)

# Contrast of every text and icon with the ground behind it, by the WCAG's formula.
CONTRASTS = """(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const luminance = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
        }
        const [r, g, b] = Array.from(canvas.getImageData(0, 0, 1, 1).data.slice(0, 3), (value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const inked = [...document.querySelectorAll(":is(a, button, label, summary) svg")];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        const drawn = element.closest("svg, mjx-container, script, noscript, style");
        if (texts.currentNode.data.trim() && !drawn) inked.push(element);
    }
    return inked.filter((element) => element.checkVisibility()).map((element) => {
        const grounds = [];
        for (let e = element; e; e = e.parentElement) {
            grounds.unshift(getComputedStyle(e).backgroundColor);
        }
        const ground = luminance(grounds);
        const ink = luminance([...grounds, getComputedStyle(element).color]);
        const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
        return [contrast, element.outerHTML.slice(0, 100)];
    });
})()"""


@functools.cache
def anchors(path: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', path.read_text("utf-8")))


def test_the_book_is_built():
    assert len(PAGES) >= 8, "run `make book` first"


@pytest.fixture(scope="module", params=PAGES)
def page(request, open_page):
    """Each page of the book; a test leaves it as it found it."""
    page = open_page(BOOK, request.param)
    yield page
    page.context.close()


def test_a_page_is_whole(page):
    assert page.locator("article h1").first.is_visible()
    assert "glue:text" not in page.content(), "an unresolved glued number"
    page.wait_for_function(
        """[...document.querySelectorAll(".math")].every(
            (equation) => equation.querySelector("mjx-container"))"""
    )
    assert page.locator("mjx-merror").count() == 0
    for image in page.locator("article img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("(image) => image.decode().then(() => image.naturalWidth)")


def test_every_image_has_alt_text(page):
    for alt in page.eval_on_selector_all("img", "(all) => all.map((image) => image.alt)"):
        assert alt
        assert "_images/" not in alt, "a file name"


def test_every_link_inside_the_book_leads_somewhere(page):
    host = page.evaluate("location.origin + '/'")
    for link in page.eval_on_selector_all("a[href]", "(all) => all.map((a) => a.href)"):
        if link.startswith(host):
            url, fragment = urldefrag(link)
            file = BOOK / unquote(url.removeprefix(host)).partition("?")[0]
            assert file.is_file(), link
            assert not fragment or unquote(fragment) in anchors(file), link


def test_no_page_slides_sideways(page):
    found = {}
    for width in (390, 1100):  # a phone, and a window too narrow for the list of contents
        page.set_viewport_size({"width": width, "height": 780})
        found[width] = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1200, "height": 1000})
    assert all(content <= width for width, content in found.items()), found


def test_dark_mode_is_readable(page):
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.evaluate(FINISH_TRANSITIONS)
    contrasts = page.evaluate(CONTRASTS)
    figures = page.eval_on_selector_all(
        ".bd-content img:not(.only-dark, .dark-light)",
        "(all) => all.map(getComputedStyle).map((style) => [style.backgroundColor, style.filter])",
    )
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    assert any("fa-download" in where for _, where in contrasts)
    assert not [where for contrast, where in contrasts if contrast < 3]
    # Figures have black ink, and a filter would change colours that stand for numbers.
    assert all(style == ["rgb(255, 255, 255)", "none"] for style in figures)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_keeps_the_rules_of_accessibility(page, theme):
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.evaluate(FINISH_TRANSITIONS)
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    # A cell coloured by a middle value has a ground on which no ink has the contrast of the rule.
    # axe's preload asks for style sheets over the network.
    options = "{ resultTypes: ['violations'], preload: false }"
    found = page.evaluate(f"axe.run({{ exclude: ['table[id^=T_] td'] }}, {options})")["violations"]
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    assert not [
        (rule["id"], node["html"][:100], node["failureSummary"])
        for rule in found
        for node in rule["nodes"]
    ]


def test_a_page_is_used_by_keyboard(page):
    focused = "document.activeElement"
    page.evaluate("window.scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert "main content" in page.evaluate(f"{focused}.textContent")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url.endswith("#main-content"))
    for _ in range(5):
        page.keyboard.press("Tab")
        where = page.evaluate(f"{focused}.outerHTML.slice(0, 80)")
        assert page.evaluate(f"{focused} !== document.body"), "the focus goes on from there"
        style = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
        assert style != "none", f"no outline shows that the keyboard is on {where}"

    mode = page.locator("html").get_attribute("data-mode")
    page.locator(".theme-switch-button:visible").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("(mode) => document.documentElement.dataset.mode !== mode", arg=mode)

    folded = page.locator("details.hide")
    if folded.count():
        for state in (True, False):
            folded.first.locator("summary").first.focus()
            page.keyboard.press("Enter")
            handle = folded.first.element_handle()
            page.wait_for_function("([all, open]) => all.open === open", arg=[handle, state])


def test_a_table_is_saved_by_keyboard(open_page):
    page = open_page(BOOK, "book/tasks.html")
    links = page.locator("a.table-csv")
    assert links.count() == page.locator("article table").count() >= 4
    with page.expect_download() as saved:
        links.first.focus()
        page.keyboard.press("Enter")
    assert saved.value.suggested_filename == "tasks-1.csv"
    shown = page.locator("article table tbody tr").first.locator("td").last.inner_text()
    assert shown in saved.value.path().read_text("utf-8")


def test_code_is_copied_without_its_prompts(open_page):
    page = open_page(BOOK, "book/api.html", permissions=["clipboard-read", "clipboard-write"])
    example = page.locator(".highlight-pycon, .highlight-python, .highlight-default").filter(
        has_text="load("
    )
    example.first.hover()
    example.first.locator(".copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "load(" in copied
    assert ">>>" not in copied


def test_the_reference_shows_what_can_be_called(open_page):
    text = open_page(BOOK, "book/api.html").locator("article").inner_text()
    assert "locties.LocationEncoder(" in text
    assert "Parameters" in text
    assert "Returns" in text


def test_every_published_table_can_be_downloaded(open_page):
    page = open_page(BOOK, "book/reproducibility.html")
    links = page.locator("a.download")
    files = [BOOK / "book" / link.get_attribute("href") for link in links.all()]
    tables = {path.stem for path in (REPOSITORY / "results").glob("*.parquet")}
    assert tables <= {file.name.partition(".")[0] for file in files}
    for file in files:
        read = pd.read_parquet if file.suffix == ".parquet" else pd.read_csv
        assert len(read(file)), file.name


@pytest.mark.parametrize(("page", "shown"), [("pretrain", True), ("use", False)])
def test_parameters_are_shown_only_to_those_who_run_it_again(open_page, page, shown):
    cells = open_page(BOOK, f"book/{page}.html").locator("article .cell").filter(visible=True)
    text = "".join(cells.all_inner_texts())
    assert ("seed =" in text) is shown
    assert ("notebook.parameters(In" in text) is shown


def test_a_word_is_searched_for(open_page):
    page = open_page(BOOK, "book/introduction.html")
    page.locator(".search-button-field:visible").first.click()
    page.keyboard.type("eigenproblem")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?*")
    results = page.locator("#search-results li a")
    results.first.wait_for()
    assert any("erasure" in link.get_attribute("href") for link in results.all())
