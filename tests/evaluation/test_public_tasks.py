"""Tasks of the open tier, on a synthetic one; the real files where a mirror is named."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import FILES, HOUSES, MOSAIKS, PLACES, PLOTS, STATIONS

from locties.evaluation import BASELINES, OPEN_TASKS, TASKS, TIERS, evaluate

REAL = os.environ.get("LOCTIES_MIRROR")
with_mirror = pytest.mark.skipif(not REAL, reason="LOCTIES_MIRROR names no mirror of the open tier")


def test_tiers_are_named_and_a_wrong_one_is_answered():
    assert TIERS["embedded"] is TASKS
    assert TIERS["open"] is OPEN_TASKS
    with pytest.raises(ValueError, match="unknown tier 'opne': did you mean 'open'"):
        TIERS["opne"]


def test_a_task_of_the_other_tier_is_said_to_be_there():
    with pytest.raises(ValueError, match=r"'biome' is a task of the open tier.*TIERS\['open'\]"):
        TASKS["biome"]
    with pytest.raises(ValueError, match=r"'climate_zone' is a task of the embedded tier"):
        OPEN_TASKS["climate_zone"]
    with pytest.raises(ValueError, match="of the open tier 'biomee': did you mean 'biome'"):
        OPEN_TASKS["biomee"]


@pytest.mark.data
def test_every_task_says_its_tier(earth, open_tier):
    for tier, tasks in TIERS.items():
        for name, factory in tasks.items():
            task = factory(points=1000)
            assert (task.tier, task.name) == (tier, name)


def test_all_labels_are_taken_where_they_are_few(open_tier):
    expected = {
        "air_temperature": STATIONS,
        "precipitation": STATIONS,
        "elevation": MOSAIKS,
        "population": MOSAIKS,
        "plant_richness": PLACES // 2 - 1,
        "tree_species": PLOTS // 3,
        "winter_temperature": FILES - 1,
        "summer_temperature": FILES - 1,
        "house_value": HOUSES,
    }
    assert set(OPEN_TASKS) - set(expected) == {"biome", "country"}
    for name, n in expected.items():
        task = OPEN_TASKS[name](seed=zlib.crc32(name.encode()))
        assert len(task.target) == n
        assert task.kind == "regression"
        assert task.unit
    station = OPEN_TASKS["air_temperature"]()
    assert station.target == pytest.approx(30 - station.lonlat[:, 1].abs().numpy() / 2)


def test_some_are_drawn_with_the_seed_and_keep_their_labels(open_tier):
    first, same, other = (OPEN_TASKS["air_temperature"](points=50, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.lonlat, same.lonlat)
    assert len(first.target) == len(other.target) == 50
    assert first.lonlat.tolist() != other.lonlat.tolist()
    assert first.target == pytest.approx(30 - first.lonlat[:, 1].abs().numpy() / 2)


def test_rare_biomes_are_dropped(open_tier):
    task = OPEN_TASKS["biome"]()
    assert task.classes == ("Forest", "Steppe")
    assert len(task.target) == PLACES - 1
    west = task.lonlat[:, 0].numpy() < 0
    assert (np.array(task.classes)[task.target] == np.where(west, "Forest", "Steppe")).all()


@pytest.mark.data
def test_countries_stand_on_land_and_none_at_sea_is_asked(earth, open_tier):
    task = OPEN_TASKS["country"](points=500)
    assert task.classes == ("EA", "WE")
    assert (earth.land.nearest(task.lonlat) == 1).all()
    on_land = TASKS["air_temperature"](points=500).lonlat
    assert 300 < len(task.target) < 500, "those without a country are dropped"
    assert set(map(tuple, task.lonlat.tolist())) <= set(map(tuple, on_land.tolist()))
    west = task.lonlat[:, 0].numpy() < -20
    assert (np.array(task.classes)[task.target] == np.where(west, "WE", "EA")).all()


def test_rows_say_the_tier_of_their_task(open_tier):
    task = OPEN_TASKS["air_temperature"]()
    table = evaluate(BASELINES["xyz"](), task, probes="knn", labels="all", splits="random")
    assert set(table["tier"]) == {"open"}
    assert list(table.columns)[:3] == ["encoder", "tier", "task"]


# ------------------------------------------------------------------------------- the real files


@with_mirror
def test_the_real_labels_are_as_many_as_published():
    expected = {
        "air_temperature": 3076,
        "precipitation": 3076,
        "elevation": 53487,
        "population": 45704,
        "biome": 1710,
        "plant_richness": 1629,
        "tree_species": 809,
        "winter_temperature": 15550,
        "summer_temperature": 15550,
        "house_value": 20640,
    }
    tasks = {name: OPEN_TASKS[name](points=10**6) for name in expected}
    assert {name: len(task.target) for name, task in tasks.items()} == expected
    assert len(tasks["biome"].classes) == 11
    # What the docstrings say of values at an end of their scale.
    assert (tasks["elevation"].target < -60).sum() == 34
    assert tasks["elevation"].target.min() == pytest.approx(-573, abs=1)
    assert (tasks["winter_temperature"].target == -70).sum() == 7
    assert tasks["house_value"].target.max() == 500_001


@with_mirror
def test_the_union_holds_the_points_of_the_first_edition():
    """One of the 15 files was the whole task before; a reading of its own finds its rows again."""
    pandas = pytest.importorskip("pandas")
    for label, n in (("elevation", 4981), ("population", 4256)):
        path = Path(REAL, "mosaiks", f"eval_mosaiks_{label}__test_rff.csv")
        before = pandas.read_csv(path, usecols=["lon", "lat", "labels"])
        task = OPEN_TASKS[label](points=10**6)
        lon, lat = task.lonlat.T.numpy()
        now = pandas.DataFrame({"lon": lon, "lat": lat, "labels": task.target})
        assert len(before.merge(now)) == len(before) == n


@with_mirror
@pytest.mark.data
def test_the_real_labels_agree_with_the_embedded_tier(earth):
    for name, least, raster in (
        ("air_temperature", 0.98, lambda at: earth.temperature.sample(at).mean(1)),
        ("precipitation", 0.85, lambda at: earth.rain.sample(at).sum(1)),
        ("elevation", 0.98, lambda at: earth.relief.sample(at)[:, 0]),
        ("winter_temperature", 0.95, lambda at: earth.temperature.sample(at).amin(1)),
        ("summer_temperature", 0.85, lambda at: earth.temperature.sample(at).amax(1)),
    ):
        task = OPEN_TASKS[name]()
        assert np.corrcoef(task.target, raster(task.lonlat))[0, 1] > least, name


@with_mirror
def test_xyz_keeps_its_known_scores():
    """The design notes: ridge and kNN on random folds, kNN on blocks, for air temperature."""
    table = evaluate(BASELINES["xyz"](), OPEN_TASKS["air_temperature"](), labels="all")
    r2 = table[table["metric"] == "r2"].set_index(["probe", "split"])["value"]
    assert r2["ridge", "random"] == pytest.approx(0.40, abs=0.01)
    assert r2["knn", "random"] == pytest.approx(0.95, abs=0.01)
    assert r2["knn", "block"] == pytest.approx(0.89, abs=0.02)


@with_mirror
@pytest.mark.data
def test_real_countries_are_where_they_are(earth):
    from locties.data.public import country_at

    capitals = {"DE": (13.4, 52.5), "KE": (36.8, -1.3), "BR": (-47.9, -15.8), "LS": (27.9, -29.4)}
    assert country_at(torch.tensor(list(capitals.values()))).tolist() == list(capitals)
    assert country_at([[-30.0, 0.0], [180.0, 0.0]]).tolist() == ["", ""]
    task = OPEN_TASKS["country"]()
    assert 3500 < len(task.target) <= 5000
    assert np.bincount(task.target).min() >= 25
