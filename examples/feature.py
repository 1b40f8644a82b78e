"""Add a positional feature: Gaussian bumps around points spread evenly over the globe.

A feature is a module with `dim`, `continuous` and `forward`, which maps (N, 2) degrees to (N, dim).
The n points form a Fibonacci lattice, and a bump is as wide as their spacing. To load an encoder
saved with this feature, import this file first.
"""

import math

import torch

import locties
from locties.features import FEATURES
from locties.lonlat import to_xyz


class Bumps(torch.nn.Module):
    continuous = True  # across the date line and at the poles

    def __init__(self, n: int = 500) -> None:
        super().__init__()
        k = torch.arange(n) + 0.5
        lonlat = torch.stack([k * 222.4922 % 360, torch.rad2deg(torch.asin(1 - 2 * k / n))], dim=1)
        self.register_buffer("centres", to_xyz(lonlat), persistent=False)
        self.dim, self.width = n, math.sqrt(4 * math.pi / n)

    def forward(self, lonlat: torch.Tensor) -> torch.Tensor:
        chord = torch.cdist(to_xyz(lonlat.double()).float(), self.centres)
        return torch.exp(-((chord / self.width) ** 2))


FEATURES["bumps"] = Bumps

if __name__ == "__main__":
    for name in ("xyz", "bumps"):
        encoder = locties.LocationEncoder(name, "linear", dim=512)
        options = {"splits": "random", "probes": "ridge", "labels": "all"}
        table = locties.evaluate(encoder, "elevation", **options)
        print(f"elevation, {name}: R2 = {table.set_index('metric')['value']['r2']:.2f}")
