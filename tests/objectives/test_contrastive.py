"""NT-Xent and SigLIP against plain loops over pairs of scalars."""

import math

import pytest
import torch
from pairs import a_batch, dot, is_left_out, unit
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from locties.objectives import (
    DIRECTIONS,
    NEGATIVES,
    Batch,
    Fidelity,
    NTXent,
    SigLIP,
    contrastive,
    nt_xent,
    nt_xent_formula,
    siglip,
)
from locties.objectives._ntxent import lean_nt_xent

BOTH = pytest.mark.parametrize("function", [nt_xent_formula, lean_nt_xent])


def by_plain_loops(batch: Batch, log_scale: float, direction: str, negatives: str) -> float:
    """The formula of the docstring, one pair of scalars at a time."""
    z, e = unit(batch.samples.tolist()), unit(batch.locations.tolist())

    def one_way(anchors: list[list[float]], candidates: list[list[float]]) -> float:
        losses = []
        for i, anchor in enumerate(anchors):
            total = 0.0
            for j, candidate in enumerate(candidates):
                if not is_left_out(batch, i, j, negatives):
                    total += math.exp(math.exp(log_scale) * dot(anchor, candidate))
            losses.append(math.log(total) - math.exp(log_scale) * dot(anchor, candidates[i]))
        return sum(losses) / len(losses)

    if direction == "modality_to_location":
        return one_way(z, e)
    if direction == "location_to_modality":
        return one_way(e, z)
    return (one_way(z, e) + one_way(e, z)) / 2


