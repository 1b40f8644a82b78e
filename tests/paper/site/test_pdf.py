"""The book on paper: what is printed, in what order, and where its links lead."""

import pytest
from pypdf import PdfReader

from locties_paper.site import pdf
from locties_paper.site.notebook import REPOSITORY

SINGLE = """<html><head><title>book</title></head><body><nav>menu</nav>
<article class="bd-article"><section id="book"><h1>book<a class="headerlink" href="#book">#</a></h1>
<p><a class="reference" href="book/introduction.html#id2">Hecht</a> and
<a href="#document-book/data">the data</a>, <a href="https://example.org/a.html#x">elsewhere</a>,
<a href="_downloads/runs.csv">table</a></p>
<div class="toctree-wrapper"><p class="caption">x</p>
<span id="document-book/data"></span><section id="the-data" style="break-before: page">
<h2>The "data"</h2><section id="in-numbers"><h3>In numbers</h3></section>
<details class="hide above-input"><summary>Show</summary>folded</details><figure>map</figure>
</section><span id="document-book/end"></span><section id="bibliography"><h2>Bibliography</h2>
<section id="in-numbers"><h3>Numbers of books</h3></section>
<p id="id2">not this</p><div class="citation" id="id2">Hecht et al.</div></section></div></section>
</article></body></html>"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> PdfReader:
    if pdf.find_chromium() is None:
        pytest.skip("no Chromium on this machine")
    single = tmp_path_factory.mktemp("singlehtml") / "book" / "introduction.html"
    single.parent.mkdir()
    single.write_text(SINGLE)
    pdf.write(single, single.with_name("book.pdf"))
    return PdfReader(single.with_name("book.pdf"))


def links(printed: PdfReader) -> list[str]:
    """The targets of all links, in order: a named place or an address."""
    notes = [note.get_object() for page in printed.pages for note in page.get("/Annots", [])]
    return [str(note.get("/Dest") or note["/A"]["/URI"]).removeprefix("/") for note in notes]


def test_chapters_follow_the_title_and_contents_with_their_pages(printed):
    title, introduction, data, end = (page.extract_text() for page in printed.pages)
    assert pdf.SUBTITLE in title
    contents = title[title.index("Contents") :].splitlines()
    assert [line for line in contents if line[-1].isdigit()] == [
        "1. Introduction2",
        '2. The "data"3',
        "3. Bibliography4",
    ]
    assert introduction.startswith("Introduction")
    assert data.startswith("The")
    assert "Hecht et al." in end
    assert "menu" not in title + introduction


def test_folded_code_is_left_out(printed):
    text = printed.pages[2].extract_text()
    assert "map" in text
    assert "folded" not in text


def test_every_link_leads_to_one_place_inside(printed):
    targets = links(printed)
    assert "https://example.org/a.html#x" in targets
    assert "entry-id2" in targets, "the citation, not another chapter's place of that name"
    assert not any("runs.csv" in target for target in targets), "no file of this machine"
    inside = {target for target in targets if not target.startswith("http")}
    assert inside <= {name.removeprefix("/") for name in printed.named_destinations}


def test_the_site_links_to_it_once_it_is_there(tmp_path):
    site, paper = tmp_path / "html", tmp_path / "locties.pdf"
    (site / "book").mkdir(parents=True)
    paper.write_bytes(b"%PDF")
    page = site / "book" / pdf.PAGE
    page.write_text((REPOSITORY / "book" / "reproducibility.ipynb").read_text("utf-8"))
    assert "<a" not in page.read_text(), "no link to what is not there"
    for _ in range(2):  # `make pdf` again changes nothing
        pdf.link(paper, site)
        assert page.read_text().count("<a") == 1
        assert f'href="../{paper.name}"' in page.read_text()
        assert (site / paper.name).read_bytes() == b"%PDF"
    page.write_text("no word of it")
    with pytest.raises(ValueError, match=r"reproducibility\.html.*make book"):
        pdf.link(paper, site)
