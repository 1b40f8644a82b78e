"""The book on paper: what is printed, in what order, and where its links lead."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

from locties_paper.site import downloads, pdf

SINGLE = """<html><head><title>book</title><script src="nav.js"></script>
<script src="_static/mathjax/tex.js"></script></head><body><nav>menu</nav>
<article class="bd-article"><section id="book"><h1>book<a class="headerlink" href="#book">#</a></h1>
<p><a class="reference" href="book/introduction.html#id2">Hecht</a> and
<a href="#document-book/data">the data</a>, <a href="https://example.org/a.html#x">elsewhere</a>,
<a href="_downloads/runs.csv">table</a></p>
<div class="toctree-wrapper"><p class="caption">x</p>
<span id="document-book/data"></span><section id="the-data"><h2>The "data"</h2>
<section id="in-numbers"><h3>In numbers</h3></section>
<details class="hide above-input"><summary>Show</summary>unseen</details><figure>map</figure>
</section><span id="document-book/end"></span><section id="bibliography"><h2>Bibliography</h2>
<section id="in-numbers"><h3>In numbers</h3></section>
<div class="citation" id="id2">Hecht et al.</div></section></div></section></article></body>
</html>"""


@pytest.fixture
def page() -> BeautifulSoup:
    return BeautifulSoup(pdf.printable(SINGLE, {"the-data": 7}), "html.parser")


def test_the_article_alone_is_printed_after_its_contents(page):
    assert [tag.name for tag in page.body.find_all(recursive=False)] == [
        "section",
        "nav",
        "article",
    ]
    assert "menu" not in page.get_text()
    chapters = [item.a.get_text() for item in page.select("nav li")]
    assert chapters == ["Introduction", 'The "data"', "Bibliography"]
    assert page.select("nav li .page")[1].get_text() == "7"


def test_every_link_leads_to_one_place_inside(page):
    ids = [tag["id"] for tag in page.select("[id]")]
    assert len(ids) == len(set(ids)), "an id stands twice"
    inside = [link["href"] for link in page.select("a[href]") if link["href"][0] == "#"]
    assert {href[1:] for href in inside} <= set(ids)
    assert page.find("a", string="Hecht")["href"] == "#entry-id2"
    assert not page.find("a", string="table").has_attr("href"), "no file of this machine"
    assert page.find("a", string="elsewhere")["href"] == "https://example.org/a.html#x"


def test_equations_are_set_and_folded_code_is_left_out(page):
    assert [script["src"] for script in page.find_all("script")] == ["_static/mathjax/tex.js"]
    assert "unseen" not in page.get_text()
    assert page.figure.get_text() == "map"


def test_each_chapter_has_its_running_header_and_no_page_between(page):
    style = page.find_all("style")[-1].string
    headers = re.findall(r'content: "(.*)" } }', style.replace("@page", "\n@page"))
    assert headers == ["Introduction", r"The \"data\"", "Bibliography"]
    for chapter in page.select("section[style]"):
        number = re.search(r"chapter-\d+", chapter["style"])[0]
        assert f"@page {number} " in style
    for mark in page.select("[id^=document-]"):
        assert mark.parent.name == "section"
        assert mark.parent["style"].startswith("page: chapter-")


def test_a_machine_without_chromium_is_told_so_in_one_line(tmp_path):
    code = "from locties_paper.site import pdf; pdf.browser()"
    env = os.environ | {"PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "install it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_site_links_to_it_once_it_is_there(tmp_path):
    site, paper = tmp_path / "html", tmp_path / "locties.pdf"
    (site / "book").mkdir(parents=True)
    paper.write_bytes(b"%PDF")
    page = site / "book" / "downloads.html"
    downloads.write([], tmp_path / "book")
    page.write_text((tmp_path / "book" / "downloads.md").read_text())
    assert not BeautifulSoup(page.read_text(), "html.parser").find("a"), (
        "no link to what is not there"
    )
    for _ in range(2):  # `make pdf` again changes nothing
        pdf.link(paper, site)
        (found,) = BeautifulSoup(page.read_text(), "html.parser").find_all("a")
        assert found.get_text() == "The whole book as one PDF"
        assert (page.parent / found["href"]).resolve().read_bytes() == b"%PDF"
    page.write_text("no word of it")
    with pytest.raises(ValueError, match="does not name the PDF"):
        pdf.link(paper, site)


@pytest.mark.skipif(not any(map(shutil.which, pdf.BROWSERS)), reason="no Chromium here")
def test_chromium_prints_it(tmp_path):
    single = tmp_path / "singlehtml" / "book" / "introduction.html"
    single.parent.mkdir(parents=True)
    single.write_text(SINGLE)
    pdf.write(single, tmp_path / "book.pdf")
    content = (tmp_path / "book.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", content)) == 4, "no style here: title and contents"
    numbers = pdf.page_numbers(content)
    assert [numbers[name] for name in ("book", "the-data", "bibliography")] == [2, 3, 4]
    printed = BeautifulSoup((single.parents[1] / "print.html").read_text(), "html.parser")
    assert [tag.get_text() for tag in printed.select("nav .page")] == ["2", "3", "4"]
    assert b"/Outlines" in content
    assert not list(tmp_path.glob("*.part.pdf"))
