"""Charts of scores and training runs, in Okabe and Ito's colours for colour-blind readers."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from locties.evaluation.statistics import mean_interval
from locties.month import MONTHS
from locties_paper.results import FEWEST_FOR_AN_INTERVAL, of_tier, scores

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
BLUE, ORANGE, GREEN = COLOURS[:3]
METRICS = {"r2": "R²", "accuracy": "accuracy"}
ERRORS = {"mae": "mean absolute error", "error_rate": "error rate"}
PAIRS = "training pairs (thousands)"
LOSS = "validation loss (nats)"
WIDTH = 8  # inches; the book's column has 6.5, so text of 9 points shrinks to 7


def draw_history(history: pd.DataFrame) -> Figure:
    """Validation loss and recall of each modality along one run: the `history` of a `Run`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2), layout="constrained")
    for (name, rows), colour in zip(history.groupby("modality", sort=False), COLOURS, strict=False):
        style: dict[str, Any] = {"color": colour, "marker": ".", "label": name}
        left.plot(rows["pairs"] / 1000, rows["validation_loss"], **style)
        right.plot(rows["pairs"] / 1000, rows["recall_at_10"], **style)
    left.set(xlabel=PAIRS, ylabel=LOSS)
    right.set(xlabel=PAIRS, ylabel="recall at 10", ylim=(0, None))
    _legend(figure, right)
    return figure


def draw_scores(runs: pd.DataFrame, trained: Sequence[str], tier: str = "embedded") -> Figure:
    """Score of every encoder with all labels: one panel for each task, split and probe.

    A dot is a seed, and its thin line the block-bootstrap interval over test points. A thick line
    is the t-interval over three or more seeds. A grey line marks the best baseline.

    Args:
        runs: rows of `evaluate`.
        trained: encoders drawn in blue, or in green with coordinates appended ("melt+xyz"). All
            others are baselines, in orange.
        tier: of the tasks.
    """
    points = scores(runs, tier=tier)
    tasks = _unique(points["task"])
    cells = points[["split", "probe"]].drop_duplicates().to_numpy().tolist()
    order = list(points.groupby("encoder")["value"].mean().sort_values().index)
    colours = {
        name: BLUE if name in trained else GREEN if _base(name) in trained else ORANGE
        for name in order
    }
    figure, axes = _panels(len(cells), tasks, max(1.6, 0.6 + 0.2 * len(order)))
    intervals = of_tier(runs, tier).pivot_table(
        "value", ["encoder", "seed", "task", "split", "probe", "labels"], "metric"
    )
    for (split, probe), row in zip(cells, axes, strict=True):
        for task, ax in zip(tasks, row, strict=True):
            chosen = points.query("split == @split and probe == @probe and task == @task")
            metric = chosen["metric"].iloc[0]
            for y, encoder in enumerate(order):
                seeds = chosen[chosen["encoder"] == encoder]
                colour = colours[encoder]
                for seed, value in zip(seeds["seed"], seeds["value"], strict=True):
                    ends = intervals.loc[(encoder, seed, task, split, probe, "all")]
                    low, high = ends[f"{metric}_low"], ends[f"{metric}_high"]
                    ax.plot([low, high], [y, y], color=colour, linewidth=0.8, alpha=0.6)
                    ax.plot(value, y, "o", markersize=3.5, color=colour)
                if len(seeds) >= FEWEST_FOR_AN_INTERVAL:
                    interval = mean_interval(seeds["value"])
                    ax.plot([interval.low, interval.high], [y, y], color=colour, linewidth=3)
            baselines = chosen.loc[~chosen["encoder"].map(_base).isin(trained), "value"]
            if len(baselines):
                ax.axvline(baselines.max(), color="0.6", linewidth=0.8, zorder=0)
        row[0].set_yticks(range(len(order)), order, fontsize=9)
        row[0].set_ylabel(f"{split} folds, {probe}")
    for task, ax in zip(tasks, axes[-1], strict=True):
        chosen = points[points["task"] == task]
        ax.set_xlim(max(-0.3, chosen["value"].min() - 0.1), 1.02)
        ax.set_xlabel(METRICS[chosen["metric"].iloc[0]])
    return figure


