"""Build the parts to time, as functions without arguments. By default L = 40 and width 512."""

from collections.abc import Callable
from itertools import chain, cycle

import torch
from torch import Tensor, nn

from locties import LocationEncoder
from locties._util.matmul import ByOneDNN
from locties.data.raster import Raster
from locties.modalities import Gathered
from locties.modality import PATCH, Samples, profile_encoder
from locties.objectives import OBJECTIVES, Batch, place_of

PROFILE = 36  # numbers in a sample: twelve months of three variables


def places(n: int, seed: int = 0) -> Tensor:
    """Points (n, 2) float64, uniform in longitude and in latitude: many lie near the poles."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, 2, generator=generator).double() - 0.5) * torch.tensor([360.0, 180.0])


def profiles(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, PROFILE, generator=torch.Generator().manual_seed(seed))


def patches(n: int) -> Gathered:
    """Patches of a raster in memory, with Blue Marble's size and dtype; read when indexed."""
    pixels = torch.randint(256, (3, 2700, 5400), dtype=torch.uint8)
    raster = Raster(pixels, lon0=-180 + 1 / 30, lat0=90 - 1 / 30, dlon=1 / 15, dlat=1 / 15)
    return Gathered(
        places(n).float(),
        (raster,),
        read=lambda rasters, lonlat: rasters[0].patches(lonlat, PATCH) / 255,
        draw=lambda count, _: places(count).float(),
    )


def encoder(degree: int = 40, hidden: int = 512, dim: int = 256) -> LocationEncoder:
    return LocationEncoder(
        dim=dim, feature_options={"degree": degree}, network_options={"hidden": hidden}
    )


def training_step(
    modalities: int = 1,
    batch: int = 2048,
    degree: int = 40,
    bfloat16: bool = False,
    device: str = "cpu",
    schedule: str = "melt",
    samples: Samples | None = None,
) -> Callable[[], None]:
    """A MELT step over profiles: draw, encode, loss, gradient, optimiser.

    `batch` counts the pairs of all modalities. One modality gives the two-modality baseline, whose
    loss is symmetric like SatCLIP's. With the schedule "salt", each step takes the pairs of one
    modality, in turn. The data lie on `device`, and no operation in a step waits for it. `samples`
    are 20,000 vectors; profiles by default.
    """
    location = encoder(degree).to(device).train()
    samples = profiles(20_000).to(device) if samples is None else samples
    lonlat, width = places(20_000).float().to(device), samples[torch.arange(1)].shape[1]
    sample_encoders = nn.ModuleList(profile_encoder(width)(256) for _ in range(modalities))
    sample_encoders.to(device)
    order, some = torch.randperm(len(samples), device=device), torch.arange(batch, device=device)
    direction = "symmetric" if modalities == 1 else "modality_to_location"
    objective = OBJECTIVES["nt_xent"](direction=direction).to(device)
    parameters = chain(location.parameters(), sample_encoders.parameters(), objective.parameters())
    capturable = device != "cpu"  # in a CUDA graph
    optimiser = torch.optim.AdamW(list(parameters), lr=1e-4, fused=True, capturable=capturable)
    if schedule == "melt":
        patterns = [[batch // modalities + (m < batch % modalities) for m in range(modalities)]]
    else:
        patterns = [
            [batch * (m == active) for m in range(modalities)] for active in range(modalities)
        ]
    numbers = torch.arange(modalities)
    turns = cycle(
        (sizes, torch.repeat_interleave(numbers, torch.tensor(sizes)).to(device))
        for sizes in patterns
    )

    @ByOneDNN()  # as `locties.pretrain` does
    def step() -> None:
        sizes, modality = next(turns)
        # Draw each pair once a batch, as `locties.pretrain` does. A CUDA graph also draws afresh.
        index = order[(torch.randint(len(samples), (1,), device=device) + some) % len(samples)]
        optimiser.zero_grad(set_to_none=True)
        where = lonlat[index]
        # The graph must cast the weights itself, or it would reuse those of its recording.
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            e = location.encode(where)
            parts = zip(sample_encoders, samples[index].split(sizes), strict=True)
            z = torch.cat([network(part) for network, part in parts if len(part)])
        objective(Batch(z, e, modality, place_of(where))).backward()
        optimiser.step()
        objective.clamp_()

    return step
