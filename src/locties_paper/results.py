"""Gather rows of results from runs, with their provenance, and read them again."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import locties
from locties._util.files import written_aside
from locties._util.registry import unknown
from locties.data.manifest import manifest_hash
from locties_paper.site.notebook import REPOSITORY, commit

PUBLISHED_ROWS = REPOSITORY / "results"  # the folder
DESIGN = "experiments.yaml"
CELL = ["task", "split", "probe"]
ENOUGH_SEEDS = 5  # for a published number; a book with fewer is a preview
PROVENANCE = ["profile", "config", "data", "code", "device", "torch", "python"]
CONTINENTS = "continents.parquet"  # errors of the shipped encoders
FEWEST_FOR_AN_INTERVAL = 3  # seeds; with two, a t-interval is wider than the axis


def write(table: pd.DataFrame, to: str | Path, profile: str, settings: Mapping[str, Any]) -> None:
    """Write the scores of one encoder, or another table, with their provenance.

    Columns added: profile; config, the first 12 hex digits of the SHA-256 of the settings; data,
    the hash of the manifest; code, version and commit; device; torch and python, their versions;
    seconds of training. Settings of a trained encoder are read from ``settings.json`` beside its
    folder.

    Args:
        table: rows of `locties.evaluate`, or others.
        to: Parquet file.
        profile: a name in `experiments.yaml`.
        settings: the parameters behind the table. ``encoder`` is a folder or a name, with an
            appended baseline after a plus sign.
    """
    import torch

    folder, _, _ = settings.get("encoder", "").partition("+")
    beside = Path(folder).parent / "settings.json"
    trained = json.loads(beside.read_text()) if beside.exists() else {}
    seconds = trained.pop("seconds", 0.0)
    made_by = {name: value for name, value in settings.items() if name != "output"}
    text = json.dumps({**made_by, "trained": trained}, sort_keys=True)
    columns = {
        "profile": profile,
        "config": hashlib.sha256(text.encode()).hexdigest()[:12],
        "data": manifest_hash(),
        "code": f"{locties.__version__}+{commit()}",
        "device": trained.get("device", "cpu"),
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
        "seconds": seconds,
    }
    write_table(table.assign(**columns), to)


def gather(tables: Sequence[str | Path], to: str | Path) -> None:
    """Put the tables of many runs into one Parquet file.

    Without tables, as after a sweep alone, the file is empty but has the columns of the published
    rows.
    """
    found = [pd.read_parquet(table) for table in tables]
    if not found:
        found = [pd.read_parquet(PUBLISHED_ROWS / "runs.parquet").iloc[:0]]
    write_table(pd.concat(found, ignore_index=True), to)


def gather_histories(
    runs: Sequence[str], histories: Sequence[str | Path], to: str | Path, scored: pd.DataFrame
) -> None:
    """Put the training histories of many runs into one Parquet file.

    Args:
        runs: "<name>-<seed>", which become the columns encoder and seed.
        histories: their tables, in the same order.
        to: the file.
        scored: scores of these runs; their `PROVENANCE` is copied to the histories.
    """
    made = scored[["encoder", "seed", *PROVENANCE]].drop_duplicates(["encoder", "seed"])
    tables = []
    for run, history in zip(runs, histories, strict=True):
        name, _, seed = run.rpartition("-")
        tables.append(pd.read_parquet(history).assign(encoder=name, seed=int(seed)))
    if tables:
        table = pd.concat(tables, ignore_index=True).merge(made, "left", on=["encoder", "seed"])
    else:
        table = pd.read_parquet(PUBLISHED_ROWS / "histories.parquet").iloc[:0]
    write_table(table, to)


def gather_sweeps(
    tables: Sequence[str | Path], runs: Sequence[str], histories: Sequence[str | Path], folder: Path
) -> None:
    """Write the tables of sweeps beside those of the book's own runs.

    Args:
        tables: of scores. "<name>@<epoch>" is an encoder kept at the end of an epoch.
        runs: "<name>-<seed>" of the trained runs.
        histories: their tables, in the same order.
        folder: gets ``sweeps.parquet``, ``sweeps_histories.parquet`` and, for kept encoders,
            ``scores_along.parquet`` with a column pairs.
    """
    rows = pd.concat([pd.read_parquet(table) for table in tables], ignore_index=True)
    gather_histories(runs, histories, folder / "sweeps_histories.parquet", rows)
    trained = pd.read_parquet(folder / "sweeps_histories.parquet")
    kept = rows["encoder"].str.contains("@")
    write_table(rows[~kept], folder / "sweeps.parquet")
    along = rows[kept]
    names = along["encoder"].str.split("@", expand=True).reindex(columns=[0, 1])
    along = along.assign(encoder=names[0], epoch=names[1].astype(int))
    pairs = trained[["encoder", "seed", "epoch", "pairs"]].drop_duplicates()
    write_table(
        along.merge(pairs, on=["encoder", "seed", "epoch"]), folder / "scores_along.parquet"
    )


def write_table(table: pd.DataFrame, to: str | Path) -> None:
    """Write Parquet. The file appears under its name only when it is whole."""
    to = Path(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(to) as aside:
        table.to_parquet(aside, index=False)


def design(folder: str | Path = "") -> dict[str, Any]:
    """The study that the rows in a folder of results were made by, by default the published ones.

    It has the keys of `experiments.yaml`, and ``leaks``: by tier and task, the modalities that
    leaked. Published rows keep their own study beside them. Other folders are made by the present
    one.
    """
    path = (Path(folder) if folder else PUBLISHED_ROWS) / DESIGN
    if path.exists():
        kept: dict[str, Any] = yaml.safe_load(path.read_text())
        return kept
    from locties.evaluation.leakage import LEAKS, OPEN_LEAKS  # torch: see `appending`

    present = yaml.safe_load((REPOSITORY / DESIGN).read_text())
    return present | {
        "leaks": {
            tier: {task: list(names) for task, names in leaks.items()}
            for tier, leaks in (("embedded", LEAKS), ("open", OPEN_LEAKS))
        }
    }


def edition(rows: pd.DataFrame) -> str:
    """A sentence for readers if rows were made on other data than the installed ones, else ""."""
    older = sorted(set(rows["data"]) - {manifest_hash()})
    if not older:
        return ""
    return (
        f"These numbers were measured on earlier data ({', '.join(data[:12] for data in older)}), "
        "not on those of the chapter on data."
    )


def read(folder: str | Path = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores and the training histories in a folder of results, by default the published ones.

    Example:
        >>> runs, histories = read()
        >>> {"encoder", "task", "split", "probe", "metric", "value"} <= set(runs)
        True
    """
    folder = Path(folder) if folder else PUBLISHED_ROWS
    if not (folder / "runs.parquet").exists():
        raise FileNotFoundError(f"no results in {folder}: run `make results`")
    runs, histories = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("runs", "histories")
    )
    # The oldest rows do not say that they were scored at the points of the test.
    return runs.assign(points_seed=runs["points_seed"].fillna(0)), histories


