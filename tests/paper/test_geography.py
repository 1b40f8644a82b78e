import numpy as np
import pytest
import torch

from locties.evaluation import TASKS, Task, block_bootstrap, predict
from locties.evaluation.splits import block_index
from locties.lonlat import to_xyz
from locties_paper.geography import (
    CLIMATES,
    CONTINENTS,
    GROUPINGS,
    autocorrelation,
    predict_with_best_probe,
    residuals,
    score_groups,
)


def _points(n, seed=0):
    rng = np.random.default_rng(seed)
    latitude = np.degrees(np.arcsin(rng.uniform(-0.95, 0.95, n)))
    return torch.tensor(np.stack([rng.uniform(-180, 180, n), latitude], 1))


def _cell(table, group, metric):
    (row,) = table[(table["group"] == group) & (table["metric"] == metric)].itertuples()
    return row


# ---------------------------------------------------------------------------------- groupings


@pytest.mark.data
def test_places_lie_on_their_continents():
    places = {
        "Berlin": (13.4, 52.5, "Europe"),
        "Reykjavik": (-21.9, 64.1, "Europe"),
        "Moscow": (37.6, 55.8, "Europe"),
        "Novosibirsk": (82.9, 55.0, "Asia"),
        "Chukotka, west of 180 degrees": (177.0, 65.0, "Asia"),
        "Chukotka, east of 180 degrees": (-172.0, 65.5, "Asia"),
        "Ankara": (32.9, 39.9, "Asia"),
        "Cairo": (31.2, 30.0, "Africa"),
        "the Tanezrouft, far from any place": (0.0, 23.5, "Africa"),
        "Nuuk": (-51.7, 64.2, "North America"),
        "Panama": (-80.0, 8.5, "North America"),
        "Bogota": (-74.1, 4.7, "South America"),
        "Alice Springs": (133.9, -23.7, "Oceania"),
        "Hawaii's neighbour across 180 degrees, Fiji": (178.4, -18.1, "Oceania"),
    }
    found = GROUPINGS["continent"]([place[:2] for place in places.values()])
    assert dict(zip(places, found.tolist(), strict=True)) == {n: p[2] for n, p in places.items()}
    assert set(found) <= set(CONTINENTS.values())


@pytest.mark.data
def test_the_continent_is_that_of_the_nearest_place_on_the_sphere(earth):
    # Beside the pole and the date line, the nearest in degrees is not the nearest in km.
    points = torch.tensor([[-179.9, 67.0], [100.0, 83.0], [-30.0, 83.5], [179.9, -17.0]])
    code = {"RU": "Asia", "GL": "North America", "SJ": "Europe", "FJ": "Oceania"}
    unit = to_xyz(earth.places.lonlat.double())
    for point, found in zip(points, GROUPINGS["continent"](points).tolist(), strict=True):
        nearest = (unit @ to_xyz(point.double())).argmax()
        assert found == code[earth.places.countries[earth.places.country[nearest]]]


@pytest.mark.data
def test_climates_are_the_first_letters_of_the_zones():
    task = TASKS["climate_zone"](points=500)
    letters = [task.classes[code][0] for code in task.target]
    found = GROUPINGS["climate"](task.lonlat).tolist()
    assert found == [CLIMATES[letter] for letter in letters]
    assert set(found) == set(CLIMATES.values())


# -------------------------------------------------------------------------------- group scores


