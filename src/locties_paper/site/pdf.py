"""The book as one PDF: Sphinx's single page of all chapters, printed by a headless Chromium.

``make pdf`` runs it. Of the page only the article is kept, with a title and contents before it; how
it looks on paper is said in ``book/_static/locties.css``.
"""

import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

import locties

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TITLE = "Location encoders tied to several unpaired modalities"
NAMED = re.compile(r'<(?:span|a) class="book-pdf"[^>]*>(.*?)</(?:span|a)>')
SUBTITLE = "MELT, SALT and two-modality baselines: a paper that can be run again"


def browser() -> str:
    """The path of a Chromium on this machine; without one the program ends with what to do."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    sys.exit("the PDF is printed by Chromium, which is not on this machine: install it, then again")


def printable(single: str, pages: Mapping[str, int]) -> str:
    """Turn Sphinx's single page into one that prints: title, contents, chapters.

    Args:
        single: HTML of the page that the builder ``singlehtml`` made.
        pages: by id of a chapter, the page that it begins on, for the contents.

    Returns:
        HTML with the same relative addresses. Every chapter has a page style of its own, whose
        running header is its title.
    """
    page: Any = BeautifulSoup(single, "html.parser")
    article = page.find("article", class_="bd-article")
    root = article.find("section")
    _mend_links(article)
    for script in page.find_all("script"):
        if "mathjax" not in str(script).lower():
            script.decompose()
    for toggle in article.select("a.headerlink, details.hide.above-input, .toctree-wrapper > p"):
        toggle.decompose()

    root.find("h1").string = "Introduction"
    documents = []
    for mark in article.select("[id^=document-]"):
        documents.append(mark.find_next_sibling("section"))
        documents[-1].insert(0, mark)  # between two chapters it would fill a page of its own
    contents, styles = [], []
    for i, chapter in enumerate([root, *documents]):
        title = _title(chapter).replace('"', r"\"")
        chapter["style"] = f"page: chapter-{i}"
        styles.append(f'@page chapter-{i} {{ @top-right {{ content: "{title}" }} }}')
        nested = chapter is not root and chapter.find_parent("section") is not root
        number = pages.get(chapter["id"], 0)
        contents.append(f'<li class="{"nested" if nested else "chapter"}">{_link(chapter)}')
        contents.append(f'<span class="page">{number}</span>')
        sections = [s for s in chapter.find_all("section", recursive=False) if s not in documents]
        contents.append(f"<p>{' · '.join(map(_link, sections))}</p></li>")
    front = f"""
        <section class="title-page"><h1>{TITLE}</h1><p>{SUBTITLE}</p>
        <p>the locties authors · version {locties.__version__}</p>
        <p class="note">Code that the web pages keep folded away is left out here.</p></section>
        <nav class="book-contents"><h1>Contents</h1><ol>{"".join(contents)}</ol></nav>"""
    page.head.append(BeautifulSoup(f"<style>{' '.join(styles)}</style>", "html.parser"))
    page.html["data-theme"] = page.html["data-mode"] = "light"
    page.body.clear()
    page.body["class"] = "printed"
    page.body.append(BeautifulSoup(front, "html.parser"))
    page.body.append(article)
    return str(page)


def _title(section: Any) -> str:
    return section.find(["h1", "h2", "h3", "h4"]).get_text()


def _link(section: Any) -> str:
    return f'<a href="#{section["id"]}">{html.escape(_title(section))}</a>'


def _mend_links(article: Any) -> None:
    """Let links inside the book lead to one place each.

    Sphinx's single page repeats the numbered ids of its documents, and citations give a file's name
    before the fragment: within a PDF, that would lead to another file.
    """
    for entry in article.select(".citation[id]"):
        entry["id"] = f"entry-{entry['id']}"
    seen: set[str] = set()
    for section in article.find_all("section"):
        if section["id"] in seen:
            section["id"] = f"{section['id']}-{len(seen)}"
        seen.add(section["id"])
    entries = {entry["id"] for entry in article.select(".citation[id]")}
    for link in article.select("a[href*='.html#']"):
        fragment = link["href"].partition("#")[2]
        if not link["href"].startswith("http"):
            cited = f"entry-{fragment}"
            link["href"] = f"#{cited if cited in entries else fragment}"
    for link in article.find_all("a", href=True):
        if not link["href"].startswith(("#", "http", "mailto:")):
            del link["href"]  # a file beside the page, which on another machine is not there


def page_numbers(pdf: bytes) -> dict[str, int]:
    """The page, from 1, on which each named place of a PDF of Chromium's lies.

    Chromium writes pages in their order, and named places as plain text.
    """
    order = [int(number) for number in re.findall(rb"\n(\d+) 0 obj\n<</Type /Page\n", pdf)]
    places = re.findall(rb"/(\S+) \[(\d+) 0 R /XYZ", pdf)
    return {name.decode(): order.index(int(on)) + 1 for name, on in places if int(on) in order}


def _print(page: Path, content: str, to: Path) -> None:
    page.write_text(content)
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--no-pdf-header-footer", "--generate-pdf-document-outline"),
            "--virtual-time-budget=120000",  # equations are set by a script
            "--host-resolver-rules=MAP * ~NOTFOUND",  # the book is whole without a network
            f"--user-data-dir={profile}",
            f"--print-to-pdf={to}",
            page.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=600)


def write(single: Path, to: Path) -> None:
    """Print Sphinx's single page to a PDF, which appears whole or not at all.

    Args:
        single: what the builder ``singlehtml`` made of the root document, below its folder.
        to: the PDF.
    """
    folder = single.parents[1]  # the addresses in it are relative to this one
    page = folder / "print.html"
    aside = to.with_suffix(".part.pdf")
    _print(page, printable(single.read_text(), {}), aside)
    # No browser knows page numbers in a table of contents, so they are read from a first print.
    _print(page, printable(single.read_text(), page_numbers(aside.read_bytes())), aside)
    aside.rename(to)


def link(pdf: Path, site: Path) -> None:
    """Copy the PDF beside the pages of the built book, and link to it where they speak of it.

    The pages are built before the PDF, and a book without one has no link that leads nowhere.

    Args:
        pdf: the PDF.
        site: the folder of the built book, whose page of downloads names the PDF.

    Raises:
        ValueError: it does not.
    """
    page = site / "book" / "downloads.html"
    linked = rf'<a class="book-pdf" href="../{pdf.name}">\1</a>'
    text, found = NAMED.subn(linked, page.read_text("utf-8"))
    if not found:
        raise ValueError(f"{page} does not name the PDF: build the book again with `make book`")
    shutil.copy(pdf, site)
    page.write_text(text, "utf-8")


if __name__ == "__main__":  # python -m locties_paper.site.pdf SINGLE_PAGE PDF
    write(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
