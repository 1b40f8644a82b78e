import numpy as np
import pytest

import locties
from locties import Task, fit_map

RNG = np.random.default_rng(0)
LONLAT = RNG.uniform([-20, 35], [40, 65], (200, 2))
NOISE = RNG.normal(size=200)


@pytest.fixture(scope="module")
def north():
    return fit_map("melt", Task("north", LONLAT, LONLAT[:, 1] + NOISE, unit="deg"), progress=False)


@pytest.fixture(scope="module")
def belts():
    names = np.array(["south", "middle", "north"])[np.digitize(LONLAT[:, 1] + NOISE, [45, 55])]
    task = Task("belt", LONLAT, names, kind="classification")
    return fit_map("melt", task, progress=False)


def test_a_measurement_comes_with_its_interval_and_with_where_to_trust_it(north):
    table = north.predict([[10, 50], [15, 40], [-100, -60]])
    assert table["value"][:2].tolist() == pytest.approx([50, 40], abs=2)
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    assert table["trusted"].tolist() == [True, True, False]
    assert table["nearest_label_km"][2] > 5000


def test_a_class_comes_with_its_probabilities_and_a_set(belts):
    table = belts.predict(LONLAT)
    assert belts.classes == ("middle", "north", "south")
    probabilities = table[[f"p_{name}" for name in belts.classes]].to_numpy()
    assert probabilities.sum(1) == pytest.approx(1)
    assert (np.array(belts.classes)[probabilities.argmax(1)] == table["value"]).all()
    sets = table["set"].str.split("|")
    assert (sets.str.len() == table["set_size"]).all()
    assert all(value in names for value, names in zip(table["value"], sets, strict=True))


@pytest.mark.parametrize("name", ["north", "belts"])
def test_coverage_is_measured_and_near_what_was_asked_for(name, request):
    fitted = request.getfixturevalue(name)
    assert fitted.coverage["where"].tolist() == ["held-out blocks", "random folds"]
    assert fitted.coverage["measured"].between(0.83, 0.99).all()
    held_out = fitted.held_out
    assert np.allclose(held_out[["lon", "lat"]], LONLAT)
    assert held_out["inside"].mean() == pytest.approx(fitted.coverage["measured"][0])


def test_the_best_candidate_on_blocks_is_chosen_and_said(north):
    scores = north.scores.iloc[:-1]
    assert north.chosen == scores.loc[scores["block"].idxmax(), "candidate"]
    assert scores.loc[scores["chosen"], "candidate"].tolist() == [north.chosen]
    assert north.chosen in north.reason
    assert "oordinates alone" in north.reason
    assert str(north) == north.summary()


def test_public_names_are_those_of_the_room():
    assert locties.fit_map is fit_map


def test_a_class_without_labels_is_left_out():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform([-10, 40], [30, 60], (60, 2))
    codes = (lonlat[:, 1] > 50).astype(int) * 2
    task = Task("half", lonlat, codes, "classification", classes=("south", "middle", "north", "no"))
    fitted = fit_map("melt", task, progress=False)
    assert fitted.classes == ("north", "south")
    assert set(fitted.predict(lonlat[:5]).columns) >= {"p_north", "p_south"}
