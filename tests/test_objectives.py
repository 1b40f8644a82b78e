"""The objectives against plain loops and their gradients."""

import math

import pytest
import torch

from locties.objectives import DIRECTIONS, NEGATIVES, Batch, NTXent, nt_xent, place_of


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


def by_plain_loops(batch: Batch, log_scale: float, direction: str, negatives: str) -> float:
    """The formula of the docstring, one pair of scalars at a time."""

    def unit(rows: list[list[float]]) -> list[list[float]]:
        return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]

    z, e = unit(batch.samples.tolist()), unit(batch.locations.tolist())

    def one_way(anchors: list[list[float]], candidates: list[list[float]]) -> float:
        losses = []
        for i, anchor in enumerate(anchors):
            total = 0.0
            for j, candidate in enumerate(candidates):
                other_modality = batch.modality[i] != batch.modality[j]
                same_place = i != j and batch.place[i] == batch.place[j]
                if same_place or (negatives == "within_modality" and other_modality):
                    continue
                dot = sum(a * b for a, b in zip(anchor, candidate, strict=True))
                total += math.exp(math.exp(log_scale) * dot)
            dot = sum(a * b for a, b in zip(anchor, candidates[i], strict=True))
            losses.append(math.log(total) - math.exp(log_scale) * dot)
        return sum(losses) / len(losses)

    if direction == "modality_to_location":
        return one_way(z, e)
    if direction == "location_to_modality":
        return one_way(e, z)
    return (one_way(z, e) + one_way(e, z)) / 2


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_nt_xent_is_its_formula(direction, negatives):
    batch = a_batch()
    loss = nt_xent(batch, torch.tensor(1.7, dtype=torch.float64), direction, negatives)
    assert loss.item() == pytest.approx(
        by_plain_loops(batch, 1.7, direction, negatives), rel=1e-6
    ), f"{direction}, {negatives}"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_nt_xent_has_the_right_gradient(direction, negatives):
    batch = a_batch(1, pairs=6, dim=3)
    log_scale = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)

    def loss(samples, locations, scale):
        pairs = Batch(samples, locations, batch.modality, batch.place)
        return nt_xent(pairs, scale, direction, negatives)

    inputs = (batch.samples.requires_grad_(), batch.locations.requires_grad_(), log_scale)
    assert torch.autograd.gradcheck(loss, inputs)


def test_the_order_of_the_batch_does_not_matter():
    batch = a_batch(2)
    order = torch.randperm(len(batch.place), generator=torch.Generator().manual_seed(3))
    shuffled = Batch(*(part[order] for part in batch))
    scale = torch.tensor(1.0)
    assert nt_xent(batch, scale).item() == pytest.approx(nt_xent(shuffled, scale).item(), abs=1e-12)


def test_copies_of_a_location_are_not_negatives():
    """A perfect encoder's loss vanishes although every location is there three times."""
    e = torch.eye(8).repeat(3, 1)
    ids = torch.arange(8).repeat(3)
    batch = Batch(e, e, torch.zeros(24, dtype=torch.int64), ids)
    for direction in DIRECTIONS:
        assert nt_xent(batch, torch.tensor(math.log(100.0)), direction).item() < 1e-6


def test_direction_and_negatives_matter():
    batch, scale = a_batch(4), torch.tensor(1.0)
    losses = {nt_xent(batch, scale, d, n).item() for d in DIRECTIONS for n in NEGATIVES}
    assert len(losses) == 6


def test_place_of_tells_places_apart():
    lonlat = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0000001], [1.0, 0.0]])
    place = place_of(lonlat)
    assert place[0] == place[1], "-0.0 is 0.0"
    assert len(place.unique()) == 3


def test_the_scale_is_clamped_after_the_step_and_can_move_back():
    objective = NTXent()
    objective.log_scale.data.fill_(9.0)
    objective.clamp_()
    assert objective.log_scale.exp().item() == pytest.approx(100.0)
    batch = a_batch(5)
    objective(batch).backward()
    assert objective.log_scale.grad.abs() > 0, "at the bound the gradient must not vanish"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "symetric"}, "did you mean 'symmetric'"),
        ({"negatives": "all"}, "unknown kind of negatives 'all'"),
    ],
)
def test_a_wrong_choice_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        NTXent(**options)
