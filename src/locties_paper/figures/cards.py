"""Write model cards: Markdown about an encoder, with every number read from results.

``python -m locties_paper.figures.cards`` rewrites the cards of the shipped encoders.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from locties._util.registry import Registry
from locties.data import manifest, sampling
from locties.encoder import LocationEncoder, load
from locties.evaluation import LEAKS, TASKS, TIERS, mean_interval
from locties.evaluation.leakage import OPEN_LEAKS
from locties.saved import PUBLISHED, published, read_config
from locties_paper import results
from locties_paper.effects.evidence import read_tables
from locties_paper.geography import GROUPINGS, predict_with_best_probe, score_groups
from locties_paper.study import FIRST_PILOT_SEED

# The manifest's datasets behind each modality; `land` is where samples may lie.
SOURCES: dict[str, tuple[str, ...]] = Registry(
    "modality with known data",
    imagery=("imagery", "land"),
    rain=("rain", "land"),
    temperature=("temperature", "land"),
    haze=("haze", "land"),
    relief=("relief", "land"),
    toponyms=("places",),
    text=("text", "places"),
    imagery_frozen=("imagery", "land"),
    night_lights=("night_lights", "land"),
)
METHODS = {
    "melt": "MELT, in which every batch holds all modalities",
    "salt": "SALT, in which one modality is active in each epoch",
    "clip": "the two-modality baseline in the style of SatCLIP",
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
}
PAPERS["salt"] = PAPERS["melt"]
READOUTS = {"layers": "layers: the outputs of all layers, each scaled to unit length, concatenated"}
CELL = ["task", "split", "probe"]
ENDS = ("", "_low", "_high")  # suffixes of a metric: the score and its interval
LABELS = ("50", "200", "1000", "all")
POINTS = 5000  # per task, for the errors by continent
LAND = "all land"


def describe(name: str, run: str | Path, folder: str | Path = "") -> tuple[LocationEncoder, str]:
    """The encoder of a run, with the run as its origin, and its card.

    Args:
        name: the name under which it ships.
        run: folder ``.../<name>-<seed>`` of the run, with ``encoder`` and ``settings.json``.
        folder: of results; empty for the published ones.
    """
    run = Path(run)
    settings = json.loads((run / "settings.json").read_text())
    del settings["encoder"]  # config.json has it too
    encoder = load(run / "encoder")
    licences = dict.fromkeys(source.licence for source in _sources(settings["modalities"]))
    encoder.origin = {
        "name": name,
        "licence": "MIT; trained on data under terms of their own: " + "; ".join(licences),
        "run": run.name.rpartition("-")[0],
        **settings,
    }
    with TemporaryDirectory() as aside:
        encoder.save(Path(aside) / name)
        return encoder, card(Path(aside) / name, folder)


def by_continent(run: str | Path) -> pd.DataFrame:
    """Errors of a run's encoder on each continent, for the tasks of the embedded tier.

    Uses block folds, all labels and, for each task, the probe with the smallest error over all
    points. Continents with fewer than 25 points are left out.

    Returns:
        Columns encoder, seed, task, unit, probe, group (a continent or "all land"), points, blocks,
        metric ("mae" in the task's unit, or "error_rate"), value, and the ends low and high of a
        block-bootstrap interval.
    """
    name, _, seed = Path(run).name.rpartition("-")
    encoder, tables = load(Path(run) / "encoder"), []
    for task in (make(points=POINTS) for make in TASKS.values()):
        probe, predicted = predict_with_best_probe(encoder, task)
        for group in (GROUPINGS["continent"](task.lonlat), [LAND] * len(task.target)):
            made_by = {"task": task.name, "unit": task.unit, "probe": probe}
            tables.append(score_groups(task, predicted, group).assign(**made_by))
    table = pd.concat(tables).assign(encoder=name, seed=int(seed))
    columns = ["encoder", "seed", "task", "unit", "probe", "group", "points", "blocks"]
    errors = table[table["metric"].isin(["mae", "error_rate"])]
    return errors[[*columns, "metric", "value", "low", "high"]].reset_index(drop=True)


def card(encoder: str | Path, folder: str | Path = "") -> str:
    """The card of a saved encoder, as Markdown.

    Its config must name a run as its origin, as `describe` writes it. `folder` holds the results;
    empty means the published ones.
    """
    path = Path(encoder)
    config, loaded = read_config(path), load(path)
    origin, rows, last = _measured(path, config, folder)
    run, seed = origin["run"], origin["seed"]
    tiers = [tier for tier in TIERS if tier in set(rows.loc[rows["encoder"] == run, "tier"])]
    parts = [
        f"# {path.name}",
        f"A location encoder: longitude and latitude in, {loaded.dim} numbers out. Trained on "
        f"{_and(origin['modalities'])} by {METHODS[origin['schedule']]}.",
        f'```python\nembedding = locties.load("{path.name}")([[13.4, 52.5]])'
        f"  # (1, {loaded.dim})\n```",
        "## Recipe",
        _recipe(path, loaded, config, rows, last),
        "## Scores",
        "Scores of this encoder with all labels: R², or accuracy for classes, by ridge or kNN, "
        "whichever is higher. In brackets, the 95% interval of a block bootstrap over test points.",
        _scores(rows, tiers, run, seed),
        "The mean over these tasks and folds and both probes, over all seeds of this run. In "
        f"brackets, the 95% t-interval over {results.FEWEST_FOR_AN_INTERVAL} or more seeds. "
        f"Published numbers need {results.ENOUGH_SEEDS} seeds; fewer are a preview.",
        _means(rows, tiers, run),
        "## Leakage",
        "A task leaks where its labels share a source with a training modality: the answer may be "
        f"copied. {' '.join(_leakage(tier, origin['modalities']) for tier in tiers)} Settings were "
        "chosen on tasks of the embedded tier, never on labels of the open tier.",
        "## Where it fails",
        _worst(_errors(folder, run, seed)),
        f"Samples on land were read north of {-sampling.SOUTHERN_LIMIT:g}° S. At sea and in "
        "Antarctica the encoder extrapolates.",
        _failures(rows, run, tiers),
        "Do not use it for navigation or safety, for borders or claims to land, for decisions "
        "about single people or households, or in place of a measurement. It cannot tell "
        "neighbouring fields or streets apart, because its data are coarser. Test it on held-out "
        "blocks of your own labels before you trust it.",
        "## Data",
        "The code has the MIT licence. The training data have other terms; whether these reach the "
        "weights is not settled:",
        _data(origin["modalities"]),
        f"Cite: {PAPERS[origin['schedule']]} Encoder {path.name} of locties {config['locties']}, "
        f"sha256 {config['sha256'][:12]}.",
    ]
    return "\n\n".join(parts) + "\n"


def _measured(
    path: Path, config: dict[str, Any], folder: str | Path
) -> tuple[dict[str, Any], pd.DataFrame, pd.Series]:
    """The encoder's origin, the rows of scores, and the last row of its training history."""
    origin = config["origin"]
    if "run" not in origin:
        raise ValueError(f"{path} names no run of the study: publish it from the run's own folder")
    tables = read_tables(folder)
    rows, histories = tables.runs, tables.histories
    # Pilot runs, with their own seeds and points, do not count.
    rows = rows[(rows["seed"] < FIRST_PILOT_SEED) & (rows["points_seed"] == 0)]
    this = (rows["encoder"] == origin["run"]) & (rows["seed"] == origin["seed"])
    this_run = histories[
        (histories["encoder"] == origin["run"]) & (histories["seed"] == origin["seed"])
    ]
    if not this.any() or this_run.empty:
        raise ValueError(
            f"no results of run {origin['run']!r} with seed {origin['seed']} in "
            f"{folder or results.PUBLISHED_ROWS}: run `make results`, with SWEEP=its sweep if it "
            "belongs to one"
        )
    return origin, rows, this_run.sort_values("step").iloc[-1]


def _recipe(
    path: Path,
    loaded: LocationEncoder,
    config: dict[str, Any],
    rows: pd.DataFrame,
    last: pd.Series,
) -> str:
    origin = config["origin"]
    this_run = rows[(rows["encoder"] == origin["run"]) & (rows["seed"] == origin["seed"])]
    made = {name: _and(this_run[name].unique()) for name in ("profile", "code", "torch", "python")}
    data = _and(hashed[:12] for hashed in this_run["data"].unique())
    weights = sum(p.numel() for p in loaded.parameters())
    size = (path / "model.safetensors").stat().st_size
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
                f"{last['pairs']:,} pairs in {last['step']:,} steps of {origin['batch']:,}, "
                f"{origin['epochs']} epochs; {origin['samples']:,} samples a modality at "
                f"{origin['locations']} locations; learning rate {origin['learning_rate']:g}, "
                f"{origin['decay']}",
            ],
            [
                "cost",
                f"{last['flops'] / 1e12:.2f} TFLOP, {last['seconds']:.0f} s in "
                f"{origin['precision']} on {origin['device']}",
            ],
            [
                "run",
                f"{origin['run']}, seed {origin['seed']}, profile {made['profile']}: locties "
                f"{made['code']}, torch {made['torch']}, Python {made['python']}, data {data}",
            ],
            ["weights", f"{weights:,}, in {size:,} bytes of sha256 `{config['sha256']}`"],
        ],
    )


