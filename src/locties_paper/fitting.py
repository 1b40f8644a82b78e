"""Measure what an encoder can represent: fit fields by regression, with equal parameters.

There is no contrastive training here. The output is the field itself, so fits differ only by their
encoder.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from locties.encoder import LocationEncoder
from locties.features import FEATURES
from locties.lonlat import MEAN_EARTH_RADIUS_KM, cell_index, check
from locties.networks import NETWORKS

TOLERANCE = 0.02  # allowed distance of the number of parameters from the budget, as a share
TRAINING, VALIDATION, TEST = 0, 1, 2
SHARES = (0.7, 0.1, 0.2)  # of the blocks


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters of a module."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def hidden_width(features: str, network: str, budget: int, dim: int) -> int:
    """The hidden width that brings an encoder's trainable parameters within 2% of a budget.

    Features with many columns take parameters in the first layer and leave fewer for the width.

    Example:
        >>> hidden_width("xyz", "mlp", 10_000, dim=1)
        97
    """
    columns = FEATURES[features]().dim
    make = NETWORKS[network]

    def count(hidden: int) -> int:
        with torch.device("meta"):  # counts without drawing weights
            return parameter_count(make(columns, dim, hidden=hidden))

    if network == "linear":
        raise ValueError("a linear network has no hidden width; choose mlp, residual or siren.")
    widest = max(1, bisect_right(range(1, budget), budget, key=count))  # within the budget
    nearest = min(widest, widest + 1, key=lambda hidden: abs(count(hidden) - budget))
    if abs(count(nearest) - budget) > TOLERANCE * budget:
        raise ValueError(
            f"no width gives {features!r} with {network!r} within {TOLERANCE:.0%} of {budget} "
            f"parameters (nearest: {count(nearest)}); choose a larger budget."
        )
    return nearest


def globe_lonlat(n: int, seed: int) -> Tensor:
    """Points (n, 2) float32, uniform by area over the whole globe, with sea and poles."""
    generator = torch.Generator().manual_seed(seed)
    turn, height = torch.rand(2, n, generator=generator, dtype=torch.float64)
    latitude = torch.rad2deg(torch.asin(2 * height - 1))
    return check(torch.stack([360 * turn - 180, latitude], dim=1).float())


def parts(lonlat: Tensor, kilometres: float, seed: int) -> Tensor:
    """TRAINING, VALIDATION or TEST for each point (N, 2): 70, 10 and 20% of the blocks.

    `kilometres` is the side of a block, rounded so that it divides the meridian. The division
    depends on `seed` and not on the points.
    """
    bands = round(180 * math.radians(MEAN_EARTH_RADIUS_KM) / kilometres)
    block = cell_index(lonlat, 180 / bands)
    drawn = torch.rand(2 * bands**2, generator=torch.Generator().manual_seed(seed))
    edges = torch.tensor(SHARES).cumsum(0)[:-1]
    return torch.bucketize(drawn, edges)[block]


def fit(
    encoder: LocationEncoder,
    lonlat: Tensor,
    target: Tensor,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Fit an encoder's output to a standardised target (N, dim) by least squares, in place.

    AdamW as in the study (weight decay 0.01); the learning rate falls to zero along a cosine. Each
    step draws `batch` points with replacement. `seed` fixes the batches, so two encoders see the
    same points in the same order.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    encoder.train()
    for _ in range(steps):
        rows = torch.randint(len(lonlat), (batch,), generator=generator)
        loss = nn.functional.mse_loss(encoder.encode(lonlat[rows]), target[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    encoder.eval()


def r2(encoder: nn.Module, lonlat: Tensor, target: Tensor) -> Tensor:
    """R² of each column of a target: (dim,)."""
    with torch.no_grad():
        error = (encoder(lonlat) - target).square().mean(0)
    return 1 - error / target.var(0, correction=0)


def compare(
    features: str,
    network: str,
    lonlat: Tensor,
    target: Tensor,
    part: Tensor,
    budget: int,
    steps: int,
    batch: int,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
) -> tuple[pd.DataFrame, LocationEncoder]:
    """Fit one kind of encoder with several seeds, at the learning rate with the best validation.

    The first seed chooses the learning rate, by mean R² over the columns of `target` (N, dim,
    standardised) at validation points. Test points take no part in the choice. `part` comes from
    `parts`, and `budget` is the number of trainable parameters.

    Returns:
        One row for each seed: features, network, hidden, parameters, learning_rate, seed,
        validation (mean R² there), and r2_0, r2_1 and so on, the R² of each column at test points.
        Also the encoder of the first seed.
    """
    dim = target.shape[1]
    options = {"hidden": hidden_width(features, network, budget, dim)}
    points = {which: (lonlat[part == which], target[part == which]) for which in range(len(SHARES))}

    def fitted(learning_rate: float, seed: int) -> LocationEncoder:
        encoder = LocationEncoder(features, network, dim, network_options=options, seed=seed)
        fit(encoder, *points[TRAINING], steps, batch, learning_rate, seed)
        return encoder

    tried = {rate: fitted(rate, seeds[0]) for rate in learning_rates}
    chosen = max(tried, key=lambda rate: r2(tried[rate], *points[VALIDATION]).mean().item())
    encoders = [tried[chosen], *(fitted(chosen, seed) for seed in seeds[1:])]
    rows = [
        {
            "features": features,
            "network": network,
            **options,
            "parameters": parameter_count(encoder),
            "learning_rate": chosen,
            "seed": seed,
            "validation": r2(encoder, *points[VALIDATION]).mean().item(),
            **{f"r2_{i}": value for i, value in enumerate(r2(encoder, *points[TEST]).tolist())},
        }
        for seed, encoder in zip(seeds, encoders, strict=True)
    ]
    return pd.DataFrame(rows), encoders[0]
