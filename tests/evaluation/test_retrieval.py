import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from locties import LocationEncoder
from locties.data.raster import Raster
from locties.evaluation import rank, retrieve
from locties.evaluation.retrieval import COLUMNS, RADII_KM
from locties.evaluation.splits import block_index
from locties.lonlat import distance_km, to_xyz
from locties.modalities import Gathered
from locties.modality import Modality


def _globe(n, seed=0):
    rng = np.random.default_rng(seed)
    latitude = np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
    return torch.tensor(np.stack([rng.uniform(-180, 180, n), latitude], 1)).float()


def _modality(lonlat, samples, name="mine"):
    held_out = Modality(name, lonlat, samples, nn.Linear)
    return Modality(name, lonlat, samples, nn.Linear, held_out)


def _table(encoder, modality, modality_encoder=None):
    encoders = {modality.name: modality_encoder or nn.Identity()}
    return retrieve(encoder, encoders, [modality]).set_index("metric")


@pytest.fixture(scope="module")
def lonlat():
    return _globe(300)


def test_a_perfect_embedding_finds_every_place(lonlat):
    table = _table(to_xyz, _modality(lonlat, to_xyz(lonlat)))
    assert (table.drop("median_km")[["value", "low", "high"]] == 1).all(axis=None)
    assert table.loc["median_km", "value"] == 0


def test_random_embeddings_find_as_many_as_chance(lonlat):
    lonlat = _globe(2000)
    generator = torch.Generator().manual_seed(0)
    table = _table(to_xyz, _modality(lonlat, torch.randn(2000, 3, generator=generator)))
    for metric in ("within_750_km", "within_2500_km"):
        value, chance = table.loc[metric, ["value", "chance"]]
        error = np.sqrt(chance * (1 - chance) / 2000)
        assert value == pytest.approx(chance, abs=4 * error), metric
    assert table.loc["median_km", "value"] == pytest.approx(
        table.loc["median_km", "chance"], rel=0.05
    )
    # On a sphere, half of all places are farther than a quarter of the way round.
    assert table.loc["median_km", "chance"] == pytest.approx(10_007, rel=0.02)


def test_constant_embeddings_are_no_better_than_chance(lonlat):
    """A count of strictly better candidates would give them a recall of 1."""
    table = _table(lambda x: torch.ones(len(x), 3), _modality(lonlat, torch.ones(300, 3)))
    for k in (1, 10):
        value, chance = table.loc[f"recall_at_{k}", ["value", "chance"]]
        assert value == chance == pytest.approx(k / 300)


@pytest.mark.slow
def test_ranking_is_that_of_a_plain_loop():
    lonlat, generator = _globe(60), torch.Generator().manual_seed(1)
    samples = to_xyz(lonlat) + 0.3 * torch.randn(60, 3, generator=generator)
    modality = _modality(lonlat, samples)
    ranking = rank(to_xyz, {"mine": nn.Identity()}, modality)
    errors, ranks = [], []
    for i in range(60):
        cosines = [
            float(samples[i] @ to_xyz(lonlat[j]) / samples[i].norm() / to_xyz(lonlat[j]).norm())
            for j in range(60)
        ]
        order = sorted(range(60), key=lambda j: -cosines[j])
        ranks.append(order.index(i))
        errors.append(distance_km(lonlat[i].double(), lonlat[order[0]].double()).item())
    assert ranking.rank.tolist() == ranks
    assert len(set(ranks)) > 3
    assert ranking.error_km == pytest.approx(errors, abs=1e-6)
    assert torch.equal(ranking.candidates[ranking.true], lonlat)
    top = ranking.candidates[ranking.best(3)[:, 0]]
    assert distance_km(lonlat, top).numpy() == pytest.approx(errors, abs=1)

    table = _table(to_xyz, modality)
    for km in RADII_KM:
        assert table.loc[f"within_{km}_km", "value"] == np.mean(np.array(errors) <= km)
        pairs = [distance_km(lonlat[i], lonlat[j]) <= km for i in range(60) for j in range(60)]
        assert table.loc[f"within_{km}_km", "chance"] == pytest.approx(np.mean(pairs))
    assert table.loc["recall_at_10", "value"] == np.mean(np.array(ranks) < 10)
    assert table.loc["median_km", "value"] == sorted(errors)[29]