def test_scores_of_measurements_are_those_of_plain_loops():
    rng, lonlat = np.random.default_rng(0), _points(300)
    target = 250 + rng.normal(size=300)
    task, predicted = Task("mine", lonlat, target), target + rng.normal(0.3, 1, 300)
    group = np.where(lonlat[:, 1] > 30, "north", np.where(lonlat[:, 1] > -30, "middle", "south"))
    table = score_groups(task, predicted, group)
    assert list(dict.fromkeys(table["group"])) == ["middle", "north", "south"]
    for name in ("north", "middle", "south"):
        own = [i for i in range(300) if group[i] == name]
        mean = sum(target[i] for i in own) / len(own)
        squared = sum((predicted[i] - target[i]) ** 2 for i in own)
        variation = sum((target[i] - mean) ** 2 for i in own)
        absolute = [abs(predicted[i] - target[i]) for i in own]
        assert _cell(table, name, "mae").value == pytest.approx(sum(absolute) / len(own))
        assert _cell(table, name, "r2").value == pytest.approx(1 - squared / variation)
        assert _cell(table, name, "mae").points == len(own)
        assert _cell(table, name, "mae").blocks == len({int(block_index(lonlat)[i]) for i in own})


def test_scores_of_classes_are_those_of_plain_loops():
    rng, lonlat = np.random.default_rng(5), _points(300)
    target = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    task = Task("mine", lonlat, target, kind="classification", classes=("a", "b", "c"))
    predicted = np.where(rng.random(300) < 0.7, target, rng.integers(0, 3, 300))
    group = np.where(lonlat[:, 1] > 0, "north", "south")
    table = score_groups(task, predicted, group)
    for name in ("north", "south"):
        own = [i for i in range(300) if group[i] == name]
        wrong = sum(predicted[i] != target[i] for i in own)
        commonest = max(sum(target[i] == code for i in own) for code in range(3))
        assert _cell(table, name, "error_rate").value == pytest.approx(wrong / len(own))
        skill = 1 - wrong / (len(own) - commonest)
        assert _cell(table, name, "skill").value == pytest.approx(skill)


def test_intervals_resample_the_blocks_of_the_group():
    lonlat = _points(400)
    error = np.random.default_rng(1).normal(size=400)
    task = Task("mine", lonlat, lonlat[:, 1])
    east = (lonlat[:, 0] > 0).numpy()
    table = score_groups(task, task.target + error, np.where(east, "east", "west"))
    found = _cell(table, "east", "mae")
    terms = np.stack([np.abs(error), np.ones(400)], 1)[east]
    expected = block_bootstrap(terms, block_index(lonlat)[east], lambda s: s[..., 0] / s[..., 1])
    assert (found.value, found.low, found.high) == pytest.approx(tuple(expected))
    assert found.low < found.value < found.high


def test_a_group_without_variation_has_an_error_but_no_r2():
    lonlat = _points(200)
    flat = (lonlat[:, 0] > 0).numpy()
    task = Task("mine", lonlat, np.where(flat, 7.1, lonlat[:, 1]))
    table = score_groups(task, task.target + 0.5, np.where(flat, "flat", "varied"))
    assert _cell(table, "flat", "mae").value == pytest.approx(0.5)
    assert np.isnan(_cell(table, "flat", "r2").value)
    assert 0.9 < _cell(table, "varied", "r2").value < 1


def test_small_groups_are_left_out():
    lonlat = _points(60)
    task = Task("mine", lonlat, lonlat[:, 1])
    group = np.array(["big"] * 25 + ["small"] * 24 + ["other"] * 11)
    assert set(score_groups(task, task.target, group)["group"]) == {"big"}


# ----------------------------------------------------------------------- predictions, residuals


def test_residuals_are_signed_for_measurements_and_misses_for_classes():
    lonlat = _points(3)
    task = Task("mine", lonlat, [1.0, 2.0, 3.0])
    assert residuals(task, np.array([2.0, 2.0, 1.0])).tolist() == [1, 0, -2]
    task = Task("mine", lonlat, ["a", "b", "a"], kind="classification")
    assert residuals(task, np.array([0, 0, 1])).tolist() == [0, 1, 1]


