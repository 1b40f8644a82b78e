"""Colours that mean something can be told apart by colour-blind readers, and in grey on paper.

Colour blindness is simulated after Machado, Oliveira and Fernandes, "A Physiologically-based Model
for Simulation of Color Vision Deficiency" (IEEE TVCG 15, 2009), table 1 at severity 1, on linear
RGB. Distances are CIE 1976 ones in CIELAB under D65, where about 2.3 is just noticeable (Mahy, Van
Eycken and Oosterlinck, Color Research and Application 19, 1994).
"""

from itertools import combinations, product

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from locties import maps
from locties_paper.figures import charts

LEAST = 15.0  # six times what is just noticeable: enough for small dots apart from each other
SIMULATED = {
    "full colour vision": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
TO_XYZ = np.array(  # of linear sRGB (IEC 61966-2-1)
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def lab(colours: np.ndarray, seen_by: str = "full colour vision") -> np.ndarray:
    """(N, 3) sRGB in [0, 1] to (N, 3) CIELAB, as somebody sees them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ SIMULATED[seen_by].T, 0, 1) @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def closest(colours: tuple[str, ...], seen_by: str) -> tuple[float, tuple[str, str]]:
    """The two colours that are most alike, and how far apart they are."""
    points = lab(np.array([to_rgb(colour) for colour in colours]), seen_by)
    return min(
        (float(np.linalg.norm(points[i] - points[j])), (colours[i], colours[j]))
        for i, j in combinations(range(len(colours)), 2)
    )


@pytest.mark.parametrize("seen_by", SIMULATED)
@pytest.mark.parametrize("palette", [charts.COLOURS, maps.CATEGORIES], ids=["charts", "maps"])
def test_categories_can_be_told_apart(palette, seen_by):
    distance, pair = closest(palette, seen_by)
    assert distance > LEAST, f"{pair} are {distance:.1f} apart, seen with {seen_by}"


@pytest.mark.parametrize("name", [maps.SEQUENTIAL, "cividis"])
def test_numbers_keep_their_order_in_grey(name):
    lightness = lab(mpl.colormaps[name](np.linspace(0, 1, 256))[:, :3])[:, 0]
    assert (np.diff(lightness) > 0.1).all()
    assert lightness[-1] - lightness[0] > 70


@pytest.mark.parametrize("seen_by", SIMULATED)
def test_the_two_sides_of_zero_differ_and_darken_evenly(seen_by):
    colours = mpl.colormaps[maps.DIVERGING](np.linspace(0, 1, 257))[:, :3]
    below, above = lab(colours, seen_by)[[64, 192]]
    assert np.linalg.norm(below - above) > 40
    lightness = lab(colours)[:, 0]
    assert (np.diff(lightness[:129]) > -0.01).all()
    assert (np.diff(lightness[128:]) < 0.01).all()
    assert abs(lightness - lightness[::-1]).max() < 6, "equal sizes are equally dark"


@pytest.mark.parametrize("seen_by", SIMULATED)
def test_the_first_two_components_of_an_embedding_are_seen_by_all(seen_by):
    """Whatever the third, which goes from green to red and is faint to some."""
    ends = np.array(list(product((0.0, 1.0), (0.0, 1.0), (0.0, 0.5, 1.0))))
    seen = lab(maps._colours(ends), seen_by)
    for (one, a), (other, b) in combinations(zip(ends, seen, strict=True), 2):
        if (one[:2] != other[:2]).any():
            assert np.linalg.norm(a - b) > 2 * LEAST, f"{one} and {other}"