def draw_few_labels(runs: pd.DataFrame, encoders: Sequence[str], tier: str = "embedded") -> Figure:
    """Score by number of labels: the mean over seeds with the better probe, by task and split.

    `runs` are rows of `evaluate`; `encoders` are at most seven names.
    """
    rows = of_tier(runs, tier)
    few = rows[rows["metric"].isin(METRICS) & rows["labels"].str.isdigit()]
    few = few.assign(n=few["labels"].astype(int))
    cell = ["encoder", "task", "split", "n"]
    best = few.groupby([*cell, "probe"])["value"].mean().groupby(cell).max()
    tasks, splits = _unique(few["task"]), _unique(few["split"])
    figure, axes = _panels(len(splits), tasks, 2.4)
    for split, row in zip(splits, axes, strict=True):
        for task, ax in zip(tasks, row, strict=True):
            for encoder, colour in zip(encoders, COLOURS, strict=False):
                if (encoder, task, split) in best.index:
                    line = best.loc[(encoder, task, split)]
                    ax.plot(line.index, line, ".-", color=colour, label=encoder)
            ax.set(xscale="log", ylim=(min(0, *ax.get_ylim()), 1))
            budgets = sorted(few.loc[few["task"] == task, "n"].unique())
            ax.set_xticks(budgets, [f"{n:,}" for n in budgets])
            ax.minorticks_off()
        row[0].set_ylabel(f"R² or accuracy, {split} folds")
    for ax in axes[-1]:
        ax.set_xlabel("labels")
    _legend(figure, axes[0, 0])
    return figure


def draw_split_gap(runs: pd.DataFrame, tier: str = "embedded") -> Figure:
    """Score in random and in block folds, by task, with all labels and the better probe.

    `runs` are rows of `evaluate`; seeds are averaged.
    """
    best = best_probe(runs, tier).pivot_table("value", ["task", "encoder"], "split")
    metrics = scores(runs, tier=tier).groupby("task", sort=False)["metric"].first()
    encoders = _unique(of_tier(runs, tier)["encoder"])[::-1]
    figure, axes = _panels(1, list(metrics.index), 0.9 + 0.3 * len(encoders))
    for (task, metric), ax in zip(metrics.items(), axes[0], strict=True):
        values = best.loc[task].loc[encoders]
        y = range(len(encoders))
        ax.hlines(y, values["block"], values["random"], color="0.6", linewidth=1.5, zorder=1)
        for split, marker, colour in (("random", "o", COLOURS[5]), ("block", "s", ORANGE)):
            ax.scatter(values[split], y, marker=marker, color=colour, s=32, label=split, zorder=2)
        ax.set(xlim=(min(-0.1, values.min(axis=None) - 0.1), 1.02), xlabel=METRICS[metric])
    axes[0, 0].set_yticks(range(len(encoders)), encoders)
    _legend(figure, axes[0, 0])
    return figure


def draw_leakage(
    runs: pd.DataFrame,
    tasks: Sequence[str],
    leaks: Mapping[str, Sequence[str]],
    tier: str = "embedded",
) -> Figure:
    """How well each modality predicts each task: a heat map for each split, with the better probe.

    Args:
        runs: rows of `evaluate`, with the modality in the column encoder.
        tasks: the columns of the heat maps.
        leaks: by task, the modalities to frame.
        tier: of the tasks.
    """
    best = best_probe(runs, tier).pivot_table("value", ["split", "encoder"], "task")
    rows = _unique(of_tier(runs, tier)["encoder"])
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH, 1.6 + 0.42 * len(rows)), sharey=True, layout="constrained"
    )
    cells = list(itertools.product(enumerate(rows), enumerate(tasks)))
    framed = [(i, j) for (i, row), (j, task) in cells if row in leaks.get(task, ())]
    for split, ax in zip(("random", "block"), axes, strict=True):
        shown = best.loc[split].loc[rows, list(tasks)].to_numpy()
        image = _heat_map(ax, shown, framed, digits=2, size=9, vmin=0, vmax=1)
        names = [task.replace("_", " ") for task in tasks]
        ax.set_xticks(range(len(tasks)), names, fontsize=9, rotation=30, ha="right")
        ax.set_title(f"{split} folds", fontsize=11)
    axes[0].set_yticks(range(len(rows)), rows)
    figure.colorbar(image, ax=axes, label="R² or accuracy", shrink=0.9, extend="min")
    return figure


