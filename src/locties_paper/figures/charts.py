"""Charts of scores and training histories, in Okabe and Ito's colours for colour-blind eyes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from locties.evaluation.statistics import mean_interval
from locties_paper.effects.statistics import ALPHA
from locties_paper.results import FEWEST_FOR_AN_INTERVAL, of_tier, scores

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
NAMES = {"r2": "R²", "accuracy": "accuracy"}
ERRORS = {"mae": "mean absolute error", "error_rate": "share wrong"}


def draw_history(history: pd.DataFrame) -> Figure:
    """Validation loss and recall of each modality along one run.

    Args:
        history: of a `Run`.

    Returns:
        The figure, of two panels.

    Example:
        >>> run = pd.DataFrame({"modality": ["haze"] * 2, "pairs": [1000, 2000],
        ...                     "validation_loss": [6.2, 5.1], "recall_at_10": [0.02, 0.08]})
        >>> figure = draw_history(run)
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

    Returns:
        The figure, a panel for each modality.

    Example:
        >>> from locties_paper.results import read
        >>> _, histories = read()
        >>> figure = draw_histories(histories, list(histories["encoder"].unique())[-1:])
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


def draw_scores(runs: pd.DataFrame, trained: Sequence[str], tier: str = "embedded") -> Figure:
    """Every encoder's score with all labels, by task, split and probe.

    A dot is a seed, its thin line the interval of the block bootstrap over test points, a thick
    line the t-interval over seeds where there are at least three. The grey line marks the best
    baseline.

    Args:
        runs: tidy rows of `evaluate`, of one or more encoders and seeds.
        trained: encoders drawn in blue, and in green with raw coordinates appended
            ("melt+xyz"); the others are baselines, in orange.
        tier: of the tasks.

    Returns:
        The figure, a panel for each task, split and probe.

    Raises:
        ValueError: where there is no row of the tier.

    Example:
        >>> from locties_paper.results import read
        >>> runs = read()[0].query("encoder in ('xyz', 'constant') and task == 'elevation'")
        >>> figure = draw_scores(runs, trained=[])
    """
    main = scores(runs, tier=tier)
    tasks = list(dict.fromkeys(main["task"]))
    cells = main[["split", "probe"]].drop_duplicates().to_numpy().tolist()
    order = main.groupby("encoder")["value"].mean().sort_values().index
    figure, axes = _panels(len(cells), tasks, max(1.6, 0.6 + 0.2 * len(order)))
    intervals = of_tier(runs, tier).pivot_table(
        "value", ["encoder", "seed", "task", "split", "probe", "labels"], "metric"
    )
    for (split, probe), row in zip(cells, axes, strict=True):
        for task, ax in zip(tasks, row, strict=True):
            chosen = main.query("split == @split and probe == @probe and task == @task")
            metric = chosen["metric"].iloc[0]
            for y, encoder in enumerate(order):
                own = chosen[chosen["encoder"] == encoder]
                colour = _colour(encoder, trained)
                for seed, value in zip(own["seed"], own["value"], strict=True):
                    ends = intervals.loc[(encoder, seed, task, split, probe, "all")]
                    low, high = ends[f"{metric}_low"], ends[f"{metric}_high"]
                    ax.plot([low, high], [y, y], color=colour, linewidth=0.8, alpha=0.6)
                    ax.plot(value, y, "o", markersize=3.5, color=colour)
                if len(own) >= FEWEST_FOR_AN_INTERVAL:
                    interval = mean_interval(own["value"])
                    ax.plot([interval.low, interval.high], [y, y], color=colour, linewidth=3)
            baselines = chosen.loc[~chosen["encoder"].str.split("+").str[0].isin(trained), "value"]
            if len(baselines):
                ax.axvline(baselines.max(), color="0.6", linewidth=0.8, zorder=0)
        row[0].set_yticks(range(len(order)), list(order), fontsize=9)
        row[0].set_ylabel(f"{split} folds, {probe}")
    for task, ax in zip(tasks, axes[-1], strict=True):
        chosen = main[main["task"] == task]
        ax.set_xlim(max(-0.3, chosen["value"].min() - 0.1), 1.02)
        ax.set_xlabel(NAMES[chosen["metric"].iloc[0]])
    return figure


