"""Write the model cards of shipped encoders: Markdown, with every number read from results.

``python -m locties_paper.figures.cards NAME...`` writes them, and first measures the errors by
continent of encoders that have none. ``python -m locties_paper.open_tasks`` makes the scores.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt

from locties._util.registry import Registry
from locties.apply.metadata import takes_month
from locties.data import manifest, sampling
from locties.encoder import load
from locties.evaluation import TASKS, TIERS
from locties.saved import FORMAT_INT8, WEIGHTS, find_folder, published, read_card, read_config
from locties_paper import results
from locties_paper.design import LEAKING
from locties_paper.geography import GROUPINGS, predict_with_best_probe, score_groups

# The manifest's datasets behind each modality; `land` is where samples may lie.
SOURCES: dict[str, tuple[str, ...]] = Registry(
    "modality with known data",
    imagery=("imagery", "land"),
    rain=("rain", "land"),
    temperature=("temperature", "land"),
    haze=("haze", "land"),
    relief=("relief", "land"),
    rasters=("imagery", "relief", "rain", "haze", "places", "land"),
    toponyms=("places",),
    text=("text", "places"),
    imagery_frozen=("imagery", "land"),
    night_lights=("night_lights", "land"),
)
METHODS = {
    "melt": "MELT, in which every batch holds all modalities",
    "salt": "SALT, in which one modality is active in each epoch",
    "clip": "the two-modality baseline in the style of SatCLIP",
    "regression": "regression: it learned to predict what a modality says of each place",
}
PAPERS = {
    "melt": (
        "Hecht, J., Arzoumanidis, L., Li, Z., Dehbi, Y. (2026). Multi-Modal Contrastive Learning "
        "for Implicit Earth Embeddings via Location Tying. arXiv 2606.20167."
    ),
    "clip": (
        "Klemmer, K., Rolf, E., Robinson, C., Mackey, L., Russwurm, M. (2025). SatCLIP: global, "
        "general-purpose location embeddings with satellite imagery. AAAI 2025."
    ),
    "regression": (
        "Müller, T., Evans, A., Schied, C., Keller, A. (2022). Instant Neural Graphics Primitives "
        "with a Multiresolution Hash Encoding. ACM Transactions on Graphics 41."
    ),
}
PAPERS["salt"] = PAPERS["melt"]
READOUTS = {"layers": "layers: the outputs of all layers, each scaled to unit length, concatenated"}
ENDS = ("", "_low", "_high")  # suffixes of a metric: the score and its interval
LABELS = ("50", "200", "1000", "all")
POINTS = 5000  # per task, for the errors by continent
LAND = "all land"


def by_continent(encoder: str | Path) -> pd.DataFrame:
    """Errors of a shipped or saved encoder on each continent, for the tasks of the embedded tier.

    Uses block folds, all labels and, for each task, the probe with the smallest error over all
    points. Continents with fewer than 25 points are left out.

    Returns:
        Columns encoder, sha256 (of its weights), task, unit, probe, group (a continent or "all
        land"), points, blocks, metric ("mae" in the task's unit, or "error_rate"), value, and the
        ends low and high of a block-bootstrap interval.
    """
    loaded, tables = load(encoder), []
    for task in (make(points=POINTS) for make in TASKS.values()):
        probe, predicted = predict_with_best_probe(loaded, task)
        for group in (GROUPINGS["continent"](task.lonlat), [LAND] * len(task.target)):
            made_by = {"task": task.name, "unit": task.unit, "probe": probe}
            tables.append(score_groups(task, predicted, group).assign(**made_by))
    about = {"encoder": find_folder(encoder).name, "sha256": read_config(encoder)["sha256"]}
    table = pd.concat(tables).assign(**about)
    columns = ["encoder", "sha256", "task", "unit", "probe", "group", "points", "blocks"]
    errors = table[table["metric"].isin(["mae", "error_rate"])]
    return errors[[*columns, "metric", "value", "low", "high"]].reset_index(drop=True)


def card(encoder: str | Path, folder: str | Path = results.PUBLISHED_ROWS) -> str:
    """The card of a shipped or saved encoder, from its config and the tables in a folder.

    Scores count only if they were measured with the same weights. The encoder must have been
    published by `locties_paper.publish`, which keeps its origin.
    """
    path, config, loaded = find_folder(encoder), read_config(encoder), load(encoder)
    name = path.name
    origin, month = config["origin"], ", month=7" * takes_month(loaded)
    parts = [
        f"# {name}",
        f"A location encoder: longitude{', latitude and month' if month else ' and latitude'} in, "
        f"{loaded.dim} numbers out. Trained on {_and(origin['modalities'])} by "
        f"{METHODS[_method(origin)]}.",
        f'```python\nembedding = locties.load("{name}")([[13.4, 52.5]]{month})  '
        f"# (1, {loaded.dim})\n```",
        "## Recipe",
        _recipe(path, config),
        "## Scores",
        *_scores(_of(config, folder, "open_tasks")),
        "## Leakage",
        "A task leaks where its labels share a source with a training modality: the answer may be "
        f"copied. {' '.join(_leakage(tier, origin['modalities']) for tier in TIERS)}",
        "## Where it fails",
        _worst(_of(config, folder, "continents")),
        f"Samples on land were read north of {-sampling.SOUTHERN_LIMIT:g}° S. At sea and in "
        "Antarctica the encoder extrapolates.",
        *_failures(name, config, folder),
        "Do not use it for navigation or safety, for borders or claims to land, for decisions "
        "about single people or households, or in place of a measurement. It cannot tell "
        "neighbouring fields or streets apart, because its data are coarser. Test it on held-out "
        "blocks of your own labels before you trust it.",
        "## Data",
        "The code has the MIT licence. The training data have other terms; whether these reach the "
        "weights is not settled:",
        _data(origin["modalities"]),
        f"Cite: {PAPERS[_method(origin)]} Encoder {name} of locties {config['locties']}, "
        f"sha256 {config['sha256'][:12]}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _method(origin: Mapping[str, Any]) -> str:
    """The key of a method in `METHODS` and `PAPERS`."""
    return str(origin["objective" if origin["objective"] in METHODS else "schedule"])


def _of(config: dict[str, Any], folder: str | Path, table: str) -> pd.DataFrame:
    """The rows of a table that were measured with these weights."""
    path = Path(folder) / f"{table}.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame({"sha256": []})
    return rows[rows["sha256"] == config["sha256"]]


def _recipe(path: Path, config: dict[str, Any]) -> str:
    origin = config["origin"]
    weights = sum(p.numel() for p in load(path).parameters())
    size = (path / WEIGHTS).stat().st_size
    features = _with_options(config["features"], config["feature_options"])
    network = _with_options(config["network"], config["network_options"])
    return _table(
        ["", ""],
        [
            ["encoder", f"{features}, then {network}"],
            *([["readout", READOUTS[config["readout"]]]] if config["readout"] in READOUTS else []),
            [
                "training",
                f"{_with_options(origin['objective'], origin['objective_options'])}; "
                f"{origin['pairs']:,} pairs in {origin['steps']:,} steps of {origin['batch']:,}, "
                f"{origin['epochs']} epochs; {origin['samples']:,} samples a modality at "
                f"{origin['locations']} locations; learning rate {origin['learning_rate']:g}, "
                f"{origin['decay']}",
            ],
            [
                "cost",
                f"{origin['flops'] / 1e12:.2f} TFLOP, {origin['seconds']:.0f} s in "
                f"{origin['precision']} on {origin['device']}",
            ],
            [
                "run",
                f"{origin['run']}, seed {origin['seed']}: locties {origin['code']}, torch "
                f"{origin['torch']}, Python {origin['python']}, data {origin['data'][:12]}",
            ],
            ["weights", f"{weights:,}, in {size:,} bytes of sha256 `{config['sha256']}`"],
        ],
    )


def _scores(rows: pd.DataFrame) -> list[str]:
    """By task and split, the score of the better probe; then means by number of labels."""
    if rows.empty:
        return ["It was not scored yet. `locties.evaluate` scores it on tasks of your own."]
    points = results.scores(rows, tier="open")
    best = points.loc[points.groupby(["split", "task"], sort=False)["value"].idxmax()]
    here = rows[rows["labels"] == "all"].set_index([*results.CELL, "metric"])["value"]
    cells = {
        (task, split): f"{_interval(*(here[task, split, probe, metric + e] for e in ENDS))} {probe}"
        for task, split, probe, metric in best[[*results.CELL, "metric"]].itertuples(index=False)
    }
    splits = list(dict.fromkeys(best["split"]))
    lines = [
        [task.replace("_", " "), *(cells[task, split] for split in splits)]
        for task in dict.fromkeys(best["task"])
    ]
    counts = [labels for labels in LABELS if labels in set(rows["labels"])]
    means = [f"{results.scores(rows, labels, 'open')['value'].mean():.3f}" for labels in counts]
    return [
        "Scores of this encoder on the open tasks with all labels: R², or accuracy for classes, by "
        "ridge or kNN, whichever is higher. In brackets, the 95% interval of a block bootstrap "
        "over test points.",
        _table(["task", *(f"{split} folds" for split in splits)], lines),
        "The mean over tasks, folds and both probes, by number of labels. A task with too few "
        "labels for a number is left out there.",
        _table([f"{labels} labels" for labels in counts], [means]),
    ]


def _leakage(tier: str, modalities: Sequence[str]) -> str:
    """A sentence: the tasks of a tier that share a source with one of the modalities."""
    leaks = LEAKING[tier]
    shared = {
        task: [name for name in leaks.get(task, ()) if name in modalities] for task in TIERS[tier]
    }
    named = [f"{task.replace('_', ' ')} ({_and(names)})" for task, names in shared.items() if names]
    free = [task.replace("_", " ") for task, names in shared.items() if not names]
    if not named:
        return f"{tier.capitalize()} tier: no task leaks."
    leaking = f"{_and(named)} leak{'s' if len(named) == 1 else ''}"
    rest = f"{_and(free)} do{'es' if len(free) == 1 else ''} not" if free else "no task is free"
    return f"{tier.capitalize()} tier: {leaking}; {rest}."


def _worst(errors: pd.DataFrame) -> str:
    """By task, the continent with the largest error."""
    if errors.empty:
        return ""
    lines = []
    for task, found in errors.groupby("task", sort=False):
        land, continents = found[found["group"] == LAND].iloc[0], found[found["group"] != LAND]
        worst = continents.loc[continents["value"].idxmax()]
        lines.append(
            [
                f"{str(task).replace('_', ' ')}, {land['unit'] or 'error rate'}",
                worst["group"],
                f"{worst['value']:.3g} ({worst['low']:.3g} to {worst['high']:.3g})",
                f"{land['value']:.3g} ({land['low']:.3g} to {land['high']:.3g})",
            ]
        )
    return (
        "The continent with the largest error for each task of the embedded tier: the mean "
        "absolute error, or the error rate for classes, in block folds with the better probe. The "
        "book's page on errors shows errors by climate too, and those of other encoders.\n\n"
        + _table(["task", "worst on", "error there", f"on {LAND}"], lines)
    )


def _failures(name: str, config: dict[str, Any], folder: str | Path) -> list[str]:
    """Baselines that score at least as high as the encoder, and in how many cells."""
    own = _of(config, folder, "open_tasks")
    if own.empty:
        return []
    every = pd.read_parquet(Path(folder) / "open_tasks.parquet")
    behind = results.not_beaten(pd.concat([every[every["sha256"] == ""], own]), name, "open")
    if behind.empty:
        return ["In no cell (an open task, folds and a probe) does a baseline score as high."]
    cells = len(results.scores(own, tier="open"))
    lines = []
    for other, theirs in behind.groupby("other"):
        by_task = theirs["task"].value_counts(sort=False)
        named = ", ".join(f"{str(task).replace('_', ' ')} {n}" for task, n in by_task.items())
        lines.append([str(other), f"{by_task.sum()} of {cells}: {named}"])
    return [
        "Baselines that score at least as high: the number of cells (an open task, folds and a "
        "probe), by task. `raw` reads the modalities' own values at the place, some of which leak.",
        _table(["baseline", "cells"], lines),
    ]


def sources(modalities: Sequence[str]) -> list[manifest.Source]:
    """The datasets behind modalities."""
    names = dict.fromkeys(name for modality in modalities for name in SOURCES[modality])
    return [manifest.source(name) for name in names]


def _data(modalities: Sequence[str]) -> str:
    alike: dict[tuple[str, str, str], list[manifest.Source]] = {}
    for source in sources(modalities):
        alike.setdefault((source.where, source.licence, source.terms), []).append(source)
    return _table(
        ["data", "from", "licence", "terms", "cite"],
        [
            [", ".join(s.name for s in group), *terms, "; ".join(s.citation for s in group)]
            for terms, group in alike.items()
        ],
    )


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _with_options(name: str, options: dict[str, Any]) -> str:
    text = ", ".join(f"{option} {value}" for option, value in options.items())
    return f"{name} ({text})" if text else name


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def folded(name: str) -> str:
    """The card of a published encoder as HTML, behind a summary and below headings of level 2."""
    page = MarkdownIt("commonmark").enable("table").render(read_card(name))
    page = page.replace("<table>", '<table class="table">')
    page = re.sub(r"(</?h)(\d)>", lambda tag: f"{tag[1]}{int(tag[2]) + 2}>", page)
    page = f"<details><summary>Card of {name}</summary>{page}</details>"
    return f'<div style="overflow-x: auto">{page}</div>'


def shipped() -> pd.DataFrame:
    """The shipped encoders, one row for each.

    Columns name, method, modalities, dim (length of an embedding), megabytes and sha256 (its
    first 12 digits).
    """
    rows = []
    for name in published():
        config = read_config(name)
        origin = config["origin"]
        row: dict[str, Any] = {"name": name, "method": _method(origin)}
        row |= {"modalities": ", ".join(origin["modalities"]), "dim": load(name).dim}
        row |= {"megabytes": (find_folder(name) / WEIGHTS).stat().st_size / 1e6}
        rows.append(row | {"sha256": config["sha256"][:12]})
    return pd.DataFrame(rows)


def write(encoders: Sequence[str | Path], folder: Path = results.PUBLISHED_ROWS) -> None:
    """Write the cards of encoders, and measure first what ``continents.parquet`` lacks."""
    path = folder / "continents.parquet"
    known = [pd.read_parquet(path)] if path.exists() else []
    missing = [
        each
        for each in encoders
        if _of(read_config(each), folder, "continents").empty and not takes_month(load(each))
    ]
    if missing:
        results.write_table(pd.concat([*known, *map(by_continent, missing)]), path)
    for each in encoders:
        as_int8 = read_config(each)["format"] == FORMAT_INT8
        load(each).save(find_folder(each), card(each, folder), as_int8=as_int8)


if __name__ == "__main__":
    write(sys.argv[1:])
