"""Add a network: a multiplicative filter network.

A network is a module made by `Network(in_dim, dim, **options)`, from (N, in_dim) features to
(N, dim) embeddings. This one multiplies sines of the features, layer by layer. Source: FourierNet
in Fathony, Sahu, Willmott and Kolter, "Multiplicative Filter Networks" (ICLR 2021).
"""

import torch
from torch import nn

import locties
from locties.networks import NETWORKS


class Multiplicative(nn.Module):
    def __init__(self, in_dim: int, dim: int, hidden: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.filters = nn.ModuleList(nn.Linear(in_dim, hidden) for _ in range(layers))
        self.mixers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.output = nn.Linear(hidden, dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        first, *others = (torch.sin(layer(features)) for layer in self.filters)
        for mixer, wave in zip(self.mixers, others, strict=True):
            first = mixer(first) * wave
        return self.output(first)


NETWORKS["multiplicative"] = Multiplicative

if __name__ == "__main__":
    encoder = locties.LocationEncoder(
        "spherical_harmonics", "multiplicative", dim=64, feature_options={"degree": 10}
    )
    small = {"samples": 2000, "pairs": 30_000, "batch": 250, "epochs": 4, "learning_rate": 3e-3}
    run = locties.pretrain("clip", ["haze"], encoder, **small)
    recall = run.history["recall_at_10"]
    print(f"haze, recall at 10 of 1024: {recall.iloc[0]:.3f}, at the end {recall.iloc[-1]:.3f}")