def _colour(encoder: str, trained: Sequence[str]) -> str:
    if encoder in trained:
        return COLOURS[0]
    return COLOURS[2] if encoder.partition("+")[0] in trained else COLOURS[1]


def draw_along(scored: pd.DataFrame) -> Figure:
    """The mean score along training, with its t-interval over seeds where there are three.

    Args:
        scored: a row for each score of a checkpoint, with columns panel, line, seed, pairs and
            value. Every checkpoint of a line has the same cells (task, split, probe).

    Returns:
        The figure, a panel for each of the first; a dotted line where a quarter of the pairs is.

    Example:
        >>> figure = draw_along(pd.DataFrame({"panel": "one", "line": "few", "seed": [0, 1, 0, 1],
        ...     "pairs": [1000, 1000, 4000, 4000], "value": [0.5, 0.6, 0.7, 0.75]}))
    """
    panels, lines = (list(dict.fromkeys(scored[name])) for name in ("panel", "line"))
    figure, axes = _panels(1, panels, 3.2)
    means = scored.pivot_table("value", ["panel", "line", "seed"], "pairs")
    thousands = means.columns / 1000
    for panel, ax in zip(panels, axes[0], strict=True):
        for line, colour, marker in zip(lines, COLOURS, "osD^vP*", strict=False):
            seeds = means.loc[panel, line]
            if len(seeds) >= FEWEST_FOR_AN_INTERVAL:
                _, low, high = zip(*map(mean_interval, seeds.to_numpy().T), strict=True)
                ax.fill_between(thousands, low, high, color=colour, alpha=0.2, linewidth=0)
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
            ax.plot(thousands, seeds.mean(), label=line, **style)
        ax.axvline(thousands.max() / 4, color="0.5", linestyle=":", zorder=0)
        ax.set_xlabel("thousand pairs seen")
    axes[0, 0].set_ylabel("mean score")
    _legend(figure, axes[0, 0])
    return figure


def draw_few_labels(runs: pd.DataFrame, encoders: Sequence[str], tier: str = "embedded") -> Figure:
    """Scores against the number of labels: the mean over seeds, with the better probe.

    Args:
        runs: tidy rows of `evaluate`.
        encoders: which, at most seven.
        tier: of the tasks.

    Returns:
        The figure, a panel for each task and split.

    Raises:
        ValueError: where there is no row of the tier.

    Example:
        >>> from locties_paper.results import read
        >>> runs = read()[0].query("encoder in ('xyz', 'constant') and task == 'elevation'")
        >>> figure = draw_few_labels(runs, ["xyz", "constant"])
    """
    rows = of_tier(runs, tier)
    few = rows[rows["metric"].isin(NAMES) & rows["labels"].str.isdigit()]
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


def draw_gap(runs: pd.DataFrame, tier: str = "embedded") -> Figure:
    """Score under random and under block folds, with all labels and the better probe, by task.

    Args:
        runs: tidy rows of `evaluate`, of one or more encoders; seeds are averaged.
        tier: of the tasks.

    Returns:
        The figure, a panel for each task.

    Raises:
        ValueError: where there is no row of the tier.

    Example:
        >>> from locties_paper.results import read
        >>> runs = read()[0].query("encoder in ('xyz', 'constant') and task == 'elevation'")
        >>> figure = draw_gap(runs)
    """
    best = best_probe(runs, tier).pivot_table("value", ["task", "encoder"], "split")
    metrics = scores(runs, tier=tier).groupby("task", sort=False)["metric"].first()
    encoders = list(dict.fromkeys(of_tier(runs, tier)["encoder"]))[::-1]
    figure, axes = _panels(1, list(metrics.index), 0.9 + 0.3 * len(encoders))
    for (task, metric), ax in zip(metrics.items(), axes[0], strict=True):
        own = best.loc[task].loc[encoders]
        rows = range(len(encoders))
        ax.hlines(rows, own["block"], own["random"], color="0.6", linewidth=1.5, zorder=1)
        for split, marker, colour in (("random", "o", COLOURS[5]), ("block", "s", COLOURS[1])):
            ax.scatter(own[split], rows, marker=marker, color=colour, s=32, label=split, zorder=2)
        ax.set(xlim=(min(-0.1, own.min(axis=None) - 0.1), 1.02), xlabel=NAMES[metric])
    axes[0, 0].set_yticks(range(len(encoders)), encoders)
    _legend(figure, axes[0, 0])
    return figure


