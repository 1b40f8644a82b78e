"""The objectives against plain loops and their gradients; laws that hold for any batch are in
test_properties.py."""

import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import locties
from locties import objectives
from locties.modality import Modality, profile_encoder
from locties.objectives import (
    DIRECTIONS,
    INITIAL_LOG_SCALE,
    LARGEST_LOG_SCALE,
    NEGATIVES,
    OBJECTIVES,
    Batch,
    Fidelity,
    NTXent,
    SigLIP,
    VICReg,
    content,
    fidelity,
    nt_xent,
    place_of,
    siglip,
    vicreg,
)
from locties_paper.site.notebook import REPOSITORY


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


def nt_xent_at_once(batch: Batch, log_scale: Tensor, direction: str, negatives: str) -> Tensor:
    """The formula with all logits at once, differentiated by torch."""
    z, e = (nn.functional.normalize(x) for x in (batch.samples, batch.locations))
    left_out = batch.place[:, None] == batch.place
    if negatives == "within_modality":
        left_out |= batch.modality[:, None] != batch.modality
    logits = (log_scale.exp() * z @ e.T).masked_fill(left_out.fill_diagonal_(False), -torch.inf)
    target = torch.arange(len(z))
    there, back = (nn.functional.cross_entropy(x, target) for x in (logits, logits.T))
    return {DIRECTIONS[0]: there, DIRECTIONS[1]: back, DIRECTIONS[2]: (there + back) / 2}[direction]


