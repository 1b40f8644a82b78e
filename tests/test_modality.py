"""Modalities and their encoders, without any data."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from locties.modality import (
    PATCH,
    TOKENS,
    Modality,
    Standardise,
    by_month,
    in_every_month,
    ngrams,
    patch_encoder,
    profile_encoder,
    text_encoder,
    tokenise,
)


@pytest.mark.slow
def test_objectives_and_modalities_need_torch_alone():
    """Everything else that the extras of the library bring is blocked."""
    code = """
import sys
import torch

EXTRAS = "scipy h5py pandas yaml PIL requests rasterio shapely sklearn xarray zarr typer"


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in EXTRAS.split() or name.startswith("locties.data"):
            raise ImportError(name)


sys.meta_path.insert(0, Blocked())
import locties.modality
from locties.objectives import nt_xent
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_empty_modality_is_refused():
    with pytest.raises(ValueError, match="modality 'rain' is empty"):
        Modality("rain", torch.empty(0, 2), torch.empty(0, 12), profile_encoder(12))


def test_samples_and_locations_must_be_as_many():
    with pytest.raises(ValueError, match="'rain' has 3 samples at 2 locations"):
        Modality("rain", torch.zeros(2, 2), torch.zeros(3, 12), profile_encoder(12))


def test_masked_samples_are_refused():
    masked = np.ma.masked_array([[1.0], [-9999.0]], [[False], [True]])
    with pytest.raises(ValueError, match=r"'rain' has masked samples.*drop"):
        Modality("rain", [[0, 0], [1, 1]], masked, profile_encoder(1))


def test_a_location_off_the_globe_names_its_row():
    with pytest.raises(ValueError, match="row 1"):
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


@pytest.mark.parametrize("name", ["", "a.b", "keys"])
def test_a_name_that_a_module_dict_refuses_is_refused_with_a_remedy(name):
    with pytest.raises(ValueError, match=f"{name!r}: use a word"):
        Modality(name, [[0, 0]], torch.zeros(1, 12), profile_encoder(12))


def test_fixed_samples_name_the_option_that_takes_them():
    rain = Modality("rain", [[0, 0]], torch.zeros(1, 12), profile_encoder(12))
    with pytest.raises(ValueError, match=r"'rain' .* locations='fixed'"):
        rain.fresh(3, torch.Generator())


def profiles(places=40, **options):
    lonlat = torch.rand(places, 2, generator=torch.manual_seed(0)) * 80
    return Modality("rain", lonlat, torch.rand(places, 12), profile_encoder(12), **options)


def test_by_month_has_the_value_of_each_place_and_month_once():
    rain = profiles(validation=profiles(30))
    monthly = by_month(rain)
    values = monthly.samples[torch.arange(len(monthly.lonlat))]
    assert values.shape == (12 * 40, 1)
    assert monthly.encoder(8)(values).shape == (480, 8)
    rows = {tuple(x.tolist()): i for i, x in enumerate(rain.lonlat)}
    for x, month, value in zip(monthly.lonlat, monthly.month, values, strict=True):
        assert value == rain.samples[rows[tuple(x.tolist())], month - 1]
    pairs = {
        (tuple(x.tolist()), int(m)) for x, m in zip(monthly.lonlat, monthly.month, strict=True)
    }
    assert len(pairs) == 480
    assert set(monthly.month[:12].tolist()) == set(range(1, 13)), "any part has all months"
    held_out = monthly.validation
    assert held_out.lonlat.equal(rain.validation.lonlat), "held-out places come once"
    assert set(held_out.month.tolist()) == set(range(1, 13))


class Drawing:
    """Samples that draw as many tensors as they are told."""

    def __init__(self, tensors):
        self.tensors, self.announced = tensors, []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return torch.zeros(len(index), 12)

    def fresh(self, n, generator):
        return tuple(torch.ones(n, 2) for _ in range(self.tensors))

    def expect(self, index):
        self.announced.append(index.tolist())


@pytest.mark.parametrize(("month", "tensors"), [(None, 3), ([1, 2, 3], 2)])
def test_fresh_samples_come_with_months_as_their_modality_has_them(month, tensors):
    rain = Modality("rain", torch.zeros(3, 2), Drawing(tensors), profile_encoder(12), month=month)
    with pytest.raises(ValueError, match=f"'rain' returned {tensors} tensors: let it return"):
        rain.fresh(2, torch.Generator())


def test_samples_in_months_announce_their_places():
    samples = Drawing(2)
    spread = in_every_month(Modality("rain", torch.zeros(3, 2), samples, profile_encoder(12)))
    spread.samples.expect(torch.tensor([0, 4, 35]))
    assert samples.announced == [[0, 1, 2]]


def test_samples_without_a_month_are_the_same_in_all():
    spread = in_every_month(profiles())
    index = torch.tensor([3, 43, 83])  # one place in three months
    assert spread.lonlat[index].unique(dim=0).shape == (1, 2)
    assert len(spread.month[index].unique()) == 3
    assert spread.samples[index].equal(spread.samples[index[:1]].expand(3, 12))


def test_a_month_of_each_sample_is_checked():
    assert profiles(3, month=[1, 2, 12]).month.tolist() == [1, 2, 12]
    with pytest.raises(ValueError, match=r"month at row 1 is 13: give whole numbers"):
        profiles(3, month=[1, 13, 12])
    with pytest.raises(ValueError, match=r"shape \(2,\) and there are 3 places"):
        profiles(3, month=[1, 2])


def test_only_profiles_of_twelve_months_are_taken_by_month():
    patches = Modality("imagery", [[0, 0]], torch.zeros(1, 3, 16, 16), patch_encoder(3))
    with pytest.raises(ValueError, match=r"'imagery' has .*\(3, 16, 16\), not twelve"):
        by_month(patches)