def draw_leakage(
    runs: pd.DataFrame,
    tasks: Sequence[str],
    leaks: Mapping[str, Sequence[str]],
    tier: str = "embedded",
) -> Figure:
    """How well each row predicts each task: a heat map a split, with the better probe.

    Args:
        runs: tidy rows of `evaluate`; what is read stands in the column encoder.
        tasks: the columns.
        leaks: by task, the rows to frame.
        tier: of the tasks.

    Returns:
        The figure, of two panels.

    Raises:
        ValueError: where there is no row of the tier.

    Example:
        >>> from locties_paper.results import read
        >>> runs = read()[0].query("encoder in ('xyz', 'constant') and task == 'elevation'")
        >>> figure = draw_leakage(runs, ["elevation"], {"elevation": ["xyz"]})
    """
    best = best_probe(runs, tier).pivot_table("value", ["split", "encoder"], "task")
    rows = list(dict.fromkeys(of_tier(runs, tier)["encoder"]))
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 1.6 + 0.42 * len(rows)), sharey=True, layout="constrained"
    )
    for split, ax in zip(("random", "block"), axes, strict=True):
        shown = best.loc[split].loc[rows, list(tasks)].to_numpy()
        framed = [
            (i, j)
            for (i, row), (j, task) in itertools.product(enumerate(rows), enumerate(tasks))
            if row in leaks.get(task, ())
        ]
        image = _heat_map(ax, shown, framed, digits=2, size=11, vmin=0, vmax=1)
        ax.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks], fontsize=9)
        ax.set_title(f"{split} folds", fontsize=11)
    axes[0].set_yticks(range(len(rows)), rows)
    figure.colorbar(image, ax=axes, label="R² or accuracy", shrink=0.9, extend="min")
    return figure


def draw_retrieval(table: pd.DataFrame) -> Figure:
    """Share of samples whose top-ranked location lies within each radius, beside chance.

    Args:
        table: of `locties.evaluation.retrieve`, of one encoder. With several seeds a bar is their
            mean; the line on it is the block-bootstrap interval, its ends averaged over the seeds.

    Returns:
        The figure, a panel for each modality.

    Example:
        >>> table = pd.DataFrame({"modality": "haze", "metric": ["within_25_km", "within_200_km"],
        ...                       "value": [0.1, 0.2], "low": [0.05, 0.1], "high": [0.15, 0.3],
        ...                       "chance": [0.01, 0.02]})
        >>> figure = draw_retrieval(table)
    """
    within = table[table["metric"].str.startswith("within_")]
    columns = ["value", "low", "high", "chance"]
    means = within.groupby(["modality", "metric"], sort=False)[columns].mean()
    modalities = list(dict.fromkeys(within["modality"]))
    figure, axes = _panels(1, modalities, 2.6)
    for modality, ax in zip(modalities, axes[0], strict=True):
        own = means.loc[modality]
        x = np.arange(len(own))
        ends = [own["value"] - own["low"], own["high"] - own["value"]]
        line = {"elinewidth": 1, "capsize": 2}
        ax.bar(x - 0.2, own["value"], 0.4, yerr=ends, color=COLOURS[0], error_kw=line, label="run")
        ax.bar(x + 0.2, own["chance"], 0.4, color="0.7", label="chance")
        ax.set_xticks(x, [metric.split("_")[1] for metric in own.index])
        ax.set_xlabel("km")
    axes[0, 0].set(ylabel="share within that distance", ylim=(0, None))
    _legend(figure, axes[0, 0])
    return figure


