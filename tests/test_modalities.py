"""Modalities: unpaired, unmistakable when empty, and their encoders."""

import itertools

import pytest
import torch
from synthetic import LIGHT

from locties.data import sampling
from locties.data.manifest import DataError
from locties.lonlat import BLOCK_DEGREES, CELL_DEGREES, cell_index
from locties.modalities import EMBEDDED, MODALITIES, HashedNames
from locties.modality import PATCH, TOKENS, tokenise

OFFLINE = [name for name in MODALITIES if name != "night_lights"]


@pytest.fixture(scope="module")
def offline(earth):
    return {name: MODALITIES[name](600, seed=0, validation=100) for name in OFFLINE}


@pytest.mark.data
def test_no_cell_holds_two_modalities(offline):
    cells = {name: set(cell_index(m.lonlat, CELL_DEGREES).tolist()) for name, m in offline.items()}
    for a, b in itertools.combinations(cells, 2):
        if {a, b} == {"imagery", "imagery_frozen"} or "rasters" in (a, b):
            continue  # one takes the place of the other
        assert not cells[a] & cells[b], f"{a} and {b} share a cell of about 50 km"


@pytest.mark.data
def test_validation_stands_in_blocks_of_its_own(offline):
    offline = {name: m for name, m in offline.items() if name != "rasters"}  # all land is its own
    trained = torch.cat([m.lonlat for m in offline.values()])
    block = cell_index(trained, BLOCK_DEGREES)
    assert not sampling._is_held_out(block).any(), "a training sample in a held-out block"
    held_out = torch.cat([m.validation.lonlat for m in offline.values()])
    cells = [cell_index(lonlat, CELL_DEGREES).tolist() for lonlat in (trained, held_out)]
    assert not set(cells[0]) & set(cells[1])
    for m in offline.values():
        assert (sampling.owner(m.validation.lonlat) == sampling.VALIDATION).all()


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("imagery", (3, PATCH, PATCH)),
        ("relief", (1, PATCH, PATCH)),
        ("rain", (12,)),
        ("temperature", (12,)),
        ("haze", (12,)),
        ("toponyms", (TOKENS,)),
        ("text", (512,)),
        ("imagery_frozen", (1280,)),
    ],
)
def test_samples_and_encoders_fit(offline, name, shape):
    modality = offline[name]
    samples = modality.samples[torch.arange(8)]
    assert samples.shape[1:] == shape
    assert torch.isfinite(samples.float()).all()
    assert modality.encoder(32)(samples).shape == (8, 32)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", OFFLINE)
def test_another_default_dtype_changes_no_sample(offline, name):
    torch.set_default_dtype(torch.float64)
    try:
        found = MODALITIES[name](600, seed=0, validation=100)
    finally:
        torch.set_default_dtype(torch.float32)
    index = torch.arange(100)
    for one, other in ((offline[name], found), (offline[name].validation, found.validation)):
        assert torch.equal(one.lonlat, other.lonlat)
        assert torch.equal(one.samples[index], other.samples[index])


@pytest.mark.data
@pytest.mark.parametrize("name", OFFLINE)
def test_draws_depend_on_the_seed_alone(offline, name):
    again = MODALITIES[name](600, seed=0, validation=100)
    assert torch.equal(again.lonlat, offline[name].lonlat)
    other = MODALITIES[name](600, seed=1, validation=100)
    if name == "imagery_frozen":  # its points are the same for every seed, in another order
        assert set(map(tuple, other.lonlat.tolist())) == set(map(tuple, again.lonlat.tolist()))
    assert not torch.equal(other.lonlat, offline[name].lonlat)


@pytest.mark.data
def test_rasters_join_the_values_of_other_modalities_at_a_point(offline, earth):
    rasters = offline["rasters"]
    index = torch.arange(50)
    lonlat, columns = rasters.lonlat[index], rasters.samples[index]
    assert torch.equal(columns[:, 12:15], earth.imagery.sample(lonlat) / 255)
    assert torch.equal(columns[:, 44:56], earth.haze.sample(lonlat))
    some = MODALITIES["rasters"](600, validation=100, groups=["haze", "position"])
    assert torch.equal(some.samples[index][:, :12], columns[:, 44:56])
    assert some.samples[index].shape == (50, 12 + 25)
    for groups in ([], ["haez"]):
        with pytest.raises(ValueError, match=r"haez|groups=\[\].*haze"):
            MODALITIES["rasters"](600, validation=100, groups=groups)


def test_names_are_hashed_when_they_are_read():
    names = [["Rome", "Roma"], ["Київ"], ["Ōsu"]]
    pool, all_rows = HashedNames(names), tokenise(names)
    for index in ([2, 0, 2], [0], [], [1, 2]):
        assert torch.equal(pool[torch.tensor(index, dtype=torch.int64)], all_rows[index])
    assert HashedNames(names).to(torch.device("meta")).shape == all_rows.shape


@pytest.mark.data
@pytest.mark.parametrize("name", OFFLINE)
def test_fresh_locations_are_the_modality_s_own(offline, name):
    lonlat, samples = offline[name].fresh(50, torch.Generator().manual_seed(0))
    assert lonlat.shape == (50, 2)
    assert len(samples) == 50
    owners = sampling.owner(lonlat)
    if name == "rasters":  # all land is its own
        assert len(owners.unique()) > 5
    else:
        assert (owners == sampling.OWNERS.index(name.removesuffix("_frozen"))).all()


def test_every_modality_has_cells_of_its_own():
    assert set(MODALITIES) - {"imagery_frozen", "rasters"} == set(sampling.OWNERS)
    others = {"night_lights", "temperature", "text", "imagery_frozen", "rasters"}
    assert set(MODALITIES) - set(EMBEDDED) == others


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


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize(("samples", "validation"), [(-1, 100), (0, 100), (600, -1), (2.5, 100)])
def test_a_number_of_samples_that_cannot_be_is_named(name, samples, validation):
    wrong = f"samples is {samples}" if samples != 600 else f"validation is {validation}"
    with pytest.raises(ValueError, match=f"{wrong}; pass a whole number of at least 1"):
        MODALITIES[name](samples, validation=validation)
