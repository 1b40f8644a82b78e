"""Maps of the book: what is on the drawn picture."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from locties import maps
from locties_paper.figures import globes

pytestmark = pytest.mark.data
EAST, WEST = (10, 25), (-58, -15)  # places on land


def test_classes_have_their_colour_and_name():
    classes = np.zeros((90, 180), int)
    classes[:, 90:] = 1
    figure = globes.draw_classes(classes, ["west", "east"])
    assert [t.get_text() for t in figure.axes[0].get_legend().texts] == ["west", "east"]
    [picture] = figure.axes[0].images
    (left, right, low, high), rgba = picture.get_extent(), picture.get_array() / 255
    for place, colour in ((WEST, maps.CATEGORIES[0]), (EAST, maps.CATEGORIES[1])):
        x, y = maps.PROJECTION.transform_point(*place, maps.ccrs.PlateCarree())
        row = int((high - y) / (high - low) * len(rgba))
        column = int((x - left) / (right - left) * rgba.shape[1])
        np.testing.assert_allclose(rgba[row, column], [*to_rgb(colour), 1], atol=0.01)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_samples_have_a_panel_each_with_their_number(modalities):
    samples = {f"m{i}": np.array([EAST, WEST] * (i + 1)) for i in range(modalities)}
    figure = globes.draw_samples(samples)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [f"m{i}: {2 * (i + 1)}" for i in range(modalities)]
