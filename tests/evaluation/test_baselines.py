import numpy as np
import pytest
import torch

from locties.evaluation.baselines import BASELINES

POINTS = torch.tensor([[0.0, 0.0], [90.0, 0.0], [13.4, 52.5]])


@pytest.mark.parametrize(
    ("name", "d"),
    [
        ("constant", 1),
        ("xyz", 3),
        ("harmonics_10", 100),
        ("harmonics_40", 1600),
        ("untrained", 256),
    ],
)
def test_every_baseline_embeds(name, d):
    embedding = BASELINES[name](seed=0)(POINTS)
    assert embedding.shape == (3, d)
    assert torch.isfinite(embedding).all()


def test_only_the_untrained_encoder_depends_on_the_seed():
    for name, factory in BASELINES.items():
        same = torch.equal(factory(seed=0)(POINTS), factory(seed=1)(POINTS))
        assert same == (name != "untrained"), name
        assert torch.equal(factory(seed=1)(POINTS), factory(seed=1)(POINTS)), name


def test_distance_between_harmonics_depends_on_the_distance_on_the_sphere_alone():
    """The addition theorem, and so why kNN on harmonics is kNN on xyz."""
    steps = torch.tensor([[0.0, 10.0], [0.0, 20.0], [30.0, 0.0], [40.0, 0.0]])
    embedding = BASELINES["harmonics_10"]()(steps).numpy()
    north, east = (
        np.linalg.norm(embedding[0] - embedding[1]),
        np.linalg.norm(embedding[2] - embedding[3]),
    )
    assert north == pytest.approx(east, rel=1e-5)
