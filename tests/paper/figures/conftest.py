"""Every figure that a test draws must be legible in the book's column."""

from collections.abc import Iterator

import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

COLUMN = 6.5  # inches


@pytest.fixture(autouse=True)
def legible() -> Iterator[None]:
    yield
    for number in plt.get_fignums():
        figure = plt.figure(number)
        shown_at = min(1, COLUMN / figure.get_figwidth())
        sizes = {
            text.get_text(): shown_at * text.get_fontsize()
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        }
        plt.close(figure)
        assert {text: size for text, size in sizes.items() if size < 7} == {}
