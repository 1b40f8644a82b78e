"""What holds for every objective, and for training with each."""

import math
from collections.abc import Callable

import pytest
import torch
from pairs import a_batch
from torch import Tensor

import locties
from locties.modality import Modality, profile_encoder
from locties.objectives import OBJECTIVES, Batch


def a_modality(name: str, samples: Tensor) -> Modality:
    return Modality(name, torch.zeros(len(samples), 2), samples, profile_encoder(1))


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


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("schedule", ["melt", "salt", "clip"])
def test_pretraining_with_each_objective_learns(name, schedule):
    """Judged by the validation loss, the same for every objective that embeds samples."""
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
    if not OBJECTIVES[name].encodes_samples:
        losses = history["train_loss"].tolist()
        assert losses[-1] < 0.95 * losses[0], losses
        return
    losses = history[history["modality"] == "a"]["validation_loss"].tolist()
    assert losses[-1] < losses[0], losses
    assert losses[-1] < 0.8 * math.log(40), f"little better than guessing among 40: {losses}"


@pytest.mark.data
@pytest.mark.parametrize("locations", ["fixed", "fresh"])
def test_fidelity_reads_patches_and_profiles(earth, locations):
    """With all the weight on content, the mean of a modality has a loss of 1."""
    history = locties.pretrain(
        "melt",
        ["relief", "haze"],
        locties.LocationEncoder("xyz", "linear", dim=32),
        objective="fidelity",
        objective_options={"weight": 1.0},
        locations=locations,
        samples=300,
        pairs=40 * 40,
        batch=40,
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
