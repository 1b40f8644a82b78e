import numpy as np
import pandas as pd
import pytest
import torch

from locties.data import sampling
from locties.evaluation import MONTHLY_TASKS, OPEN_TASKS, TASKS, TIERS, Task
from locties.evaluation.tasks import (
    AIRPORT_CELL,
    kernel_density,
    merge_rare,
    plausible_airports,
)
from locties.lonlat import cell_index, distance_km

POINTS = [[13.4, 52.5], [2.3, 48.9], [12.5, 41.9]]
CLASSES = {"kind": "classification"}


def test_regression_keeps_float_targets():
    task = Task("warmth", POINTS, [9, 11, 15], unit="degC")
    assert task.target.dtype == np.float64
    assert task.classes is None
    assert torch.equal(task.lonlat, torch.tensor(POINTS, dtype=torch.float64))


def test_classes_are_coded_in_sorted_order():
    task = Task("country", POINTS, ["DE", "FR", "DE"], kind="classification")
    assert task.target.dtype == np.int64
    assert [task.classes[code] for code in task.target] == ["DE", "FR", "DE"]


def test_codes_with_classes_are_kept():
    task = Task("zone", POINTS, [2, 0, 2], kind="classification", classes=("A", "B", "C"))
    assert (task.target.tolist(), task.classes) == ([2, 0, 2], ("A", "B", "C"))


def test_longitudes_are_wrapped_and_targets_may_be_tensors():
    task = Task("warmth", [[190.0, 0.0], [0.0, 0.0]], torch.tensor([1.0, 2.0]))
    assert task.lonlat[0].tolist() == [-170, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "classify"}, "did you mean 'classification'"),
        ({"target": [1.0, 2.0]}, r"shape \(2,\).*3 points"),
        ({"target": [[1.0], [2.0], [3.0]]}, r"shape \(3, 1\).*\(3,\)"),
        ({"target": [[1.0], [2.0, 3.0], [4.0]]}, "not an array.*one value for each"),
        ({"target": 5.0}, r"shape \(\).*\(3,\)"),
        ({"target": [1.0, np.nan, 2.0]}, "nan at row 1.*drop"),
        ({"target": [1.0, 2.0, np.inf]}, "inf at row 2.*drop"),
        ({"target": [1.0, None, 2.0]}, "None at row 1.*drop"),
        ({"target": np.ma.masked_equal([1.0, -99.0, 2.0], -99.0)}, "masked at row 1.*drop"),
        ({"target": pd.array([1, None, 2])}, "nan at row 1.*drop"),
        ({"target": ["a", "b", "c"]}, "'a'.*kind='classification'"),
        ({"target": [1j, 2j, 3j]}, "complex128.*give numbers"),
        ({"lonlat": [[0, 0], [0, 91], [0, 0]]}, "row 1"),
        ({"classes": ("a", "b")}, "kind='classification'"),
        (CLASSES | {"target": [1, 1, 1]}, "at least 2"),
        ({"target": [2.5, 2.5, 2.5]}, "same value, 2.5.*at least 2"),
        ({"target": [0, 0, 0]}, "same value, 0.0.*at least 2"),
        ({"target": torch.full((3,), -9999.0)}, "same value, -9999.0.*at least 2"),
        ({"lonlat": POINTS[:1], "target": [7.0]}, "same value, 7.0.*at least 2"),
        ({"lonlat": np.empty((0, 2)), "target": []}, "none.*at least 2"),
        (CLASSES | {"target": [0.0, np.nan, 1.0]}, "nan at row 1.*drop"),
        (CLASSES | {"target": ["a", None, "b"]}, "None at row 1.*drop"),
        (CLASSES | {"target": np.array(["a", 1, "b"], object)}, "several types.*give text"),
        (CLASSES | {"target": np.ma.masked_equal([1, 9, 2], 9)}, "masked at row 1.*drop"),
        (CLASSES | {"target": [0, 1, 2], "classes": ["a", "b"]}, "code 2 at row 2.*0 to 1"),
        (CLASSES | {"classes": ["a", "b"]}, "float64.*leave classes out"),
        (CLASSES | {"classes": "ab"}, "classes='ab'.*list"),
        (CLASSES | {"classes": 2}, "classes=2 .*list"),
    ],
)
def test_mistakes_are_named(changes, message):
    given = {"name": "mine", "lonlat": POINTS, "target": [1.0, 2.0, 3.0]} | changes
    with pytest.raises(ValueError, match=message):
        Task(**given)


