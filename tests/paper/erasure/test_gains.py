"""What fidelity gains over plain alignment that is aligned as well."""

import pandas as pd
import pytest
from erasure_runs import all_readings

from locties.evaluation.statistics import Interval
from locties_paper.erasure.gains import Gains, gain_at_equal_alignment, gains, trade_off


def test_the_trade_off_has_a_row_for_each_run_that_aligns_anything():
    table = trade_off(all_readings())
    assert len(table) == 2 * 3
    row = table[(table["seed"] == 1) & (table["weight"] == 0.5)].iloc[0]
    assert row[["alignment", "private", "shared"]].tolist() == pytest.approx([0.2, 0.6, 0.5])


def test_gains_of_all_kinds_of_content_are_taken_at_equal_alignment():
    found = gains(all_readings(lost=0.0))
    assert (found.compared, found.runs, found.seeds) == (2, 2, 2)
    means = {kind: interval.mean for kind, interval in found.relative.items()}
    expected = {"private": 0.5, "contrast": 0.5, "shared": 0.25, "private less shared": 0.25}
    assert means == pytest.approx(expected)
    assert found.r2["private less shared"].mean == pytest.approx(0.1)
    assert found.table.loc["shared"].tolist() == [
        "+25.0% [+25.0%, +25.0%]",
        "+0.100 [+0.100, +0.100]",
        "2 of 2",
    ]
    assert "shared content by +25.0% [+25.0%, +25.0%], over 2 seeds" in found.summary


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ((0.03, 0.01, 0.05), "a part of the gain is specific"),
        ((-0.03, -0.05, -0.01), "gains less"),
        ((0.0, -0.02, 0.02), "hardly specific"),
        ((0.0, -0.2, 0.2), "cannot tell"),
    ],
)
def test_a_gain_is_specific_where_private_content_gains_more_than_shared(extra, said):
    r2 = {"private": Interval(0.1, 0.05, 0.15), "private less shared": Interval(*extra)}
    assert said in Gains({}, r2, 10, 10, 10).specific


def test_gain_is_taken_at_equal_alignment_and_nowhere_else():
    table = pd.DataFrame(
        {
            "seed": [0, 0, 0, 0, 0, 1, 1, 1],
            "weight": [0, 0, 0.3, 0.6, 0.9, 0, 0, 0.3],
            "alignment": [1.0, 2.0, 1.75, 0.5, 2.5, 1.0, 3.0, 2.0],
            "r2": [0.4, 0.2, 0.5, 0.9, 0.9, 0.5, 0.5, 0.4],
        }
    )
    found = gain_at_equal_alignment(table, "r2")
    assert found["plain"].tolist() == pytest.approx([0.25, 0.5])
    assert found["gain"].tolist() == pytest.approx([1.0, -0.2])
    assert found["weight"].tolist() == [0.3, 0.3]


def test_gain_of_nothing_comparable_is_an_empty_table():
    table = pd.DataFrame({"seed": 0, "weight": [0, 0.5], "alignment": [1.0, 0.0], "r2": [0.1, 0.2]})
    assert gain_at_equal_alignment(table, "r2").empty