def _scores(rows: pd.DataFrame, tiers: Sequence[str], run: str, seed: int) -> str:
    """The score of each task and split of each tier, by the better probe."""
    this_run = rows[(rows["encoder"] == run) & (rows["seed"] == seed) & (rows["labels"] == "all")]
    columns = {}
    for tier, split in product(tiers, dict.fromkeys(this_run["split"])):
        scored = results.scores(this_run[this_run["split"] == split], tier=tier)
        best = scored.loc[scored.groupby("task")["value"].idxmax()]
        here = results.of_tier(this_run, tier).set_index([*CELL, "metric"])["value"]
        columns[f"{tier}, {split} folds"] = {
            task: f"{_interval(*(here[task, split, probe, metric + end] for end in ENDS))} {probe}"
            for task, probe, metric in best[["task", "probe", "metric"]].itertuples(index=False)
        }
    tasks = dict.fromkeys(task for tier in tiers for task in TIERS[tier])
    lines = [
        [task.replace("_", " "), *(column.get(task, "") for column in columns.values())]
        for task in tasks
        if any(task in column for column in columns.values())
    ]
    return _table(["task", *columns], lines)


def _means(rows: pd.DataFrame, tiers: Sequence[str], run: str) -> str:
    """By number of labels, a tier's mean over its cells and the seeds of a run."""
    this_run = rows[rows["encoder"] == run]
    counts = [labels for labels in LABELS if labels in set(this_run["labels"])]
    lines = []
    for tier in tiers:
        seeds = results.of_tier(this_run, tier)["seed"].nunique()
        line = [f"{tier}, {seeds} seed{'s' if seeds > 1 else ''}"]
        for labels in counts:
            means = results.scores(this_run, labels, tier).groupby("seed")["value"].mean()
            line.append(_mean(means) if len(means) else "")
        lines.append(line)
    return _table(["tier", *(f"{labels} labels" for labels in counts)], lines)


