"""The training loop: determinism, schedules, idle encoders, and runs that diverge."""

import json
import math
import re
import threading
import warnings

import pytest
import torch
from tiny_runs import TINY, a_modality, an_encoder, two_modalities, weights

import locties
from locties.encoder import LocationEncoder
from locties.modalities import MODALITIES
from locties.modality import Modality, by_month, profile_encoder
from locties.objectives import NTXent
from locties.training import pretrain
from locties.training.loop import Loop, adamw, rate_factor
from locties.training.run import TIMED_STEPS, progress_bar


@pytest.mark.parametrize("schedule", ["melt", "salt", "clip"])
def test_two_runs_on_one_thread_are_identical(schedule):
    modalities = two_modalities()[: 1 if schedule == "clip" else 2]
    first, second = (pretrain(schedule, modalities, an_encoder(), **TINY) for _ in range(2))
    assert torch.equal(weights(first.encoder), weights(second.encoder))
    other = pretrain(schedule, modalities, an_encoder(), seed=1, **TINY)
    assert not torch.equal(weights(first.encoder), weights(other.encoder))


def test_it_learns_and_leaves_the_given_encoder_as_it_was():
    encoder = an_encoder()
    before = weights(encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = pretrain("melt", two_modalities(), encoder, **TINY)
    assert torch.equal(weights(encoder), before)
    losses = run.history.groupby("modality")["validation_loss"]
    assert (losses.last() < losses.first()).all(), run.history.to_string()
    assert (losses.last() < math.log(40)).all(), "worse than guessing among 40 locations"


def seasons(name="warmth"):
    """Warm in July north of the equator and in January south of it, the same on average."""
    lonlat = a_modality("a").lonlat
    year = torch.cos((torch.arange(1, 13) - 7) / 12 * 2 * math.pi)
    profiles = lonlat[:, 1:].sign() * year

    def modality(rows, validation=None):
        return Modality(name, lonlat[rows], profiles[rows], profile_encoder(12), validation)

    return modality(slice(40, None), modality(slice(0, 40)))


@pytest.mark.parametrize("objective", ["regression", "nt_xent"])
def test_an_encoder_with_a_month_learns_the_season(objective):
    encoder = LocationEncoder("xyz", "mlp", dim=16, network_options={"hidden": 32}, time="month")
    settings = TINY | {"pairs": 6400, "learning_rate": 1e-2}
    modalities = [by_month(seasons()), a_modality("b")]
    run = pretrain("melt", modalities, encoder, objective=objective, **settings)
    with torch.no_grad():
        held_out = by_month(modalities[0].validation.samples.of)
        embedding = run.encoder(held_out.lonlat, held_out.month)
    warmth = held_out.samples[torch.arange(len(embedding))]
    weight = torch.linalg.lstsq(embedding[::2], warmth[::2]).solution
    error = (embedding[1::2] @ weight - warmth[1::2]).square().mean() / warmth.var()
    assert error < 0.3, "without the season it is 1"


def test_months_and_encoders_without_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"'warmth' has months .* time='month'"):
        pretrain("clip", by_month(seasons()), an_encoder(), **TINY)
    encoder = LocationEncoder("xyz", "linear", dim=4, time="month")
    with pytest.raises(ValueError, match=r"none of a, b has months: add one of rain, .* without"):
        pretrain("melt", two_modalities(), encoder, **TINY)
    with pytest.raises(ValueError, match=r"fixed in month 7: pass the one that takes a month"):
        pretrain("clip", by_month(seasons()), encoder.in_month(7), **TINY)


@pytest.mark.data
@pytest.mark.parametrize("locations", ["fixed", "fresh"])
def test_monthly_modalities_by_name_are_taken_month_by_month(locations, monkeypatch):
    drawn, loss = [], Loop.loss
    monkeypatch.setattr(Loop, "loss", lambda self, pairs: drawn.append(pairs) or loss(self, pairs))
    encoder = LocationEncoder("xyz", "linear", dim=4, time="month")
    options = TINY | {"samples": 300, "epochs": 1, "locations": locations}
    pretrain("melt", ["temperature", "relief"], encoder, **options)
    temperature, relief = drawn[0].raw.values()
    assert temperature.shape == (32, 1)
    assert relief.shape == (32, 1, 16, 16)
    months = drawn[0].month
    assert set(months.tolist()) == set(range(1, 13))
    profile = MODALITIES["temperature"](samples=2).samples
    expected = profile.read(profile.rasters, drawn[0].lonlat[:32]).gather(1, months[:32, None] - 1)
    assert temperature.equal(expected)


def test_history_has_a_row_for_each_epoch_and_modality():
    history = pretrain("salt", two_modalities(), an_encoder(), **TINY).history
    assert list(history["epoch"]) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert list(history["step"]) == [2, 2, 4, 4, 6, 6, 8, 8]
    assert history["pairs"].iloc[-1] == 512
    assert list(history[history["active"]]["modality"]) == ["a", "b", "a", "b"]
    flops = history["flops"].tolist()
    assert flops[-1] == pytest.approx(4 * flops[0]), "as much in each epoch"


def test_epochs_end_where_equal_parts_do(monkeypatch):
    """10 steps in 4 epochs."""
    history = pretrain("clip", [a_modality("a")], an_encoder(), **TINY | {"pairs": 640}).history
    assert list(history["step"]) == [2, 5, 7, 10]
    taken, step = [], Loop.step

    def look(self):
        taken.append(next(iter(self.counts(self.progress.step))))
        step(self)

    monkeypatch.setattr(Loop, "step", look)
    pretrain("salt", two_modalities(), an_encoder(), **TINY | {"pairs": 640})
    assert "".join(taken) == "aabbbaabbb"


