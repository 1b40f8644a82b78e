"""The paper's tasks, probe and range of labels, as far as open data allow.

The paper is reported to score elevation, population, country and biome by SatCLIP's probe, with 243
labels to 100,000. Here the budgets are 40,000, the most that the public labels allow, and powers of
three from 243 on. We do not know which points the paper used.

Source: arXiv 2606.20167, by way of public digests.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import locties
from locties import Modality, Task
from locties._util.files import written_aside
from locties.apply.metadata import Encoder
from locties.evaluation import TIERS
from locties.evaluation.splits import folds
from locties.modalities import MODALITIES
from locties_paper.figures.charts import METRICS

BUDGETS = (243, 729, 2187, 6561, 19683, 40000)
TASKS = ("elevation", "population", "country", "biome")
ON_LAND = 50_000  # points, at most, of the task of countries: land has any number


def budgets(task: Task, split: str = "random") -> list[int | str]:
    """The budgets that a task has labels for, outside its largest fold; then "all"."""
    available = len(task.target) - np.bincount(folds(task.lonlat, split)).max()
    return [*(labels for labels in BUDGETS if labels < available), "all"]


def evaluate(
    encoder: str | Path | Encoder,
    tasks: Sequence[Task],
    *,
    name: str | None = None,
    splits: Sequence[str] = ("random",),
    probes: Sequence[str] = ("mlp",),
    seed: int = 0,
) -> pd.DataFrame:
    """Score an encoder with every budget of each task: rows as of `locties.evaluate`.

    Args:
        encoder: as in `locties.evaluate`, and so are name, probes and seed.
        tasks: from `tasks`, or others; make them once for many encoders.
        splits: "random", as in the paper, "block" or both.

    Example:
        >>> from locties_paper import paper_setting
        >>> chosen = [TIERS["open"][name](10**6) for name in ("elevation", "biome")]
        >>> table = paper_setting.evaluate("harmonics_10", chosen, probes=["ridge"])
        >>> table.groupby("task", sort=False)["labels"].unique().map(list).to_dict()
        {'elevation': ['all'], 'biome': ['243', 'all']}
    """
    tables = [
        locties.evaluate(
            encoder,
            task,
            name=name,
            splits=split,
            probes=probes,
            labels=budgets(task, split),
            seed=seed,
        )
        for task in tasks
        for split in splits
    ]
    return pd.concat(tables, ignore_index=True)


def load(chosen: Sequence[str], samples: int, seed: int) -> list[Modality]:
    """Modalities by name, or as ``name=FOLDER`` with a folder that `locties features` wrote.

    A folder's samples leave out the cells of the modalities before it.

    Args:
        chosen: such as ``["text=wikipedia", "rain"]``.
        samples: largest number of samples of each.
        seed: determines the draw.
    """
    loaded: list[Modality] = []
    for each in chosen:
        name, _, folder = each.partition("=")
        if folder:
            modality = locties.read_modality(
                folder, name=name, beside=loaded, samples=samples, seed=seed
            )
        else:
            modality = MODALITIES[name](samples, seed)
        loaded.append(modality)
    return loaded


def train(
    modalities: Sequence[Modality],
    methods: Sequence[str],
    *,
    degree: int,
    hidden: int,
    dim: int,
    output: str = "",
    **settings: Any,
) -> dict[str, locties.LocationEncoder]:
    """Encoders by name: each method on all modalities, and "clip" on each of them.

    Args:
        modalities: from `load`.
        methods: schedules; "clip" is the two-modality baseline.
        degree, hidden, dim: sizes of the harmonics and SIREN.
        output: folder of the runs, which are resumed there; if empty, no run is kept.
        settings: further arguments of `locties.pretrain`.
    """
    runs = {method: list(modalities) for method in methods if method != "clip"}
    if "clip" in methods:
        runs |= {f"clip-{each.name}": [each] for each in modalities}
    encoders = {}
    for name, chosen in runs.items():
        folder = Path(output) / name
        if output and (folder / "encoder").is_dir():
            encoders[name] = locties.load(folder / "encoder")
            continue
        start = locties.LocationEncoder(
            dim=dim,
            feature_options={"degree": degree},
            network_options={"hidden": hidden},
            seed=settings["seed"],
        )
        state = folder / "checkpoint" if output else None
        method = name.partition("-")[0]
        run = locties.pretrain(method, chosen, start, checkpoint=state, **settings)
        encoders[name] = run.encoder
        if state:
            run.save(folder)
            shutil.rmtree(state)
    return encoders


def tasks(tier: str, points: int, seed: int) -> list[Task]:
    """The four tasks of the tier; "embedded" has climate zones in place of biomes.

    Tasks with fewer points than `points` give all, and countries at most `ON_LAND`; `seed` draws
    the points.
    """
    names = [name if name in TIERS[tier] else "climate_zone" for name in TASKS]
    most = {"country": ON_LAND}
    return [TIERS[tier][name](min(points, most.get(name, points)), seed) for name in names]


def score(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[Task],
    *,
    probes: Sequence[str],
    seed: int,
    output: str = "",
) -> pd.DataFrame:
    """The rows of `evaluate` of each encoder, of one without training, and of coordinates alone.

    Rows are written to ``output/rows.parquet`` after each encoder.
    """
    first = next(iter(encoders.values()))
    untrained = {}
    if isinstance(first, locties.LocationEncoder):
        untrained = {"untrained": locties.LocationEncoder(**first.config).eval()}
    contenders: dict[str, str | Path | Encoder] = {**encoders, **untrained, "xyz": "xyz"}
    rows = []
    for name, encoder in contenders.items():
        rows.append(evaluate(encoder, tasks, name=name, probes=probes, seed=seed))
        if output:
            with written_aside(Path(output) / "rows.parquet") as aside:
                pd.concat(rows).to_parquet(aside, index=False)
    return pd.concat(rows, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Scores by encoder and number of labels, a column for each task, and their mean."""
    shown = table[table["metric"].isin(METRICS)]
    wide = shown.pivot_table("value", ["encoder", "labels"], "task", sort=False)
    return wide.assign(mean=wide.mean(axis=1, skipna=False))