def test_a_task_keeps_copies():
    lonlat, target = torch.tensor(POINTS), np.array([1.0, 2.0, 3.0])
    task = Task("mine", lonlat, target)
    lonlat[0], target[0] = 0, 0
    assert task.lonlat[0].tolist() != [0, 0]
    assert task.target[0] == 1


@pytest.mark.data
@pytest.mark.parametrize(
    "factory",
    [*TASKS.values(), *OPEN_TASKS.values(), *MONTHLY_TASKS.values()],
    ids=[f"{tier}-{name}" for tier, tasks in TIERS.items() for name in tasks] + [*MONTHLY_TASKS],
)
def test_changing_a_task_does_not_change_the_next_one(earth, open_tier, factory):
    first = factory(points=1000)
    lonlat, target = first.lonlat.clone(), first.target.copy()
    first.lonlat[:] = 0
    first.target[:] = 0
    again = factory(points=1000)
    assert torch.equal(again.lonlat, lonlat)
    assert (again.target == target).all()


def test_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'elevation'"):
        TASKS["elevatoin"]


def test_density_is_a_sum_of_gaussians_and_integrates_to_the_people():
    rng = np.random.default_rng(0)
    sources, people = rng.uniform(-2, 2, (20, 2)), rng.uniform(1e3, 1e6, 20)
    here = torch.tensor(rng.uniform(-2, 2, (50, 2)))
    km = distance_km(here[:, None], torch.tensor(sources)[None]).numpy()
    gaussian = np.where(km < 100, np.exp(-((km / 25) ** 2) / 2), 0) / (2 * np.pi * 25**2)
    assert kernel_density(here, sources, people) == pytest.approx(gaussian @ people, rel=1e-3)
    step = 0.05
    grid = np.stack(np.meshgrid(*[np.arange(-4, 4, step) + step / 2] * 2), -1).reshape(-1, 2)
    km2 = (step * 111.195) ** 2 * np.cos(np.deg2rad(grid[:, 1]))
    total = (kernel_density(grid, sources, people) * km2).sum()
    assert total == pytest.approx(people.sum(), rel=2e-3)


def test_rare_zones_go_to_their_nearest_kin():
    zones = ["Dfb"] * 5 + ["Dwc"] * 9 + ["Dfd", "Dwd"] + ["EF"] * 3 + ["Csa"]
    merged = merge_rare(zones, smallest=3)
    assert merged == ["Dfb"] * 5 + ["Dwc"] * 9 + ["Dfb", "Dwc"] + ["EF"] * 3 + ["Csa"]


@pytest.mark.data
def test_land_tasks_share_their_points(earth):
    on_land = [TASKS[name]() for name in ("air_temperature", "climate_zone", "population")]
    assert all(torch.equal(task.lonlat, on_land[0].lonlat) for task in on_land)
    assert len(on_land[0].lonlat) == 5000
    assert (earth.land.nearest(on_land[0].lonlat) == 1).all()


@pytest.mark.data
def test_targets_are_of_this_earth(earth):
    temperature, height, people = (
        TASKS[name]() for name in ("air_temperature", "elevation", "population")
    )
    absolute = temperature.lonlat[:, 1].abs().numpy()
    tropics, far_north = absolute < 15, temperature.lonlat[:, 1].numpy() > 65
    assert 20 < temperature.target[tropics].mean() < 28
    assert -25 < temperature.target[far_north].mean() < -5
    assert 300 < height.target.mean() < 600, "land is some 700 m high; airports seek plains"
    assert 10 < np.expm1(people.target).mean() < 60, "persons per km2 of land"


