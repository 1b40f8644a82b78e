"""Train encoders in a linear world, to compare them with the theoretical best."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties._util.registry import unknown
from locties.objectives import INITIAL_LOG_SCALE, LARGEST_LOG_SCALE, Batch, nt_xent
from locties_paper.erasure.readings import readable
from locties_paper.erasure.worlds import PAIR, Tie, World, check

BLUR = 0.05  # of the embedding's root mean square


def on_sphere(samples: Tensor, locations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lift embeddings (B, d) to (B, d + 2), so that scaled cosines become their dot products.

    `nt_xent` compares cosines, and linear theory uses dot products. With r the greatest length, (z,
    sqrt(r² - |z|²), 0) and (e, 0, sqrt(r² - |e|²)) have length r and the dot product z·e. The third
    result is the log_scale, log r², at which `nt_xent` sees z·e.
    """
    square = [part.square().sum(1, keepdim=True) for part in (samples, locations)]
    r2 = torch.cat(square).max().detach() * (1 + 1e-4)
    rest_z, rest_e = ((r2 - part).sqrt() for part in square)
    nought = torch.zeros_like(rest_z)
    return (
        torch.cat([samples, rest_z, nought], dim=1),
        torch.cat([locations, nought, rest_e], dim=1),
        r2.log(),
    )


def train(
    world: World,
    dim: int,
    weight: float = 0.0,
    tie: Tie = "paired",
    *,
    similarity: Literal["dot", "cosine"] = "cosine",
    hidden: int = 0,
    steps: int = 300,
    batch: int = 256,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> nn.ModuleDict:
    """Train the encoders of a world's modalities for alignment and fidelity.

    The loss is (1 - weight) `nt_xent` + weight times the mean squared error of linear decoders from
    each modality's embedding to its sample. Each step draws new locations. Paired modalities see
    the same locations, and the loss is symmetric: each is the other's anchor. Modalities tied by
    location each see their own half of the batch, as in MELT: samples are anchors, and all
    locations of the batch are candidates.

    `similarity` "cosine" has a learned temperature, as in the library. The theory is exact for
    "dot". `hidden` is the width of two hidden layers; 0 gives linear encoders. Adam's learning rate
    falls to zero along a cosine. Returns an encoder from (B, d) to (B, dim) for each modality, and
    for "location" if that is the tie.
    """
    check(tie, weight)
    if similarity not in ("dot", "cosine"):
        raise unknown("similarity", similarity, ("dot", "cosine"))
    generator = torch.Generator().manual_seed(seed)
    views = list(PAIR) if tie == "paired" else [*PAIR, "location"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = nn.ModuleDict(
            {view: _network(len(world.loadings[view]), dim, hidden) for view in views}
        )
    decoders = nn.ModuleDict({m: nn.Linear(dim, world.channels) for m in PAIR})
    for parameter in decoders.parameters():
        nn.init.zeros_(parameter)
    log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
    parameters = [*encoders.parameters(), *decoders.parameters(), log_scale]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    place = torch.arange(batch)
    modality = place * len(PAIR) // batch
    for _ in range(steps):
        drawn = world.draw(batch, generator)
        if tie == "paired":
            seen = {m: drawn[m] for m in PAIR}
            z = {m: encoders[m](x) for m, x in seen.items()}
            one, other = z["first"], z["second"]
        else:
            seen = {m: drawn[m][modality == i] for i, m in enumerate(PAIR)}
            z = {m: encoders[m](x) for m, x in seen.items()}
            one, other = torch.cat(list(z.values())), encoders["location"](drawn["location"])
        scale: Tensor = log_scale
        if similarity == "dot":
            one, other, scale = on_sphere(one, other)
        direction: Any = "symmetric" if tie == "paired" else "modality_to_location"
        alignment = nt_xent(Batch(one, other, modality * 0, place), scale, direction)
        errors = [F.mse_loss(decoders[m](z[m]), x) for m, x in seen.items()]
        loss = (1 - weight) * alignment + weight * torch.stack(errors).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        rate.step()
        log_scale.data.clamp_(0.0, LARGEST_LOG_SCALE)
    return encoders.eval()


def _network(channels: int, dim: int, hidden: int) -> nn.Module:
    if not hidden:
        return nn.Linear(channels, dim, bias=False)
    return nn.Sequential(
        nn.Linear(channels, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, dim),
    )


@torch.no_grad()
def measure(
    world: World, encoders: Mapping[str, nn.Module], n: int = 2000, seed: int = 1
) -> dict[tuple[str, str], float]:
    """R² of a world's factors, read by ridge in five folds from n embedded samples.

    Noise of `BLUR` times the embedding's root mean square is added first. Without noise, ridge
    would read a direction no matter how short alignment has made it. The result has the keys of
    `Prediction.r2`.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = world.draw(n, generator)
    factors = [name for name in drawn if name.startswith(("shared", "private"))]
    targets = {name: drawn[name].double().numpy() for name in factors}
    fold = np.arange(n) % 5
    r2: dict[tuple[str, str], float] = {}
    for view, encoder in encoders.items():
        z = encoder(drawn[view])
        z = z + BLUR * z.square().mean().sqrt() * torch.randn(z.shape, generator=generator)
        r2 |= {(view, name): value for name, value in readable(z.numpy(), targets, fold).items()}
    return r2
