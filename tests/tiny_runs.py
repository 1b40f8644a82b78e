"""Runs of a fraction of a second, for the tests of training."""

from typing import Any

import torch

from locties import LocationEncoder
from locties.modality import Modality, profile_encoder

TINY: dict[str, Any] = {
    "pairs": 512,
    "batch": 64,
    "epochs": 4,
    "learning_rate": 3e-3,
    "device": "cpu",
    "progress": False,
}


def a_modality(name: str, seed: int = 0) -> Modality:
    """Profiles that depend smoothly on the location; the "b" of "a" and "b" lies in the east."""
    generator = torch.Generator().manual_seed(seed)
    lonlat = torch.rand(200, 2, generator=generator) * torch.tensor([170.0, 160.0])
    lonlat -= torch.tensor([0.0 if name == "b" else 180.0, 80.0])
    samples = torch.cat([torch.sin(k * lonlat.deg2rad()) for k in (1, 2, 3)], dim=1)
    held_out = Modality(name, lonlat[:40] + 0.5, samples[:40], profile_encoder(6))
    return Modality(name, lonlat, samples, profile_encoder(6), held_out)


def two_modalities() -> list[Modality]:
    return [a_modality("a"), a_modality("b")]


def an_encoder(seed: int = 0) -> LocationEncoder:
    return LocationEncoder(
        dim=16, feature_options={"degree": 6}, network_options={"hidden": 32}, seed=seed
    )


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])
