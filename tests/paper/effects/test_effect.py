"""Effects and their two intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from locties_paper.effects.effect import difference

HARD = {"x": 0.0, "y": -0.3, "z": 0.1}


def rows(name: str, seed_of, value, draws=range(4), tasks="xyz") -> pd.DataFrame:
    return pd.DataFrame(
        {"encoder": name, "seed": seed_of(d), "draw": d, "task": t, "value": value(d, t)}
        for d in draws
        for t in tasks
        for _ in ("knn", "ridge")
    )


def test_what_both_share_cancels():
    """A hard draw or task lowers both, and says nothing of their difference."""
    a = rows("a", lambda d: d, lambda d, t: 0.8 + d / 10 + HARD[t] + d / 1000)
    b = rows("b", lambda d: d, lambda d, t: 0.7 + d / 10 + HARD[t])
    effect = difference(pd.concat([a, b]), "a", "b")
    assert effect.value == pytest.approx(0.1015)
    assert (effect.seeds, effect.draws, effect.tasks) == (4, 4, 3)
    assert effect.high_tasks - effect.low_tasks < 1e-9
    expected = stats.t.interval(0.95, 3, 0.1015, stats.sem([0, 0.001, 0.002, 0.003]))
    assert (effect.low, effect.high) == pytest.approx(expected)


def test_draws_that_share_a_seed_are_one_replicate():
    noise = [0.0, 0.04, 0.01, 0.03]
    a = rows("a", lambda d: d // 2, lambda d, t: 0.8 + noise[d])
    b = rows("b", lambda d: 0, lambda d, t: 0.7)
    effect = difference(pd.concat([a, b]), "a", "b")
    assert (effect.seeds, effect.draws) == (2, 4)
    assert (effect.low, effect.high) == pytest.approx((0.12, 0.12))  # both seeds have a mean of .12


def test_without_training_each_draw_is_a_replicate():
    a, b = (rows(n, lambda d: 0, lambda d, t, v=v: v + d**2 / 50) for n, v in (("a", 1), ("b", 2)))
    effect = difference(pd.concat([a, b.assign(value=b["value"] / 2)]), "a", "b")
    assert (effect.seeds, effect.draws) == (4, 4)
    assert effect.low < effect.value < effect.high


def test_draws_that_only_one_has_are_left_out():
    a = rows("a", lambda d: d, lambda d, t: 0.8 + 9 * (d == 3))
    b = rows("b", lambda d: d, lambda d, t: 0.7, draws=range(3))
    effect = difference(pd.concat([a, b]), "a", "b")
    assert (effect.value, effect.draws, effect.seeds) == (pytest.approx(0.1), 3, 3)


def test_several_names_stand_for_their_mean_where_all_have_a_draw():
    good = rows("good", lambda d: d, lambda d, t: 0.9)
    bad = rows("bad", lambda d: d, lambda d, t: 0.5, draws=range(3))
    b = rows("b", lambda d: d, lambda d, t: 0.6)
    effect = difference(pd.concat([good, bad, b]), ("good", "bad"), "b")
    assert (effect.value, effect.draws) == (pytest.approx(0.1), 3)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    """Of replicates with a seed's, a draw's and a task's own noise."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        noise = rng.normal(0, 0.01, 8)[:, None] + rng.normal(0, 0.02, (8, 3))
        a = rows("a", lambda d: d, lambda d, t, n=noise: n[d, "xyz".index(t)], range(8))
        b = rows("b", lambda d: d, lambda d, t: 0.0, range(8))
        effect = difference(pd.concat([a, b]), "a", "b")
        held.append(effect.low <= 0 <= effect.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_what_cannot_be_paired_is_named():
    a = rows("a", lambda d: d, lambda d, t: 0.5)
    for b, named in [
        (rows("b", lambda d: d, lambda d, t: 0.5, draws=[7]), "no draw in common"),
        (rows("b", lambda d: d, lambda d, t: 0.5, tasks="xy"), "task: \\['z'\\]"),
        (pd.concat([a, a.assign(seed=9)]).assign(encoder="b"), "several seeds"),
    ]:
        with pytest.raises(ValueError, match=named):
            difference(pd.concat([a, b]), "a", "b")
    with pytest.raises(ValueError, match="no rows of 'c'"):
        difference(a, "a", "c")
    unfinished = rows("b", lambda d: d, lambda d, t: 0.5).query("not (seed == 2 and task == 'z')")
    with pytest.raises(ValueError, match="finish its runs"):
        difference(pd.concat([a, unfinished]), "a", "b")
