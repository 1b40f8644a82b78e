"""Laws that hold for every input, tried on drawn ones.

Others have their home beside the values they belong to: that features are finite and bounded for
every point in test_features.py, that a wrapped point is the same place in test_lonlat.py, the
orthonormality of the harmonics by exact quadrature and their addition theorem in test_harmonics.py.
"""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import locties
from locties.encoder import LocationEncoder
from locties.features import FEATURES
from locties.harmonics import spherical_harmonics
from locties.lonlat import check
from locties.modality import Modality, profile_encoder
from locties.networks import NETWORKS
from locties.objectives import (
    DIRECTIONS,
    NEGATIVES,
    OBJECTIVES,
    Batch,
    Objective,
    nt_xent,
    siglip,
    vicreg,
)
from locties.training import SCHEDULES
from locties.training.batches import Stream

some = settings(max_examples=40, deadline=None)
few = settings(max_examples=12, deadline=None)
longitudes = st.floats(-1e4, 1e4)
latitudes = st.floats(-90, 90)
seeds = st.integers(0, 2**32 - 1)
places = st.lists(
    st.tuples(st.floats(-180, 180, exclude_max=True), latitudes), min_size=1, max_size=5
)

# -------------------------------------------------------------------------------- coordinates


@some
@given(
    longitude=longitudes, latitude=latitudes, dtype=st.sampled_from([torch.float32, torch.float64])
)
def test_checking_twice_changes_nothing(longitude, latitude, dtype):
    once = check(torch.tensor([[longitude, latitude]], dtype=dtype))
    assert torch.equal(check(once), once)


@some
@given(sixty_fourths=st.integers(-180 * 64, 180 * 64 - 1), turns=st.integers(-9, 9))
def test_whole_turns_change_nothing(sixty_fourths, turns):
    """In 64ths of a degree the turns add exactly, so the same bits must come back."""
    longitude = sixty_fourths / 64
    for dtype in (torch.float32, torch.float64):
        turned = torch.tensor([[longitude + 360 * turns, 12.5]], dtype=dtype)
        assert check(turned).tolist() == [[longitude, 12.5]]


@some
@given(
    good=st.lists(st.tuples(longitudes, latitudes), max_size=5),
    after=st.lists(st.tuples(longitudes, latitudes), max_size=5),
    bad=st.one_of(
        st.tuples(longitudes, st.floats(90, 1e9, exclude_min=True)),
        st.tuples(longitudes, st.floats(-1e9, -90, exclude_max=True)),
        st.tuples(st.sampled_from([math.nan, math.inf, -math.inf]), latitudes),
        st.tuples(longitudes, st.sampled_from([math.nan, math.inf, -math.inf])),
    ),
)
def test_one_bad_row_is_refused_by_its_number(good, after, bad):
    with pytest.raises(ValueError, match=f"row {len(good)} is "):
        check([*good, bad, *after])


# ---------------------------------------------------------------------------------- harmonics


@some
@given(longitude=longitudes, latitude=latitudes, turn=st.floats(-360, 360))
def test_a_turn_about_the_axis_is_a_phase_of_each_pair(longitude, latitude, turn):
    """(Y_lm, Y_l-m) are cos and sin of m lambda: a turn by a rotates the pair by m a."""
    degree = 12
    here, there = spherical_harmonics([[longitude, latitude], [longitude + turn, latitude]], degree)
    for ell in range(degree):
        centre = ell * ell + ell
        assert there[centre].item() == pytest.approx(here[centre].item(), abs=1e-9)
        for m in range(1, ell + 1):
            cosine, sine = here[centre + m].item(), here[centre - m].item()
            c, s = math.cos(m * math.radians(turn)), math.sin(m * math.radians(turn))
            rotated = there[centre + m].item(), there[centre - m].item()
            expected = (c * cosine - s * sine, s * cosine + c * sine)
            assert rotated == pytest.approx(expected, abs=1e-9), f"l={ell}, m={m}"


