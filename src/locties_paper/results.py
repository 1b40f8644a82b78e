"""Write rows of results with their provenance, and read scores from them."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import locties
from locties._util.files import written_aside
from locties._util.registry import unknown
from locties.data.manifest import manifest_hash
from locties_paper.site.notebook import REPOSITORY, commit

PUBLISHED_ROWS = REPOSITORY / "results"  # the folder
CELL = ["task", "split", "probe"]
FEWEST_FOR_AN_INTERVAL = 3  # seeds; with two, a t-interval is wider than the axis


def write(table: pd.DataFrame, to: str | Path, settings: Mapping[str, Any]) -> None:
    """Write the scores of one encoder, or another table, with their provenance.

    Columns added: config, the first 12 hex digits of the SHA-256 of the settings; data,
    the hash of the manifest; code, version and commit; device; torch and python, their versions;
    seconds of training. Settings of a trained encoder are read from ``settings.json`` beside its
    folder.

    Args:
        table: rows of `locties.evaluate`, or others.
        to: Parquet file.
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
        "config": hashlib.sha256(text.encode()).hexdigest()[:12],
        "data": manifest_hash(),
        "code": f"{locties.__version__}+{commit()}",
        "device": trained.get("device", "cpu"),
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
        "seconds": seconds,
    }
    write_table(table.assign(**columns), to)


def write_table(table: pd.DataFrame, to: str | Path) -> None:
    """Write Parquet. The file appears under its name only when it is whole."""
    to = Path(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(to) as aside:
        table.to_parquet(aside, index=False, compression="zstd")


def with_interval(value: float, low: float, high: float, form: str = "+.3f") -> str:
    """A value and its interval as text. A missing interval is left out; a missing value is "".

    Example:
        >>> with_interval(0.02, 0.01, 0.03), with_interval(0.02, float("nan"), float("nan"))
        ('+0.020 [+0.010, +0.030]', '+0.020')
    """
    if pd.isna(value):
        return ""
    return f"{value:{form}}" + ("" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]")


def edition(rows: pd.DataFrame) -> str:
    """A sentence for readers if rows were made on other data than the installed ones, else ""."""
    older = sorted(set(rows["data"]) - {manifest_hash()})
    if not older:
        return ""
    return (
        f"These numbers were measured on earlier data ({', '.join(data[:12] for data in older)}), "
        "not on those of the chapter on data."
    )


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