def in_parts(at_once: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many logits may be there at once, and so many make a chunk: two chunks make a block."""
    for name, value in {"LOGITS": at_once, "CHUNK": chunk, "BLOCK": 2 * chunk}.items():
        monkeypatch.setattr(objectives, name, value)
    monkeypatch.setattr(objectives, "CHUNK_ROWS", 1)


# All at once, in one chunk and in several; and by blocks, of which the last is shorter.
PARTS = [(50, 50), (50, 9), (50, 1), (17, 17), (9, 9), (1, 1)]


@pytest.mark.parametrize(("rows_at_once", "rows"), PARTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_chunks_change_neither_loss_nor_gradients(
    rows_at_once, rows, direction, negatives, monkeypatch
):
    in_parts(50 * rows_at_once, 50 * rows, monkeypatch)
    batch, results = a_batch(3, pairs=50), []
    for function in (nt_xent, nt_xent_at_once):
        inputs = [batch.samples.clone(), batch.locations.clone(), torch.tensor(2.5).double()]
        z, e, scale = (x.requires_grad_() for x in inputs)
        loss = function(batch._replace(samples=z, locations=e), scale, direction, negatives)
        (3 * loss).backward()
        results.append([loss.detach(), z.grad, e.grad, scale.grad])
    for by_chunks, at_once in zip(*results, strict=True):
        assert (by_chunks - at_once).abs().max() <= 1e-12 * at_once.abs().max()


@pytest.mark.parametrize("log_scale", [math.log(39.9), math.log(40.1), math.log(100)])
def test_one_exponential_for_both_ways_underflows_at_no_scale(log_scale):
    """Anchors whose every candidate lies opposite: in float32, exp(-100) is nothing."""
    z = torch.tensor([[1.0, 0.0], [1.0, 1e-3], [1.0, -1e-3]])
    results = []
    for dtype in (torch.float32, torch.float64):
        samples, locations = z.to(dtype, copy=True), -z.flip(0).to(dtype)
        samples.requires_grad_(), locations.requires_grad_()
        ids = torch.arange(3)
        loss = nt_xent(Batch(samples, locations, ids, ids), torch.tensor(log_scale), "symmetric")
        loss.backward()
        results.append([x.double() for x in (loss.detach(), samples.grad, locations.grad)])
    for single, double in zip(*results, strict=True):
        assert torch.allclose(single, double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", [*DIRECTIONS, "siglip"])
def test_no_matrix_that_is_multiplied_has_denormal_numbers(loss):
    """A good encoder's shares of negatives are exp(-100); some processors crawl on those."""
    smallest, scale = [], torch.tensor(math.log(100))

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function in (torch.ops.aten.mm.default, torch.ops.aten.mm.out):
                smallest.extend(x[x != 0].abs().min().item() for x in args[:2])
            return function(*args, **(kwargs or {}))

    generator = torch.Generator().manual_seed(0)
    locations, noise = torch.randn(2, 200, 256, generator=generator)
    ids = torch.arange(200)
    batch = Batch((locations + 0.6 * noise).requires_grad_(), locations, ids % 2, ids)
    with Products():
        value = (
            siglip(batch, scale, torch.tensor(-90.0))
            if loss == "siglip"
            else nt_xent(batch, scale, loss)
        )
        value.backward()
    assert len(smallest) >= 4
    assert min(smallest) > torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_its_flops_are_counted(direction):
    """They are three products of matrices; runs are compared by what the counter says."""
    batch = a_batch(pairs=12)
    batch.samples.requires_grad_(), batch.locations.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        nt_xent(batch, torch.tensor(1.0), direction).backward()
    assert counter.get_total_flops() == 3 * 2 * 12 * 12 * 5


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_where_no_gradient_is_wanted_none_is_computed(direction):
    """As in validation: the logits are the one product."""
    batch = a_batch(pairs=12)
    batch.samples.requires_grad_()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        nt_xent(batch, torch.tensor(1.0), direction)
    assert counter.get_total_flops() == 2 * 12 * 12 * 5


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_scale_may_be_on_another_device(direction, monkeypatch):
    """As that of validation is; "meta" stands in for a GPU, which knows of no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    batch = Batch(*(x.to("meta") for x in a_batch(pairs=12)[:4]))
    batch.samples.requires_grad_()
    nt_xent(batch, torch.tensor(1.0), direction).backward()
    assert batch.samples.grad.device.type == "meta"


@pytest.mark.parametrize("kinds", [("float32", "float64"), ("bfloat16", "float32")])
def test_embeddings_of_two_kinds_are_taken_in_the_finer_one(kinds):
    batch = a_batch(pairs=12)
    z, e = (x.to(getattr(torch, kind)) for x, kind in zip(batch[:2], kinds, strict=True))
    mixed = nt_xent(Batch(z, e, *batch[2:4]), torch.tensor(1.0))
    assert mixed.dtype == getattr(torch, kinds[1])
    assert mixed.item() == nt_xent(Batch(z.to(e.dtype), e, *batch[2:4]), torch.tensor(1.0)).item()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("rows_at_once", "rows"), [(64, 64), (64, 7), (7, 7)])
def test_a_perfect_encoder_has_no_loss_copies_included(direction, rows_at_once, rows, monkeypatch):
    in_parts(64 * rows_at_once, 64 * rows, monkeypatch)
    z = torch.eye(64).roll(1, 0)
    z[40] = z[3]
    ids = torch.arange(64)
    ids[40] = 3
    batch = Batch(z, z, torch.zeros_like(ids), ids)
    assert 0 <= nt_xent(batch, torch.tensor(math.log(100.0)), direction).item() < 1e-6
    copies_as_negatives = batch._replace(place=torch.arange(64))
    assert nt_xent(copies_as_negatives, torch.tensor(math.log(100.0)), direction).item() > 0.02


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's own memory")
def test_the_memory_of_the_loss_does_not_grow_with_the_square_of_the_batch():
    """All logits of 8,192 pairs would be 268 MB."""
    script = REPOSITORY / "benchmarks" / "loss_memory.py"
    command = [sys.executable, str(script), "8192", "32", "symmetric", "float32"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    megabytes, _ = map(float, done.stdout.split())
    assert 2 < megabytes < 80, "the gradients alone are 2 MB"


def test_direction_and_negatives_matter():
    batch, scale = a_batch(4), torch.tensor(1.0)
    losses = {nt_xent(batch, scale, d, n).item() for d in DIRECTIONS for n in NEGATIVES}
    assert len(losses) == 6


def test_place_of_tells_places_apart():
    lonlat = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0000001], [1.0, 0.0]])
    place = place_of(lonlat)
    assert place[0] == place[1], "-0.0 is 0.0"
    assert len(place.unique()) == 3


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
        (Fidelity, {"weight": 1.5}, r"weight=1.5: it must be in \[0, 1\]"),
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


# ------------------------------------------------------------------------------------- vicreg


def vicreg_by_plain_loops(
    z: list[list[float]], e: list[list[float]], weights: tuple[float, float, float] = (25, 25, 1)
) -> float:
    n, d = len(z), len(z[0])
    invariance = sum((z[i][k] - e[i][k]) ** 2 for i in range(n) for k in range(d)) / (n * d)
    variance = covariance = 0.0
    for rows in (z, e):
        mean = [sum(row[k] for row in rows) / n for k in range(d)]
        for k in range(d):
            for m in range(d):
                cov = sum((row[k] - mean[k]) * (row[m] - mean[m]) for row in rows) / (n - 1)
                if k == m:
                    variance += max(0.0, 1 - math.sqrt(cov + 1e-4)) / d
                else:
                    covariance += cov**2 / d
    return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_vicreg_is_its_formula_on_both_sides_of_the_hinge(spread):
    batch = a_batch()
    batch = batch._replace(samples=spread * batch.samples, locations=spread * batch.locations)
    expected = vicreg_by_plain_loops(batch.samples.tolist(), batch.locations.tolist())
    assert vicreg(batch).item() == pytest.approx(expected, rel=1e-12)
    assert VICReg()(batch).item() == vicreg(batch).item()


def test_each_coefficient_of_vicreg_weighs_its_own_term():
    batch = a_batch()._replace(samples=0.3 * a_batch().samples)
    expected = vicreg_by_plain_loops(batch.samples.tolist(), batch.locations.tolist(), (2, 3, 5))
    loss = vicreg(batch, invariance=2, variance=3, covariance=5)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert VICReg(invariance=2, variance=3, covariance=5)(batch).item() == loss.item()


def test_vicreg_has_the_right_gradient():
    batch = a_batch(1, pairs=6, dim=3)

    def loss(samples: Tensor, locations: Tensor) -> Tensor:
        return vicreg(Batch(samples, locations, batch.modality, batch.place))

    inputs = (batch.samples.requires_grad_(), batch.locations.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


def test_vicreg_punishes_collapse():
    batch = a_batch()
    collapsed = batch._replace(
        samples=torch.ones_like(batch.samples), locations=torch.ones_like(batch.samples)
    )
    assert vicreg(collapsed).item() == pytest.approx(2 * 25 * (1 - math.sqrt(1e-4)))


# ----------------------------------------------------------------------------------- fidelity


def a_decoded_batch() -> tuple[Batch, list[nn.Linear], dict[int, Tensor]]:
    """The batch, linear decoders of its three modalities, and contents of different lengths."""
    batch = a_batch()
    torch.manual_seed(0)
    decoders = [nn.Linear(5, c).double() for c in (2, 4, 3)]
    counts = torch.bincount(batch.modality).tolist()
    sizes = zip(counts, (2, 4, 3), strict=True)
    return batch, decoders, {m: torch.randn(n, c).double() for m, (n, c) in enumerate(sizes)}


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_fidelity_is_its_formula(weight):
    batch, decoders, contents = a_decoded_batch()
    del contents[1]  # a modality that is looked at need not be every one
    errors = []
    for m, of_modality in contents.items():
        rows = [z for z, n in zip(batch.samples.tolist(), batch.modality, strict=True) if n == m]
        matrix, offset = decoders[m].weight.tolist(), decoders[m].bias.tolist()
        total = 0.0
        for z, x in zip(rows, of_modality.tolist(), strict=True):
            for k, expected in enumerate(x):
                total += (dot(matrix[k], z) + offset[k] - expected) ** 2
        errors.append(total / of_modality.numel())
    alignment = by_plain_loops(batch, 1.7, "symmetric", "joint")
    expected = (1 - weight) * alignment + weight * sum(errors) / len(errors)
    scale = torch.tensor(1.7, dtype=torch.float64)
    loss = fidelity(batch, scale, decoders, contents, weight, "symmetric", "joint")
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_fidelity_has_the_right_gradient():
    batch, decoders, contents = a_decoded_batch()

    def loss(samples: Tensor, locations: Tensor, log_scale: Tensor, *_: Tensor) -> Tensor:
        pairs = Batch(samples, locations, batch.modality, batch.place)
        return fidelity(pairs, log_scale, decoders, contents)

    weights = [p for decoder in decoders for p in decoder.parameters()]
    scale = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    inputs = (batch.samples.requires_grad_(), batch.locations.requires_grad_(), scale, *weights)
    assert torch.autograd.gradcheck(loss, inputs)


def a_modality(name: str, samples: Tensor) -> Modality:
    return Modality(name, torch.zeros(len(samples), 2), samples, profile_encoder(1))


def test_fidelity_without_weight_is_nt_xent():
    profiles = torch.randn(4, 3)
    objective = Fidelity(weight=0.0)
    objective.prepare({"a": a_modality("a", profiles)}, 5)
    samples, locations, _, place, _ = a_batch(pairs=4)
    one = torch.zeros_like(place)
    batch = Batch(samples.float(), locations.float(), one, place, {0: profiles})
    assert objective(batch).item() == NTXent()(batch).item()


def test_an_untrained_decoder_has_an_error_of_one():
    """Whatever the modality and its units, so that none outweighs another."""
    samples = {
        "profile": 300 + 40 * torch.randn(500, 12),
        "patch": 0.01 * torch.rand(500, 2, 16, 16),
        "tokens": torch.randint(0, 9000, (500, 64)),
    }
    objective = Fidelity(weight=1.0)
    objective.prepare({name: a_modality(name, x) for name, x in samples.items()}, 7)
    for number, x in enumerate(samples.values()):
        z, ids = torch.randn(500, 7), torch.arange(500)
        loss = objective(Batch(z, z, torch.full_like(ids, number), ids, {number: x}))
        assert loss.item() == pytest.approx(1.0, abs=0.01), list(samples)[number]


def test_content_is_a_fixed_summary():
    profile, patch = torch.rand(2, 5), torch.arange(2 * 256.0).view(2, 1, 16, 16)
    assert torch.equal(content(profile), profile)
    assert content(patch)[1, 0].item() == patch[1, 0, :4, :4].mean().item()
    tokens = torch.tensor([[5, 9, 0, 0], [9, 5, 0, 0], [5, 8, 0, 0]])
    same, swapped, other = content(tokens)
    assert torch.allclose(same, swapped), "the order of tokens says nothing"
    assert (same - other).abs().max() > 0.1
    assert torch.equal(content(tokens[:, :2]), content(tokens)), "padding says nothing"
    with pytest.raises(ValueError, match=r"samples of shape \(2, 3, 4\) have no content"):
        content(torch.rand(2, 3, 4))


def test_fidelity_says_that_it_needs_the_samples():
    with pytest.raises(ValueError, match=r"give them in Batch\.raw"):
        Fidelity()(a_batch())


def test_the_decoder_of_an_absent_modality_rests():
    profiles = torch.randn(4, 3)
    objective = Fidelity()
    objective.prepare({name: a_modality(name, profiles) for name in ("here", "absent")}, 5)
    z, ids = torch.randn(4, 5), torch.arange(4)
    objective(Batch(z, z, torch.zeros_like(ids), ids, {0: profiles})).backward()
    here, absent = objective.decoders
    assert here.weight.grad.abs().max() > 0
    assert absent.weight.grad is None


def read_r2(x: np.ndarray, y: np.ndarray) -> float:
    """R2 of a linear fit on the first half, on the second."""
    half = len(x) // 2
    x = np.c_[x, np.ones(len(x))]
    error = x[half:] @ np.linalg.lstsq(x[:half], y[:half], rcond=None)[0] - y[half:]
    return 1 - float((error**2).sum() / ((y[half:] - y[half:].mean(0)) ** 2).sum())


def test_fidelity_keeps_what_alignment_erases():
    """A sample is a factor that its location tells, mixed with one of its own."""
    generator = torch.Generator().manual_seed(0)
    lonlat = (torch.rand(4000, 2, generator=generator) - 0.5) * torch.tensor([360.0, 160.0])
    shared = locties.LocationEncoder("xyz", "linear", dim=3)(lonlat).detach()
    shared = (shared - shared.mean(0)) / shared.std(0)
    private = torch.randn(4000, 3, generator=generator)
    mixed = torch.cat([shared, private], dim=1) @ torch.randn(6, 6, generator=generator)
    modality = Modality("mixed", lonlat, mixed, profile_encoder(6))
    r2 = {}
    for objective in ("nt_xent", "fidelity"):
        run = locties.pretrain(
            "clip",
            [modality],
            locties.LocationEncoder("xyz", "mlp", dim=6, network_options={"hidden": 64}),
            objective=objective,
            pairs=128 * 250,
            batch=128,
            epochs=1,
            learning_rate=3e-3,
            device="cpu",
            progress=False,
        )
        with torch.no_grad():
            z = run.modality_encoders["mixed"](mixed).numpy()
        r2[objective] = (read_r2(z, shared.numpy()), read_r2(z, private.numpy()))
    assert r2["fidelity"][1] > r2["nt_xent"][1] + 0.3, f"(shared, private): {r2}"
    assert r2["fidelity"][0] > 0.8, f"the shared factor must stay: {r2}"


# ---------------------------------------------------------------------------------- all of them


def made(name: str) -> Callable[[Batch], Tensor]:
    objective = OBJECTIVES[name]()
    modalities = {m: a_modality(m, torch.randn(9, 4)) for m in ("a", "b", "c")}
    objective.prepare(modalities, 5)
    return objective


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_float32_outside_autocast(name):
    batch = a_batch(pairs=12)
    raw = {m: torch.randn(4, 4) for m in range(3)}
    halves = Batch(batch.samples.bfloat16(), batch.locations.bfloat16(), *batch[2:4], raw)
    singles = Batch(halves.samples.float(), halves.locations.float(), *batch[2:4], raw)
    objective = made(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(halves)
    assert loss.dtype == torch.float32
    assert loss.item() == objective(singles).item(), f"{name} lost digits under autocast"


@pytest.mark.parametrize("log_scale", [INITIAL_LOG_SCALE, LARGEST_LOG_SCALE])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("rows_at_once", [300, 37])
def test_gradients_of_bfloat16_embeddings_are_rounded_once_more_and_no_worse(
    rows_at_once, direction, log_scale, monkeypatch
):
    """Logits in bfloat16 would put the temperature's gradient off by half."""
    in_parts(300 * rows_at_once, 300 * 20, monkeypatch)
    batch = a_batch(pairs=300, dim=64)
    halves = [batch.samples.bfloat16(), batch.locations.bfloat16()]

    def gradients(kind: torch.dtype) -> list[Tensor]:
        inputs = [x.detach().to(kind).clone().requires_grad_() for x in halves]
        scale = torch.tensor(log_scale, requires_grad=True)
        nt_xent(Batch(*inputs, *batch[2:4]), scale, direction).backward()
        return [x.grad.double() for x in (*inputs, scale)]

    for exact, found, bound in zip(
        gradients(torch.float64), gradients(torch.bfloat16), (5e-3, 5e-3, 2e-3), strict=True
    ):
        assert (found - exact).norm() < bound * exact.norm()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("schedule", ["melt", "salt", "clip"])
def test_pretraining_with_each_objective_learns(name, schedule):
    """Judged by the validation loss, which is the same for every objective."""
    generator = torch.Generator().manual_seed(0)
    lonlat = (torch.rand(240, 2, generator=generator) - 0.5) * torch.tensor([360.0, 160.0])
    samples = torch.cat([torch.sin(k * lonlat.deg2rad()) for k in (1, 2, 3)], dim=1)
    held_out = Modality("a", lonlat[200:], samples[200:], profile_encoder(6))
    a = Modality("a", lonlat[:200], samples[:200], profile_encoder(6), held_out)
    b = Modality("b", lonlat[:200], samples[:200].roll(1, dims=1), profile_encoder(6), held_out)
    encoder = locties.LocationEncoder("xyz", "mlp", dim=16, network_options={"hidden": 32})
    history = locties.pretrain(
        schedule,
        [a] if schedule == "clip" else [a, b],
        encoder,
        objective=name,
        pairs=64 * 40,
        batch=64,
        epochs=4,
        learning_rate=3e-3,
        device="cpu",
        progress=False,
    ).history
    losses = history[history["modality"] == "a"]["validation_loss"].tolist()
    assert losses[-1] < losses[0], losses
    assert losses[-1] < 0.8 * math.log(40), f"little better than guessing among 40: {losses}"


@pytest.mark.data
@pytest.mark.parametrize("locations", ["fixed", "fresh"])
def test_fidelity_reads_all_five_modalities_of_the_embedded_earth(earth, locations):
    """Profiles, patches and names alike; with all the weight on content, 1 is knowing nothing."""
    history = locties.pretrain(
        "melt",
        ["imagery", "climate", "haze", "relief", "toponyms"],
        locties.LocationEncoder("xyz", "linear", dim=32),
        objective="fidelity",
        objective_options={"weight": 1.0},
        locations=locations,
        samples=500,
        pairs=100 * 40,
        batch=100,
        epochs=2,
        learning_rate=3e-3,
        device="cpu",
        progress=False,
    ).history
    first, last = history.groupby("epoch")["train_loss"].first()
    assert last < 0.8 * first < 1.0, history.to_string()


@pytest.mark.parametrize("name", ["nt_xent", "fidelity"])
def test_the_schedule_gives_the_direction_unless_it_is_named(name):
    few = {"pairs": 40, "batch": 20, "epochs": 1, "progress": False, "device": "cpu"}
    encoder = locties.LocationEncoder("xyz", "linear", dim=4)
    modality = Modality("a", torch.zeros(20, 2), torch.randn(20, 3), profile_encoder(3))
    for options, direction in [
        ({"negatives": "within_modality"}, "symmetric"),
        ({"direction": "location_to_modality"}, "location_to_modality"),
    ]:
        run = locties.pretrain(
            "clip", [modality], encoder, objective=name, objective_options=options, **few
        )
        assert run.settings["objective_options"] == {"direction": direction} | options
