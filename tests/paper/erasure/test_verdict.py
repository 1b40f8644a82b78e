"""The verdict on whether alignment erases what modalities do not share."""

import math

import numpy as np
import pandas as pd
import pytest
from erasure_runs import all_readings

from locties_paper.erasure.verdict import MARGIN, compare, verdict


def readings(private: list[float], shared: list[float]) -> pd.DataFrame:
    """A table in which R² falls by so much, seed by seed; modalities differ but mean the same."""
    rows = []
    for seed, falls in enumerate(zip(private, shared, strict=True)):
        for part, fall in zip(("private", "shared"), falls, strict=True):
            for modality, own in (("one", 0.1), ("other", -0.1)):
                for stage, lost in (("before", 0.0), ("after", fall + own)):
                    rows.append((seed, modality, part, stage, 0.7 - lost))
    return pd.DataFrame(rows, columns=["seed", "modality", "part", "stage", "r2"])


NOISE = [0.0, 0.01, -0.01, 0.005, -0.005] * 2


def around(value: float, noise: list[float] = NOISE) -> list[float]:
    return [value + each for each in noise]


def test_a_selective_fall_supports_the_claim():
    found = verdict(readings(around(0.3), [0.0] * 10))
    assert (found.verdict, found.n) == ("supported", 10)
    leg = found.intervals["erasure"]
    assert leg.mean == pytest.approx(0.3)
    half = 2.2622 * np.std(NOISE, ddof=1) / math.sqrt(10)  # t of 9 degrees of freedom, 97.5%
    assert leg.high - leg.mean == pytest.approx(half, rel=1e-3)


def test_no_fall_refutes_it():
    assert verdict(readings(around(0.0), [-0.2] * 10)).verdict == "refuted"


def test_a_fall_of_all_alike_refutes_it():
    found = verdict(readings(around(0.3), around(0.3, NOISE[::-1])))
    assert (found.verdict, found.decisive) == ("refuted", "selectivity")
    assert found.intervals["selectivity"].mean == pytest.approx(0.0, abs=1e-9)


def test_a_fall_within_its_interval_of_the_margin_is_undecided():
    assert verdict(readings(around(MARGIN + 0.001), [-0.2] * 10)).verdict == "undecided"


def test_fewer_than_ten_seeds_decide_nothing():
    for fall in (0.3, 0.0):
        found = verdict(readings(around(fall)[:9], [0.0] * 9))
        assert (found.verdict, found.n) == ("undecided", 9)
        assert found.intervals["erasure"].mean == pytest.approx(fall, abs=0.01)


def test_a_table_with_a_hole_is_refused():
    table = readings([0.1, 0.2], [0.0, 0.0])
    with pytest.raises(ValueError, match="one row for each"):
        verdict(table.iloc[:-1])
    with pytest.raises(ValueError, match="one row for each"):
        verdict(pd.concat([table, table.iloc[:1]]))


def test_a_single_seed_has_no_interval_and_decides_nothing():
    table = readings([0.3, 0.2], [0.0, 0.0])
    found = verdict(table[table["seed"] == 0])
    assert (found.verdict, found.n) == ("undecided", 1)
    assert found.summary == "undecided (erasure, the fall of private content: +0.300)"


def test_encoders_are_compared_with_the_untrained_or_with_those_of_content_alone():
    table = all_readings(10)
    falls = {
        "untrained": compare(table),
        "content": compare(table, before=(1.0, 1.0)),
        "short": compare(table, after=(0.0, 0.5)),
    }
    assert {name: each.intervals["erasure"].mean for name, each in falls.items()} == pytest.approx(
        {"untrained": 0.4, "content": 0.8, "short": 0.0}
    )
    assert falls["content"].intervals["selectivity"].mean == pytest.approx(0.2)
    assert [each.verdict for each in falls.values()] == ["supported", "supported", "refuted"]
