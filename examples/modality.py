"""Add a modality: the share of land around a place, ring by ring.

A modality is a function `(samples, seed, validation)` that returns a `Modality`: locations,
samples, an encoder for the samples, and a held-out `Modality` for validation. Modalities share no
cell. This one uses the cells of `night_lights`, so train with one of the two.
"""

import torch

import locties
from locties.data import embedded
from locties.data.sampling import land_lonlat
from locties.modalities import MODALITIES
from locties.modality import Modality, profile_encoder

RINGS, BEARINGS = torch.tensor([0.5, 1, 2, 4, 8, 16]), torch.arange(0, 360, 22.5).deg2rad()


def land_share(lonlat: torch.Tensor) -> torch.Tensor:
    """(N, 2) degrees to (N, 6), the share of land on rings of 0.5 to 16 degrees of latitude."""
    north = RINGS[:, None] * BEARINGS.cos()
    east = RINGS[:, None] * BEARINGS.sin() / lonlat[:, 1].deg2rad().cos()[:, None, None]
    around = torch.stack([lonlat[:, :1, None] + east, lonlat[:, 1:, None] + north], dim=-1)
    on_land = embedded.load().land.nearest(around.reshape(-1, 2)) == 1
    return on_land.view(around.shape[:3]).float().mean(dim=2)


def coast(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    def at(n: int, owner: str, held_out: Modality | None = None) -> Modality:
        generator = torch.Generator().manual_seed(seed)
        lonlat = land_lonlat(embedded.load(), n, generator, owned_by=owner)
        return Modality("coast", lonlat, land_share(lonlat), profile_encoder(6), held_out)

    return at(samples, "night_lights", at(validation, "validation"))


MODALITIES["coast"] = coast

if __name__ == "__main__":
    print(
        "Madagascar, Kazakhstan:", land_share(torch.tensor([[46.0, -20.0], [67.0, 48.0]])).tolist()
    )
    encoder = locties.LocationEncoder(dim=64, feature_options={"degree": 10})
    small = {"samples": 2000, "pairs": 30_000, "batch": 250, "epochs": 4, "learning_rate": 1e-3}
    run = locties.pretrain("melt", ["rain", "coast"], encoder, **small)
    recall = run.history.groupby("modality")["recall_at_10"].last()
    print("recall at 10 of 1024:", recall.round(3).to_dict())
