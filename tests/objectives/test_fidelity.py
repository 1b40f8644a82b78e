"""Fidelity against plain loops, and what it keeps."""

import numpy as np
import pytest
import torch
from pairs import a_batch, dot
from torch import Tensor, nn

import locties
from locties.modality import Modality, profile_encoder
from locties.objectives import Batch, Fidelity, NTXent, Regression, fidelity, nt_xent_formula


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
    alignment = nt_xent_formula(batch, torch.tensor(1.7), "symmetric").item()
    expected = (1 - weight) * alignment + weight * sum(errors) / len(errors)
    loss = fidelity(batch, torch.tensor(1.7), decoders, contents, weight, "symmetric", "joint")
    assert loss.item() == pytest.approx(expected, rel=1e-6)


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


def test_fidelity_that_reads_locations_is_regression_beside_contrast():
    profiles = torch.randn(4, 3)
    regression, joint = Regression(), Fidelity(weight=0.3, read="locations")
    for objective in (regression, joint):
        torch.manual_seed(0)
        objective.prepare({"a": a_modality("a", profiles)}, 5)
    samples, locations, _, place, _ = a_batch(pairs=4)
    batch = Batch(samples.float(), locations.float(), place * 0, place, {0: profiles})
    expected = 0.7 * NTXent()(batch).item() + 0.3 * regression(batch).item()
    assert joint(batch).item() == pytest.approx(expected, rel=1e-6)


def test_fidelity_refuses_to_read_what_a_batch_has_not():
    with pytest.raises(ValueError, match=r"'place'.*locations, samples"):
        Fidelity(read="place")


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


def test_fidelity_says_that_it_needs_the_samples():
    with pytest.raises(ValueError, match=r"Batch\.raw is None"):
        Fidelity()(a_batch())


def test_preparing_twice_makes_no_second_decoders():
    objective = Fidelity()
    for modalities in ("ab", "a"):
        objective.prepare({name: a_modality(name, torch.randn(9, 3)) for name in modalities}, 5)
        assert len(objective.decoders) == len(modalities)
    assert len(list(objective.parameters())) == 3, "the scale, a weight and a bias"


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


@pytest.mark.slow
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
            pairs=128 * 150,
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