def draw_forest(rows: pd.DataFrame) -> Figure:
    """Effects with their intervals, one panel for each group, beside zero and the margin.

    A filled dot decided something about its cell: it is drawn in blue, or in orange where it
    speaks against the claim. An open one in grey did not. Where the verdict is empty nothing was
    tested, and the dot is black.

    Args:
        rows: of one claim and one statistic, from `locties_paper.effects.claims.verdicts`, without
            the overall one.

    Returns:
        The figure, a panel for each group.

    Example:
        >>> rows = pd.DataFrame({"group": ["melt"], "cell": ["elevation block ridge"],
        ...                      "statistic": ["difference of scores"], "verdict": ["equivalent"],
        ...                      "value": [0.0], "low": [-0.01], "high": [0.01], "margin": [0.02],
        ...                      "p_against": [1.0]})
        >>> figure = draw_forest(rows)
    """
    cells = rows.groupby("group", sort=False).size()
    groups, columns = list(cells.index), 2 if len(cells) == 4 else min(3, len(cells))
    heights = [
        0.9 + 0.19 * cells.iloc[start : start + columns].max()
        for start in range(0, len(cells), columns)
    ]
    figure, axes = plt.subplots(
        len(heights),
        columns,
        figsize=(10, sum(heights)),
        height_ratios=heights,
        sharex=True,
        layout="constrained",
        squeeze=False,
    )
    ratio = rows["statistic"].iloc[0].startswith("ratio")
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for group, ax in zip(groups, axes.flat, strict=False):
        own = rows[rows["group"] == group]
        if np.isfinite(own["margin"]).all():
            ax.axvspan(-own["margin"].iloc[0], own["margin"].iloc[0], color="0.92", zorder=0)
        ax.axvline(1 if ratio else 0, color="0.5", linewidth=0.8, zorder=0)
        for y, row in enumerate(own.itertuples()):
            open_dot = row.verdict in ("undecided", "unclear")
            against = row.p_against < 0.05
            colour = "0.5" if open_dot else COLOURS[1] if against else COLOURS[0]
            colour = colour if row.verdict else "black"
            ax.plot([row.low, row.high], [y, y], color=colour, linewidth=1.2)
            fill = "white" if open_dot else colour
            ax.plot(row.value, y, "o", markersize=4, color=colour, markerfacecolor=fill)
        ax.set_yticks(range(len(own)), [cell.replace("_", " ") for cell in own["cell"]], fontsize=7)
        ax.set_ylim(len(own) - 0.5, -0.5)
        ax.set_title(group, fontsize=9)
        ax.tick_params(axis="y", length=0)
        if ratio:
            ax.set_xscale("log")
    lowest = slice(max(0, len(groups) - columns), len(groups))
    statistics = rows.groupby("group", sort=False)["statistic"].first()
    for ax, statistic in zip(axes.flat[lowest], statistics.iloc[lowest], strict=True):
        ax.set_xlabel(statistic)
        ax.tick_params(axis="x", labelbottom=True)
    return figure


def draw_crossed(scored: pd.DataFrame) -> Figure:
    """Scores of every positional feature with every network, a panel for each split and probe.

    Colours run from the lowest tenth of a panel's scores, so that one that failed does not take
    them all, to its highest, which is framed; what was not run stays blank.

    Args:
        scored: columns features, network, split, probe and value; rows of one cell are averaged.

    Returns:
        The figure, with the features down and the networks across, in the order of the rows.

    Example:
        >>> scored = pd.DataFrame({"features": ["xyz", "grid"], "network": "mlp", "split": "block",
        ...                        "probe": "knn", "value": [0.4, 0.5]})
        >>> [ax.get_title() for ax in draw_crossed(scored).axes]
        ['block folds, knn']
    """
    features, networks = (list(scored[name].unique()) for name in ("features", "network"))
    panels = list(scored.groupby(["split", "probe"], sort=False))
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(10, 0.8 + 0.3 * len(features)),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for ((split, probe), own), ax in zip(panels, axes.flat, strict=True):
        means = own.pivot_table("value", "features", "network", "mean")
        shown = means.reindex(index=features, columns=networks).to_numpy()
        best = np.unravel_index(np.nanargmax(shown), shown.shape)
        lowest = np.nanquantile(shown, 0.1)
        _heat_map(ax, shown, [best], digits=3, size=7, vmin=lowest)
        ax.set_title(f"{split} folds, {probe}", fontsize=9)
        ax.set_xticks(range(len(networks)), networks, fontsize=8)
    names = [name.replace("_", " ") for name in features]
    axes[0, 0].set_yticks(range(len(features)), names, fontsize=8)
    return figure