def draw_retrieval(table: pd.DataFrame) -> Figure:
    """Share of samples whose best match lies within each distance, and by chance, by modality.

    `table` has rows of `locties.evaluation.retrieve` for one encoder. Values and the ends of their
    block-bootstrap intervals are averaged over seeds.
    """
    within = table[table["metric"].str.startswith("within_")]
    columns = ["value", "low", "high", "chance"]
    means = within.groupby(["modality", "metric"], sort=False)[columns].mean()
    modalities = _unique(within["modality"])
    figure, axes = _panels(1, modalities, 2.6)
    for modality, ax in zip(modalities, axes[0], strict=True):
        rows = means.loc[modality]
        x = np.arange(len(rows))
        ends = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        line = {"elinewidth": 1, "capsize": 2}
        ax.bar(x - 0.2, rows["value"], 0.4, yerr=ends, color=BLUE, error_kw=line, label="run")
        ax.bar(x + 0.2, rows["chance"], 0.4, color="0.7", label="chance")
        ax.set_xticks(x, [metric.split("_")[1] for metric in rows.index])
        ax.set_xlabel("distance (km)")
    axes[0, 0].set(ylabel="share of samples within it", ylim=(0, None))
    _legend(figure, axes[0, 0])
    return figure


def draw_groups(table: pd.DataFrame) -> Figure:
    """Error in each group of places, with its block-bootstrap interval, by grouping and task.

    `table` has rows of `locties_paper.geography.score_groups` with columns encoder (at most seven),
    task, unit and grouping. The metrics of `ERRORS` are drawn.
    """
    drawn = table[table["metric"].isin(ERRORS)]
    tasks, encoders, groupings = (_unique(drawn[c]) for c in ("task", "encoder", "grouping"))
    figure, axes = _panels(len(groupings), tasks, 2.9)
    for grouping, row in zip(groupings, axes, strict=True):
        here = drawn[drawn["grouping"] == grouping]
        groups = _unique(here["group"])[::-1]
        for task, ax in zip(tasks, row, strict=True):
            for i, encoder in enumerate(encoders):
                rows = here[(here["task"] == task) & (here["encoder"] == encoder)]
                y = np.array([groups.index(group) for group in rows["group"]], dtype=float)
                y -= 0.16 * (i - (len(encoders) - 1) / 2)
                ax.hlines(y, rows["low"], rows["high"], color=COLOURS[i], linewidth=1)
                ax.plot(rows["value"], y, "o", markersize=4, color=COLOURS[i], label=encoder)
            ax.set_yticks(range(len(groups)), groups)
            for between in range(len(groups) - 1):
                ax.axhline(between + 0.5, color="0.85", linewidth=0.6, zorder=0)
        row[0].set_ylabel(grouping)
    for task, ax in zip(tasks, axes[-1], strict=True):
        first = drawn[drawn["task"] == task].iloc[0]
        unit = f"\n({first['unit']})" if first["unit"] else ""
        ax.set_xlim(left=0)
        ax.set_xlabel(f"{ERRORS[first['metric']]}{unit}", fontsize=9)
    _legend(figure, axes[0, 0])
    return figure


def draw_by_month(errors: pd.DataFrame) -> Figure:
    """Error against the month: one panel for each task, one line for each encoder.

    `errors` have columns encoder, task, unit, month (1 to 12) and value.
    """
    tasks = _unique(errors["task"])
    figure, axes = _subplots(1, len(tasks), (WIDTH, 3.2))
    for task, ax in zip(tasks, axes[0], strict=True):
        of_task = errors[errors["task"] == task]
        lines = of_task.groupby("encoder", sort=False)
        for (name, line), colour in zip(lines, COLOURS, strict=False):
            ax.plot(line["month"], line["value"], ".-", color=colour, label=name)
        ax.set_xticks(range(1, 13), [name[0] for name in MONTHS])
        ax.set(ylim=(0, None), ylabel=f"{ERRORS['mae']} ({of_task['unit'].iloc[0]})")
        ax.set_title(task.replace("_", " "), fontsize=10)
    _legend(figure, axes[0, 0])
    return figure


def draw_autocorrelation(table: pd.DataFrame) -> Figure:
    """Moran's I of each encoder's residuals and of the target, by task.

    `table` has columns task, encoder, moran, low and high. The encoder "target" becomes a dashed
    line. The range low to high, expected by chance, becomes a grey band.
    """
    tasks = _unique(table["task"])
    encoders = [name for name in _unique(table["encoder"]) if name != "target"][::-1]
    figure, axes = _panels(1, tasks, 0.9 + 0.3 * len(encoders))
    for task, ax in zip(tasks, axes[0], strict=True):
        rows = table[table["task"] == task].set_index("encoder")
        ax.axvspan(rows["low"].min(), rows["high"].max(), color="0.8", label="chance")
        ax.axvline(rows.loc["target", "moran"], color="0.3", linestyle="--", label="target")
        shown = rows.loc[encoders, "moran"]
        ax.plot(shown, range(len(encoders)), "o", color=BLUE, label="residuals")
        ax.set(xlim=(min(-0.1, shown.min() - 0.05), 1.03), xlabel="Moran's I")
    axes[0, 0].set_yticks(range(len(encoders)), encoders)
    axes[0, 0].set_ylim(-0.5, len(encoders) - 0.5)
    _legend(figure, axes[0, 0])
    return figure


