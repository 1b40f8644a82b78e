"""The book for archives: its Markdown, and the files beside it."""

import re
from zipfile import ZipFile

import pytest

from locties_paper.site import archive

PAGE = """<html><body><nav>menu</nav><article class="bd-article"><h1>Title<a class="headerlink"
href="#title">#</a></h1><p>It gains <span class="pasted-text">+0.02</span> with
<span class="math notranslate">\\(a_1 * b_2\\)</span>, see <a href="data.html#x" title="t">data</a>
and <a href="https://example.org/a.html">elsewhere</a>.</p>
<div class="math notranslate"><span class="eqno">(1)</span>\\[x_1\\]</div>
<details><summary>Show code</summary><div class="highlight-ipython3"><pre>1 + 1
</pre></div></details>
<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>
<img src="../_images/1.png" alt="A map."><img src="data:image/png;base64,AAAA" alt="Inside.">
<script>run()</script></article></body></html>"""


@pytest.fixture
def zipped(tmp_path):
    site = tmp_path / "html"
    for name, content in {
        "book/page.html": PAGE,
        "_images/1.png": "png",
        "_static/results/runs.csv": "a\n1\n",
        "_static/theme.css": "",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content)
    return archive.write(site, tmp_path)


def test_a_page_is_markdown_with_its_numbers_links_equations_and_code(zipped):
    text = ZipFile(zipped).read("book/page.md").decode()
    assert text.startswith("# Title\n")
    for part in (
        "It gains +0.02",
        "$a_1 * b_2$",
        "$$x_1$$",
        "[data](data.md#x)",
        "(https://example.org/a.html)",
        "```python\n1 + 1\n```",
        "| a |",
        "![A map.](../_images/1.png)",
        "Inside.",
    ):
        assert part in text
    for part in ("menu", "Show code", "run()", "base64", "(1)"):
        assert part not in text


def test_figures_results_and_citation_lie_beside_the_pages(zipped):
    names = set(ZipFile(zipped).namelist())
    assert {"_images/1.png", "_static/results/runs.csv", "CITATION.cff"} <= names
    assert "_static/theme.css" not in names


def test_its_name_has_the_version_and_a_date(zipped):
    assert re.fullmatch(r"locties-\d+\.\d+\.\d+-\d{4}-\d\d-\d\d\.zip", zipped.name)
