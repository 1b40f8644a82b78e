"""Stability along the turns of SALT, and erasure against two references."""

import numpy as np
import pandas as pd
import pytest

from locties_paper.design import FIVE
from locties_paper.effects.c5_stability import spread, stability
from locties_paper.effects.c6_erasure import erasure, groups
from locties_paper.own_targets import OWN, modality_of


def turn_rows(contender: str, value) -> pd.DataFrame:
    """Scores along fifteen epochs at three seeds."""
    return pd.DataFrame(
        {
            "encoder": contender,
            "seed": seed,
            "epoch": epoch,
            "active": FIVE[(epoch - 1) % 5] if contender == "salt" else ", ".join(FIVE),
            "tier": "open",
            "task": task,
            "metric": "r2",
            "value": value(seed, epoch, task),
        }
        for seed in range(3)
        for epoch in range(1, 16)
        for task in ("biome", "house_value", "precipitation")
    )


def forgetful(seed: int, epoch: int, task: str) -> float:
    """Rain, whose turns end at epochs 2, 7 and 12, forgets .02 an epoch; all else gains .01."""
    if task == "precipitation":
        return 0.8 - 0.02 * ((epoch - 2) % 5)
    return 0.5 + 0.01 * epoch + 0.1 * seed


def test_stability_measures_spread_drift_and_forgetting():
    rows = [turn_rows("salt", forgetful), turn_rows("melt", lambda seed, epoch, task: 0.7)]
    found = stability(pd.concat(rows)).set_index(["measure", "contender", "modality"])
    assert found.loc[("spread", "salt", ""), "value"] == pytest.approx(0.1)
    assert (
        found.loc[("spread", "salt", ""), "low"] < 0.1 < found.loc[("spread", "salt", ""), "high"]
    )
    for name in FIVE:
        assert found.loc[("drift", "salt", name), "value"] == pytest.approx(0.05)
        assert found.loc[("drift", "melt", name), "value"] == pytest.approx(0)
    forgotten = found.loc["forgetting"]
    assert set(forgotten.index) == {("salt", "rain"), ("melt", "rain")}  # the others leak nowhere
    assert forgotten.loc[("salt", "rain"), "value"] == pytest.approx(0.08)
    assert forgotten.loc[("melt", "rain"), "value"] == pytest.approx(0)
    assert set(found["seeds"]) == {3}


def test_spread_is_over_the_replicates_that_all_contenders_have():
    scores = {"melt": [0.5, 0.6, 0.7, 9.0], "salt": [0.4, 0.4, 0.7]}
    rows = pd.DataFrame(
        {"encoder": name, "draw": draw, "tier": "open", "task": task, "leaks": leaks}
        | {"value": -9.0 * draw if leaks else value + more}
        for name, values in scores.items()
        for draw, value in enumerate(values)
        for task, more, leaks in (
            ("biome", 0.1, False),
            ("richness", -0.1, False),
            ("rain", 0, True),
        )
    )
    found = spread(rows, ["melt", "salt"]).set_index("contender")
    assert found["value"].tolist() == pytest.approx([0.1, np.sqrt(0.03)])
    assert found["replicates"].tolist() == [3, 3]
    # Chi-squared with two degrees of freedom: 7.378 and 0.0506 at 97.5% and 2.5%.
    assert found.loc["melt", ["low", "high"]].tolist() == pytest.approx([0.0521, 0.628], rel=0.01)


def test_without_salt_only_the_spread_is_known():
    found = stability(turn_rows("melt", lambda seed, epoch, task: seed / 10))
    assert list(found["measure"]) == ["spread"]


def test_a_single_is_the_encoder_of_the_modality_that_the_target_belongs_to():
    names = ["melt@1", *(f"clip-{name}@0.2" for name in FIVE), "raw-only-rain", "raw"]
    rows = pd.DataFrame(
        {"encoder": name, "draw": draw, "task": task, "value": float(modality_of(task) in name)}
        for name in names
        for draw in range(2)
        for task in OWN
        if (name, draw) != ("clip-haze@0.2", 1)
    )
    found = dict(groups(rows))
    for title, of in found.items():
        scores = of.groupby("encoder")["value"].mean()
        assert scores["single@0.2"] == 1, title
        assert scores["melt@1"] == 0
    assert set(found["own targets, haze"].query("encoder == 'single@0.2'")["draw"]) == {0}
    whole = found["own targets"]
    assert set(whole["encoder"]) == {"melt@1", "single@0.2"}
    assert set(whole.query("encoder == 'single@0.2'")["draw"]) == {0}  # haze lacks draw 1
    assert {"own values", "raw"} <= set(found["own targets, rain"]["encoder"])
    assert "other values" in set(found["own targets, toponyms"]["encoder"])


def test_erasure_is_against_both_references():
    r2 = {(0, 0): 0.4, (0, 0.5): 0.45, (0, 1): 0.3, (0.5, 1): 0.45, (1, 1): 0.5}
    rows = pd.DataFrame(
        {
            "seed": seed,
            "source": "modality",
            "modality": modality,
            "part": part,
            "weight": weight,
            "trained": trained,
            "alignment": trained / 5 - weight / 10 if trained else np.nan,
            "r2": value + seed / 100 + (part == "shared"),
        }
        for (weight, trained), value in r2.items()
        for seed in range(3)
        for modality in ("rain", "haze")
        for part in ("private", "shared", "placed")
    )
    found = erasure(rows).set_index(["part", "reference", "weight", "trained"])
    assert set(found.index.unique("part")) == {"private", "shared"}
    for run, change in (
        ((0, 0.5), (0.05, -0.05)),
        ((0, 1), (-0.1, -0.2)),
        ((0.5, 1), (0.05, -0.05)),
    ):
        for reference, expected in zip(("untrained", "content alone"), change, strict=True):
            row = found.loc[("private", reference, *run)]
            assert row["value"] == pytest.approx(expected)
            assert row["alignment"] == pytest.approx(run[1] / 5 - run[0] / 10)
            assert row["seeds"] == 3