def test_the_encoder_of_an_idle_modality_rests_under_salt(monkeypatch):
    """Neither gradient nor weight decay moves it."""
    seen, validate = [], Loop.validate

    def look(self):
        seen.append({name: weights(m) for name, m in self.modality_encoders.items()})
        return validate(self)

    monkeypatch.setattr(Loop, "validate", look)
    pretrain("salt", two_modalities(), an_encoder(), **TINY)
    for epoch, active in [(1, "b"), (2, "a"), (3, "b")]:
        idle = "a" if active == "b" else "b"
        assert torch.equal(seen[epoch][idle], seen[epoch - 1][idle]), f"{idle} in epoch {epoch}"
        assert not torch.equal(seen[epoch][active], seen[epoch - 1][active])


@pytest.mark.parametrize("objective", ["nt_xent", "siglip", "vicreg", "fidelity"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_dtype_changes_no_weight(objective, dtype):
    call = {"schedule": "salt", "modalities": two_modalities(), "encoder": an_encoder()}
    call |= TINY | {"objective": objective}
    expected = pretrain(**call)
    torch.set_default_dtype(dtype)
    try:
        found = pretrain(**call)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(weights(found.encoder), weights(expected.encoder))
    assert torch.equal(weights(found.modality_encoders), weights(expected.modality_encoders))


def test_runs_in_threads_are_alike_and_disturb_no_draw():
    torch.manual_seed(0)
    expected, found = torch.cat([torch.rand(50) for _ in range(2000)]), []

    def train() -> None:
        found.append(weights(pretrain("melt", two_modalities(), an_encoder(), **TINY).encoder))

    threads = [threading.Thread(target=train) for _ in range(3)]
    torch.manual_seed(0)
    for thread in threads:
        thread.start()
    drawn = torch.cat([torch.rand(50) for _ in range(2000)])
    for thread in threads:
        thread.join()
    assert torch.equal(drawn, expected)
    assert len(found) == 3
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("done_before", [0, 500])
@pytest.mark.parametrize(("steps", "told"), [(10**9, 1), (10**3, 0)])
def test_a_run_of_minutes_says_once_how_long_it_takes(steps, told, done_before, capsys):
    bar = progress_bar(steps, "melt on a", shown=True)
    bar.initial = bar.n = done_before
    for _ in range(3 * TIMED_STEPS):
        bar.update()
    bar.close()
    found = re.findall(
        r"melt on a: about (\d+) minutes for ([\d,]+) steps", capsys.readouterr().err
    )
    assert [(int(minutes) > 0, total) for minutes, total in found] == told * [(True, f"{steps:,}")]
    with progress_bar(steps, "melt on a", shown=False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_biases_and_temperature_do_not_decay():
    encoder = an_encoder()
    optimiser = adamw(torch.nn.ModuleList([encoder, NTXent()]), 1e-3)
    decays = {
        id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]
    }
    for name, parameter in encoder.named_parameters():
        assert decays[id(parameter)] == (0.01 if parameter.ndim >= 2 else 0.0), name


def test_the_learning_rate_rises_then_falls_to_zero():
    cosine, constant = rate_factor(100, "cosine"), rate_factor(100, "constant")
    assert [cosine(0), cosine(4), cosine(100)] == pytest.approx([0.2, 1.0, 0.0])
    assert [constant(0), constant(4), constant(100)] == pytest.approx([0.2, 1.0, 1.0])


def test_a_run_is_saved_and_its_encoder_loads(tmp_path):
    run = pretrain("clip", [a_modality("a")], an_encoder(), **TINY)
    run.save(tmp_path / "run")
    point = torch.tensor([[13.4, 52.5]])
    assert torch.equal(locties.load(tmp_path / "run" / "encoder")(point), run.encoder(point))
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["encoder", "history.parquet", "settings.json"], "no half-written file is left"
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings == run.settings
    assert settings["objective_options"] == {"direction": "symmetric"}
    assert (settings["precision"], settings["device"]) == ("float32", "cpu")


def test_a_sample_that_is_not_finite_stops_the_run_and_is_named():
    right, wrong = two_modalities()
    wrong.samples[3] = torch.nan
    with pytest.raises(FloatingPointError, match=r"nan at step \d.*sample 3 of 'b'.*drop it"):
        pretrain("melt", [right, wrong], an_encoder(), **TINY)


def test_the_first_step_that_diverged_is_named(monkeypatch):
    monkeypatch.setattr(
        NTXent, "clamp_", torch.no_grad()(lambda self: self.log_scale.fill_(torch.nan))
    )
    with pytest.raises(FloatingPointError, match=r"nan at step 2, on a: .*lower learning_rate"):
        pretrain("clip", [a_modality("a")], an_encoder(), **TINY | {"epochs": 1})


@pytest.fixture(scope="module")
def five(earth):
    names = ["imagery", "rain", "haze", "relief", "toponyms"]
    return [MODALITIES[name](samples=64, validation=64) for name in names]


@pytest.mark.data
@pytest.mark.parametrize("locations", ["fixed", "fresh"])
def test_melt_trains_on_all_modalities_of_the_embedded_earth(five, locations):
    changes = {"epochs": 2, "locations": locations}
    history = pretrain("melt", five, an_encoder(), **TINY | changes).history
    assert list(history["modality"]) == 2 * ["imagery", "rain", "haze", "relief", "toponyms"]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert history["validation_loss"].notna().all()
