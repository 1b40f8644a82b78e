"""The training loop: what it promises of determinism, schedules, idle encoders and errors."""

import math

import pytest
import torch

import locties
from locties.modality import Modality, profile_encoder
from locties.objectives import NTXent
from locties.training import loop, pretrain

TINY = {"pairs": 512, "batch": 64, "epochs": 4, "learning_rate": 3e-3, "progress": False}


def a_modality(name: str, n: int = 200, seed: int = 0) -> Modality:
    """Profiles that depend smoothly on the location, so there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    lonlat = torch.rand(n, 2, generator=generator) * torch.tensor([360.0, 160.0])
    lonlat -= torch.tensor([180.0, 80.0])
    samples = torch.cat([torch.sin(k * lonlat.deg2rad()) for k in (1, 2, 3)], dim=1)
    held_out = Modality(name, lonlat[:40] + 0.5, samples[:40], profile_encoder(6))
    return Modality(name, lonlat, samples, profile_encoder(6), held_out)


def an_encoder(seed: int = 0) -> locties.LocationEncoder:
    return locties.LocationEncoder(
        dim=16, feature_options={"degree": 6}, network_options={"hidden": 32}, seed=seed
    )


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("schedule", ["melt", "salt", "clip"])
def test_two_runs_on_one_thread_are_identical(schedule, one_thread):
    modalities = [a_modality("a")] if schedule == "clip" else [a_modality("a"), a_modality("b")]
    first, second = (
        pretrain(schedule, modalities, an_encoder(), device="cpu", **TINY) for _ in range(2)
    )
    assert torch.equal(weights(first.encoder), weights(second.encoder))
    other = pretrain(schedule, modalities, an_encoder(), device="cpu", seed=1, **TINY)
    assert not torch.equal(weights(first.encoder), weights(other.encoder))


def test_it_learns_and_leaves_the_given_encoder_as_it_was():
    encoder = an_encoder()
    before = weights(encoder)
    run = pretrain("melt", [a_modality("a"), a_modality("b", seed=1)], encoder, **TINY)
    assert torch.equal(weights(encoder), before)
    losses = run.history.groupby("modality")["validation_loss"]
    assert (losses.last() < losses.first()).all(), run.history.to_string()
    assert (losses.last() < math.log(40)).all(), "worse than guessing among 40 locations"


def test_history_is_one_row_for_each_epoch_and_modality():
    run = pretrain("salt", [a_modality("a"), a_modality("b")], an_encoder(), **TINY)
    history = run.history
    assert list(history["epoch"]) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert history["pairs"].iloc[-1] == 512
    active = history[history["active"]]
    assert list(active["modality"]) == ["a", "b", "a", "b"]
    assert history["flops"].is_monotonic_increasing


def test_the_encoder_of_an_idle_modality_rests_under_salt(monkeypatch):
    """Neither gradient nor weight decay moves it, nor do its moments change."""
    seen = []

    def look(encoder, modality_encoders, modalities):
        seen.append({name: weights(m) for name, m in modality_encoders.items()})
        return {name: {"validation_loss": 0.0, "recall_at_10": 0.0} for name in modalities}

    monkeypatch.setattr(loop, "_validate", look)
    pretrain("salt", [a_modality("a"), a_modality("b")], an_encoder(), **TINY)
    for epoch, active in [(1, "b"), (2, "a"), (3, "b")]:
        idle = "a" if active == "b" else "b"
        assert torch.equal(seen[epoch][idle], seen[epoch - 1][idle]), f"{idle} in epoch {epoch}"
        assert not torch.equal(seen[epoch][active], seen[epoch - 1][active])


def test_biases_and_temperature_do_not_decay():
    encoder = an_encoder()
    optimiser = loop._optimiser([encoder, locties.objectives.NTXent()], 1e-3)
    decays = {
        id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]
    }
    for name, parameter in encoder.named_parameters():
        assert decays[id(parameter)] == (0.01 if parameter.ndim >= 2 else 0.0), name


def test_the_learning_rate_rises_then_falls_to_zero():
    cosine, constant = loop._rate(100, "cosine"), loop._rate(100, "constant")
    assert [cosine(0), cosine(4), cosine(100)] == pytest.approx([0.2, 1.0, 0.0])
    assert [constant(0), constant(4), constant(100)] == pytest.approx([0.2, 1.0, 1.0])


def test_a_run_is_saved_and_its_encoder_loads(tmp_path):
    run = pretrain("clip", [a_modality("a")], an_encoder(), **TINY)
    run.save(tmp_path / "run")
    point = torch.tensor([[13.4, 52.5]])
    assert torch.equal(locties.load(tmp_path / "run" / "encoder")(point), run.encoder(point))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "encoder",
        "history.parquet",
        "settings.json",
    ], "no half-written file is left"


def test_a_sample_that_is_not_finite_stops_the_run_and_is_named():
    wrong = a_modality("wrong")
    wrong.samples[3] = torch.nan
    message = "the loss is nan at step .*, on right, wrong: sample 3 of 'wrong' is not finite"
    with pytest.raises(FloatingPointError, match=message):
        pretrain("melt", [a_modality("right"), wrong], an_encoder(), **TINY)


def test_the_first_step_that_went_wrong_is_named(monkeypatch):
    monkeypatch.setattr(
        NTXent, "clamp_", torch.no_grad()(lambda self: self.log_scale.fill_(torch.nan))
    )
    message = "the loss is nan at step 2, on a: their samples are finite, so training diverged"
    with pytest.raises(FloatingPointError, match=message):
        pretrain("clip", [a_modality("a")], an_encoder(), **TINY | {"epochs": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 1000, "pairs": 4000}, "a batch of 1000 takes 500 samples of 'a', which has 200"),
        ({"pairs": 128}, "make 2 steps, fewer than epochs=4: raise pairs to 256"),
        ({"batch": 1}, "needs at least 2 pairs"),
        ({"epochs": 0}, "epochs=0: it must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: it must be positive"),
        ({"decay": "cosin"}, "unknown decay 'cosin': did you mean 'cosine'"),
        ({"locations": "new"}, "unknown kind of locations 'new'"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"objective": "ntxent"}, "unknown objective 'ntxent': did you mean 'nt_xent'"),
        ({"objective_options": {"directions": "symmetric"}}, "did you mean 'direction'"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        pretrain("melt", [a_modality("a"), a_modality("b")], an_encoder(), **(TINY | change))


def test_wrong_names_of_schedule_and_modality():
    with pytest.raises(ValueError, match="unknown schedule 'mlet': did you mean 'melt'"):
        pretrain("mlet", ["imagery"], **TINY)
    with pytest.raises(ValueError, match="unknown modality 'imagry': did you mean 'imagery'"):
        pretrain("melt", ["imagry", "haze"], **TINY)
    with pytest.raises(ValueError, match="modality 'a' is given twice"):
        pretrain("melt", [a_modality("a"), a_modality("a")], an_encoder(), **TINY)
    with pytest.raises(
        ValueError, match="no modality given: name at least one of imagery, climate"
    ):
        pretrain("melt", [], **TINY)


def test_a_modality_without_fresh_locations_says_so():
    with pytest.raises(ValueError, match="'a' has fixed samples only: train with locations='fixed"):
        pretrain("clip", [a_modality("a")], an_encoder(), locations="fresh", **TINY)


def test_no_gpu_is_said_before_any_work():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match="there is no GPU here: take 'auto' or 'cpu'"):
        pretrain("clip", [a_modality("a")], an_encoder(), device="cuda", **TINY)


@pytest.mark.data
@pytest.mark.parametrize("locations", ["fixed", "fresh"])
def test_melt_trains_on_all_five_modalities_of_the_embedded_earth(earth, locations):
    run = pretrain(
        "melt",
        ["imagery", "climate", "haze", "relief", "toponyms"],
        an_encoder(),
        locations=locations,
        samples=200,
        **TINY,
    )
    history = run.history.groupby("modality", sort=False)["validation_loss"]
    assert list(history.last().index) == ["imagery", "climate", "haze", "relief", "toponyms"]
    assert history.last()["climate"] < history.first()["climate"]
