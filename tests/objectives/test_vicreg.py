"""VICReg against plain loops."""

import math

import pytest
import torch
from pairs import a_batch
from torch import Tensor

from locties.objectives import Batch, VICReg, vicreg


def vicreg_by_plain_loops(
    z: list[list[float]], e: list[list[float]], weights: tuple[float, float, float] = (25, 25, 1)
) -> float:
    n, d = len(z), len(z[0])
    invariance = sum((z[i][k] - e[i][k]) ** 2 for i in range(n) for k in range(d)) / (n * d)
    variance = covariance = 0.0
    for rows in (z, e):
        mean = [sum(row[k] for row in rows) / n for k in range(d)]
        for k in range(d):
            for m in range(d):
                cov = sum((row[k] - mean[k]) * (row[m] - mean[m]) for row in rows) / (n - 1)
                if k == m:
                    variance += max(0.0, 1 - math.sqrt(cov + 1e-4)) / d
                else:
                    covariance += cov**2 / d
    return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_vicreg_is_its_formula_on_both_sides_of_the_hinge(spread):
    batch = a_batch()
    batch = batch._replace(samples=spread * batch.samples, locations=spread * batch.locations)
    expected = vicreg_by_plain_loops(batch.samples.tolist(), batch.locations.tolist())
    assert vicreg(batch).item() == pytest.approx(expected, rel=1e-12)
    assert VICReg()(batch).item() == vicreg(batch).item()


def test_each_coefficient_of_vicreg_weighs_its_own_term():
    batch = a_batch()._replace(samples=0.3 * a_batch().samples)
    expected = vicreg_by_plain_loops(batch.samples.tolist(), batch.locations.tolist(), (2, 3, 5))
    loss = vicreg(batch, invariance=2, variance=3, covariance=5)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert VICReg(invariance=2, variance=3, covariance=5)(batch).item() == loss.item()


def test_vicreg_has_the_right_gradient():
    batch = a_batch(1, pairs=6, dim=3)

    def loss(samples: Tensor, locations: Tensor) -> Tensor:
        return vicreg(Batch(samples, locations, batch.modality, batch.place))

    inputs = (batch.samples.requires_grad_(), batch.locations.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


def test_vicreg_punishes_collapse():
    batch = a_batch()
    collapsed = batch._replace(
        samples=torch.ones_like(batch.samples), locations=torch.ones_like(batch.samples)
    )
    assert vicreg(collapsed).item() == pytest.approx(2 * 25 * (1 - math.sqrt(1e-4)))