def draw_diagnostics(
    diagnostics: Mapping[str, Mapping[str, float]], dimensions: Mapping[str, Mapping[int, float]]
) -> Figure:
    """Rank, intrinsic dimension, alignment and uniformity of at most seven encoders on land.

    Args:
        diagnostics: by encoder, the result of `diagnose`.
        dimensions: by encoder, the intrinsic dimension by number of points.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 3.2), layout="constrained")
    colours = dict(zip(diagnostics, COLOURS, strict=False))
    rank = {name: found["effective_rank"] for name, found in diagnostics.items()}
    left.barh(list(rank)[::-1], list(rank.values())[::-1], color=list(colours.values())[::-1])
    left.bar_label(left.containers[0], fmt="{:.0f}", padding=3)
    left.set(xlim=(0, 1.2 * max(rank.values())), xlabel="effective rank")
    for name, counts in dimensions.items():
        middle.plot(counts.keys(), counts.values(), ".-", color=colours[name], label=name)
    middle.axhline(2, color="0.6", linewidth=0.8, zorder=0)
    middle.set(xscale="log", xlabel="points on land", ylabel="intrinsic dimension", ylim=(0, None))
    ticks = sorted({count for counts in dimensions.values() for count in counts})
    middle.set_xticks(ticks, [f"{count:,}" for count in ticks])
    middle.minorticks_off()
    for name, found in diagnostics.items():
        right.plot(found["alignment"], found["uniformity"], "o", color=colours[name])
    right.set(xscale="log")
    right.set(xlabel="alignment within 50 km\n(← closer)", ylabel="uniformity (↓ more even)")
    _legend(figure, middle)
    return figure


def draw_side_by_side(benchmarks: pd.DataFrame) -> Figure:
    """Time of each contender, slowest first: a panel for each case and size.

    A dot is the median round; its line runs from the fastest to the slowest. The grey stroke is the
    shortest time that the machine's arithmetic or memory allows. `benchmarks` has rows of
    ``benchmarks/side_by_side.py``, without its cases of growth.
    """
    cases = benchmarks.groupby(["case", "size"], sort=False)
    heights = [0.8 + 0.3 * len(rows) for _, rows in cases]
    figure, axes = _subplots(len(cases), 1, (WIDTH, sum(heights)), height_ratios=heights)
    for ((case, size), rows), ax in zip(cases, axes.flat, strict=True):
        rows = rows.sort_values("seconds", ascending=False)
        ax.hlines(rows["contender"], rows["fastest"], rows["slowest"], color="black", linewidth=1)
        for contender, seconds in zip(rows["contender"], rows["seconds"], strict=True):
            colour = BLUE if contender.startswith("locties") else ORANGE
            ax.plot(seconds, contender, "o", color=colour)
        ax.plot(rows["floor"], rows["contender"], "|", color="0.4", markersize=12)
        ax.margins(y=0.2)
        ax.set_xscale("log")
        unit = "pairs" if case == "step" else "points"
        ax.set(xlabel="seconds", title=f"{case}, {size:,} {unit}")
    return figure


def draw_growth(benchmarks: pd.DataFrame) -> Figure:
    """Measured time and its floor as each size grows: a panel for each case, three in a row.

    `benchmarks` has rows of ``benchmarks/side_by_side.py`` for the cases "<what> by <size>".
    """
    cases = benchmarks.groupby("case", sort=False)
    columns = min(3, len(cases))
    lines = -(-len(cases) // columns)
    figure, axes = _subplots(lines, columns, (WIDTH, 0.4 + 2.4 * lines))
    for ax in axes.flat[len(cases) :]:
        ax.remove()
    # Panels of the same work share whole decades.
    times = benchmarks.assign(what=benchmarks["case"].str.partition(" by ")[0]).groupby("what")
    lowest = 10 ** np.floor(np.log10(1000 * times[["seconds", "floor"]].min().min(axis=1)))
    highest = 10 ** np.ceil(np.log10(1000 * times[["seconds", "floor"]].max().max(axis=1)))
    for (case, rows), ax in zip(cases, axes.flat, strict=False):
        what, _, size = case.partition(" by ")
        rows = rows.sort_values("size")
        ax.loglog(rows["size"], 1000 * rows["seconds"], "o-", color=BLUE, label="measured")
        ax.loglog(rows["size"], 1000 * rows["floor"], "--", color="0.4", label="floor")
        ax.set(xlabel=size, title=what, ylim=(lowest[what], highest[what]))
        ax.set_xticks(rows["size"], [f"{value:,}" for value in rows["size"]], fontsize=9)
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("milliseconds")
    _legend(figure, axes.flat[0])
    return figure


def draw_map_study(table: pd.DataFrame, wanted: float) -> Figure:
    """Score and coverage of maps by number of labels: mean over draws with a 95% t-interval.

    `table` is that of `locties_paper.map_study.study`; a dotted line marks the coverage `wanted`.
    """
    tasks, contenders = _unique(table["task"]), _unique(table["contender"])
    figure, axes = _panels(2, tasks, 2.4)
    for task, column in zip(tasks, axes.T, strict=True):
        for metric, ax in zip(("score", "coverage"), column, strict=True):
            for contender, colour in zip(contenders, COLOURS, strict=False):
                rows = table[(table["task"] == task) & (table["contender"] == contender)]
                drawn = rows.groupby("labels")[metric].agg(mean_interval)
                if drawn.empty:
                    continue
                mean, low, high = np.array(drawn.tolist()).T
                style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4}
                ax.errorbar(drawn.index, mean, [mean - low, high - mean], label=contender, **style)
        column[0].set_xscale("log")
        column[1].axhline(wanted, color="0.3", linestyle=":")
        ticks = sorted(table["labels"].unique())
        column[1].set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        column[1].minorticks_off()
        column[1].set_xlabel("labels")
    means = table.groupby(["task", "labels", "contender"])[["score", "coverage"]].mean()
    for metric, ax in zip(means, axes[:, 0], strict=True):  # clip a few far longer intervals
        ax.set_ylim(max(means[metric].min() - 0.1, -0.5), 1.05)
    axes[0, 0].set_ylabel("R² or accuracy")
    axes[1, 0].set_ylabel("share inside")
    _legend(figure, axes[0, 0])
    return figure


def best_probe(runs: pd.DataFrame, tier: str = "embedded") -> pd.DataFrame:
    """Score with all labels and the better probe, averaged over seeds.

    `runs` are rows of `evaluate`. Columns of the result: encoder, task, split, value.
    """
    cell = ["encoder", "task", "split"]
    means = scores(runs, tier=tier).groupby([*cell, "probe"], sort=False)["value"].mean()
    return means.groupby(cell, sort=False).max().reset_index()


def _unique(column: pd.Series) -> list[Any]:
    return list(dict.fromkeys(column))


def _base(encoder: str) -> str:
    """The encoder's name without the baseline appended to it."""
    return encoder.partition("+")[0]


