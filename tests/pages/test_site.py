"""The built book in a browser that reaches no host but this one: `make check` runs it."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from browser import Page

from locties_paper.site.notebook import REPOSITORY

HTML = REPOSITORY / "_build" / "html"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.glob("book/*.html"))
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
CHATTER = r"\[PST\]|\[togglebutton\]"  # what the theme's scripts always say of themselves
pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


def test_the_book_is_built():
    assert len(PAGES) >= 8, "run `make book` first"


@pytest.fixture(scope="module")
def address():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def visit(address, tmp_path_factory):
    """Page -> (its DOM after scripts have run, what the browser wrote to its console)."""

    @functools.cache
    def visit(page: str) -> tuple[str, str]:
        profile = tmp_path_factory.mktemp("profile")
        command = [
            BROWSER,
            *["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"],
            *["--disable-background-networking", "--disable-component-update"],
            "--disable-quic",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            f"--user-data-dir={profile}",
            "--dump-dom",
            f"{address}/{page}",
        ]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        said = re.findall(r"CONSOLE.*", ran.stderr)
        return ran.stdout, "\n".join(line for line in said if not re.search(CHATTER, line))

    return visit


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_without_a_network(visit, page):
    dom, console = visit(page)
    assert "<h1>" in dom
    assert not console, f"the console of {page} says: {console}"
    loaded = re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"(https?://[^\"]+)", dom)
    other = [url for url in loaded if not url.startswith("http://127.0.0.1")]
    assert not other, f"{page} loads from other hosts: {other}"


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_has_alt_text(visit, page):
    pictures = re.findall(r"<img [^>]+>", visit(page)[0])
    for picture in pictures:
        alt = re.search(r'alt="([^"]*)"', picture)
        assert alt, f"no alt text: {picture[:120]}"
        assert not alt[1].startswith("../_images"), f"alt text is a file name: {picture[:120]}"


def test_equations_render(visit):
    dom, _ = visit("book/method.html")
    assert dom.count("<mjx-container") > 5
    assert "\\frac" not in re.sub(r"<script.*?</script>|<mjx-assistive-mml.*?</mjx", "", dom)


def test_glued_numbers_are_there(visit):
    for page in PAGES:
        assert "glue:text" not in visit(page)[0], f"an unresolved glued number in {page}"


def test_every_link_inside_the_book_leads_somewhere(visit):
    for page in PAGES:
        for link in re.findall(r'<a [^>]*href="([^"#?]+)', visit(page)[0]):
            if not re.match(r"https?:|mailto:|javascript:|data:", link):
                target = (HTML / Path(page).parent / link).resolve()
                assert target.exists(), f"{page} links to {link}"


def test_no_page_slides_sideways_on_a_phone(address, tmp_path):
    phone, wide = Page(tmp_path), []
    for page in PAGES:
        phone.open(f"{address}/{page}", width=390, height=780, touch=True)
        if phone.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(page)
    phone.close()
    assert not wide


def test_code_can_be_copied(visit):
    """Buttons are put there by a script, one for each block of code that shows."""
    for page in ("book/introduction.html", "book/api_encoders.html"):
        assert visit(page)[0].count('class="copybtn') >= 2, page


def test_the_reference_shows_what_can_be_called(visit):
    dom, _ = visit("book/api_encoders.html")
    text = re.sub(r"<[^>]+>", "", dom)
    assert "locties.LocationEncoder(" in text
    assert "torch.Size([2, 4])" in text, "its example"
    for heading in ("Parameters", "Returns", "Raises"):
        assert heading in text


def test_every_published_table_can_be_downloaded(visit):
    dom, _ = visit("book/downloads.html")
    links = re.findall(r'class="reference download internal"[^>]* href="([^"]+)"', dom)
    names = {Path(link).name for link in links}
    assert {"runs.csv", "runs.parquet", "claims.csv", "benchmarks.parquet"} <= names
    for link in links:
        assert (HTML / "book" / link).resolve().stat().st_size > 100


def test_every_table_has_a_link_to_its_csv(visit):
    dom, _ = visit("book/results.html")
    tables = dom.count("<table")
    assert tables >= 8
    assert dom.count('class="table-csv"') == tables


def test_figures_lie_on_white_in_dark_mode(address, tmp_path):
    """Their ink is black, and a filter would change colours that stand for numbers."""
    styles = """[...document.querySelectorAll('.bd-content img:not(.only-dark, .dark-light)')]
        .map((image) => getComputedStyle(image))
        .map((style) => `${style.backgroundColor}, ${style.filter}`)"""
    dark, kinds = Page(tmp_path), set()
    for page in ("book/maps.html", "book/tour.html", "book/method.html"):
        dark.open(f"{address}/{page}")
        dark.evaluate("document.documentElement.dataset.theme = 'dark'")
        found = dark.evaluate(styles)
        assert found, f"no figure in {page}"
        kinds |= set(found)
    dark.close()
    assert kinds == {"rgb(255, 255, 255), none"}


def test_parameters_are_shown_to_those_who_run_it_again_alone(address, tmp_path):
    shown = """[...document.querySelectorAll('.bd-article .cell')]
        .filter((cell) => cell.checkVisibility())"""
    browser = Page(tmp_path)
    for page, told in (("pretrain", True), ("use", False)):
        browser.open(f"{address}/book/{page}.html")
        text = browser.evaluate(f"{shown}.map((cell) => cell.textContent).join()")
        assert ("seed =" in text) is told, page
        assert ("notebook.parameters(In" in text) is told, page
    browser.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = Page(tmp_path_factory.mktemp("used"))
    yield page
    page.close()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_used_by_keyboard_and_mouse(browser, address, page):
    browser.open(f"{address}/{page}", width=1400)
    focused = "document.activeElement"
    browser.press("Tab")
    assert "main content" in browser.evaluate(f"{focused}.textContent")
    browser.press("Enter")
    assert browser.evaluate("location.hash") == "#main-content"
    seen = f"getComputedStyle({focused}).outlineStyle"
    for _ in range(5):
        browser.press("Tab")
        assert browser.evaluate(f"{focused} !== document.body"), "focus goes on from there"
        where = browser.evaluate(f"{focused}.outerHTML.slice(0, 80)")
        assert browser.evaluate(seen) != "none", f"one sees that the keyboard is on {where}"

    theme = "document.documentElement.dataset.mode"
    before = browser.evaluate(theme)
    browser.click(".theme-switch-button")
    assert browser.evaluate(theme) != before

    code = "document.querySelector('details.hide')"
    if browser.evaluate(f"Boolean({code})"):
        browser.click("details.hide summary")
        assert browser.evaluate(f"{code}.open"), "the mouse opens folded code"
        browser.evaluate(f"{code}.querySelector('summary').focus()")
        browser.press("Enter")
        assert not browser.evaluate(f"{code}.open"), "the keyboard closes it"


def test_a_word_is_searched_for(browser, address):
    browser.open(f"{address}/book/introduction.html", width=1400)
    browser.click(".search-button-field")
    browser.wait("document.activeElement.type === 'search'")
    browser.type("forgetting")
    browser.press("Enter")
    browser.wait("location.pathname.endsWith('search.html')")
    browser.wait("document.querySelectorAll('#search-results li a').length > 0")
    found = browser.evaluate("document.querySelector('#search-results').textContent")
    assert "claims" in found
