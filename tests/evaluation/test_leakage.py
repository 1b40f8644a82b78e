import numpy as np
import pytest
import torch
from torch import nn

from locties.evaluation import (
    LEAKS,
    MONTHLY_TASKS,
    OPEN_TASKS,
    TASKS,
    Task,
    evaluate,
    place_density,
    raw_values,
)
from locties.evaluation.leakage import BAG, MONTHLY_LEAKS, OPEN_LEAKS
from locties.lonlat import distance_km
from locties.modalities import MODALITIES
from locties.modality import Modality


def _points(n, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.uniform([-180, -60], [180, 60], (n, 2))).float()


def test_the_nearest_sample_is_read_held_out_ones_included():
    lonlat, value = _points(40), torch.arange(40.0)[:, None]
    held_out = Modality("mine", lonlat[30:], value[30:], nn.Linear)
    modality = Modality("mine", lonlat[:30], value[:30], nn.Linear, held_out)
    asked = _points(25, seed=1)
    expected = [min(range(40), key=lambda j: distance_km(point, lonlat[j])) for point in asked]
    read = raw_values(modality)(asked)
    assert read[:, 0].tolist() == expected
    assert max(expected) >= 30
    assert (read[:, 1] == 1).all()


def test_texts_are_counts_of_buckets_without_padding():
    tokens = torch.tensor([[3, 5, BAG + 5, 0], [7, 0, 0, 0]])
    modality = Modality("names", [[0, 0], [90, 0]], tokens, nn.Linear)
    first, second = raw_values(modality)(torch.tensor([[1.0, 1.0], [80.0, 0.0]]))
    assert (first[3], first[5], first[:-1].sum()) == (1, 2, 3)
    assert (second[7], second[:-1].sum()) == (1, 1)


def test_patches_are_means_of_their_quarters():
    patch = torch.arange(256.0).reshape(1, 1, 16, 16)
    modality = Modality("patch", [[0, 0]], patch, nn.Linear)
    row = raw_values(modality)(torch.tensor([[0.0, 0.0]]))[0]
    by_loop = [
        patch[0, 0, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() for i in range(4) for j in range(4)
    ]
    assert row.tolist() == [*by_loop, 1.0]


def test_a_task_copied_from_a_modality_leaks_and_a_random_one_does_not():
    lonlat = _points(500)
    value = torch.from_numpy(np.random.default_rng(2).normal(size=(500, 2))).float()
    modality = Modality("mine", lonlat, value, nn.Linear)
    copied = Task("copied", lonlat, value[:, 0])
    other = Task("other", lonlat, np.random.default_rng(3).normal(size=500))
    table = evaluate(raw_values(modality), [copied, other], probes="ridge", labels="all")
    table = table[table["metric"] == "r2"].pivot_table("value", "task", "split")
    assert (table.loc["copied"] > 0.999).all()
    assert (table.loc["other"] < 0.05).all()


def test_place_density_sees_where_places_are():
    sources = torch.tensor([[0.0, 0.0], [0.01, 0.0], [50.0, 50.0]])
    many, one, none = place_density(sources)(torch.tensor([[0, 0], [50, 50], [0, -60.0]]))[:, 0]
    assert many > one > none == 0


def test_leaks_name_tasks_and_modalities():
    pairs = ((LEAKS, TASKS), (OPEN_LEAKS, OPEN_TASKS), (MONTHLY_LEAKS, MONTHLY_TASKS))
    for leaks, tasks in pairs:
        assert set(leaks) <= set(tasks)
        assert {name for names in leaks.values() for name in names} <= set(MODALITIES)


@pytest.mark.data
def test_relief_gives_elevation(earth):
    """Relief is the same quantity, from another source."""
    modality = MODALITIES["relief"](100, 0, 100)
    elevation = TASKS["elevation"](points=1000)
    assert raw_values(modality)(elevation.lonlat).shape == (1000, 17)
    table = evaluate(raw_values(modality), elevation, probes="ridge", labels="all")
    assert table[table["metric"] == "r2"]["value"].tolist() == pytest.approx([0.89, 0.89], abs=0.04)