@some
@given(longitude=longitudes, latitude=latitudes)
def test_the_antipode_changes_the_sign_of_odd_degrees(longitude, latitude):
    degree = 40
    here, there = spherical_harmonics([[longitude, latitude], [longitude + 180, -latitude]], degree)
    sign = torch.cat([torch.full((2 * ell + 1,), (-1.0) ** ell) for ell in range(degree)])
    assert (there - sign * here).abs().max() < 1e-9


# --------------------------------------------------------------------------------- objectives


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Embeddings of up to three modalities, some at the same place, with the samples."""
    pairs, dim = draw(st.integers(2, 12)), draw(st.integers(1, 6))
    numbers = st.lists(st.integers(0, 2), min_size=pairs, max_size=pairs)
    modality, place = torch.tensor(draw(numbers)), torch.tensor(draw(numbers))
    generator = torch.Generator().manual_seed(draw(seeds))
    z, e = torch.randn(2, pairs, dim, generator=generator, dtype=torch.float64)
    raw = torch.randn(pairs, 4, generator=generator, dtype=torch.float64)
    return Batch(z, e, modality, place, by_modality(raw, modality))


def by_modality(raw: Tensor, modality: Tensor) -> dict[int, Tensor]:
    return {m: raw[modality == m] for m in modality.unique().tolist()}


def made(name: str, dim: int) -> Objective:
    """The objective as a run has it, in float64, with decoders that are not zero."""
    torch.manual_seed(0)
    objective = OBJECTIVES[name]()
    profile = Modality("profile", torch.zeros(9, 2), torch.randn(9, 4), profile_encoder(4))
    objective.prepare(dict.fromkeys("abc", profile), dim)
    for parameter in objective.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter)
    return objective.double()


@pytest.mark.parametrize("name", OBJECTIVES)
@some
@given(batch=batches(), seed=seeds)
def test_the_order_of_the_batch_does_not_matter(name, batch, seed):
    order = torch.randperm(len(batch.place), generator=torch.Generator().manual_seed(seed))
    raw = torch.empty(len(order), 4, dtype=torch.float64)
    for m, samples in batch.raw.items():
        raw[batch.modality == m] = samples
    modality = batch.modality[order]
    shuffled = Batch(
        batch.samples[order],
        batch.locations[order],
        modality,
        batch.place[order],
        by_modality(raw[order], modality),
    )
    objective = made(name, batch.samples.shape[1])
    assert objective(shuffled).item() == pytest.approx(objective(batch).item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["nt_xent", "siglip"])
@some
@given(batch=batches(), seed=seeds)
def test_the_length_of_an_embedding_says_nothing(name, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.logspace(-3, 3, 61, dtype=torch.float64)
    a, b = lengths[torch.randint(61, (2, len(batch.place), 1), generator=generator)]
    scaled = batch._replace(samples=a * batch.samples, locations=b * batch.locations)
    objective = made(name, batch.samples.shape[1])
    assert objective(scaled).item() == pytest.approx(objective(batch).item(), rel=1e-9, abs=1e-9)


@some
@given(batch=batches(), shift=st.floats(-10, 10))
def test_vicreg_does_not_see_where_the_origin_is(batch, shift):
    shifted = batch._replace(samples=batch.samples + shift, locations=batch.locations + shift)
    assert vicreg(shifted).item() == pytest.approx(vicreg(batch).item(), rel=1e-9)


@some
@given(
    place=st.lists(st.integers(0, 5), min_size=2, max_size=20),
    modality=st.lists(st.integers(0, 2), min_size=20, max_size=20),
    negatives=st.sampled_from(NEGATIVES),
)
def test_copies_of_a_location_are_not_negatives(place, modality, negatives):
    """A perfect encoder's loss vanishes however often each location is there."""
    ids = torch.tensor(place)
    e = torch.eye(6, dtype=torch.float64)[ids]
    batch = Batch(e, e, torch.tensor(modality[: len(ids)]), ids)
    sharp = torch.tensor(math.log(100.0), dtype=torch.float64)
    for direction in DIRECTIONS:
        assert nt_xent(batch, sharp, direction, negatives).item() < 1e-6
    assert siglip(batch, sharp, torch.tensor(-50.0).double(), negatives).item() < 1e-6


