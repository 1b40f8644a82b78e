"""Nested dimensions: the first numbers of an embedding are an embedding by themselves."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from locties.modality import Modality
from locties.objectives.base import Batch, Objective
from locties.objectives.content import ReadOnce


class Nested(Objective):
    """The mean of an objective's losses on the first d numbers, for each d of `dims`.

    With ``E_:d`` the first d columns of the embeddings (B, dim) of locations, and ``Z_:d`` those of
    the samples::

        L = 1/|dims| sum_d L_d(Z_:d, E_:d)

    Each L_d has learned parameters of its own, such as a temperature or linear heads.

    Args:
        make: returns the objective for one d.
        dims: in rising order; the last is the length of the whole embedding.

    Source: Kusupati et al., "Matryoshka Representation Learning" (NeurIPS 2022, arXiv 2205.13147),
    equation 1 with equal weights. The mean replaces their sum, so that losses can be compared.
    """

    def __init__(self, make: Callable[[], Objective], dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = list(dims)
        parts = [make() for _ in dims]
        self.parts = nn.ModuleList(parts)
        self.reads_samples = parts[0].reads_samples
        self.encodes_samples = parts[0].encodes_samples

    def prepare(self, modalities: Mapping[str, Modality], dim: int) -> None:
        for d, part in self._by_dim():
            part.prepare(modalities, d)

    def forward(self, batch: Batch) -> Tensor:
        batch = batch._replace(raw=batch.raw and ReadOnce(batch.raw))
        losses = [
            part(batch._replace(samples=batch.samples[:, :d], locations=batch.locations[:, :d]))
            for d, part in self._by_dim()
        ]
        return torch.stack(losses).mean()

    def clamp_(self) -> None:
        for _, part in self._by_dim():
            part.clamp_()

    def _by_dim(self) -> list[tuple[int, Objective]]:
        return list(zip(self.dims, self.parts, strict=True))  # type: ignore[arg-type]
