"""Modalities: unpaired, unmistakable when empty, and their encoders."""

import itertools

import pytest
import torch
from synthetic import LIGHT

from locties.data import sampling
from locties.data.manifest import DataError
from locties.lonlat import BLOCK_DEGREES, CELL_DEGREES, cell_index
from locties.modalities import (
    EMBEDDED,
    MODALITIES,
    PATCH,
    TOKENS,
    Modality,
    Standardise,
    ngrams,
    patch_encoder,
    profile_encoder,
    text_encoder,
    tokenise,
)


@pytest.fixture(scope="module")
def five(earth):
    return {name: MODALITIES[name](600, seed=0, validation=100) for name in EMBEDDED}


@pytest.mark.data
def test_no_cell_holds_two_modalities(five):
    cells = {name: set(cell_index(m.lonlat, CELL_DEGREES).tolist()) for name, m in five.items()}
    for a, b in itertools.combinations(cells, 2):
        assert not cells[a] & cells[b], f"{a} and {b} share a cell of about 50 km"


@pytest.mark.data
def test_validation_stands_in_blocks_of_its_own(five):
    trained = torch.cat([m.lonlat for m in five.values()])
    block = cell_index(trained, BLOCK_DEGREES)
    assert not sampling._is_held_out(block).any(), "a training sample in a held-out block"
    held_out = torch.cat([m.validation.lonlat for m in five.values()])
    cells = [cell_index(lonlat, CELL_DEGREES).tolist() for lonlat in (trained, held_out)]
    assert not set(cells[0]) & set(cells[1])
    for m in five.values():
        assert (sampling.owner(m.validation.lonlat) == sampling.VALIDATION).all()


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("imagery", (3, PATCH, PATCH)),
        ("relief", (1, PATCH, PATCH)),
        ("climate", (14,)),
        ("haze", (12,)),
        ("toponyms", (TOKENS,)),
    ],
)
def test_samples_and_encoders_fit(five, name, shape):
    modality = five[name]
    samples = modality.samples[torch.arange(8)]
    assert samples.shape[1:] == shape
    assert torch.isfinite(samples.float()).all()
    assert modality.encoder(32)(samples).shape == (8, 32)


@pytest.mark.data
@pytest.mark.parametrize("name", EMBEDDED)
def test_draws_depend_on_the_seed_alone(five, name):
    again = MODALITIES[name](600, seed=0, validation=100)
    assert torch.equal(again.lonlat, five[name].lonlat)
    other = MODALITIES[name](600, seed=1, validation=100)
    assert not torch.equal(other.lonlat, five[name].lonlat)


@pytest.mark.data
@pytest.mark.parametrize("name", EMBEDDED)
def test_fresh_locations_are_the_modality_s_own(five, name):
    lonlat, samples = five[name].fresh(50, torch.Generator().manual_seed(0))
    assert lonlat.shape == (50, 2)
    assert len(samples) == 50
    assert (sampling.owner(lonlat) == sampling.OWNERS.index(name)).all()


def test_every_modality_has_cells_of_its_own():
    assert set(MODALITIES) == set(sampling.OWNERS)
    assert set(MODALITIES) - set(EMBEDDED) == {"night_lights"}


@pytest.mark.data
def test_night_lights_are_patches_of_red_on_their_own_cells(earth, open_tier):
    lights = MODALITIES["night_lights"](600, seed=0, validation=100)
    assert (sampling.owner(lights.lonlat) == sampling.OWNERS.index("night_lights")).all()
    assert (sampling.owner(lights.validation.lonlat) == sampling.VALIDATION).all()
    patches = lights.samples[torch.arange(600)]
    assert patches.shape == (600, 1, PATCH, PATCH)
    # Pixels of 5 degrees: 41 degrees from its edges, a patch lies within the lit quarter.
    lon, lat = lights.lonlat.T
    lit = (lon > 41) & (lon < 139) & (lat > 41)
    dark = (lon < -41) & (lon > -139) & (lat > 41)
    assert lit.sum() > 5
    assert dark.sum() > 5
    assert torch.allclose(patches[lit], torch.tensor(LIGHT / 255), atol=0.02)
    assert torch.allclose(patches[dark], torch.tensor(0.0), atol=0.02)
    assert lights.encoder(32)(patches[:8]).shape == (8, 32)


def test_night_lights_say_what_to_fetch(monkeypatch, open_tier):
    monkeypatch.delenv("LOCTIES_MIRROR")
    with pytest.raises(DataError, match="run: locties data fetch night_lights"):
        MODALITIES["night_lights"](600)


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize(("samples", "validation"), [(-1, 100), (0, 100), (600, -1), (2.5, 100)])
def test_a_number_of_samples_that_cannot_be_is_named(name, samples, validation):
    wrong = f"samples is {samples}" if samples != 600 else f"validation is {validation}"
    with pytest.raises(ValueError, match=f"{wrong}; pass a whole number of at least 1"):
        MODALITIES[name](samples, validation=validation)


def test_an_empty_modality_is_refused():
    with pytest.raises(ValueError, match="modality 'rain' is empty"):
        Modality("rain", torch.empty(0, 2), torch.empty(0, 12), profile_encoder(12))


def test_samples_and_locations_must_be_as_many():
    with pytest.raises(ValueError, match="'rain' has 3 samples at 2 locations"):
        Modality("rain", torch.zeros(2, 2), torch.zeros(3, 12), profile_encoder(12))


def test_a_location_off_the_globe_names_its_row():
    with pytest.raises(ValueError, match="1"):
        Modality("rain", [[0, 0], [0, 91]], torch.zeros(2, 12), profile_encoder(12))


@pytest.mark.parametrize("shape", [(500, 4), (500, 3, 5, 5)])
def test_standardise_gives_mean_0_and_deviation_1(shape):
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 7 + 3
    axes = [0, *range(2, len(shape))]
    deviation, mean = torch.std_mean(Standardise(samples)(samples), axes)
    assert torch.allclose(mean, torch.zeros(shape[1]), atol=1e-5)
    assert torch.allclose(deviation, torch.ones(shape[1]), atol=1e-5)


def test_a_constant_channel_stays_finite():
    assert torch.isfinite(Standardise(torch.ones(5, 2))(torch.ones(5, 2))).all()


def test_patch_and_text_encoders_take_their_shapes():
    assert patch_encoder(3)(16)(torch.zeros(2, 3, PATCH, PATCH)).shape == (2, 16)
    assert text_encoder()(16)(tokenise([["Ōsu"], ["Київ", "Kyiv"]])).shape == (2, 16)


def test_ngrams_of_any_script():
    assert "東京" in ngrams("東京")
    assert ngrams("É") == ngrams("e\u0301"), "composed and decomposed forms are one spelling"
    assert ngrams("ROMA") == ngrams("roma")


def test_tokens_are_few_stable_and_padded():
    rows = tokenise([["Rome", "Roma", "Рим"], ["x" * 5], [" ".join(map(str, range(99)))]])
    assert rows.shape == (3, TOKENS)
    assert (rows[1] > 0).sum() < TOKENS, "a short name is padded with 0"
    assert (rows[2] > 0).all(), "a long one is cut"
    assert rows[1, 0].item() == 2257, "buckets must not change between versions or machines"
