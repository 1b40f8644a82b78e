"""Figures of the study: effects with two intervals, and scores against the budget."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from locties_paper import design
from locties_paper.figures.charts import BLUE, COLOURS, METRICS, PAIRS, WIDTH

DIFFERENCE = "difference in score (R² or accuracy)"
SCORE = "mean score (R² or accuracy)"


def draw_effects(effects: pd.DataFrame) -> Figure:
    """Effects in rows: a thick interval over replicates or seeds, and a thin one over tasks.

    Args:
        effects: a row for each effect, with contrast and the columns of `Effect`.
    """
    down = np.arange(len(effects))
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.3 * len(effects)), layout="constrained")
    ax.axvline(0, color="0.6", linewidth=0.8)
    ax.hlines(down, effects["low_tasks"], effects["high_tasks"], color="0.55", linewidth=1)
    ax.hlines(down, effects["low"], effects["high"], color=BLUE, linewidth=4)
    ax.plot(effects["value"], down, "o", color="black", markersize=4)
    ax.set_yticks(down, effects["contrast"])
    ax.invert_yaxis()
    ax.set_xlabel(DIFFERENCE)
    return figure


def draw_by_task(gains: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Gains over other contenders, task by task, with 95% intervals: a panel for each split.

    Args:
        gains: from `locties_paper.effects.family.by_task`.
        labels: from names in its column other to names in the legend.
    """
    tasks = list(dict.fromkeys(gains["task"]))
    panels = list(gains.groupby("split"))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 1.2 + 0.36 * len(tasks)), sharey=True, layout="constrained"
    )
    for ax, (split, panel) in zip(axes, panels, strict=True):
        ax.axvline(0, color="0.6", linewidth=0.8)
        for number, (name, label) in enumerate(labels.items()):
            mine = panel[panel["other"] == name].set_index("task").loc[tasks]
            down = np.arange(len(tasks)) + 0.24 * (number - (len(labels) - 1) / 2)
            ax.hlines(down, mine["low"], mine["high"], color=COLOURS[number], linewidth=2)
            style = {"color": COLOURS[number], "label": label, "markersize": 5}
            ax.plot(mine["value"], down, "osD^"[number], **style)
        ax.set(title=f"{split} folds", xlabel=DIFFERENCE)
    axes[0].set_yticks(range(len(tasks)), [task.replace("_", " ") for task in tasks])
    axes[0].invert_yaxis()
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def draw_budgets(rows: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Mean score against training pairs: a panel for each probe, a line for each contender.

    Args:
        rows: from ``study_*_pilot.parquet``, all with the same reading.
        labels: from the contenders to draw, 14 at most, to their names in the legend.
    """
    rows = rows[rows["metric"].isin(METRICS)]
    panels = {"both probes": rows, **dict(iter(rows.groupby("probe")))}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 3.4), sharey=True, layout="constrained", squeeze=False
    )
    for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
        for number, (name, label) in enumerate(labels.items()):
            mine = panel[panel["encoder"] == name].groupby("budget")["value"].mean()
            if list(mine.index) == [0]:
                ax.axhline(mine[0], color="0.5", linestyle=":", label=label)
                continue
            style = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": ["-", "--"][number // len(COLOURS)],
                "marker": "osD^vP*X"[number % 8],
            }
            ax.plot(mine.index * design.PAIRS / 1000, mine, label=label, markersize=4, **style)
        ax.set(xscale="log", xlabel=PAIRS, title=title)
    axes[0, 0].set_ylabel(SCORE)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
