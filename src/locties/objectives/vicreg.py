"""VICReg: no negatives; variance and covariance terms prevent collapse."""

import torch
import torch.nn.functional as F
from torch import Tensor

from locties.objectives.base import Batch, Objective


def vicreg(
    batch: Batch, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """VICReg between samples and locations.

    With Z and E the embeddings (B, d) of samples and locations, not normalised::

        L = invariance s(Z, E) + variance (v(Z) + v(E)) + covariance (c(Z) + c(E))
        s(Z, E) = 1/(B d) sum_ik (Z_ik - E_ik)^2
        v(Z) = 1/d sum_k max(0, 1 - sqrt(Var(Z_k) + 1e-4))
        c(Z) = 1/d sum_(k != l) Cov(Z)_kl^2

    with variances and covariances over the batch (B >= 2), divided by B - 1. Computed in float32,
    or in float64 if an embedding has it.

    Source: Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning" (ICLR 2022, arXiv 2105.04906): Algorithm 1, with the coefficients of
    section 4.2. s is a mean over dimensions, as in Algorithm 1; section 4.1 has a sum. The authors'
    training code halves v, so its coefficient 25 is ``variance=12.5`` here. There is no expander
    network: the loss acts on the embeddings themselves.
    """
    with torch.autocast(batch.samples.device.type, enabled=False):
        z, e = batch.samples.to(batch.dtype), batch.locations.to(batch.dtype)
        spread = sum(F.relu(1 - (x.var(dim=0) + 1e-4).sqrt()).mean() for x in (z, e))
        shared = sum(_covariances(x).square().sum() / x.shape[1] for x in (z, e))
        return invariance * F.mse_loss(z, e) + variance * spread + covariance * shared


def _covariances(x: Tensor) -> Tensor:
    """(d, d) covariances of the columns of (B, d), with zeros on the diagonal."""
    centred = x - x.mean(dim=0)
    square = centred.T @ centred / (len(x) - 1)
    return square - square.diagonal().diag()


class VICReg(Objective):
    """`vicreg` with its coefficients; it has no parameters."""

    def __init__(
        self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
    ) -> None:
        super().__init__()
        self.coefficients = (invariance, variance, covariance)

    def forward(self, batch: Batch) -> Tensor:
        return vicreg(batch, *self.coefficients)
