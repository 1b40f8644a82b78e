"""Tests of `locties_paper.effects.comparison`: known differences, pairing, and what is missing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from locties_paper.effects.comparison import (
    comes_first,
    difference_from_default,
    difference_from_others,
    effect_of_parts,
)

CELLS = [(task, split, probe) for task in "ab" for split in "rb" for probe in ("ridge", "knn")]


def rows(encoder, values, seeds=None):
    """Scores of one encoder: `values` (cells, seeds)."""
    values = np.broadcast_to(values, (len(CELLS), np.shape(values)[-1]))
    return pd.DataFrame(
        [
            dict(
                zip(
                    ("task", "split", "probe", "encoder", "seed", "value"),
                    (*cell, encoder, seed, values[i, j]),
                    strict=True,
                )
            )
            for i, cell in enumerate(CELLS)
            for j, seed in enumerate(seeds or range(values.shape[1]))
        ]
    )


def noise(seed, scale=0.01):
    return np.random.default_rng(seed).normal(0, scale, (len(CELLS), 5))


def test_differences_are_paired_by_seed():
    """A shift common to a seed cancels; unpaired, it would drown the difference."""
    common = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    table = pd.concat([rows("own", 0.62 + common + noise(1)), rows("other", 0.6 + common)])
    found = difference_from_others(table, "own").loc["other"]
    difference = (0.02 + noise(1)).mean(axis=0)
    assert found["difference"] == pytest.approx(difference.mean())
    low, high = stats.t.interval(0.95, 4, difference.mean(), stats.sem(difference))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["p"] == pytest.approx(
        stats.ttest_1samp(difference, 0, alternative="greater").pvalue
    )
    assert found["n"] == 5


def test_ranks_are_within_a_seed_and_cell_and_ties_share():
    table = pd.concat(
        [rows("own", np.full(3, 0.5)), rows("tied", np.full(3, 0.5)), rows("last", np.full(3, 0.1))]
    )
    found = difference_from_others(table, "own")
    assert found["rank"].to_dict() == {"own": 1.5, "tied": 1.5, "last": 3.0}
    assert found.loc["last", "rank_difference"] == 1.5


def test_an_encoder_without_seeds_is_the_same_in_all():
    table = pd.concat([rows("own", 0.7 + noise(2)), rows("xyz", np.full(1, 0.6))])
    found = difference_from_others(table, "own")
    assert found.loc["xyz", "mean"] == pytest.approx(0.6)
    assert found.loc["xyz", "difference"] == pytest.approx(0.1 + noise(2).mean())


def test_a_seed_or_cell_that_is_missing_is_named():
    own, other = rows("own", 0.7 + noise(3)), rows("other", 0.6 + noise(4))
    with pytest.raises(ValueError, match="'other' has no score of seed 4"):
        difference_from_others(pd.concat([own, other[other["seed"] != 4]]), "own")
    with pytest.raises(ValueError, match="'other' lacks a score in a r ridge"):
        difference_from_others(pd.concat([own, other.iloc[1:]]), "own")
    with pytest.raises(ValueError, match="'other' has no score of seed 1"):
        difference_from_others(pd.concat([own, other[other["seed"] == 0]]), "own")
    with pytest.raises(ValueError, match="of 'own' alone"):
        difference_from_others(own, "own")
    with pytest.raises(ValueError, match="'onw'"):
        difference_from_others(own, "onw")
    with pytest.raises(ValueError, match="has 1 seed"):
        difference_from_others(pd.concat([own[own["seed"] == 0], other]), "own")


def test_first_means_before_every_single_one():
    ahead = [rows("own", 0.7 + noise(5)), rows("far", 0.4 + noise(6))]
    assert comes_first(difference_from_others(pd.concat(ahead), "own")) == {
        "mean": True,
        "rank": True,
    }
    level = pd.concat([*ahead, rows("level", 0.71 + noise(7))])
    assert comes_first(difference_from_others(level, "own")) == {"mean": False, "rank": False}


def test_first_in_the_mean_is_not_first_in_rank():
    """One cell won by much, seven lost by little."""
    gain = np.where(np.arange(len(CELLS)) == 0, 0.5, -0.02)[:, None]
    table = pd.concat([rows("own", 0.4 + gain + noise(8, 0.001)), rows("other", 0.4 + noise(9, 0))])
    assert comes_first(difference_from_others(table, "own")) == {"mean": True, "rank": False}


def test_a_part_is_worth_what_the_whole_loses_without_it():
    whole = rows("whole", 0.7 + noise(10))
    by_probe = np.where([probe == "ridge" for _, _, probe in CELLS], 0.1, 0.0)[:, None]
    table = pd.concat(
        [whole, rows("less", 0.7 - by_probe + noise(11)), rows("more", 0.9 + noise(12))]
    )
    found = effect_of_parts(table, "whole").set_index(["group", "cell"])
    assert found.loc[("both probes", "more"), "verdict"] == "worse"
    assert found.loc[("ridge", "less"), "verdict"] == "better"
    assert found.loc[("knn", "less"), "verdict"] == "unclear"
    assert found.loc[("ridge", "less"), "value"] == pytest.approx(0.1, abs=0.01)


def test_changes_are_paired_on_the_seeds_that_a_run_shares_with_the_default():
    common = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    usual = rows("usual", 0.6 + common)
    helps = rows("helps", 0.63 + common[1:4] + noise(1, 0.002)[:, :3], seeds=[1, 2, 3])
    hurts = rows("hurts", 0.55 + common + noise(2, 0.002))
    same = rows("same", 0.6 + common + noise(3))
    alone = rows("alone", np.array([0.9]), seeds=[4])
    table = difference_from_default(
        pd.concat([helps, usual, hurts, same, alone]), "usual"
    ).set_index("cell")
    assert table.index.tolist() == ["helps", "hurts", "same"], "one seed has no interval"
    assert table["verdict"].tolist() == ["better", "worse", "unclear"]
    assert table["n"].tolist() == [3, 5, 5]
    expected = helps.groupby("seed")["value"].mean() - (0.6 + common[1:4])
    interval = stats.ttest_1samp(expected, 0).confidence_interval()
    assert table.loc["helps", "value"] == pytest.approx(expected.mean())
    assert table.loc["helps", ["low", "high"]].tolist() == pytest.approx(list(interval))
    one_sided = stats.ttest_1samp(expected, 0, alternative="greater").pvalue
    assert table.loc["helps", "p"] == pytest.approx(3 * one_sided), "Holm over three runs"
