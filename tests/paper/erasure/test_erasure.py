import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from locties.data.raster import Raster
from locties.evaluation.statistics import Interval
from locties.lonlat import to_xyz
from locties.modalities import Gathered
from locties.modality import Modality
from locties.objectives import Batch, nt_xent
from locties_paper.erasure import erasure
from locties_paper.erasure.erasure import (
    Gains,
    Privacy,
    World,
    compare,
    gain,
    gains,
    measure,
    predict,
    trade_off,
    train,
    verdict,
)

FIRST = ("first", "private_first")
SHARED = ("first", "shared")


# ------------------------------------------------------------------------------- the worlds


def test_drawn_parts_have_the_covariances_of_the_loadings():
    world = World(geographic=0.4)
    drawn = world.draw(100_000, torch.Generator().manual_seed(0))
    for one in drawn:
        for other in drawn:
            found = drawn[one].double().T @ drawn[other].double() / 100_000
            assert np.allclose(found.numpy(), world.covariance(one, other), atol=0.03), (one, other)


def test_modalities_share_the_shared_factors_alone():
    world = World()
    assert np.allclose(world.covariance("private_first", "second"), 0)
    assert np.allclose(world.covariance("private_first", "private_second"), 0)
    assert np.linalg.matrix_rank(world.covariance("first", "second"), tol=1e-9) == world.factors


@pytest.mark.parametrize("geographic", [0.0, 0.3, 1.0])
def test_a_location_knows_the_shared_factors_and_the_geographic_part_of_private_ones(geographic):
    world = World(geographic=geographic)
    known = np.square(world.covariance("shared", "location")).sum(1)
    private = np.square(world.covariance("private_second", "location")).sum(1)
    assert np.allclose(known, 1)
    assert np.allclose(private, geographic)


def test_channels_have_unit_variance_on_average():
    world = World(factors=3, channels=10)
    assert np.trace(world.covariance("first", "first")) == pytest.approx(10)


def test_a_bend_is_monotone_so_that_it_can_be_undone():
    straight, bent = (
        World(bend=bend).draw(1000, torch.Generator().manual_seed(0)) for bend in (0, 0.9)
    )
    order = straight["first"][:, 0].argsort()
    assert (bent["first"][order, 0].diff() > 0).all()
    assert (bent["first"] - straight["first"]).abs().max() > 0.3


@pytest.mark.parametrize(
    "wrong", [{"factors": 0}, {"channels": 7}, {"geographic": 1.1}, {"bend": 1.0}]
)
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        World(**wrong)


# ------------------------------------------------------------------------------- the theory