def of_tier(runs: pd.DataFrame, tier: str = "embedded") -> pd.DataFrame:
    """The rows of one tier. Raises ValueError if there are none."""
    if tier not in set(runs["tier"]):
        raise unknown("tier of these rows", tier, set(runs["tier"]))
    return runs[runs["tier"] == tier]


def scores(
    runs: pd.DataFrame,
    labels: str = "all",
    tier: str = "embedded",
    probes: Sequence[str] = ("ridge", "knn"),
) -> pd.DataFrame:
    """One score for each encoder, task, split, probe and seed: R² or accuracy.

    `labels` is "all" or a number as text. Every encoder has the default probes; some also have
    "mlp".
    """
    rows = of_tier(runs, tier)
    wanted = rows["metric"].isin(["r2", "accuracy"]) & rows["probe"].isin(probes)
    return rows[wanted & (rows["labels"] == labels)]


def appending(runs: pd.DataFrame, tier: str = "embedded") -> pd.DataFrame:
    """What raw coordinates appended to an embedding change, in the mean over all cells.

    It has a row for each encoder that was also scored with a baseline appended ("melt+xyz"), best
    first. The columns are "alone" and each baseline. Each text is the mean over cells, with its
    t-interval over three or more seeds.
    """
    from locties.evaluation.statistics import mean_interval  # torch: the pipeline starts without it

    means = scores(runs, tier=tier).groupby(["encoder", "seed"])["value"].mean()
    cells: dict[str, dict[str, str]] = {}
    for encoder, values in means.groupby("encoder", sort=False):
        name, _, raw = str(encoder).partition("+")
        text = f"{values.mean():.3f}"
        if len(values) >= FEWEST_FOR_AN_INTERVAL:
            interval = mean_interval(values)
            text += f" ({interval.low:.3f} to {interval.high:.3f})"
        cells.setdefault(name, {})[raw or "alone"] = text
    table = pd.DataFrame.from_dict({k: v for k, v in cells.items() if len(v) > 1}, orient="index")
    return table.sort_values("alone", ascending=False)


def not_beaten(runs: pd.DataFrame, encoder: str, tier: str = "embedded") -> pd.DataFrame:
    """In each cell, the other encoders whose mean score is at least that of `encoder`.

    Columns task, split, probe, value (of `encoder`), other, other_value. Means are over all seeds
    with rows. It compares means without a test.
    """
    rows = scores(runs, tier=tier)
    means = rows.groupby([*CELL, "encoder"], as_index=False)["value"].mean()
    chosen = means[means["encoder"] == encoder].drop(columns="encoder")
    others = means[means["encoder"] != encoder].rename(
        columns={"encoder": "other", "value": "other_value"}
    )
    pairs = chosen.merge(others, on=CELL)
    return pairs[pairs["other_value"] >= pairs["value"]].reset_index(drop=True)