def _leakage(tier: str, modalities: Sequence[str]) -> str:
    """A sentence: the tasks of a tier that share a source with one of the modalities."""
    leaks = {"embedded": LEAKS, "open": OPEN_LEAKS}[tier]
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


def _errors(folder: str | Path, run: str, seed: int) -> pd.DataFrame:
    """The rows of `by_continent` for a run, from the published table."""
    folder = Path(folder) if folder else results.PUBLISHED_ROWS
    path = folder / results.CONTINENTS
    errors = pd.read_parquet(path) if path.exists() else pd.DataFrame({"encoder": [], "seed": []})
    errors = errors[(errors["encoder"] == run) & (errors["seed"] == seed)]
    if errors.empty:
        raise ValueError(
            f"no errors by continent of run {run!r} with seed {seed} in {folder}: `make publish` "
            "measures them"
        )
    return errors


def _worst(errors: pd.DataFrame) -> str:
    """By task, the continent with the largest error."""
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
        "book's chapter on errors has errors by climate and other encoders.\n\n"
        + _table(["task", "worst on", "error there", f"on {LAND}"], lines)
    )


def _failures(rows: pd.DataFrame, run: str, tiers: Sequence[str]) -> str:
    """Baselines and peers that score at least as high as the run, and in how many cells."""
    trained = set(rows.loc[rows["seconds"] > 0, "encoder"])
    cells, found = {}, []
    for tier in tiers:
        behind = results.not_beaten(rows, run, tier)
        behind = behind[~behind["other"].str.contains("+", regex=False)]
        found.append(behind[~behind["other"].isin(trained)].assign(tier=tier))
        scored = results.scores(rows, tier=tier)
        cells[tier] = len(scored.loc[scored["encoder"] == run, CELL].drop_duplicates())
    behind = pd.concat(found, ignore_index=True)
    if behind.empty:
        return (
            "In no cell (a task, folds and a probe) do raw coordinates, an untrained encoder or a "
            "peer score as high on the mean over seeds."
        )
    lines = []
    for other, theirs in behind.groupby("other"):
        line = [str(other)]
        for tier in tiers:
            by_task = theirs.loc[theirs["tier"] == tier, "task"].value_counts(sort=False)
            named = ", ".join(f"{str(t).replace('_', ' ')} {n}" for t, n in by_task.items())
            line.append(f"{by_task.sum()} of {cells[tier]}: {named}" if named else "none")
        lines.append(line)
    return (
        "Raw coordinates, untrained encoders and peers that score at least as high as the run on "
        "the mean over seeds: the number of cells (a task, folds and a probe), by task. The book's "
        "results also have those with coordinates appended.\n\n"
        + _table(["baseline", *(f"{tier} tier" for tier in tiers)], lines)
    )