@BOTH
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_nt_xent_is_its_formula(function, direction, negatives):
    batch = a_batch()
    loss = function(batch, torch.tensor(1.7, dtype=torch.float64), direction, negatives)
    expected = by_plain_loops(batch, 1.7, direction, negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def of_tensors(function, batch: Batch, direction: str, negatives: str):
    """The loss as a function of tensors, for gradcheck."""

    def loss(samples: Tensor, locations: Tensor, log_scale: Tensor) -> Tensor:
        pairs = batch._replace(samples=samples, locations=locations)
        return function(pairs, log_scale, direction, negatives)

    log_scale = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    return loss, (batch.samples.requires_grad_(), batch.locations.requires_grad_(), log_scale)


@BOTH
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_nt_xent_has_the_right_gradient(function, direction, negatives):
    batch = a_batch(1, pairs=6, dim=3)
    assert torch.autograd.gradcheck(*of_tensors(function, batch, direction, negatives))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_formula_has_the_right_second_gradient(direction, negatives):
    batch = a_batch(1, pairs=6, dim=3)
    assert torch.autograd.gradgradcheck(*of_tensors(nt_xent_formula, batch, direction, negatives))


def test_only_large_batches_are_computed_in_chunks(monkeypatch):
    seen = []
    monkeypatch.setattr(contrastive, "lean_nt_xent", lambda *_: seen.append("lean"))
    monkeypatch.setattr(contrastive, "nt_xent_formula", lambda *_: seen.append("formula"))
    for pairs in (2047, 2048):
        nt_xent(Batch(torch.empty(pairs, 1), torch.empty(pairs, 1), None, None), torch.tensor(1.0))
    assert seen == ["formula", "lean"]


@pytest.mark.parametrize("loss", [*DIRECTIONS, "siglip"])
@pytest.mark.parametrize("function", [nt_xent_formula, lean_nt_xent])
def test_no_matrix_that_is_multiplied_has_denormal_numbers(function, loss):
    """A good encoder's shares of negatives are exp(-100); some processors crawl on those."""
    smallest, scale = [], torch.tensor(math.log(100))

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function in (torch.ops.aten.mm.default, torch.ops.aten.mm.out):
                smallest.extend(
                    x[x != 0].abs().min().item() for x in args[:2] if x.dtype == torch.float32
                )
            return function(*args, **(kwargs or {}))

    generator = torch.Generator().manual_seed(0)
    locations, noise = torch.randn(2, 200, 256, generator=generator)
    ids = torch.arange(200)
    batch = Batch((locations + 0.6 * noise).requires_grad_(), locations, ids % 2, ids)
    with Products():
        value = (
            siglip(batch, scale, torch.tensor(-90.0))
            if loss == "siglip"
            else function(batch, scale, loss, "joint")
        )
        value.backward()
    assert len(smallest) >= 4
    assert min(smallest) > torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_its_flops_are_counted(direction):
    """Three products of matrices: `history` compares runs by this number."""
    batch = a_batch(pairs=12)
    batch.samples.requires_grad_(), batch.locations.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        nt_xent(batch, torch.tensor(1.0), direction).backward()
    assert counter.get_total_flops() == 3 * 2 * 12 * 12 * 5


@BOTH
@pytest.mark.parametrize("kinds", [("float32", "float64"), ("bfloat16", "float32")])
def test_embeddings_of_two_kinds_are_taken_in_the_finer_one(function, kinds):
    batch = a_batch(pairs=12)
    z, e = (x.to(getattr(torch, kind)) for x, kind in zip(batch[:2], kinds, strict=True))
    mixed = function(Batch(z, e, *batch[2:4]), torch.tensor(1.0), "symmetric", "joint")
    assert mixed.dtype == getattr(torch, kinds[1])
    same = function(Batch(z.to(e.dtype), e, *batch[2:4]), torch.tensor(1.0), "symmetric", "joint")
    assert mixed.item() == same.item()


@BOTH
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_perfect_encoder_has_no_loss_copies_included(function, direction):
    z = torch.eye(64).roll(1, 0)
    z[40] = z[3]
    ids = torch.arange(64)
    ids[40] = 3
    batch, scale = Batch(z, z, torch.zeros_like(ids), ids), torch.tensor(math.log(100.0))
    assert 0 <= function(batch, scale, direction, "joint").item() < 1e-6
    copies_as_negatives = batch._replace(place=torch.arange(64))
    assert function(copies_as_negatives, scale, direction, "joint").item() > 0.02


def test_direction_and_negatives_matter():
    batch, scale = a_batch(4), torch.tensor(1.0)
    losses = {nt_xent(batch, scale, d, n).item() for d in DIRECTIONS for n in NEGATIVES}
    assert len(losses) == 6


@pytest.mark.parametrize("make", [NTXent, SigLIP])
def test_the_scale_is_clamped_after_the_step_and_can_move_back(make):
    objective = make()
    objective.log_scale.data.fill_(9.0)
    objective.clamp_()
    assert objective.log_scale.exp().item() == pytest.approx(100.0)
    objective(a_batch(5)).backward()
    assert objective.log_scale.grad.abs() > 0, "at the bound the gradient must not vanish"


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (NTXent, {"direction": "symetric"}, "did you mean 'symmetric'"),
        (NTXent, {"negatives": "all"}, "unknown kind of negatives 'all'"),
        (SigLIP, {"negatives": "all"}, "unknown kind of negatives 'all'"),
        (Fidelity, {"direction": "both"}, "unknown direction 'both'"),
        (Fidelity, {"weight": 1.5}, r"weight=1.5.*\[0, 1\]"),
    ],
)
def test_a_wrong_choice_is_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


# ------------------------------------------------------------------------------------- siglip


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_siglip_is_its_formula(negatives):
    batch, log_scale, bias = a_batch(), 1.7, -2.5
    z, e = unit(batch.samples.tolist()), unit(batch.locations.tolist())
    total = 0.0
    for i in range(len(z)):
        for j in range(len(e)):
            if not is_left_out(batch, i, j, negatives):
                sign = 1 if i == j else -1
                logit = sign * (math.exp(log_scale) * dot(z[i], e[j]) + bias)
                total += math.log(1 / (1 + math.exp(-logit)))
    loss = siglip(batch, torch.tensor(log_scale).double(), torch.tensor(bias).double(), negatives)
    # log_scale went through float32
    assert loss.item() == pytest.approx(-total / len(z), rel=1e-6), negatives


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_siglip_has_the_right_gradient(negatives):
    batch = a_batch(1, pairs=6, dim=3)

    def loss(samples: Tensor, locations: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:
        pairs = Batch(samples, locations, batch.modality, batch.place)
        return siglip(pairs, log_scale, bias, negatives)

    scalars = torch.tensor([0.9, -1.0], dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (batch.samples, batch.locations, *scalars.clone())]
    assert torch.autograd.gradcheck(loss, inputs)


def test_siglip_starts_where_the_paper_does():
    objective = SigLIP()
    assert objective.log_scale.exp().item() == pytest.approx(10.0)
    assert objective.bias.item() == -10.0
