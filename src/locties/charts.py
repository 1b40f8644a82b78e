"""Charts of scores and training histories, in Okabe and Ito's colours for colour-blind eyes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from locties.evaluation.statistics import mean_interval
from locties.results import scores

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
NAMES = {"r2": "R²", "accuracy": "accuracy"}
FEWEST_FOR_AN_INTERVAL = 3  # seeds; with two, a t-interval is wider than the axis


def draw_history(history: pd.DataFrame) -> Figure:
    """Validation loss and recall of each modality along one run.

    Args:
        history: of a `Run`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for (name, rows), colour in zip(history.groupby("modality", sort=False), COLOURS, strict=False):
        style: dict[str, Any] = {"color": colour, "marker": ".", "label": name}
        left.plot(rows["pairs"] / 1000, rows["validation_loss"], **style)
        right.plot(rows["pairs"] / 1000, rows["recall_at_10"], **style)
    left.set(xlabel="thousand pairs seen", ylabel="validation loss (nats)")
    right.set(xlabel="thousand pairs seen", ylabel="recall at 10", ylim=(0, None))
    _legend(figure, right)
    return figure


def draw_histories(histories: pd.DataFrame, encoders: Sequence[str]) -> Figure:
    """Validation loss of each modality along several runs; one line a seed.

    Args:
        histories: of runs, with columns encoder and seed.
        encoders: which; beside them ``clip-<modality>`` is drawn in that modality's panel.
    """
    modalities = list(dict.fromkeys(histories["modality"]))
    figure, axes = _panels(1, modalities, 3.2)
    for modality, ax in zip(modalities, axes[0], strict=True):
        for encoder, colour in zip([*encoders, f"clip-{modality}"], COLOURS, strict=False):
            chosen = histories.query("encoder == @encoder and modality == @modality")
            label = "clip" if encoder.startswith("clip") else encoder
            for _, run in chosen.groupby("seed"):
                ax.plot(run["pairs"] / 1000, run["validation_loss"], color=colour, label=label)
                label = "_" + label  # once in the legend
        ax.set_xlabel("thousand pairs seen")
    axes[0, 0].set_ylabel("validation loss (nats)")
    _legend(figure, axes[0, 0])
    return figure


def draw_scores(runs: pd.DataFrame, trained: Sequence[str]) -> Figure:
    """Every encoder's score with all labels, by task, split and probe.

    A dot is a seed, its thin line the interval of the block bootstrap over test points, a thick
    line the t-interval over seeds where there are at least three. The grey line marks the best
    encoder that is not in `trained`.

    Args:
        runs: tidy rows of `evaluate`, of one or more encoders and seeds.
        trained: encoders drawn in blue; the others are baselines, in orange.
    """
    main = scores(runs)
    tasks = list(dict.fromkeys(main["task"]))
    cells = main[["split", "probe"]].drop_duplicates().to_numpy().tolist()
    order = main.groupby("encoder")["value"].mean().sort_values().index
    figure, axes = _panels(len(cells), tasks, max(1.6, 0.6 + 0.2 * len(order)))
    intervals = runs.pivot_table(
        "value", ["encoder", "seed", "task", "split", "probe", "labels"], "metric"
    )
    for (split, probe), row in zip(cells, axes, strict=True):
        for task, ax in zip(tasks, row, strict=True):
            chosen = main.query("split == @split and probe == @probe and task == @task")
            metric = chosen["metric"].iloc[0]
            for y, encoder in enumerate(order):
                own = chosen[chosen["encoder"] == encoder]
                colour = COLOURS[0] if encoder in trained else COLOURS[1]
                for seed, value in zip(own["seed"], own["value"], strict=True):
                    ends = intervals.loc[(encoder, seed, task, split, probe, "all")]
                    low, high = ends[f"{metric}_low"], ends[f"{metric}_high"]
                    ax.plot([low, high], [y, y], color=colour, linewidth=0.8, alpha=0.6)
                    ax.plot(value, y, "o", markersize=3.5, color=colour)
                if len(own) >= FEWEST_FOR_AN_INTERVAL:
                    interval = mean_interval(own["value"])
                    ax.plot([interval.low, interval.high], [y, y], color=colour, linewidth=3)
            baselines = chosen.loc[~chosen["encoder"].isin(trained), "value"]
            if len(baselines):
                ax.axvline(baselines.max(), color="0.6", linewidth=0.8, zorder=0)
        row[0].set_yticks(range(len(order)), list(order), fontsize=9)
        row[0].set_ylabel(f"{split} folds, {probe}")
    for task, ax in zip(tasks, axes[-1], strict=True):
        chosen = main[main["task"] == task]
        ax.set_xlim(max(-0.3, chosen["value"].min() - 0.1), 1.02)
        ax.set_xlabel(NAMES[chosen["metric"].iloc[0]])
    return figure


def draw_few_labels(runs: pd.DataFrame, encoders: Sequence[str]) -> Figure:
    """Scores against the number of labels: the mean over seeds, with the better probe.

    Args:
        runs: tidy rows of `evaluate`.
        encoders: which, at most seven.
    """
    few = runs[runs["metric"].isin(NAMES) & runs["labels"].str.isdigit()]
    few = few.assign(n=few["labels"].astype(int))
    cell = ["encoder", "task", "split", "n"]
    best = few.groupby([*cell, "probe"])["value"].mean().groupby(cell).max()
    tasks, splits = list(dict.fromkeys(few["task"])), list(dict.fromkeys(few["split"]))
    figure, axes = _panels(len(splits), tasks, 2.4)
    for split, row in zip(splits, axes, strict=True):
        for task, ax in zip(tasks, row, strict=True):
            for encoder, colour in zip(encoders, COLOURS, strict=False):
                if (encoder, task, split) in best.index:
                    line = best.loc[(encoder, task, split)]
                    ax.plot(line.index, line, ".-", color=colour, label=encoder)
            ax.set(xscale="log", ylim=(min(0, *ax.get_ylim()), 1))
        row[0].set_ylabel(f"R² or accuracy, {split}")
    for ax in axes[-1]:
        ax.set_xlabel("labels")
    _legend(figure, axes[0, 0])
    return figure


def _panels(rows: int, columns: Sequence[str], height: float) -> tuple[Figure, np.ndarray]:
    """A grid of panels, 10 inches wide, titled along the top; each row `height` inches high."""
    figure, axes = plt.subplots(
        rows,
        len(columns),
        figsize=(10, 0.6 + rows * height),
        sharey="row",
        sharex="col",
        layout="constrained",
        squeeze=False,
    )
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name.replace("_", " "), fontsize=10)
    return figure, axes


def _legend(figure: Figure, ax: Any) -> None:
    """One legend below all panels."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
