"""Small batches for the tests of objectives, and arithmetic on lists of floats."""

import math

import torch

from locties.objectives import Batch


def a_batch(seed: int = 0, pairs: int = 12, dim: int = 5) -> Batch:
    """Three modalities, and two pairs that stand at one place."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(pairs)
    place[-1] = place[2]
    return Batch(
        torch.randn(pairs, dim, generator=generator, dtype=torch.float64),
        torch.randn(pairs, dim, generator=generator, dtype=torch.float64),
        torch.arange(pairs) % 3,
        place,
    )


def unit(rows: list[list[float]]) -> list[list[float]]:
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def is_left_out(batch: Batch, i: int, j: int, negatives: str) -> bool:
    other_modality = bool(batch.modality[i] != batch.modality[j])
    same_place = i != j and bool(batch.place[i] == batch.place[j])
    return same_place or (negatives == "within_modality" and other_modality)
