"""Maps of the book that are drawn more than once, with `locties.maps`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from locties import maps


def draw_classes(classes: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw a field of classes with a legend.

    Args:
        classes: (H, 2H) int, index into `names`, north first.
        names: class names, at most 12.
    """
    _, [ax] = maps.globe()
    colours = np.array([to_rgb(colour) for colour in maps.CATEGORIES[: len(names)]])
    figure = maps.draw_rgb(colours[classes], ax=ax)
    maps.legend(ax, names)
    return figure


def draw_samples(samples: Mapping[str, np.ndarray]) -> Figure:
    """Draw where each modality (name to lonlat (N, 2)) is sampled, two panels a row."""
    columns = min(2, len(samples))
    figure, axes = maps.globe(-(-len(samples) // columns), columns, below=0)
    for ax, (name, lonlat) in zip(axes, samples.items(), strict=False):
        maps.draw_points(lonlat, title=f"{name}: {len(lonlat):,}", ax=ax)
    for ax in axes[len(samples) :]:
        ax.remove()
    return figure