def test_intervals_resample_blocks():
    """Errors alike within blocks: the interval spans what whole blocks left out would change."""
    lonlat = _globe(400)
    block = block_index(lonlat)
    wrong = torch.from_numpy(block % 2 == 0)
    samples = torch.where(wrong[:, None], -to_xyz(lonlat), to_xyz(lonlat))
    table = _table(to_xyz, _modality(lonlat, samples))
    value, low, high = table.loc["within_25_km", ["value", "low", "high"]]
    assert value == pytest.approx((~wrong).float().mean().item())
    assert 0.05 < high - low < 0.3
    assert low < value < high
    median = table.loc["median_km"]
    assert median["low"] <= median["value"] <= median["high"]


def test_places_at_the_same_coordinates_are_one_candidate():
    lonlat = torch.tensor([[0.0, 0.0], [0.0, 0.0], [90.0, 0.0]])
    table = _table(to_xyz, _modality(lonlat, to_xyz(lonlat)))
    assert table.loc["recall_at_1", "value"] == 1
    assert set(table["candidates"]) == {2}


def test_the_table_is_tidy_and_survives_parquet(lonlat, tmp_path):
    modalities = [_modality(lonlat, to_xyz(lonlat), name) for name in ("a", "b")]
    encoders = nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity(), "idle": nn.Identity()})
    table = retrieve(to_xyz, encoders, modalities, name="melt", seed=3)
    assert list(table.columns) == COLUMNS
    assert len(table) == 2 * 7
    assert not table.duplicated(["encoder", "modality", "seed", "metric"]).any()
    assert set(table["encoder"]) == {"melt"}
    assert set(table["seed"]) == {3}
    table.to_parquet(tmp_path / "retrieval.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "retrieval.parquet"), table)


def test_encoders_are_used_in_evaluation_mode_and_left_as_they_were(lonlat):
    dropout = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    modality = _modality(lonlat, to_xyz(lonlat))
    first, second = (_table(to_xyz, modality, dropout) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert dropout.training


def test_what_does_not_fit_is_said(lonlat):
    modality = _modality(lonlat, to_xyz(lonlat))
    with pytest.raises(ValueError, match="no encoder for modality 'mine': there is one for haze"):
        retrieve(to_xyz, {"haze": nn.Identity()}, [modality])
    with pytest.raises(ValueError, match="'mine' has no held-out samples"):
        retrieve(to_xyz, {"mine": nn.Identity()}, [modality.validation])
    with pytest.raises(ValueError, match="'mine' gives 2 numbers and the location encoder 3"):
        retrieve(to_xyz, {"mine": nn.Linear(3, 2)}, [modality])
    broken = _modality(lonlat, to_xyz(lonlat).index_fill(0, torch.tensor([7]), torch.nan))
    with pytest.raises(ValueError, match="not finite for 1 of 300 samples, the first at row 7"):
        retrieve(to_xyz, {"mine": nn.Identity()}, [broken])


def test_patches_and_samples_read_from_rasters_are_retrieved(lonlat):
    raster = Raster(torch.rand(2, 18, 36, generator=torch.manual_seed(0)), -175, 85, 10, 10)
    read = Gathered(lonlat, (raster,), lambda rasters, points: rasters[0].sample(points), None)
    patches = torch.rand(300, 3, 16, 16, generator=torch.manual_seed(0))
    modalities = [_modality(lonlat, read, "rain"), _modality(lonlat, patches, "imagery")]
    encoders = {
        "rain": nn.Linear(2, 16),
        "imagery": nn.Sequential(nn.Flatten(), nn.Linear(768, 16)),
    }
    table = retrieve(LocationEncoder("xyz", "linear", dim=16), encoders, modalities)
    assert table["value"].notna().all()
    assert set(table["modality"]) == {"rain", "imagery"}
    assert set(table["candidates"]) == {300}