def draw_against(table: pd.DataFrame) -> Figure:
    """How far one encoder is before each contender, in the mean score and in the mean rank.

    Blue, filled: it is shown to come before that contender. Grey, open: it is not. A contender
    whose interval lies below zero comes before it, and is drawn in orange.

    Args:
        table: of `locties_paper.effects.comparison.difference_from_others`.

    Returns:
        The figure, a panel for each of the two.

    Example:
        >>> row = {"mean": 0.7, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01}
        >>> row |= {f"rank_{k}": row[k] for k in ("difference", "low", "high", "p")}
        >>> figure = draw_against(pd.DataFrame([row], index=["xyz"]))
    """
    own = table[table["p"].notna()]
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 0.8 + 0.19 * len(own)), sharey=True, layout="constrained"
    )
    for ax, prefix, label in zip(axes, ("", "rank_"), ("mean score", "mean rank"), strict=True):
        ax.axvline(0, color="0.5", linewidth=0.8, zorder=0)
        columns = [f"{prefix}{name}" for name in ("difference", "low", "high", "p")]
        for y, (value, low, high, p) in enumerate(own[columns].itertuples(index=False)):
            behind = high < 0
            colour = COLOURS[1] if behind else COLOURS[0] if p < ALPHA else "0.5"
            ax.plot([low, high], [y, y], color=colour, linewidth=1.2)
            fill = colour if behind or p < ALPHA else "white"
            ax.plot(value, y, "o", markersize=4, color=colour, markerfacecolor=fill)
        ax.set_xlabel(f"before the contender by, in {label}")
    axes[0].set_yticks(
        range(len(own)),
        [f"{name} ({mean:.3f})" for name, mean in own["mean"].items()],
        fontsize=8,
    )
    axes[0].set_ylim(len(own) - 0.5, -0.5)
    return figure


def best_probe(runs: pd.DataFrame, tier: str = "embedded") -> pd.DataFrame:
    """Score with all labels by encoder, task and split: mean over seeds, of the better probe.

    Args:
        runs: tidy rows of `evaluate`.
        tier: of the tasks.

    Returns:
        Columns encoder, task, split, value.

    Raises:
        ValueError: where there is no row of the tier.

    Example:
        >>> from locties_paper.results import read
        >>> list(best_probe(read()[0]))
        ['encoder', 'task', 'split', 'value']
    """
    cell = ["encoder", "task", "split"]
    means = scores(runs, tier=tier).groupby([*cell, "probe"], sort=False)["value"].mean()
    return means.groupby(cell, sort=False).max().reset_index()


def _heat_map(
    ax: Any, shown: np.ndarray, framed: Sequence[tuple], digits: int, size: float, **scale: float
) -> Any:
    """Cells coloured by their value and with it written in them; those at `framed` in a frame."""
    image = ax.imshow(shown, cmap="cividis", aspect="auto", **scale)
    for (i, j), value in np.ndenumerate(shown):
        if np.isfinite(value):
            colour = "white" if image.norm(value) < 0.55 else "black"
            text = f"{round(value, digits) + 0.0:.{digits}f}"
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)
    for i, j in framed:
        frame = Rectangle((j - 0.47, i - 0.45), 0.94, 0.9, fill=False)
        frame.set(edgecolor=COLOURS[1], linewidth=3)
        ax.add_patch(frame)
    ax.tick_params(length=0)
    return image


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


def draw_groups(table: pd.DataFrame) -> Figure:
    """Error in each group of places, with its block-bootstrap interval: a row for each grouping.

    Args:
        table: rows of `locties.evaluation.score_groups` with columns encoder, task, unit and
            grouping; ``mae`` and ``error_rate`` are drawn. At most seven encoders.

    Returns:
        The figure, a panel for each grouping and task.

    Example:
        >>> table = pd.DataFrame({"encoder": "melt", "task": "elevation", "unit": "m",
        ...                       "grouping": "continent", "group": ["Africa", "Asia"],
        ...                       "metric": "mae", "value": [210.0, 390.0], "low": [180.0, 350.0],
        ...                       "high": [240.0, 430.0]})
        >>> figure = draw_groups(table)
    """
    drawn = table[table["metric"].isin(ERRORS)]
    tasks, encoders, groupings = (
        list(dict.fromkeys(drawn[column])) for column in ("task", "encoder", "grouping")
    )
    figure, axes = _panels(len(groupings), tasks, 2.9)
    for grouping, row in zip(groupings, axes, strict=True):
        here = drawn[drawn["grouping"] == grouping]
        groups = list(dict.fromkeys(here["group"]))[::-1]
        for task, ax in zip(tasks, row, strict=True):
            for i, encoder in enumerate(encoders):
                own = here[(here["task"] == task) & (here["encoder"] == encoder)]
                y = np.array([groups.index(group) for group in own["group"]], dtype=float)
                y -= 0.16 * (i - (len(encoders) - 1) / 2)
                ax.hlines(y, own["low"], own["high"], color=COLOURS[i], linewidth=1)
                ax.plot(own["value"], y, "o", markersize=4, color=COLOURS[i], label=encoder)
            ax.set_yticks(range(len(groups)), groups)
            for between in range(len(groups) - 1):
                ax.axhline(between + 0.5, color="0.85", linewidth=0.6, zorder=0)
        row[0].set_ylabel(grouping)
    for task, ax in zip(tasks, axes[-1], strict=True):
        chosen = drawn[drawn["task"] == task].iloc[0]
        unit = f"\n({chosen['unit']})" if chosen["unit"] else ""
        ax.set_xlim(left=0)
        ax.set_xlabel(f"{ERRORS[chosen['metric']]}{unit}", fontsize=9)
    _legend(figure, axes[0, 0])
    return figure


