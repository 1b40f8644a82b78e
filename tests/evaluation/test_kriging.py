"""Kriging with an embedding as its trend."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel, Matern

from locties.evaluation import kriging
from locties.evaluation.kriging import Kriging, _distance, _matern
from locties.lonlat import to_xyz


def places(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lonlat = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    return to_xyz(lonlat * torch.tensor([40.0, 30.0]) + torch.tensor([0.0, 30.0])).numpy()


def data(n=120, d=6, seed=0):
    """Embedding and place, and a target with a trend, a smooth rest and noise."""
    rng, xyz = np.random.default_rng(seed), places(n, seed)
    embedding = rng.normal(size=(n, d))
    target = embedding[:, 0] + 3 * np.sin(8 * xyz[:, 2]) + 0.1 * rng.normal(size=n)
    return np.concatenate([embedding, xyz], axis=1), target


def test_the_covariance_is_that_of_scikit_learn():
    a, b = torch.from_numpy(places(20)), torch.from_numpy(places(30, 1))
    assert np.allclose(_matern(_distance(a, b), 0.3), Matern(0.3, nu=1.5)(a.numpy(), b.numpy()))
    assert torch.allclose(_matern(_distance(a, a), 0.3).diagonal(), torch.ones(20, dtype=a.dtype))


class Both(Kernel):
    """Matérn on the last three columns, plus a linear kernel on the others."""

    def __init__(self, smooth, reach, linear):
        self.smooth, self.reach, self.linear = smooth, reach, linear

    def __call__(self, a, b=None, eval_gradient=False):
        b = a if b is None else b
        near = Matern(self.reach, nu=1.5)(a[:, -3:], b[:, -3:])
        return self.smooth * near + self.linear * a[:, :-3] @ b[:, :-3].T

    def diag(self, x):
        return np.diag(self(x))

    def is_stationary(self):
        return False


def test_predictions_are_those_of_scikit_learn(monkeypatch):
    """With the scales given, a Gaussian process of scikit-learn predicts the same."""
    x, y = data()
    reach, smooth, linear, noise = 0.7, 1.3, 0.8, 0.05
    given = torch.tensor([reach, smooth, linear, noise], dtype=torch.float64).log()
    monkeypatch.setattr(kriging, "_scales", lambda covariance, values: given)
    predicted = Kriging(x[:100], [y[:100]], np.zeros(100, int)).fit()(x[100:])[0]

    centre, spread = x[:100, :6].mean(0), x[:100, :6].std(0)
    standard = np.concatenate([(x[:, :6] - centre) / spread / np.sqrt(6), x[:, 6:]], axis=1)
    unit = np.median(pdist(x[:100, 6:])) / 2
    process = GaussianProcessRegressor(
        Both(smooth, unit * reach, linear),
        alpha=noise + kriging.NOISE * (1 + smooth + linear),
        optimizer=None,
        normalize_y=True,
    ).fit(standard[:100], y[:100])
    expected = process.predict(standard[100:]).clip(y[:100].min(), y[:100].max())
    assert np.allclose(predicted, expected, atol=1e-4)


def test_the_scales_are_those_of_the_highest_density():
    """No small step from them makes the data likelier, beyond what the wide priors allow."""
    x, y = data()
    probe = Kriging(x, [y], np.arange(len(y)) % 5)
    held_out = np.arange(len(y)) % 5 == 0
    error = probe.fit(0)(x[held_out])[0] - y[held_out]
    assert np.sqrt((error**2).mean()) < 0.3  # of a standard deviation of about 2; the noise is 0.1
    trend, smooth = probe.columns().importance[:6], probe.columns().importance[6:]
    assert trend.argmax() == 0
    assert smooth.max() > trend[1:].max()


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_few_labels_at_few_places(labels):
    x, y = data(labels)
    assert np.isfinite(Kriging(x, [y], np.arange(labels) % 2).fit(0)(x)[0]).all()


def test_repeated_places_and_constant_features():
    x, y = data(40)
    x = np.concatenate([np.ones((40, 1)), x], axis=1)
    twice, values = np.concatenate([x, x]), np.concatenate([y, y + 1])
    predicted = Kriging(twice, [values], np.arange(80) % 5).fit()(x)[0]
    assert np.abs(predicted - y - 0.5).mean() < 0.3


def test_classes_are_scored():
    xyz = places(200)
    target = (xyz[:, 2] > np.median(xyz[:, 2])).astype(np.int64)
    probe = Kriging(xyz, [target], np.arange(200) % 5)
    rows = np.arange(200) % 5 == 1
    assert probe.columns(1)(xyz[rows])[0].shape == (40, 2)
    assert (probe.fit(1)(xyz[rows])[0] == target[rows]).mean() > 0.9


def test_a_close_range_is_found():
    """Labels within a kilometre: the range follows their extent."""
    rng = np.random.default_rng(0)
    lonlat = torch.from_numpy(rng.uniform([13.4, 52.5], [13.41, 52.51], (80, 2)))
    xyz = to_xyz(lonlat).numpy()
    target = np.sin(600 * lonlat[:, 0].numpy())
    rows = np.arange(80) % 5 == 0
    error = Kriging(xyz, [target], np.arange(80) % 5).fit(0)(xyz[rows])[0] - target[rows]
    assert np.abs(error).mean() < 0.2


def test_close_places_in_float32():
    """The distances of places a few metres apart are right, and their covariance can be solved."""
    rng = np.random.default_rng(0)
    lonlat = torch.from_numpy(13.4 + rng.uniform(0, 1e-3, (150, 2)))
    xyz = to_xyz(lonlat).float().numpy()
    target = rng.normal(size=150) + 1e3 * lonlat[:, 0].numpy()
    x = np.concatenate([rng.normal(size=(150, 400)).astype(np.float32), xyz], axis=1)
    assert np.isfinite(Kriging(x, [target], np.arange(150) % 5).fit(0)(x)[0]).all()


def test_many_labels_are_drawn_from(monkeypatch):
    monkeypatch.setattr(kriging, "MOST_LABELS", 50)
    x, y = data()
    columns = Kriging(x, [y], np.arange(len(y)) % 5).columns()
    assert len(columns.fields[0].places) == 50


def test_an_embedding_without_the_place_is_refused():
    x, y = data()
    with pytest.raises(ValueError, match="best\\+xyz"):
        Kriging(x[:, :6], [y], np.arange(len(y)) % 5).fit()