# ---------------------------------------------------------------------------------- schedules


@some
@given(length=st.integers(1, 40), takes=st.lists(st.integers(1, 50), max_size=12), seed=seeds)
def test_no_sample_is_seen_twice_before_all_are_seen(length, takes, seed):
    stream = Stream(length, seed)
    seen = torch.cat([torch.empty(0, dtype=torch.int64), *map(stream.take, takes)])
    counts = torch.bincount(seen, minlength=length)
    assert len(seen) == sum(takes)
    assert counts.max() - counts.min() <= 1


@some
@given(
    modalities=st.integers(1, 6), rounds=st.integers(1, 4), share=st.integers(1, 50), data=st.data()
)
def test_whole_rounds_show_each_modality_equally_often(modalities, rounds, share, data):
    """Equal compute: batches are full under every schedule, and no modality is favoured."""
    names = list("abcdef")[:modalities]
    schedules = list(SCHEDULES) if modalities == 1 else ["melt", "salt"]
    plan = SCHEDULES[data.draw(st.sampled_from(schedules))](names)
    seen: Counter[str] = Counter()
    for epoch in range(rounds * modalities):
        counts = plan.counts(epoch, share * modalities)
        assert sum(counts.values()) == share * modalities
        seen.update(counts)
    assert seen == dict.fromkeys(names, rounds * share * modalities)


class Watched:
    """Samples that count how often each was asked for."""

    def __init__(self, length: int) -> None:
        self.seen = torch.zeros(length, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, index: Tensor) -> Tensor:
        self.seen += torch.bincount(index, minlength=len(self))
        return torch.randn(len(index), 2, generator=torch.Generator().manual_seed(0))

    def to(self, device: torch.device) -> "Watched":
        return self


@pytest.mark.parametrize("schedule", SCHEDULES)
@settings(max_examples=4, deadline=None)
@given(rounds=st.integers(1, 3), share=st.integers(2, 6), times=st.integers(1, 3))
def test_a_run_sees_every_pair_as_often_as_promised(schedule, rounds, share, times):
    """The same pairs in all under each schedule; each of a modality's own equally often."""
    names = ["a"] if schedule == "clip" else ["a", "b"]
    epochs, batch = 2 * rounds, 2 * share
    steps = epochs * times
    held = steps * batch // len(names) // times  # so that each is seen `times` times
    samples = {name: Watched(held) for name in names}
    lonlat = torch.rand(held, 2, generator=torch.Generator().manual_seed(0)) * 80
    history = locties.pretrain(
        schedule,
        [
            Modality(name, lonlat * side, samples[name], profile_encoder(2))
            for name, side in zip(names, (1, -1), strict=False)
        ],
        LocationEncoder("xyz", "linear", dim=4),
        pairs=steps * batch,
        batch=batch,
        epochs=epochs,
        device="cpu",
        progress=False,
    ).history
    assert history["pairs"].iloc[-1] == steps * batch
    for name in names:
        assert samples[name].seen.tolist() == [times] * held, f"{schedule}, {name}"


# ------------------------------------------------------------------------------ save and load


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> list[tuple[LocationEncoder, LocationEncoder]]:
    """An encoder of every feature and network, and the same one saved and loaded again."""
    return [
        saved_and_loaded(features, network, tmp_path_factory.mktemp("encoder"))
        for features in FEATURES
        for network in NETWORKS
    ]


def saved_and_loaded(
    features: str, network: str, folder: Path
) -> tuple[LocationEncoder, LocationEncoder]:
    network_options = {} if network == "linear" else {"hidden": 8}
    encoder = LocationEncoder(features, network, dim=6, network_options=network_options, seed=3)
    with torch.no_grad():  # as after training: not what the seed alone would give
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    encoder.save(folder)
    return encoder.eval(), locties.load(folder)


@few
@given(lonlat=places, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_loaded_encoder_embeds_bit_for_bit_alike(saved, lonlat, dtype):
    points = torch.tensor(lonlat, dtype=dtype)
    for encoder, again in saved:
        assert again.config == encoder.config
        assert not again.training
        assert torch.equal(again(points), encoder(points)), encoder.config
