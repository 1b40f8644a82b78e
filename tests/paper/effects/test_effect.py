"""Effects and their two intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from locties_paper.effects.effect import crossed_interval, difference


@pytest.mark.parametrize(
    ("seed_sd", "draw_sd", "rest_sd"), [(1, 1, 1), (0.2, 1, 0.3), (1, 0, 0.1), (0, 0, 1)]
)
def test_the_interval_holds_the_mean_as_often_as_it_says(seed_sd, draw_sd, rest_sd):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(1500):
        values = (
            rng.normal(0, seed_sd, (5, 1))
            + rng.normal(0, draw_sd, 10)
            + rng.normal(0, rest_sd, (5, 10))
        )
        _, low, high = crossed_interval(values)
        held.append(low <= 0 <= high)
    assert 0.935 <= np.mean(held) <= 0.995


def test_of_one_seed_it_is_a_t_interval_over_draws():
    values = np.random.default_rng(1).normal(size=(1, 12))
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values[0]))
    assert crossed_interval(values)[1:] == pytest.approx(expected)
    assert crossed_interval(values.T) == crossed_interval(values)


def test_equal_values_have_an_interval_without_width():
    assert crossed_interval(np.full((5, 10), 0.25)) == (0.25, 0.25, 0.25)


def rows(name: str, seeds: list[int], value, draws=range(4), tasks="xyz") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "encoder": name,
            "seed": s,
            "draw": d,
            "task": t,
            "split": "block",
            "probe": p,
            "labels": "all",
            "value": value(s, d, t),
        }
        for s in seeds
        for d in draws
        for t in tasks
        for p in ("knn", "ridge")
    )


def test_what_both_share_cancels():
    """A hard draw or task lowers both, and says nothing of their difference."""
    hard = {"x": 0.0, "y": -0.3, "z": 0.1}
    a = rows("a", [1, 2, 3], lambda s, d, t: 0.8 + d / 10 + hard[t] + s / 1000)
    b = rows("b", [1, 2, 3], lambda s, d, t: 0.7 + d / 10 + hard[t])
    effect = difference(pd.concat([a, b]), "a", "b")
    assert effect.value == pytest.approx(0.102)
    assert (effect.seeds, effect.draws, effect.tasks) == (3, 4, 3)
    assert effect.high_tasks - effect.low_tasks < 1e-9
    seeds = stats.t.interval(0.95, 2, 0.102, 0.001 / np.sqrt(3))
    assert (effect.low, effect.high) == pytest.approx(seeds)


def test_a_contender_without_training_is_paired_with_every_seed():
    raw = rows("raw", [0], lambda s, d, t: 0.5)
    melt = rows("melt", [7, 8], lambda s, d, t: 0.6 + s / 100)
    effect = difference(pd.concat([raw, melt]), "melt", "raw")
    assert (effect.seeds, effect.value) == (2, pytest.approx(0.175))


def test_contenders_with_other_seeds_use_those_they_share():
    a = rows("a", [1, 2, 3], lambda s, d, t: 0.5 + s)
    b = rows("b", [2, 3, 4], lambda s, d, t: 0.4 + s)
    effect = difference(pd.concat([a, b]), "a", "b")
    assert (effect.seeds, effect.value) == (2, pytest.approx(0.1))


def test_what_cannot_be_paired_is_named():
    a = rows("a", [1, 2], lambda s, d, t: 0.5)
    for b, named in [
        (rows("b", [1, 2], lambda s, d, t: 0.5, draws=range(3)), "draw: \\[3\\]"),
        (rows("b", [1, 2], lambda s, d, t: 0.5, tasks="xy"), "task: \\['z'\\]"),
        (rows("b", [5, 6], lambda s, d, t: 0.5), "share no seed"),
    ]:
        with pytest.raises(ValueError, match=named):
            difference(pd.concat([a, b]), "a", "b")
    with pytest.raises(ValueError, match="no rows of 'c'"):
        difference(a, "a", "c")
    unfinished = rows("b", [1, 2], lambda s, d, t: 0.5).query("not (seed == 2 and task == 'z')")
    with pytest.raises(ValueError, match="finish its runs"):
        difference(pd.concat([a, unfinished]), "a", "b")
