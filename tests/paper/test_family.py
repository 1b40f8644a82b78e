"""The family of encoders to use: its sizes, and a run that leaves an encoder to publish."""

import numpy as np
import pytest
import torch

import locties
from locties.evaluation import Task
from locties_paper import family


@pytest.mark.parametrize(("name", "megabytes"), [("small", 2), ("base", 10), ("large", 25)])
def test_a_file_of_each_size_is_small_enough(name, megabytes, tmp_path):
    family.SIZES[name].start().save(tmp_path / name, as_int8=name == "large")
    assert (tmp_path / name / "model.safetensors").stat().st_size < megabytes * 1e6


@pytest.mark.data
def test_a_run_trains_nested_dimensions_by_regression(monkeypatch, tmp_path):
    grid = {"levels": 2, "finest": 8, "rows": 64, "degree": 2}
    tiny = family.Size(grid, {"hidden": 8, "layers": 1}, pairs=8192)
    monkeypatch.setattr(family, "EPOCHS", 2)
    monkeypatch.setitem(family.SIZES, "tiny", tiny)
    family.train("tiny", tmp_path)
    encoder = locties.load(tmp_path / "tiny" / "encoder")
    assert list(encoder.nested) == [16, 64]
    moved = [
        not torch.equal(after, before)
        for after, before in zip(encoder.parameters(), tiny.start().parameters(), strict=True)
    ]
    assert all(moved)
    assert not (tmp_path / "tiny" / "checkpoint").exists()


def test_int8_costs_a_smooth_encoder_little_and_a_fragile_one_more(monkeypatch, tmp_path):
    places = np.random.default_rng(0).uniform([-180, -60], [180, 60], (300, 2))
    task = Task("warmth", places, np.cos(np.radians(places[:, 1])), tier="embedded")
    encoder = locties.LocationEncoder("xyz", "linear", dim=8, seed=0)
    encoder.save(tmp_path / "fine")
    with torch.no_grad():  # one large weight sets the scale, so int8 loses the others
        for weight in encoder.parameters():
            weight.data.flatten()[0] = 1e4
    encoder.save(tmp_path / "fragile")
    monkeypatch.chdir(tmp_path)
    assert family.cost_of_int8("fine", task) < 0.01 < family.cost_of_int8("fragile", task)
