"""Save the built book in one dated zip: Markdown, figures and tables of results.

`make archive` calls it. The Markdown is made from the HTML, which has all numbers and references.
"""

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from bs4 import BeautifulSoup, Tag
from markdownify import MarkdownConverter

import locties
from locties_paper.site.notebook import REPOSITORY

LEFT_OUT = "script, style, select, label, button, summary, .headerlink, .eqno, .prev-next-area"
LANGUAGES = {"ipython3": "python", "python": "python", "bash": "bash"}  # as Sphinx names them


def markdown(page: Path) -> str:
    """A page of the book as Markdown. Links between pages lead to Markdown files."""
    (article,) = BeautifulSoup(page.read_text("utf-8"), "html.parser").select("article.bd-article")
    for part in article.select(LEFT_OUT):
        part.decompose()
    for link in article.select("a[href]"):
        link.attrs.pop("title", None)
        if "://" not in (href := str(link["href"])):
            link["href"] = re.sub(r"\.html(?=#|$)", ".md", href)
    for image in article.select("img[src^='data:']"):  # hundreds of kB of text
        image.replace_with(str(image["alt"]))
    for math in article.select(".math"):
        mark = "$$" if math.name == "div" else "$"
        math.string = mark + math.get_text().strip()[2:-2].strip() + mark  # without \( and \)
    converter = MarkdownConverter(
        heading_style="ATX",
        escape_asterisks=False,
        escape_underscores=False,
        code_language_callback=_language,
    )
    return f"{converter.convert_soup(article).strip()}\n"


def _language(pre: Tag) -> str:
    classes = [name for parent in pre.parents for name in parent.get("class") or []]
    names = [name.removeprefix("highlight-") for name in classes]
    return next((LANGUAGES[name] for name in names if name in LANGUAGES), "")


def write(site: Path, to: Path) -> Path:
    """Zip the pages, figures and tables of the built book `site` into the folder `to`.

    The name of the zip has the version and the date of the commit.
    """
    date = subprocess.check_output(
        ["git", "-C", str(REPOSITORY), "log", "-1", "--format=%cs"], text=True
    ).strip()
    archive = to / f"locties-{locties.__version__}-{date}.zip"
    with ZipFile(archive, "w", ZIP_DEFLATED) as file:
        for page in sorted(site.glob("book/*.html")):
            file.writestr(f"book/{page.stem}.md", markdown(page))
        for path in sorted([*site.glob("_images/*"), *site.glob("_static/results/*")]):
            file.write(path, path.relative_to(site))
        for name in ("CITATION.cff", "LICENSE", "LICENSES-DATA.md"):
            file.write(REPOSITORY / name, name)
    return archive


if __name__ == "__main__":  # python -m locties_paper.site.archive SITE FOLDER
    print(f"The archive is at {write(*map(Path, sys.argv[1:])).resolve()}")
