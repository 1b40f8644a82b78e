"""Tests of equivalence, Holm's correction and shares of variance, held against statsmodels."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from locties.evaluation.statistics import mean_interval
from locties_paper.effects.statistics import equivalence, equivalence_power, holm, variance_shares


def test_equivalence_is_the_two_one_sided_tests_of_statsmodels():
    differences = np.random.default_rng(3).normal(0.005, 0.02, (5, 8))
    expected = [ttost_paired(d, np.zeros(8), -0.02, 0.02)[0] for d in differences]
    assert equivalence(differences, 0.02).tolist() == pytest.approx(expected)


def test_equivalence_at_five_percent_is_the_ninety_percent_interval_within_the_margin():
    for differences in np.random.default_rng(4).normal(0.005, 0.01, (50, 6)):
        _, low, high = mean_interval(differences, level=0.9)
        assert (equivalence(differences, 0.015) < 0.05) == (low > -0.015 and high < 0.015)


@pytest.mark.parametrize(
    ("spread", "seeds", "margin", "difference"),
    [(0.015, 5, 0.02, 0.0), (0.02, 10, 0.02, 0.0), (0.01, 10, 0.02, 0.01), (0.05, 5, 0.02, 0.0)],
)
def test_power_of_equivalence_is_what_simulation_finds(spread, seeds, margin, difference):
    drawn = np.random.default_rng(5).normal(difference, spread, (20_000, seeds))
    found = (equivalence(drawn, margin) < 0.05).mean()
    power = equivalence_power(spread, seeds, margin, difference)
    assert power == pytest.approx(found, abs=0.012)


def test_power_at_the_margin_is_the_level():
    assert equivalence_power(0.005, 10, 0.02, difference=0.02) == pytest.approx(0.05, abs=1e-3)


@pytest.mark.slow
def test_holm_is_that_of_statsmodels_and_keeps_the_shape():
    p = np.random.default_rng(6).uniform(0, 0.2, (3, 4))
    expected = multipletests(p.ravel(), method="holm")[1].reshape(p.shape)
    assert holm(p) == pytest.approx(expected)


def test_shares_of_variance_are_those_of_statsmodels_table_of_each_seed():
    """Sums of squares of each seed's main effects; the error is the seeds' part of them all."""
    rng = np.random.default_rng(7)
    effects = np.arange(2)[:, None, None] + np.arange(3)[:, None] / 2
    y = rng.normal(size=(4, 2, 3, 2)) + effects + rng.normal(size=(4, 1, 1, 1))
    frame = pd.DataFrame(np.argwhere(np.ones(y.shape)), columns=["seed", "a", "b", "c"])
    frame["y"], frame["each"] = y.ravel(), np.arange(y.size) % 12
    error = anova_lm(ols("y ~ C(seed) + C(each)", frame).fit()).loc["Residual", "mean_sq"]
    for seed, shares in enumerate(variance_shares(y)):
        own = frame[frame["seed"] == seed]
        table = anova_lm(ols("y ~ C(a) + C(b) + C(c)", own).fit())
        total = table["sum_sq"].sum() + error
        for name, share in zip("abc", shares, strict=True):
            row = table.loc[f"C({name})"]
            assert share == pytest.approx((row["sum_sq"] - row["df"] * error) / total)


def test_noise_alone_explains_next_to_nothing():
    y = np.random.default_rng(9).normal(size=(10, 200, 3, 3, 3))
    assert abs(variance_shares(y).mean()) < 0.01