def _subplots(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )
    return figure, axes


def _panels(rows: int, columns: Sequence[str], height: float) -> tuple[Figure, np.ndarray]:
    """A grid of panels, titled along the top; each row is `height` inches high."""
    size = (WIDTH, 0.6 + rows * height)
    figure, axes = _subplots(rows, len(columns), size, sharey="row", sharex="col")
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name.replace("_", " "), fontsize=10)
    return figure, axes


def _legend(figure: Figure, ax: Any) -> None:
    """One legend below all panels."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)


def _heat_map(
    ax: Any, shown: np.ndarray, framed: Sequence[tuple], digits: int, size: float, **scale: float
) -> Any:
    """Draw coloured cells with their values in them, some framed."""
    image = ax.imshow(shown, cmap="cividis", aspect="auto", **scale)
    for (i, j), value in np.ndenumerate(shown):
        if np.isfinite(value):
            colour = "white" if image.norm(value) < 0.55 else "black"
            text = f"{round(value, digits) + 0.0:.{digits}f}"
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)
    for i, j in framed:
        frame = Rectangle((j - 0.47, i - 0.45), 0.94, 0.9, fill=False)
        frame.set(edgecolor=ORANGE, linewidth=3)
        ax.add_patch(frame)
    ax.tick_params(length=0)
    return image
