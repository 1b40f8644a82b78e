import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from locties.evaluation.protocol import r2
from locties.evaluation.statistics import block_bootstrap, mean_interval


def _mean(sums):
    return sums[..., 0] / sums[..., 1]


def _bootstrap_mean(values, blocks, **options):
    return block_bootstrap(np.stack([values, np.ones_like(values)], 1), blocks, _mean, **options)


def test_mean_interval_is_the_t_interval_of_scipy():
    values = [0.81, 0.84, 0.79, 0.90, 0.85]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    mean, low, high = mean_interval(values, level=0.9)
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("values", [[0.5], [], [0.5, np.nan]])
def test_mean_interval_refuses_what_has_no_spread(values):
    with pytest.raises(ValueError, match="two finite values"):
        mean_interval(values)


def test_level_is_a_coverage():
    with pytest.raises(ValueError, match=r"between 0 and 1.*95"):
        mean_interval([0.1, 0.2], level=95)


def test_bootstrap_of_single_points_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=400)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = _bootstrap_mean(values, np.arange(400))
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_bootstrap_contains_the_score_and_widens_when_errors_are_clustered():
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(50), 20)
    clustered = rng.normal(size=50)[blocks] + 0.1 * rng.normal(size=1000)
    by_block = _bootstrap_mean(clustered, blocks)
    by_point = _bootstrap_mean(clustered, np.arange(1000))
    assert by_block.low < by_block.mean < by_block.high
    assert by_block.mean == pytest.approx(by_point.mean)
    ratio = (by_block.high - by_block.low) / (by_point.high - by_point.low)
    assert 3 < ratio < 6, f"twenty alike points a block: expected near sqrt(20), got {ratio:.2f}"


def test_bootstrap_draws_whole_blocks():
    """With two blocks, a draw can only score one, the other, or both."""
    drawn = []

    def score(sums):
        drawn.append(_mean(sums))
        return drawn[-1]

    values = np.array([0.0, 0.0, 0.0, 1.0])
    block_bootstrap(np.stack([values, np.ones(4)], 1), [7, 7, 7, 3], score)
    assert set(np.unique(drawn[0]).tolist()) == {0.0, 0.25, 1.0}


def test_bootstrap_repeats_with_its_seed():
    values, blocks = np.arange(30.0), np.arange(30) // 3
    assert _bootstrap_mean(values, blocks, seed=3) == _bootstrap_mean(values, blocks, seed=3)
    assert _bootstrap_mean(values, blocks, seed=3) != _bootstrap_mean(values, blocks, seed=4)


def test_bootstrap_refuses_lengths_that_differ():
    with pytest.raises(ValueError, match="4 rows of terms but 3 blocks"):
        block_bootstrap(np.ones((4, 2)), [0, 1, 2], _mean)


def test_r2_from_sums_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=200)
    guess = truth + rng.normal(size=200)
    sums = np.stack([(guess - truth) ** 2, truth**2, truth, np.ones(200)], 1).sum(0)
    assert r2(sums) == pytest.approx(r2_score(truth, guess))
