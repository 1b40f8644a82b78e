"""Judge the claims from rows of results.

table = verdicts(read_tables())
table[table["group"] == "overall"]
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from locties._util.registry import Registry
from locties.evaluation.statistics import Interval
from locties_paper import results
from locties_paper.effects import (
    c1_parity,
    c2_modalities,
    c3_encoder,
    c4_peak,
    c5_stability,
    c6_erasure,
)
from locties_paper.effects.evidence import Setting, Tables, Undecided, read_tables
from locties_paper.effects.judging import UNDECIDED, Claim, join, result_row

CLAIMS = Registry(
    "claim",
    C1=c1_parity.CLAIM,
    C2=c2_modalities.CLAIM,
    C3=c3_encoder.CLAIM,
    C4=c4_peak.CLAIM,
    C5=c5_stability.CLAIM,
    C6=c6_erasure.CLAIM,
)


def verdicts(tables: Tables, margins: Mapping[Setting, float] | None = None) -> pd.DataFrame:
    """Judge every claim on each tier that has rows. C5 and C6 read no labels: they are judged once.

    Args:
        tables: from `read_tables`.
        margins: of equivalence; by default `c1_parity.FIXED_MARGINS`.

    Returns:
        Columns claim, group, cell, verdict, statistic, value, low, high, level, n, margin, p,
        p_against, p_better, note, tier, profile, device. Each claim and tier begins with a row of
        group "overall": the verdict, and the numbers of the row that decides it. The rows behind it
        follow. ``p`` tests for the claim, ``p_against`` against it, ``p_better`` whether a method
        beats its baseline. The verdict is empty if no test judges the row.
    """
    if margins is None:
        margins = c1_parity.FIXED_MARGINS
    judged = []
    for tier in dict.fromkeys(tables.runs["tier"]):
        of_tier = tables._replace(
            runs=tables.runs[tables.runs["tier"] == tier],
            along=tables.along[tables.along["tier"] == tier],
            erasure=tables.erasure[tables.erasure["tier"] == tier],
        )
        asked = [found for found in CLAIMS.values() if found.of_tasks or tier == "embedded"]
        judged += [judge(found, of_tier, margins).assign(tier=tier) for found in asked]
    return pd.concat(judged, ignore_index=True)


def judge(which: Claim, tables: Tables, margins: Mapping[Setting, float]) -> pd.DataFrame:
    """The rows of one claim, as in `verdicts`."""
    try:
        outcome = which.test(tables, margins)
    except Undecided as why:
        nothing = Interval(np.nan, np.nan, np.nan)
        note = f"{why}; it takes {which.seeds} seeds of each run"
        overall = result_row("overall", "", "", nothing, 0, verdict=UNDECIDED, note=note)
        setting, rows = Setting("", "", ""), []
    else:
        verdict = UNDECIDED if outcome.missing else outcome.verdict
        decided_by = f"{outcome.decisive['group']}: {outcome.decisive['cell']}"
        notes = [*outcome.missing, outcome.note, f"numbers of {decided_by}"]
        overall = outcome.decisive | {"group": "overall", "cell": "", "verdict": verdict}
        overall |= {"note": join(notes)}
        setting, rows = outcome.setting, outcome.rows
    table = pd.DataFrame([overall, *({"note": ""} | row for row in rows)])
    table.insert(0, "claim", which.name)
    return table.assign(**setting._asdict())


def write(folder: str | Path, to: str | Path) -> None:
    """Judge the tables in a folder and write `claims.parquet`."""
    results.write_table(verdicts(read_tables(folder)), to)
