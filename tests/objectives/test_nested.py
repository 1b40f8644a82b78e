"""Nested dimensions: the loss, and what training with it does to the first numbers."""

from importlib import import_module

import pytest
import torch
from pairs import a_batch

import locties
from locties.modality import Modality, profile_encoder
from locties.objectives import (
    LARGEST_LOG_SCALE,
    OBJECTIVES,
    Batch,
    Nested,
    NTXent,
    Regression,
    nt_xent,
    vicreg,
)
from locties.training.run import Run


def test_it_is_the_mean_of_the_losses_on_the_first_numbers():
    batch = a_batch()
    firsts = [
        Batch(batch.samples[:, :d], batch.locations[:, :d], batch.modality, batch.place)
        for d in (2, 3, 5)
    ]
    loss = Nested(OBJECTIVES["vicreg"], [2, 3, 5])(batch)
    torch.testing.assert_close(loss, torch.stack([vicreg(first) for first in firsts]).mean())


@pytest.mark.parametrize("objective", ["regression", "fidelity"])
def test_contents_are_computed_once_for_all_dimensions(objective, monkeypatch):
    batch = a_batch()
    order = batch.modality.argsort(stable=True)
    batch = Batch(*(x[order] for x in batch[:4]), {m: torch.randn(4, 6) for m in range(3)})
    nested = Nested(OBJECTIVES[objective], [2, 3, 5])
    nested.prepare({n: Modality(n, torch.zeros(9, 2), torch.randn(9, 6), None) for n in "abc"}, 5)
    nested.double()
    for part in nested.parts:  # heads start at zero, where every loss is the same
        for decoder in part.decoders:
            torch.nn.init.ones_(decoder.weight)
    firsts = [
        batch._replace(samples=batch.samples[:, :d], locations=batch.locations[:, :d])
        for d in (2, 3, 5)
    ]
    plain = torch.stack([part(x) for part, x in zip(nested.parts, firsts, strict=True)]).mean()
    module = import_module("locties.objectives.content")  # the package has a function of that name
    calls, compute = [], module.content
    monkeypatch.setattr(module, "content", lambda x: calls.append(len(x)) or compute(x))
    torch.testing.assert_close(nested(batch), plain, rtol=0, atol=0)
    assert calls == [4, 4, 4]


def test_each_dimension_has_a_temperature_of_its_own_within_its_bounds():
    nested = Nested(NTXent, [2, 5])
    nested(a_batch()).backward()
    gradients = [part.log_scale.grad.item() for part in nested.parts]
    assert gradients[0] != gradients[1]
    with torch.no_grad():
        nested.parts[0].log_scale.fill_(99.0)
    nested.clamp_()
    assert nested.parts[0].log_scale.exp().item() == pytest.approx(100)


def a_world(places: int, seed: int) -> Modality:
    """Profiles of 12 numbers; 8 of them are nearly the same wave, so some facts matter more."""
    generator = torch.Generator().manual_seed(seed)
    lonlat = (torch.rand(places, 2, generator=generator) - 0.5) * torch.tensor([360.0, 160.0])
    lon, lat = lonlat.deg2rad().unbind(1)
    waves = [(lon + 0.2 * k).sin() for k in range(8)] + [(k * lat).sin() for k in (1, 2, 3, 4)]
    return Modality("a", lonlat, torch.stack(waves, dim=1), profile_encoder(12))


def trained(nested: list[int], objective: str, epochs: int = 10) -> Run:
    return locties.pretrain(
        "clip",
        [a_world(400, seed=0)],
        locties.LocationEncoder(
            "xyz", "mlp", dim=16, network_options={"hidden": 32}, nested=nested
        ),
        objective=objective,
        pairs=64 * 40 * epochs,
        batch=64,
        epochs=epochs,
        learning_rate=3e-3,
        device="cpu",
        progress=False,
    )


@torch.no_grad()
def unexplained(run: Run, d: int) -> float:
    """The share of new samples' variance that the first d numbers do not give linearly."""
    world = a_world(600, seed=1)
    samples = world.samples[torch.arange(600)]
    x = torch.cat([run.encoder(world.lonlat)[:, :d], torch.ones(600, 1)], dim=1)
    fit = torch.linalg.lstsq(x[:300], samples[:300]).solution
    return ((x[300:] @ fit - samples[300:]).square().mean() / samples[300:].var()).item()


@torch.no_grad()
def mismatch(run: Run, d: int) -> float:
    """NT-Xent of the first d numbers of new samples and locations, at the largest scale."""
    world, ids = a_world(600, seed=1), torch.arange(600)
    z = run.modality_encoders["a"].eval()(world.samples[ids])[:, :d]
    batch = Batch(z, run.encoder(world.lonlat)[:, :d], torch.zeros_like(ids), ids)
    return nt_xent(batch, torch.tensor(LARGEST_LOG_SCALE)).item()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "error", "d"), [("nt_xent", mismatch, 4), ("regression", unexplained, 2)]
)
def test_the_first_numbers_are_better_when_they_are_trained_too(objective, error, d):
    plain, nested = trained([], objective), trained([d], objective)
    assert error(nested, d) < 0.85 * error(plain, d)
    assert error(nested, 16) < error(plain, d), "the whole is spoilt"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_nested_dimensions(objective):
    encoder = trained([2, 4], objective, epochs=1).encoder
    assert encoder.nested == [2, 4]
    assert encoder.config["nested"] == [2, 4]


def test_regression_reads_each_dimension_with_heads_of_that_width():
    nested = Nested(Regression, [2, 5])
    samples = torch.randn(9, 4)
    nested.prepare({"a": Modality("a", torch.zeros(9, 2), samples, profile_encoder(4))}, 5)
    assert [part.decoders[0].weight.shape for part in nested.parts] == [(4, 2), (4, 5)]
    assert nested.reads_samples
    assert not nested.encodes_samples
