"""Regression against its formula, and what a run with it learns and leaves."""

import pytest
import torch
from pairs import a_batch, dot

import locties
from locties.modality import Modality, profile_encoder
from locties.objectives import Batch, Regression


def a_modality(name: str, samples: torch.Tensor) -> Modality:
    return Modality(name, torch.zeros(len(samples), 2), samples, profile_encoder(1))


def test_it_is_its_formula():
    batch = a_batch()
    counts = torch.bincount(batch.modality).tolist()
    raw = {
        m: 20 + 3 * torch.randn(n, c).double()
        for m, (n, c) in enumerate(zip(counts, (2, 4, 3), strict=True))
    }
    objective = Regression()
    objective.prepare({str(m): a_modality(str(m), x) for m, x in raw.items()}, 5)
    objective.double()
    with torch.no_grad():
        for head in objective.decoders:
            head.weight.normal_()
    errors = []
    for m, samples in raw.items():
        head = objective.decoders[m]
        rows = [e for e, n in zip(batch.locations.tolist(), batch.modality, strict=True) if n == m]
        scaled = ((samples - samples.mean(0)) / samples.std(0)).tolist()
        total = 0.0
        for e, x in zip(rows, scaled, strict=True):
            for k, expected in enumerate(x):
                total += (dot(head.weight[k].tolist(), e) - expected) ** 2
        errors.append(total / samples.numel())
    loss = objective(Batch(*batch[:4], raw))
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


def test_it_does_not_read_the_embeddings_of_samples():
    batch, profiles = a_batch(pairs=4), torch.randn(4, 3).double()
    objective = Regression()
    objective.prepare({"a": a_modality("a", profiles)}, 5)
    objective.double()
    one = torch.zeros_like(batch.place)
    losses = [
        objective(Batch(samples, batch.locations, one, batch.place, {0: profiles})).item()
        for samples in (batch.samples, torch.full_like(batch.samples, torch.nan))
    ]
    assert losses[0] == losses[1]


def test_it_says_that_it_needs_the_samples():
    with pytest.raises(ValueError, match=r"Batch\.raw is None"):
        Regression()(a_batch())


def a_world(places: int = 400) -> tuple[torch.Tensor, list[Modality]]:
    """Places, and two modalities that are smooth functions of them."""
    generator = torch.Generator().manual_seed(0)
    lonlat = (torch.rand(places, 2, generator=generator) - 0.5) * torch.tensor([360.0, 160.0])
    values = torch.cat([torch.sin(lonlat.deg2rad()), torch.cos(lonlat.deg2rad())], dim=1)
    return lonlat, [
        Modality("a", lonlat[::2], values[::2, :2], profile_encoder(2)),
        Modality("b", lonlat[1::2], values[1::2, 2:], profile_encoder(2)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["melt", "salt"])
def test_a_location_predicts_modalities_that_it_was_never_seen_with(schedule):
    """Each place came with one modality; the embedding of a new place gives both, linearly."""
    _, modalities = a_world()
    run = locties.pretrain(
        schedule,
        modalities,
        locties.LocationEncoder("xyz", "mlp", dim=16, network_options={"hidden": 64}),
        objective="regression",
        pairs=64 * 300,
        batch=64,
        epochs=6,
        learning_rate=3e-3,
        device="cpu",
        progress=False,
    )
    trained = [p for p in run.modality_encoders.parameters() if p.grad is not None]
    assert not trained, "modality encoders are never run"
    assert run.history["validation_loss"].isna().all()
    assert run.history["train_loss"].iloc[-1] < 0.3 * run.history["train_loss"].iloc[0]
    generator = torch.Generator().manual_seed(1)
    new = (torch.rand(500, 2, generator=generator) - 0.5) * torch.tensor([360.0, 160.0])
    values = torch.cat([torch.sin(new.deg2rad()), torch.cos(new.deg2rad())], dim=1)
    e = torch.cat([run.encoder(new).detach(), torch.ones(500, 1)], dim=1)
    fit = torch.linalg.lstsq(e[:250], values[:250]).solution
    error = (e[250:] @ fit - values[250:]).square().mean(0) / values[250:].var(0)
    assert error.max() < 0.2, error