def test_the_better_probe_answers():
    lonlat = _points(600)
    line = Task("line", lonlat, lonlat[:, 1])
    turn = torch.deg2rad(lonlat[:, 1]) * 8
    wave = Task("wave", lonlat, turn.sin())
    kind = Task("kind", lonlat, (turn.sin() > 0).numpy(), kind="classification")
    found = {}
    for task in (line, wave, kind):
        found[task.name], predicted = predict_with_best_probe(to_xyz, task, "random")
        errors = {
            probe: np.mean(residuals(task, predict(to_xyz, task, "random", probe)) ** 2)
            for probe in ("ridge", "knn")
        }
        assert np.mean(residuals(task, predicted) ** 2) == min(errors.values())
    # Eight waves are no linear function of location.
    assert (found["wave"], found["kind"]) == ("knn", "knn")
    assert predict_with_best_probe(to_xyz, wave, "random", ["ridge"])[0] == "ridge"


# ---------------------------------------------------------------------------- autocorrelation


def test_white_noise_has_no_autocorrelation():
    lonlat = _points(1000)
    noise = [np.random.default_rng(seed).normal(size=1000) for seed in range(12)]
    found = [autocorrelation(lonlat, values, permutations=199) for values in noise]
    moran = np.array([each.moran for each in found])
    # -1/(N - 1) is expected; the spread over fields is what the permutations say.
    spread = (found[0].high - found[0].low) / (2 * 1.96)
    assert moran.std(ddof=1) == pytest.approx(spread, rel=0.6)
    assert abs(moran.mean() + 1 / 999) < 3 * spread / np.sqrt(12)
    assert sum(each.p < 0.05 for each in found) <= 3


def test_a_smooth_field_nears_one_and_a_chequered_one_is_negative():
    lonlat = _points(1000)
    smooth = autocorrelation(lonlat, to_xyz(lonlat) @ torch.tensor([1.0, 2.0, -1.0]).double())
    assert smooth.moran > 0.95
    assert smooth.p == 0.001
    assert smooth.low < 0 < smooth.high < 0.1
    longitude = np.arange(-180, 180, 3)
    ring = np.stack([longitude, np.zeros(120)], 1)
    opposed = autocorrelation(ring, longitude // 3 % 2, neighbours=2, permutations=99)
    assert opposed.moran == pytest.approx(-1)
    assert opposed.p == 0.01


def test_moran_is_that_of_plain_loops_on_the_sphere():
    # Points on both sides of the date line and about a pole: neighbours in km, not in degrees.
    rng = np.random.default_rng(0)
    lonlat = torch.tensor(
        np.concatenate(
            [
                np.stack([rng.uniform(-180, 180, 40), rng.uniform(75, 90, 40)], 1),
                np.stack([rng.uniform(175, 185, 40), rng.uniform(-5, 5, 40)], 1),
            ]
        )
    )
    values, k = rng.normal(size=80), 5
    deviation = values - values.mean()
    closeness = (to_xyz(lonlat) @ to_xyz(lonlat).T).numpy()
    lagged = 0.0
    for i in range(80):
        nearest = sorted((j for j in range(80) if j != i), key=lambda j: -closeness[i, j])[:k]
        lagged += deviation[i] * sum(deviation[j] for j in nearest) / k
    expected = lagged / (deviation**2).sum()
    assert autocorrelation(lonlat, values, k, 9).moran == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "neighbours", "message"),
    [
        (np.arange(9.0), 3, r"shape \(9,\) at 10 points"),
        (np.r_[np.arange(9.0), np.nan], 3, "finite"),
        (np.arange(10.0), 10, "neighbours=10: 10 points have 1 to 9"),
        (np.arange(10.0), 0, "neighbours=0"),
    ],
)
def test_what_has_no_moran_is_named(values, neighbours, message):
    with pytest.raises(ValueError, match=message):
        autocorrelation(_points(10), values, neighbours, 9)


def test_no_error_anywhere_has_no_autocorrelation():
    assert np.isnan(autocorrelation(_points(10), np.zeros(10), 3, 9)).all()


def test_a_masked_value_has_no_autocorrelation():
    points = np.random.default_rng(0).uniform([-80, -60], [80, 60], (120, 2))
    values = np.ma.masked_array(points[:, 1], np.arange(120) == 7)
    with pytest.raises(ValueError, match="finite"):
        autocorrelation(points, values, permutations=9)
