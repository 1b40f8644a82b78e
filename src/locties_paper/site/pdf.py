"""Print the book as one PDF: a headless Chromium prints Sphinx's single page of all chapters.

``make pdf`` runs it. ``print.js`` prepares the page; ``book/_static/locties.css`` styles it.
"""

import io
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader

import locties

TITLE = "Location encoders tied to several unpaired modalities"
SUBTITLE = "MELT, SALT and two-modality baselines: a paper that can be run again"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM_OPTIONS = ["--no-sandbox", "--disable-gpu"]
# The page that lists all files, its text about the PDF, and the link that replaces this text.
PAGE = "reproducibility.html"
MENTION = "The whole book as one PDF"
LINK = f'<a href="../locties.pdf">{MENTION}</a>'


def find_chromium() -> str | None:
    """The path of a Chromium on this machine, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def require_chromium() -> str:
    """The path of a Chromium. Without one, the program ends and says what to install."""
    return find_chromium() or sys.exit(
        f"make pdf needs Chromium or Chrome, but none of {', '.join(CHROMIUM)} is on PATH: "
        "install it (on Debian: apt-get install chromium)"
    )


def write(single: Path, to: Path) -> None:
    """Print Sphinx's single page of the book to a PDF with an outline and tags for screen readers.

    `single` comes from the builder ``singlehtml``; its addresses are relative to the folder above
    its own.
    """
    script = Path(__file__).with_name("print.js").read_text("utf-8")
    copy = single.resolve().parents[1] / "print.html"
    shutil.copy(single, copy)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require_chromium(), args=CHROMIUM_OPTIONS
        )
        page = browser.new_page()
        page.route("http**", lambda route: route.abort())  # the book needs no network
        page.goto(copy.as_uri())
        page.evaluate("window.MathJax?.startup?.promise")  # wait until equations are set
        page.evaluate(
            script, {"title": TITLE, "subtitle": SUBTITLE, "version": locties.__version__}
        )
        # Page numbers are known only after printing, so read them from a first PDF.
        page.evaluate(
            """(pages) => document.querySelectorAll(".book-contents li").forEach((item) => {
                const id = item.querySelector("a").getAttribute("href").slice(1);
                item.querySelector(".page").textContent = pages[id];
            })""",
            page_numbers(_print(page)),
        )
        to.write_bytes(_print(page))
        browser.close()


def _print(page: Page) -> bytes:
    return page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def page_numbers(pdf: bytes) -> dict[str, int]:
    """The page, from 1, of each named destination of a PDF."""
    reader = PdfReader(io.BytesIO(pdf))
    found = {}
    for name, place in reader.named_destinations.items():
        if (index := reader.get_destination_page_number(place)) is not None:
            found[name.removeprefix("/")] = index + 1
    return found


def link(pdf: Path, site: Path) -> None:
    """Copy the PDF beside the pages of the built book, and link to it from `PAGE`.

    Pages are built before the PDF, so a book without ``make pdf`` has no dead link.
    """
    page = site / "book" / PAGE
    text = page.read_text("utf-8")
    if MENTION not in text:
        raise ValueError(f"{page} does not say {MENTION!r}: build the book again with `make book`")
    shutil.copy(pdf, site)
    if LINK not in text:
        page.write_text(text.replace(MENTION, LINK), "utf-8")


if __name__ == "__main__":  # python -m locties_paper.site.pdf SINGLE_PAGE SITE PDF
    single, site, pdf = map(Path, sys.argv[1:])
    write(single, pdf)
    link(pdf, site)
