"""The tasks of the open tier: a map of their labels, and what baselines and shipped encoders score.

``python -m locties_paper.open_tasks`` writes ``results/open_tasks.parquet`` and draws
``book/_static/open_tasks.png``. It needs the files of the open tier, which are not in the book.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

import locties
from locties import Task, maps
from locties._util.files import written_aside
from locties.apply.metadata import takes_month
from locties.evaluation import BASELINES, OPEN_TASKS, contender
from locties.saved import published, read_config
from locties_paper import results

# The dataset of the manifest behind each task.
SOURCES = {
    "air_temperature": "stations",
    "precipitation": "stations",
    "elevation": "mosaiks_elevation",
    "population": "mosaiks_population",
    "biome": "biomes",
    "country": "countries",
    "plant_richness": "plant_richness",
    "tree_species": "tree_plots",
    "winter_temperature": "design_temperatures",
    "summer_temperature": "design_temperatures",
    "house_value": "house_values",
}
REGIONAL = "house_value"  # drawn by itself: on a globe it is a dot
COMMON = 11  # classes shown by name


def draw(tasks: Mapping[str, Task]) -> Figure:
    """The labels of every task at their points; a regional task has a map of its region."""
    figure, axes = maps.globe(-(-len(tasks) // 3), 3, width=10)
    for ax, task in zip(axes, tasks.values(), strict=False):
        title = task.name.replace("_", " ").capitalize()
        if task.name == REGIONAL:
            where = ax.get_subplotspec()
            ax.remove()
            _draw_region(task, figure.add_subplot(where), title)
        elif task.classes is None:
            maps.draw_points(task.lonlat.numpy(), task.target, task.unit, title=title, ax=ax)
        else:
            codes, names = _common(task)
            maps.draw_points(task.lonlat.numpy(), codes, names=names, title=title, ax=ax)
            ax.get_legend().remove()  # names of biomes are too long for it
    for ax in axes[len(tasks) :]:
        ax.remove()
    return figure


def _draw_region(task: Task, ax: Axes, title: str) -> None:
    """Points on longitude and latitude, in a panel of the shape of a globe."""
    lon, lat = task.lonlat.T.numpy()
    points = ax.scatter(lon, lat, 2, task.target / 1000, cmap=maps.SEQUENTIAL, rasterized=True)
    middle = np.deg2rad((lat.min() + lat.max()) / 2)
    ax.set_box_aspect(0.487)
    ax.set_aspect(1 / np.cos(middle), adjustable="datalim")
    ax.set(title=title, xlabel="longitude (degrees)", ylabel="latitude (degrees)")
    bar = ax.figure.colorbar(
        points, ax=ax, orientation="horizontal", shrink=0.7, aspect=35, pad=0.03
    )
    bar.set_label(f"thousand {task.unit}")


def _common(task: Task) -> tuple[pd.Series, list[str]]:
    """Codes and names of the commonest classes; the others share one."""
    labels = pd.Series(task.classes)[task.target]
    common = list(labels.value_counts().index[:COMMON])
    names = [*common, "others"] if len(task.classes or ()) > COMMON else common
    codes = pd.Categorical(labels.where(labels.isin(common), "others"), names).codes
    return codes.astype(int), names


def score(tasks: Mapping[str, Task]) -> pd.DataFrame:
    """The scores of every baseline and shipped encoder on every task: rows of `locties.evaluate`.

    Encoders that take a month are left out. The column ``sha256`` has the checksum of a shipped
    encoder's weights, and is else empty.
    """
    made = {name: contender(name) for name in [*BASELINES, *published()]}
    made = {name: encoder for name, encoder in made.items() if not takes_month(encoder)}
    weights = {name: read_config(name)["sha256"] for name in published()}
    pairs = [(task, name) for task in tasks.values() for name in made]
    rows = [
        locties.evaluate(made[name], task, name=name).assign(sha256=weights.get(name, ""))
        for task, name in tqdm(pairs)
    ]
    return pd.concat(rows, ignore_index=True)


def main() -> None:
    """Score and draw from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("results/open_tasks.parquet"))
    parser.add_argument("--figure", type=Path, default=Path("book/_static/open_tasks.png"))
    parser.add_argument("--points", type=int, default=5000, help="of each task, at most")
    options = parser.parse_args()
    tasks = {name: OPEN_TASKS[name](points=options.points) for name in OPEN_TASKS}
    matplotlib.use("agg")
    with written_aside(options.figure) as aside:
        draw(tasks).savefig(aside, dpi=110, format="png")
    plt.close("all")
    about = [
        {
            "task": task.name,
            "points": len(task.target),
            "classes": len(task.classes or ()),
            "unit": task.unit,
        }
        for task in tasks.values()
    ]
    table = score(tasks).merge(pd.DataFrame(about), on="task")
    results.write(table, options.output, {"points": options.points})


if __name__ == "__main__":
    main()
