import re

import numpy as np
import pandas as pd
import pytest
import torch

import locties
from locties import Task, fit_map
from locties.evaluation.baselines import BASELINES, Joined
from locties.evaluation.splits import block_index

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
LONLAT = RNG.uniform([-20, 35], [40, 65], (100, 2))
NOISE = RNG.normal(size=100)
SEASONAL = locties.LocationEncoder("xyz", "linear", dim=3, time="month")


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


@pytest.mark.usefixtures("no_kriging")
def test_a_class_without_labels_is_left_out():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform([-10, 40], [30, 60], (60, 2))
    codes = (lonlat[:, 1] > 50).astype(int) * 2
    task = Task("half", lonlat, codes, "classification", classes=("south", "middle", "north", "no"))
    fitted = fit_map("melt", task, progress=False)
    assert fitted.classes == ("north", "south")
    assert set(fitted.predict(lonlat[:5]).columns) >= {"p_north", "p_south"}


# ---------------------------------------------------------------------------- few and odd labels


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize(
    ("n", "places", "degrees", "coverage"),
    [(40, 40, 0.1, 0.9), (12, 12, 50, 0.9), (40, 4, 1, 0.9), (3, 3, 1, 0.5), (30, 10, 1e-4, 0.8)],
)
def test_few_labels_and_labels_of_a_region_are_mapped(n, places, degrees, coverage, kind):
    rng = np.random.default_rng(0)
    lonlat = rng.uniform([5.7, 10], [5.7 + degrees, 10 + degrees], (places, 2))
    target = rng.normal(size=n) if kind == "regression" else np.resize(["a", "b|c", "a"], n)
    task = Task("zinc", np.resize(lonlat, (n, 2)), target, kind)
    fitted = fit_map("melt", task, coverage=coverage, progress=False)
    table = fitted.predict(lonlat)
    assert len(table) == places
    assert table["dissimilarity"].between(0, np.inf).all()
    assert fitted.scores["candidate"].is_unique
    assert "nan" not in str(fitted).replace("95% interval nan to nan", "")
    block = fitted.held_out.groupby(["lon", "lat"])["block"].nunique()
    assert (block == 1).all()
    wide = ~np.isfinite(fitted.coverage["mean_width"])
    assert fitted.coverage["measured"].isna().equals(wide)
    assert fitted.coverage["measured"][~wide].between(0, 1).all()
    assert str(fitted).count("not measured") == wide.sum()
    assert "inf" not in str(fitted)


@pytest.mark.usefixtures("no_kriging")
def test_a_map_is_of_the_month_that_is_given():
    joined = Joined(BASELINES["xyz"](), SEASONAL)
    july = SEASONAL.in_month(7)(LONLAT)[:, 0].detach()
    by_season, by_hand = (
        fit_map(encoder, Task("warmth", LONLAT, july), month=month, progress=False)
        for encoder, month in ((joined, 7), (joined.in_month(7), None))
    )
    pd.testing.assert_frame_equal(by_season.held_out, by_hand.held_out)
    assert by_season.metadata["month"] == by_hand.metadata["month"] == "7"


@pytest.mark.usefixtures("no_kriging")
def test_a_map_of_a_region_says_how_large_its_blocks_are():
    lonlat = np.random.default_rng(0).uniform([5.7, 50.9], [5.8, 51.0], (60, 2))
    fitted = fit_map("melt", Task("zinc", lonlat, lonlat[:, 0]), progress=False)
    assert fitted.metadata["block_degrees"] == 0.02
    assert "0.02 degrees" in " ".join(fitted.notes)
    assert "0.02 degrees" in str(fitted)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"coverage": 90}, "coverage=90.*0.9"),
        ({"coverage": 0}, "coverage=0.*0.9"),
        ({"encoder": []}, r"encoder=\[\].*'auto'"),
        ({"encoder": "bset"}, "did you mean 'best'"),
        ({"target": "ph"}, "target='ph'.*Task"),
        ({"unit": "mm"}, "unit='mm' is for a table: leave it out"),
        ({"source": "soil.csv"}, "target is missing.*target='ph'"),
        ({"source": Task("ph", LONLAT, NOISE, month=7)}, "'ph' has months.*month=7"),
        ({"month": 7}, "month=7: no encoder takes a month"),
        ({"encoder": SEASONAL}, "takes a month.*pass month=7"),
        ({"encoder": SEASONAL, "month": 13}, "is 13: give whole numbers from 1"),
        ({"source": Task("ph", LONLAT[:8], range(8))}, "8 labels.*needs 9.*smaller coverage"),
        ({"source": Task("ph", LONLAT[[0, 1] * 9], range(18))}, "2 places.*3 places.*add labels"),
    ],
)
def test_mistakes_are_named_before_any_work(arguments, said, monkeypatch):
    monkeypatch.setattr("locties.mapping.fit.Trial", None)
    given = {"encoder": "melt", "source": Task("north", LONLAT, NOISE)} | arguments
    with pytest.raises(ValueError, match=said):
        fit_map(**given)