@pytest.mark.data
def test_airports_are_even_over_the_earth_and_none_is_drawn_twice(earth):
    task = TASKS["elevation"](points=10**6)
    cells = cell_index(task.lonlat, AIRPORT_CELL)
    assert len(cells.unique()) == len(cells) > 6000
    lon, lat = task.lonlat.T
    states = (lon > -125) & (lon < -67) & (lat > 25) & (lat < 49)
    assert 0.08 < states.float().mean() < 0.16, "44% of the file is in the USA"
    few = TASKS["elevation"](points=300)
    assert set(map(tuple, few.lonlat.tolist())) <= set(map(tuple, earth.airports.lonlat.tolist()))
    south = (few.lonlat[:, 1] < 0).float().mean().item()
    assert 0.2 < south < 0.45, "300 of all cells, not the first ones"


@pytest.mark.data
def test_wrong_elevations_are_left_out(earth):
    kept = set(plausible_airports().tolist())
    where, metres = earth.airports.lonlat, earth.airports.elevation
    assert len(where) - len(kept) == 1744

    def row(lon, lat):
        return int((where - torch.tensor([lon, lat])).abs().sum(1).argmin())

    ernabella = row(132.18, -26.26)
    assert metres[ernabella].item() == pytest.approx(707 * 0.3048), "707 m, called feet"
    assert ernabella not in kept
    albertville, bangda = row(6.45, 45.63), row(97.11, 30.55)
    assert metres[albertville].item() == pytest.approx(315, abs=1), "187 m below all relief around"
    assert {albertville, bangda} <= kept, "a valley, and a high plateau"
    assert (metres[list(kept)] != 0).all()


@pytest.mark.data
def test_every_class_has_enough_points(earth):
    for name in ("climate_zone", "country"):
        task = TASKS[name]()
        assert task.kind == "classification"
        assert np.bincount(task.target).min() >= 25, name
    zone = TASKS["climate_zone"]()
    sahara = (
        (zone.lonlat[:, 0] > 0)
        & (zone.lonlat[:, 0] < 25)
        & (zone.lonlat[:, 1] > 20)
        & (zone.lonlat[:, 1] < 28)
    )
    assert {zone.classes[code] for code in zone.target[sahara.numpy()]} == {"BWh"}


@pytest.mark.data
def test_no_country_point_is_a_place_of_the_toponyms_modality(earth):
    from locties.data.sampling import OWNERS, owner

    assert (owner(TASKS["country"]().lonlat) != OWNERS.index("toponyms")).all()


@pytest.mark.data
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("points", [-1, 0, 99.5])
def test_a_number_of_points_that_cannot_be_is_named(earth, name, points):
    with pytest.raises(ValueError, match=f"points is {points}; pass a whole number of at least 1"):
        TASKS[name](points=points)


@pytest.mark.data
def test_the_number_of_points_and_the_seed_are_taken(earth):
    first, same, other = (TASKS["elevation"](points=100, seed=seed) for seed in (1, 1, 2))
    assert len(first.target) == 100
    assert (first.target == same.target).all()
    assert (first.target != other.target).any()


@pytest.mark.data
def test_tasks_with_months_are_the_raster_in_that_month_where_nothing_trains(earth):
    warmth, rain = (MONTHLY_TASKS[name](points=240, seed=3) for name in MONTHLY_TASKS)
    assert torch.equal(warmth.lonlat, rain.lonlat)
    assert (sampling.owner(warmth.lonlat) == sampling.VALIDATION).all()
    assert np.bincount(warmth.month.numpy())[1:].tolist() == [20] * 12
    for row in (0, 6, 239):
        month = int(warmth.month[row]) - 1
        here = warmth.lonlat[row : row + 1]
        assert warmth.target[row] == pytest.approx(earth.temperature.sample(here)[0, month].item())
        millimetres = max(earth.rain.sample(here)[0, month].item(), 0)
        assert rain.target[row] == pytest.approx(np.log1p(millimetres), rel=1e-5)


def test_months_of_a_task_are_checked_and_copied():
    month = torch.tensor([1, 7, 12])
    task = Task("warmth", POINTS, [9, 11, 15], month=month)
    month[:] = 3
    assert task.month.tolist() == [1, 7, 12]
    with pytest.raises(ValueError, match="row 2 is 0: give whole numbers"):
        Task("warmth", POINTS, [9, 11, 15], month=[1, 2, 0])
