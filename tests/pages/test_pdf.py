"""The printed book, as `make pdf` left it: outline, fonts and figures."""

import nbformat
import pytest
import yaml
from pypdf import PdfReader

from locties_paper.site.notebook import REPOSITORY

PDF = REPOSITORY / "_build" / "locties.pdf"
pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(not PDF.exists(), reason="no PDF: `make pdf` prints it"),
]


@pytest.fixture(scope="module")
def book() -> PdfReader:
    return PdfReader(PDF)


def test_its_outline_has_a_line_for_each_page_of_the_book(book):
    def titles(outline):
        for entry in outline:
            if isinstance(entry, list):
                yield from titles(entry)
            else:
                yield " ".join(entry.title.split())

    found = set(titles(book.outline))
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text("utf-8"))
    pages = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    for page in pages:
        html = (REPOSITORY / f"_build/html/{page}.html").read_text("utf-8")
        title = html.partition("<title>")[2].partition(" &#8212;")[0]
        assert title in found, page


def test_its_fonts_are_inside(book):
    for page in book.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            described = font["/DescendantFonts"][0] if "/DescendantFonts" in font else font
            files = {"/FontFile", "/FontFile2", "/FontFile3"}
            inside = font["/Subtype"] == "/Type3" or files & {*described["/FontDescriptor"]}
            assert inside, font


def test_every_figure_is_there_and_whole(book):
    drawn = 0
    for number, page in enumerate(book.pages, 1):
        objects = page["/Resources"].get("/XObject", {})
        boxes = []

        def visit(operator, operands, matrix, _, objects=objects, boxes=boxes):
            if operator == b"Do" and objects[operands[0]]["/Subtype"] == "/Image":
                boxes.append(matrix)

        page.extract_text(visitor_operand_before=visit)
        for width, _, _, height, x, y in boxes:
            assert 0 <= x <= x + width <= page.mediabox.width + 1, f"cut on page {number}"
            assert 0 <= y <= y + height <= page.mediabox.height + 1, f"cut on page {number}"
        drawn += len(boxes)
    committed = [nbformat.read(page, 4) for page in (REPOSITORY / "book").glob("*.ipynb")]
    figures = [
        out
        for notebook in committed
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    assert drawn >= len(figures)