def scores(world: World, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each shared and each private direction, by hand: loadings are orthogonal here."""
    k, c = world.factors, world.channels
    shared = np.linspace(*erasure.SHARED_GAINS, k)
    private = np.linspace(*erasure.PRIVATE_GAINS, k)
    total = shared.sum() + private.sum() + c * erasure.NOISE
    correlation = shared / (shared + erasure.NOISE)
    return (
        (1 - weight) / 2 * correlation**2 + weight * (shared + erasure.NOISE) / total,
        weight * (private + erasure.NOISE) / total,
    )


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.66, 0.75, 0.88, 1.0])
@pytest.mark.parametrize("dim", [1, 4, 6])
def test_theory_keeps_the_directions_of_the_highest_score(weight, dim):
    world = World()
    best = np.sort(np.concatenate(scores(world, weight)))[::-1][:dim].sum()
    assert predict(world, dim, weight).value == pytest.approx(best, abs=1e-8)


def test_alignment_alone_is_canonical_correlation_analysis():
    world = World(geographic=0.5, channels=9, factors=3)
    whitened = [
        np.linalg.inv(np.linalg.cholesky(world.covariance(m, m))) for m in ("first", "second")
    ]
    k = whitened[0] @ world.covariance("first", "second") @ whitened[1].T
    correlations = np.linalg.svd(k, compute_uv=False)
    for dim in (1, 2, 3):
        found = predict(world, dim)
        assert found.value == pytest.approx(np.square(correlations[:dim]).sum() / 2)
        assert found.r2[FIRST] == pytest.approx(0, abs=1e-12)


def test_no_pair_of_random_subspaces_beats_the_theory():
    world, rng = World(factors=2, channels=5), np.random.default_rng(0)
    spread = {m: world.covariance(m, m) for m in ("first", "second")}
    cross, weight = world.covariance("first", "second"), 0.7
    best = predict(world, 2, weight).value
    for _ in range(300):
        encoders = []
        for m in spread:
            w = rng.normal(size=(2, 5))
            encoders.append(np.linalg.inv(np.linalg.cholesky(w @ spread[m] @ w.T)) @ w)
        aligned = np.square(encoders[0] @ cross @ encoders[1].T).sum()
        kept = [
            np.square(w @ s).sum() / np.trace(s)
            for w, s in zip(encoders, spread.values(), strict=True)
        ]
        assert (1 - weight) / 2 * aligned + weight * np.mean(kept) <= best + 1e-12


def test_where_alignment_lasts_it_holds_less_of_what_is_private():
    end = predict(World(), 4, 0.75)
    assert end.lasting[FIRST] < end.r2[FIRST]
    for weight in (0.0, 0.5, 1.0):
        one = predict(World(), 4, weight)
        assert one.lasting[FIRST] == pytest.approx(one.r2[FIRST])


def test_alignment_lasts_to_twice_the_ratio_at_which_fidelity_is_better():
    world = World(factors=1, channels=4)
    (shared,), (private,) = erasure.SHARED_GAINS[:1], erasure.PRIVATE_GAINS[:1]
    correlation = shared / (shared + erasure.NOISE)
    total = shared + private + 4 * erasure.NOISE
    ratio = correlation**2 * total / (2 * (private - shared))
    for factor, best, lasting in ((0.95, 0, 0), (1.05, 1, 0), (1.95, 1, 0), (2.05, 1, 1)):
        weight = factor * ratio / (1 + factor * ratio)
        found = predict(world, 1, weight)
        assert (found.r2[FIRST] > 0.5) == best, factor
        assert (found.lasting[FIRST] > 0.5) == lasting, factor


def test_room_makes_fidelity_free():
    """With as many numbers as factors, the least weight keeps all and costs no alignment."""
    world = World()
    kept, aligned = predict(world, 8, 1e-6), predict(world, 8, 0.0)
    assert aligned.r2[FIRST] == pytest.approx(0, abs=1e-9)
    assert kept.r2[FIRST] > 0.85
    assert kept.r2[SHARED] == pytest.approx(aligned.r2[SHARED])


def test_tied_by_location_what_is_geographic_survives():
    for geographic, kept in ((0.0, 0.0), (0.3, 0.894), (0.9, 0.894)):
        world = World(geographic=geographic)
        found = predict(world, 12, tie="location").r2
        assert found[FIRST] == pytest.approx(kept, abs=1e-3)
        assert found["location", "private_first"] == pytest.approx(geographic)
        assert predict(world, 4, tie="location").r2[FIRST] == pytest.approx(0, abs=1e-9)
        assert predict(world, 12).r2[FIRST] == pytest.approx(0, abs=1e-9), "paired, all is lost"


@pytest.mark.parametrize("dim", [0, 13])
def test_a_dimension_that_cannot_be_is_refused(dim):
    with pytest.raises(ValueError, match=f"dim={dim}"):
        predict(World(), dim)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="did you mean 'location'"):
        predict(World(), 4, tie="locaton")
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        train(World(), 4, similarity="cosin")
    with pytest.raises(ValueError, match="weight=2"):
        train(World(), 4, weight=2)


# ------------------------------------------------------------------------------- what is trained


def test_on_the_sphere_nt_xent_sees_plain_dot_products():
    z, e = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    a, b, log_scale = erasure.on_sphere(z, e)
    ids = torch.arange(6)
    found = nt_xent(Batch(a, b, ids * 0, ids), log_scale)
    assert found == pytest.approx(nn.functional.cross_entropy(z @ e.T, ids).item(), abs=1e-5)


def test_the_least_loss_of_gaussian_embeddings_is_what_theory_says():
    """-1/2 the sum of squared canonical correlations, but for log B and a finite batch."""
    world = World(channels=8, factors=2)
    best = predict(world, 2).encoders
    correlation = best["first"] @ world.covariance("first", "second") @ best["second"].T
    drawn = world.draw(4000, torch.Generator().manual_seed(0))
    w = torch.from_numpy(correlation @ best["second"]).float()
    z = drawn["first"] @ torch.from_numpy(best["first"]).float().T
    a, b, log_scale = erasure.on_sphere(z, drawn["second"] @ w.T)
    ids = torch.arange(4000)
    loss = nt_xent(Batch(a, b, ids * 0, ids), log_scale).item() - math.log(4000)
    assert loss == pytest.approx(-predict(world, 2).value, abs=0.03)


TOLERANCE = 0.03


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_trained_linear_encoders_keep_what_theory_says(weight):
    world = World()
    found = measure(world, train(world, 4, weight, similarity="dot", steps=150))
    expected = predict(world, 4, weight).r2
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_trained_cosines_erase_as_well():
    found = measure(World(), train(World(), 4, steps=150))
    assert found[FIRST] < TOLERANCE
    assert found[SHARED] == pytest.approx(predict(World(), 4).r2[SHARED], abs=TOLERANCE)


def test_trained_encoders_tied_by_location_keep_what_theory_says():
    world = World(geographic=0.5)
    found = measure(world, train(world, 12, tie="location", similarity="dot", steps=150))
    assert found == pytest.approx(predict(world, 12, tie="location").r2, abs=0.05)


def test_training_repeats():
    one, other = (
        measure(World(), train(World(), 3, 0.4, hidden=8, steps=5, batch=32)) for _ in range(2)
    )
    assert one == other


# ------------------------------------------------------------------------------- real modalities


def earth(pattern: torch.Tensor) -> Raster:
    """A raster of 2 degrees from (C, 90, 180)."""
    return Raster(pattern, lon0=-179, lat0=89, dlon=2, dlat=2)


def raster_modality(name: str, pattern: torch.Tensor) -> Modality:
    lonlat = torch.zeros(4, 2)
    raster = earth(pattern)
    held = Gathered(lonlat, (raster,), lambda r, x: r[0].sample(x), lambda n, g: lonlat)
    return Modality(name, lonlat, held, lambda dim: nn.Identity())


@pytest.fixture
def pair() -> list[Modality]:
    """Two modalities with one channel in common, and one each of their own."""
    generator = torch.Generator().manual_seed(0)
    common, one, other = (torch.randn(90, 180, generator=generator) for _ in range(3))
    smooth = torch.linspace(-1, 1, 90)[:, None].expand(90, 180)
    return [
        raster_modality("one", torch.stack([common + smooth, one])),
        raster_modality("other", torch.stack([common + smooth, other])),
    ]


@pytest.fixture
def points() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(800, 2, generator=generator) * torch.tensor([340.0, 160.0]) - torch.tensor(
        [170.0, 80.0]
    )


def test_what_is_readable_is_read_in_folds_not_learnt_from():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 60))
    y = x @ rng.normal(size=(60, 1)) / math.sqrt(60) + rng.normal(size=(120, 1))  # R² of 0.5
    found = erasure.readable(x, {"y": y}, np.arange(120) % 5)["y"]
    assert 0.05 < found < 0.4


def test_parts_add_up_and_shares_tell_what_is_private(pair, points):
    privacy = Privacy.of(pair, to_xyz, points)
    parts = privacy.parts["one"]
    assert np.allclose(parts["shared"] + parts["private"], parts["placed"] + parts["unplaced"])
    own = parts["private"].var(0)
    assert own[0] < 0.05, "the common channel is predicted by the other modality"
    assert own[1] > 0.9, "the channel of its own is not"
    assert parts["placed"][:, 0].var() > 0.1, "the smooth part of it is read from the position"
    assert parts["unplaced"][:, 1].var() > 0.9
    shares = privacy.shares().set_index(["modality", "part"])["share"]
    assert shares["one", "private"] == pytest.approx(own.mean())


def test_reading_tells_an_encoder_that_keeps_from_one_that_erases(pair, points):
    privacy = Privacy.of(pair, to_xyz, points)

    class First(nn.Module):
        def forward(self, x):
            return x[:, :1]

    kept = {"one": nn.Identity(), "other": nn.Identity()}
    table = privacy.read(to_xyz, {"one": First(), "other": nn.Identity()})
    erased = table.set_index(["modality", "source", "part"])["r2"]
    whole = privacy.read(to_xyz, kept).set_index(["modality", "source", "part"])["r2"]
    assert whole["one", "modality", "private"] > 0.9
    assert erased["one", "modality", "private"] < 0.1
    assert erased["one", "modality", "shared"] > 0.9
    assert erased["other", "modality", "private"] > 0.9
    assert abs(whole["one", "location", "unplaced"]) < 0.05


def test_contrast_is_the_spread_within_a_sample():
    patches = torch.zeros(2, 3, 4, 4)
    patches[1, 2, 0, 0] = 1.0
    found = erasure._contrast(patches)
    assert found.shape == (2, 3)
    assert found[1, 2] == pytest.approx(0.25)
    assert found[0].abs().sum() == 0
    assert erasure._contrast(torch.tensor([[1.0, 3.0]])).item() == pytest.approx(math.sqrt(2))


def test_modalities_that_cannot_be_read_anywhere_are_refused(pair, points):
    names = Modality("names", torch.zeros(3, 2), torch.zeros(3, 5), lambda dim: nn.Identity())
    with pytest.raises(ValueError, match=r"'names'.*leave it out"):
        Privacy.of([*pair, names], to_xyz, points)
    with pytest.raises(ValueError, match="at least two"):
        Privacy.of(pair[:1], to_xyz, points)


# ------------------------------------------------------------------------------- verdict, gain


def readings(private: list[float], shared: list[float]) -> pd.DataFrame:
    """A table in which R² falls by so much, seed by seed; modalities differ but mean the same."""
    rows = []
    for seed, falls in enumerate(zip(private, shared, strict=True)):
        for part, fall in zip(("private", "shared"), falls, strict=True):
            for modality, own in (("one", 0.1), ("other", -0.1)):
                for stage, lost in (("before", 0.0), ("after", fall + own)):
                    rows.append((seed, modality, part, stage, 0.7 - lost))
    return pd.DataFrame(rows, columns=["seed", "modality", "part", "stage", "r2"])


NOISE = [0.0, 0.01, -0.01, 0.005, -0.005] * 2


def around(value: float, noise: list[float] = NOISE) -> list[float]:
    return [value + each for each in noise]


def test_a_selective_fall_supports_the_claim():
    found = verdict(readings(around(0.3), [0.0] * 10))
    assert (found.verdict, found.n) == ("supported", 10)
    leg = found.legs["erasure"]
    assert leg.mean == pytest.approx(0.3)
    half = 2.2622 * np.std(NOISE, ddof=1) / math.sqrt(10)  # t of 9 degrees of freedom, 97.5%
    assert leg.high - leg.mean == pytest.approx(half, rel=1e-3)


def test_no_fall_refutes_it():
    assert verdict(readings(around(0.0), [-0.2] * 10)).verdict == "refuted"


def test_a_fall_of_all_alike_refutes_it():
    found = verdict(readings(around(0.3), around(0.3, NOISE[::-1])))
    assert (found.verdict, found.decisive) == ("refuted", "selectivity")
    assert found.legs["selectivity"].mean == pytest.approx(0.0, abs=1e-9)


def test_a_fall_within_its_interval_of_the_margin_is_undecided():
    assert verdict(readings(around(erasure.MARGIN + 0.001), [-0.2] * 10)).verdict == "undecided"


def test_fewer_than_ten_seeds_decide_nothing():
    for fall in (0.3, 0.0):
        found = verdict(readings(around(fall)[:9], [0.0] * 9))
        assert (found.verdict, found.n) == ("undecided", 9)
        assert found.legs["erasure"].mean == pytest.approx(fall, abs=0.01)


def test_a_table_with_a_hole_is_refused():
    table = readings([0.1, 0.2], [0.0, 0.0])
    with pytest.raises(ValueError, match="one row for each"):
        verdict(table.iloc[:-1])
    with pytest.raises(ValueError, match="one row for each"):
        verdict(pd.concat([table, table.iloc[:1]]))


def test_a_single_seed_has_no_interval_and_decides_nothing():
    table = readings([0.3, 0.2], [0.0, 0.0])
    found = verdict(table[table["seed"] == 0])
    assert (found.verdict, found.n) == ("undecided", 1)
    assert found.told == "undecided (erasure, the fall of private content: +0.300)"


def test_what_is_told_of_a_verdict_is_the_statistic_that_decides_it():
    found = verdict(readings(around(0.3), around(0.3, NOISE[::-1])))
    assert found.told.startswith(
        "refuted (selectivity, the fall of private content less that of shared: +0.000 [-0.0"
    )


RUNS = {  # weight, trained, alignment, and R² of all content
    "untrained": (0.0, 0.0, math.nan, 0.5),
    "short": (0.0, 0.5, 0.1, 0.5),
    "plain": (0.0, 1.0, 0.3, 0.3),
    "fidelity": (0.5, 1.0, 0.2, 0.5),
    "content alone": (1.0, 1.0, 0.0, 0.9),
}


def all_readings(seeds: int = 2, lost: float = 0.2, gained: float = 0.1) -> pd.DataFrame:
    """Runs of which shared content is as in `RUNS`.

    Private content and contrast are `lost` less after plain alignment than
    shared content is, and `gained` more with fidelity.
    """
    more = {"plain": -lost, "fidelity": gained}
    rows = [
        (seed, weight, trained, alignment, modality, source, part, value)
        for seed, (run, (weight, trained, alignment, r2)) in product(range(seeds), RUNS.items())
        for part in ("private", "contrast", "shared")
        for modality, own in (("one", 0.1), ("other", -0.1))
        for source, value in (
            ("modality", r2 + own + (part != "shared") * more.get(run, 0.0)),
            ("location", -1.0),
        )
    ]
    columns = ["seed", "weight", "trained", "alignment", "modality", "source", "part", "r2"]
    return pd.DataFrame(rows, columns=columns)


def test_encoders_are_compared_with_the_untrained_or_with_those_of_content_alone():
    table = all_readings(10)
    falls = {
        "untrained": compare(table),
        "content": compare(table, before=(1.0, 1.0)),
        "short": compare(table, after=(0.0, 0.5)),
    }
    assert {name: each.legs["erasure"].mean for name, each in falls.items()} == pytest.approx(
        {"untrained": 0.4, "content": 0.8, "short": 0.0}
    )
    assert falls["content"].legs["selectivity"].mean == pytest.approx(0.2)
    assert [each.verdict for each in falls.values()] == ["supported", "supported", "refuted"]


def test_the_trade_off_has_a_row_for_each_run_that_aligns_anything():
    table = trade_off(all_readings())
    assert len(table) == 2 * 3
    row = table[(table["seed"] == 1) & (table["weight"] == 0.5)].iloc[0]
    assert row[["alignment", "private", "shared"]].tolist() == pytest.approx([0.2, 0.6, 0.5])


def test_gains_of_all_kinds_of_content_are_taken_at_equal_alignment():
    found = gains(all_readings(lost=0.0))
    assert (found.compared, found.runs, found.seeds) == (2, 2, 2)
    means = {kind: interval.mean for kind, interval in found.relative.items()}
    expected = {"private": 0.5, "contrast": 0.5, "shared": 0.25, "private less shared": 0.25}
    assert means == pytest.approx(expected)
    assert found.r2["private less shared"].mean == pytest.approx(0.1)
    assert found.table.loc["shared"].tolist() == [
        "+25.0% [+25.0%, +25.0%]",
        "+0.100 [+0.100, +0.100]",
        "2 of 2",
    ]
    assert "shared content by +25.0% [+25.0%, +25.0%], over 2 seeds" in found.told


def test_one_comparable_seed_has_gains_without_intervals_and_none_has_nothing():
    table = all_readings(lost=0.0)
    fidelity = table["weight"] == 0.5
    away = table.assign(alignment=table["alignment"].mask(fidelity & (table["seed"] == 1), 0.9))
    one = gains(away)
    assert one.told == (
        "1 of 2 fidelity runs were aligned between plain runs of their seed; there fidelity "
        "changes private content by +50.0%, private contrast by +50.0% and shared content by "
        "+25.0%, for this one seed"
    )
    assert "cannot tell" in one.specific
    none = gains(table.assign(alignment=table["alignment"].mask(fidelity, 0.9)))
    assert none.told.startswith("0 of 2 ")
    assert none.told.endswith("so nothing can be compared")
    assert "cannot tell" in none.specific
    assert set(none.table["relative gain"]) == {"none"}


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ((0.03, 0.01, 0.05), "a part of the gain is specific"),
        ((-0.03, -0.05, -0.01), "gains less"),
        ((0.0, -0.02, 0.02), "hardly specific"),
        ((0.0, -0.2, 0.2), "cannot tell"),
    ],
)
def test_a_gain_is_specific_where_private_content_gains_more_than_shared(extra, said):
    r2 = {"private": Interval(0.1, 0.05, 0.15), "private less shared": Interval(*extra)}
    assert said in Gains({}, r2, 10, 10, 10).specific


def test_gain_is_taken_at_equal_alignment_and_nowhere_else():
    table = pd.DataFrame(
        {
            "seed": [0, 0, 0, 0, 0, 1, 1, 1],
            "weight": [0, 0, 0.3, 0.6, 0.9, 0, 0, 0.3],
            "alignment": [1.0, 2.0, 1.75, 0.5, 2.5, 1.0, 3.0, 2.0],
            "r2": [0.4, 0.2, 0.5, 0.9, 0.9, 0.5, 0.5, 0.4],
        }
    )
    found = gain(table, "r2")
    assert found["plain"].tolist() == pytest.approx([0.25, 0.5])
    assert found["gain"].tolist() == pytest.approx([1.0, -0.2])
    assert found["weight"].tolist() == [0.3, 0.3]


def test_gain_of_nothing_comparable_is_an_empty_table():
    table = pd.DataFrame({"seed": 0, "weight": [0, 0.5], "alignment": [1.0, 0.0], "r2": [0.1, 0.2]})
    assert gain(table, "r2").empty
