"""The parts that are timed, as functions without arguments. L = 40 and width 512 by default."""

from collections.abc import Callable
from itertools import chain, cycle

import torch
from torch import Tensor, nn

from locties import LocationEncoder
from locties._util.matmul import ByOneDNN
from locties.data.raster import Raster
from locties.modalities import Gathered
from locties.modality import PATCH, profile_encoder
from locties.objectives import OBJECTIVES, Batch, place_of

PROFILE = 36  # numbers in a sample: twelve months of three variables


def places(n: int, seed: int = 0) -> Tensor:
    """(n, 2) float64, uniform in longitude and latitude, so that polar points are many."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, 2, generator=generator).double() - 0.5) * torch.tensor([360.0, 180.0])


def profiles(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, PROFILE, generator=torch.Generator().manual_seed(seed))


def patches(n: int) -> Gathered:
    """Patches of a resident raster of the size and type of Blue Marble's, read where asked for."""
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
) -> Callable[[], None]:
    """A step of MELT over profiles: draw, encode, loss, gradient, optimiser. `batch` is all pairs.

    With one modality, the two-modality baseline: the loss is then symmetric, as SatCLIP's is. With
    the schedule "salt", each step's pairs are of one modality, each modality's in turn. The data
    are resident on `device`, and nothing in a step waits for it.
    """
    location = encoder(degree).to(device).train()
    samples, lonlat = profiles(20_000).to(device), places(20_000).float().to(device)
    sample_encoders = nn.ModuleList(profile_encoder(PROFILE)(256) for _ in range(modalities))
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
        # No pair twice in a batch, as `locties.pretrain` draws; a CUDA graph draws anew, too.
        index = order[(torch.randint(len(samples), (1,), device=device) + some) % len(samples)]
        optimiser.zero_grad(set_to_none=True)
        where = lonlat[index]
        # Weights cast outside a graph would stay what they were when it was recorded.
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            e = location.encode(where)
            parts = zip(sample_encoders, samples[index].split(sizes), strict=True)
            z = torch.cat([network(part) for network, part in parts if len(part)])
        objective(Batch(z, e, modality, place_of(where))).backward()
        optimiser.step()
        objective.clamp_()

    return step
