"""Fitting at equal parameter count: the count, the blocks held out, and that a fit fits."""

import pytest
import torch

from locties.encoder import LocationEncoder
from locties.features import FEATURES
from locties.lonlat import to_xyz
from locties_paper import fitting


@pytest.mark.parametrize("network", ["mlp", "residual", "siren"])
@pytest.mark.parametrize("features", [name for name in FEATURES if name != "hash_grid"])
def test_every_encoder_keeps_to_the_budget(features, network):
    hidden = fitting.hidden_width(features, network, 40_000, dim=2)
    encoder = LocationEncoder(features, network, 2, network_options={"hidden": hidden})
    count = fitting.parameter_count(encoder)
    assert abs(count - 40_000) <= 0.02 * 40_000, f"{features}, {network}: {count}"


def test_a_budget_too_small_is_refused_by_name():
    with pytest.raises(ValueError, match="'spherical_harmonics' with 'mlp' within 2% of 4000"):
        fitting.hidden_width("spherical_harmonics", "mlp", 4_000, dim=1)
    with pytest.raises(ValueError, match="linear network has no hidden width"):
        fitting.hidden_width("xyz", "linear", 4_000, dim=1)


def test_points_are_uniform_by_area():
    lonlat = fitting.globe_lonlat(100_000, seed=0).double()
    xyz = to_xyz(lonlat)
    assert xyz.mean(0).abs().max() < 0.01, "first moments of the sphere are 0"
    assert xyz.square().mean(0) == pytest.approx([1 / 3] * 3, abs=0.005)


def test_blocks_are_whole_and_have_the_shares_and_the_size():
    lonlat = fitting.globe_lonlat(50_000, seed=0)
    part = fitting.parts(lonlat, 300, seed=0)
    shares = torch.bincount(part) / len(part)
    assert shares.tolist() == pytest.approx(fitting.SHARES, abs=0.02)
    # 10 km further along a meridian few points have left their block of 300 km.
    moved = lonlat + torch.tensor([0, 0.09])
    inside = moved[:, 1] < 90
    left = (fitting.parts(moved[inside], 300, seed=0) != part[inside]).float().mean()
    different = 1 - sum(share**2 for share in fitting.SHARES)
    assert left == pytest.approx(10 / 300 * different, rel=0.2)


def test_a_fit_finds_a_field_that_its_features_contain():
    lonlat = fitting.globe_lonlat(2_000, seed=0)
    target = to_xyz(lonlat) @ torch.tensor([[1.0], [-2.0], [0.5]])
    encoder = LocationEncoder("xyz", "linear", 1)
    fitting.fit(encoder, lonlat, target, 200, 256, 0.1, seed=0)
    assert fitting.r2(encoder, lonlat, target).item() > 0.999
    assert not encoder.training


def test_r2_is_scikit_learns():
    from sklearn.metrics import r2_score

    lonlat = fitting.globe_lonlat(200, seed=1)
    target = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    encoder = LocationEncoder("xyz", "linear", 2)
    expected = r2_score(target, encoder(lonlat).detach(), multioutput="raw_values")
    assert fitting.r2(encoder, lonlat, target).tolist() == pytest.approx(expected, abs=1e-5)


def test_comparison_takes_the_rate_that_validation_prefers_and_repeats_itself():
    lonlat = fitting.globe_lonlat(1_000, seed=0)
    target = to_xyz(lonlat)[:, :2]
    part = fitting.parts(lonlat, 500, seed=0)
    settings = {"budget": 2_000, "steps": 30, "batch": 64, "seeds": [3, 4]}
    rates = [1e-8, 0.01]
    table, encoder = fitting.compare(
        "xyz", "mlp", lonlat, target, part, learning_rates=rates, **settings
    )
    assert table["seed"].tolist() == [3, 4]
    assert set(table["learning_rate"]) == {0.01}
    assert table["parameters"].between(1_960, 2_040).all()
    test = part == fitting.TEST
    assert fitting.r2(encoder, lonlat[test], target[test]).tolist() == pytest.approx(
        table.loc[0, ["r2_0", "r2_1"]].tolist()
    )
    for_validation = part == fitting.VALIDATION
    scores = fitting.r2(encoder, lonlat[for_validation], target[for_validation])
    assert table.loc[0, "validation"] == pytest.approx(scores.mean().item())
    again, _ = fitting.compare("xyz", "mlp", lonlat, target, part, learning_rates=rates, **settings)
    assert again.equals(table)