def draw_autocorrelation(table: pd.DataFrame) -> Figure:
    """Moran's I of each encoder's residuals, by task, beside that of the task's own target.

    Args:
        table: columns task, encoder, moran, low, high; the encoder "target" is drawn as a dashed
            line, the ends of what chance gives as a grey band.

    Returns:
        The figure, a panel for each task.

    Example:
        >>> table = pd.DataFrame({"task": "elevation", "encoder": ["target", "melt"],
        ...                       "moran": [0.9, 0.3], "low": -0.02, "high": 0.03})
        >>> figure = draw_autocorrelation(table)
    """
    tasks = list(dict.fromkeys(table["task"]))
    encoders = [name for name in dict.fromkeys(table["encoder"]) if name != "target"][::-1]
    figure, axes = _panels(1, tasks, 0.9 + 0.3 * len(encoders))
    for task, ax in zip(tasks, axes[0], strict=True):
        own = table[table["task"] == task].set_index("encoder")
        ax.axvspan(own["low"].min(), own["high"].max(), color="0.8", label="by chance")
        ax.axvline(own.loc["target", "moran"], color="0.3", linestyle="--", label="target itself")
        shown = own.loc[encoders, "moran"]
        ax.plot(shown, range(len(encoders)), "o", color=COLOURS[0], label="residuals")
        ax.set(xlim=(min(-0.1, shown.min() - 0.05), 1.03), xlabel="Moran's I")
    axes[0, 0].set_yticks(range(len(encoders)), encoders)
    axes[0, 0].set_ylim(-0.5, len(encoders) - 0.5)
    _legend(figure, axes[0, 0])
    return figure