@pytest.mark.usefixtures("no_kriging")
def test_a_file_an_encoder_object_and_a_list_are_taken(tmp_path):
    table = pd.DataFrame(LONLAT, columns=["Longitude", "Latitude"]).assign(ph=NOISE)
    table.to_csv(tmp_path / "soil.csv", index=False)
    encoder = locties.load("melt")
    fitted = fit_map([encoder, "clip"], tmp_path / "soil.csv", "ph", unit="pH", progress=False)
    assert {"melt", "clip", "coordinates"} <= set(fitted.scores["encoder"])
    assert (fitted.unit, fitted.kind, fitted.task.name) == ("pH", "regression", "ph")


def test_what_is_held_out_is_not_looked_at():
    """Spoiling the labels of one fold leaves its own predictions and intervals as they were."""
    lonlat, truth, noise = LONLAT[:30], (LONLAT[:, 1] + NOISE)[:30], NOISE[:30]
    clean = fit_map("xyz", Task("a", lonlat, truth), progress=False).held_out
    rows = (clean["fold"] == 1).to_numpy()
    spoilt = np.where(rows, -40.0 * noise, truth)
    other = fit_map("xyz", Task("a", lonlat, spoilt), progress=False).held_out
    for column in ("predicted", "low", "high", "dissimilarity", "trusted"):
        np.testing.assert_allclose(clean[column][rows], other[column][rows], err_msg=column)


def test_the_same_labels_give_the_same_map_and_chunks_change_nothing(north, monkeypatch):
    small = Task("small", LONLAT[:20], NOISE[:20])
    one, again = (fit_map("xyz", small, progress=False) for _ in range(2))
    assert one.metadata == again.metadata
    new = RNG.uniform([-20, 35], [40, 65], (700, 2))
    pd.testing.assert_frame_equal(again.predict(new), one.predict(new))
    whole = north.predict(new)
    monkeypatch.setattr("locties.mapping.fit.PLACES_PER_CHUNK", 256)
    pd.testing.assert_frame_equal(north.predict(new), whole, rtol=1e-4)
    assert list(north.predict(np.empty((0, 2))).columns) == list(whole.columns)


def test_labels_that_nothing_predicts_are_said_to_be() -> None:
    rng = np.random.default_rng(0)
    lonlat = rng.uniform([-10, 40], [20, 60], (60, 2))
    noise = Task("noise", lonlat, np.where(np.arange(60) % 20 == 0, 1e6, rng.random(60)))
    assert "one value for all places" in fit_map("melt", noise, progress=False).summary()


@pytest.mark.usefixtures("no_kriging")
@pytest.mark.usefixtures("no_kriging")
def test_classes_of_one_block_count_as_misses_and_are_said():
    """A fifth of the labels have a class of their own block: no honest set holds them."""
    rng = np.random.default_rng(0)
    lonlat = rng.uniform([-60, -50], [60, 60], (150, 2))
    belt = np.where(lonlat[:, 1] > 0, "north", "south").astype(object)
    west = lonlat[:, 0] < -36
    belt[west] = [f"region {block}" for block in block_index(lonlat)[west]]
    fitted = fit_map("xyz", Task("belt", lonlat, belt, "classification"), progress=False)
    held_out = fitted.held_out
    misses = held_out["observed"].str.startswith("region")
    assert not held_out["inside"][misses].any()
    assert held_out["inside"][~misses].mean() > 0.85
    assert fitted.coverage["measured"][0] == pytest.approx(held_out["inside"].mean())
    for each, rows in held_out.groupby("fold"):
        there = set(held_out["observed"][held_out["fold"] != each])
        assert set().union(*rows["set"].str.split("|")) <= there
    said = " ".join(fitted.summary().split())
    assert f"{misses.mean():.0%} of the labels have a class without a label in other" in said
    assert "Careful: on held-out blocks the sets hold" in said
    assert re.search(r"mean size of a set [\d.]+ of \d+ classes", said)


@pytest.mark.usefixtures("no_kriging")
def test_sets_that_say_little_are_said_to():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform([-60, -50], [60, 60], (60, 2))
    noise = Task("noise", lonlat, rng.permutation(np.arange(60) % 6), "classification")
    said = " ".join(fit_map("xyz", noise, progress=False).summary().split())
    assert re.search(r"The sets hold [56]\.\d of 6 classes on average: 60 labels are too few", said)


def test_the_summary_fits_a_page_and_the_sources_are_those_of_what_is_used(north, belts):
    for fitted in (north, belts):
        assert max(map(len, fitted.summary().splitlines())) <= 88
        cited = " ".join(fitted.cite)
        features, _, probe = fitted.chosen.partition(", ")
        assert ("location tying" in cited) == features.startswith("melt")
        source = {"ridge": "Hoerl", "knn": "Shepard", "kriging": "Rasmussen"}
        assert [name in cited for name in source.values()] == [name == probe for name in source]
        assert ("adaptive coverage" in cited) == (fitted is belts)
    assert "Only the 3 labelled classes can be predicted" in belts.summary()


@pytest.mark.usefixtures("no_kriging")
def test_the_source_of_an_encoder_is_cited():
    answers = locties.load("clip")(torch.from_numpy(LONLAT[:60])).detach().numpy()
    easy = fit_map("clip", Task("easy", LONLAT[:60], answers[:, 0]), progress=False)
    assert easy.chosen.startswith("clip")
    assert "SatCLIP" in " ".join(easy.cite)