def _sources(modalities: Sequence[str]) -> list[manifest.Source]:
    names = dict.fromkeys(name for modality in modalities for name in SOURCES[modality])
    return [manifest.source(name) for name in names]


def _data(modalities: Sequence[str]) -> str:
    alike: dict[tuple[str, str, str], list[manifest.Source]] = {}
    for source in _sources(modalities):
        alike.setdefault((source.where, source.licence, source.terms), []).append(source)
    return _table(
        ["data", "from", "licence", "terms", "cite"],
        [
            [", ".join(s.name for s in group), *terms, "; ".join(s.citation for s in group)]
            for terms, group in alike.items()
        ],
    )


def _mean(values: pd.Series) -> str:
    if len(values) >= results.FEWEST_FOR_AN_INTERVAL:
        return _interval(*mean_interval(values))
    return f"{values.mean():.3f}"


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


def shipped(folder: str | Path = "") -> pd.DataFrame:
    """The shipped encoders, one row for each.

    Columns name, run, schedule, modalities, dim (length of an embedding), megabytes, sha256 (its
    first 12 digits), and for each tier the mean score of the run over cells and seeds.
    """
    rows = []
    for name in published():
        config = read_config(name)
        origin, runs, _ = _measured(Path(name), config, folder)
        size = (PUBLISHED / name / "model.safetensors").stat().st_size
        row = {"name": name, **{key: origin[key] for key in ("run", "schedule")}}
        row |= {"modalities": ", ".join(origin["modalities"]), "dim": load(name).dim}
        row |= {"megabytes": size / 1e6, "sha256": config["sha256"][:12]}
        for tier in dict.fromkeys(runs["tier"]):
            scores = results.scores(runs, tier=tier)
            row[tier] = scores.loc[scores["encoder"] == origin["run"], "value"].mean()
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    for name in published():
        folder = PUBLISHED / name
        load(folder).save(folder, card(folder))