def draw_diagnostics(
    diagnostics: Mapping[str, Mapping[str, float]], dimensions: Mapping[str, Mapping[int, float]]
) -> Figure:
    """How encoders spread over the places on land: rank, dimension, alignment and uniformity.

    Args:
        diagnostics: by encoder, what `locties.evaluation.diagnose` gives; at most seven.
        dimensions: by encoder, intrinsic dimension by number of points.

    Returns:
        The figure, of three panels.

    Example:
        >>> found = {"xyz": {"effective_rank": 3.0, "alignment": 3e-5, "uniformity": -1.6}}
        >>> figure = draw_diagnostics(found, {"xyz": {50: 1.9, 500: 2.0}})
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    colours = dict(zip(diagnostics, COLOURS, strict=False))
    rank = {name: found["effective_rank"] for name, found in diagnostics.items()}
    left.barh(list(rank)[::-1], list(rank.values())[::-1], color=list(colours.values())[::-1])
    left.bar_label(left.containers[0], fmt="{:.0f}", padding=3)
    left.set(xlim=(0, 1.2 * max(rank.values())), xlabel="effective rank")
    for name, own in dimensions.items():
        middle.plot(own.keys(), own.values(), ".-", color=colours[name], label=name)
    middle.axhline(2, color="0.6", linewidth=0.8, zorder=0)
    middle.set(xscale="log", xlabel="points on land", ylabel="intrinsic dimension", ylim=(0, None))
    counts = sorted({count for own in dimensions.values() for count in own})
    middle.set_xticks(counts, [f"{count:,}" for count in counts])
    middle.minorticks_off()
    for name, found in diagnostics.items():
        right.plot(found["alignment"], found["uniformity"], "o", color=colours[name])
    right.set(xscale="log")
    right.set(xlabel="alignment within 50 km\n(← nearer)", ylabel="uniformity (↓ more even)")
    _legend(figure, middle)
    return figure


def draw_side_by_side(benchmarks: pd.DataFrame) -> Figure:
    """Time of each contender in each case, from fastest to slowest, beside the floor.

    A dot is the median, its thin line the fastest and the slowest round; the grey stroke is what
    the machine's arithmetic or memory allows at best.

    Args:
        benchmarks: rows of ``benchmarks/side_by_side.py``, of any cases but growth.

    Returns:
        The figure, a panel for each case and size.

    Example:
        >>> times = pd.DataFrame({"case": "grid", "size": 2048, "contender": ["locties", "other"],
        ...                       "seconds": [2.0, 90.0], "fastest": [1.9, 88.0],
        ...                       "slowest": [2.2, 95.0], "floor": 0.5})
        >>> figure = draw_side_by_side(times)
    """
    cases = benchmarks.groupby(["case", "size"], sort=False)
    heights = [0.8 + 0.3 * len(rows) for _, rows in cases]
    figure, axes = plt.subplots(
        len(cases),
        1,
        figsize=(8, sum(heights)),
        height_ratios=heights,
        layout="constrained",
    )
    for ((case, size), rows), ax in zip(cases, np.atleast_1d(axes), strict=True):
        rows = rows.sort_values("seconds", ascending=False)
        ax.hlines(rows["contender"], rows["fastest"], rows["slowest"], color="black", linewidth=1)
        for contender, seconds in zip(rows["contender"], rows["seconds"], strict=True):
            colour = COLOURS[0] if contender.startswith("locties") else COLOURS[1]
            ax.plot(seconds, contender, "o", color=colour)
        ax.plot(rows["floor"], rows["contender"], "|", color="0.4", markersize=12)
        ax.margins(y=0.2)
        ax.set_xscale("log")
        unit = "pairs" if case == "step" else "points"
        ax.set(xlabel="seconds", title=f"{case}, {size:,} {unit}")
    return figure


def draw_growth(benchmarks: pd.DataFrame) -> Figure:
    """How time grows with each size: measured, and the floor.

    Args:
        benchmarks: rows of ``benchmarks/side_by_side.py``, of the cases "<what> by <size>".

    Returns:
        The figure, a panel for each case, four in a row.

    Example:
        >>> times = pd.DataFrame({"case": "step by batch", "size": [512, 2048],
        ...                       "seconds": [0.1, 0.4], "floor": [0.05, 0.2]})
        >>> figure = draw_growth(times)
    """
    cases = benchmarks.groupby("case", sort=False)
    columns = min(4, len(cases))
    rows_of_panels = -(-len(cases) // columns)
    figure, axes = plt.subplots(
        rows_of_panels,
        columns,
        figsize=(2.5 * columns, 0.4 + 2.6 * rows_of_panels),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[len(cases) :]:
        ax.remove()
    # Whole decades, the same for all that grows with something.
    times = benchmarks.assign(what=benchmarks["case"].str.partition(" by ")[0]).groupby("what")
    lowest = 10 ** np.floor(np.log10(1000 * times[["seconds", "floor"]].min().min(axis=1)))
    highest = 10 ** np.ceil(np.log10(1000 * times[["seconds", "floor"]].max().max(axis=1)))
    for (case, rows), ax in zip(cases, axes.flat, strict=False):
        what, _, varied = case.partition(" by ")
        rows = rows.sort_values("size")
        ax.loglog(rows["size"], 1000 * rows["seconds"], "o-", color=COLOURS[0], label="measured")
        ax.loglog(rows["size"], 1000 * rows["floor"], "--", color="0.4", label="floor")
        ax.set(xlabel=varied, title=what, ylim=(lowest[what], highest[what]))
        ax.set_xticks(rows["size"], [f"{value:,}" for value in rows["size"]], fontsize=8)
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("milliseconds")
    _legend(figure, axes.flat[0])
    return figure
