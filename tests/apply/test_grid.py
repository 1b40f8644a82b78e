"""The global grid: where its pixels are, and how it treats the encoder."""

import math
import re
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
import xarray
from torch import nn

from locties.apply.grid import (
    POINTS_PER_BLOCK,
    POINTS_PER_CHUNK,
    EmbeddingGrid,
    embed_grid,
    pixel_centres,
    rows_embedder,
    stream_grid,
)
from locties.encoder import LocationEncoder
from locties.features import SphericalHarmonics
from locties.networks import NETWORKS


def test_rows_run_from_north_to_south_and_columns_from_west_to_east():
    grid = embed_grid(lambda lonlat: lonlat, resolution=2)
    assert grid.embedding.shape == (90, 180, 2)
    assert grid.embedding.dtype == np.float32
    assert (grid.lat[0], grid.lat[-1]) == (89, -89)
    assert (grid.lon[0], grid.lon[-1]) == (-179, 179)
    lon, lat = np.meshgrid(grid.lon, grid.lat)
    np.testing.assert_array_equal(grid.embedding, np.stack([lon, lat], axis=-1))


@pytest.mark.parametrize("resolution", [180, 60, 1, 0.25, 0.1, 1 / 12, 180 / 7])
def test_pixels_of_a_resolution_that_divides_180_tile_the_globe(resolution):
    lon, lat = pixel_centres(resolution)
    assert len(lon) == 2 * len(lat) == 2 * round(180 / resolution)
    np.testing.assert_allclose(np.diff(lon), resolution)
    np.testing.assert_allclose(
        [lat[0], -lat[-1], -lon[0], lon[-1]], [90, 90, 180, 180] - np.full(4, resolution / 2)
    )


@pytest.mark.parametrize(
    ("resolution", "nearest"),
    [(0.7, "0.700389 (180 / 257)"), (50, "45 (180 / 4)"), (400, "180 (180 / 1)")],
)
def test_a_resolution_that_does_not_divide_180_is_refused_with_the_nearest(resolution, nearest):
    with pytest.raises(ValueError, match=re.escape(nearest)) as error:
        embed_grid(lambda lonlat: lonlat, resolution)
    assert f"resolution={resolution} " in str(error.value)


WRONG = [0, -1, math.nan, math.inf, 1e-320, "1", None, True, [1], 1j, np.array([1.0, 2.0])]


@pytest.mark.parametrize("grid", [embed_grid, lambda *args: next(stream_grid(*args))])
@pytest.mark.parametrize("resolution", WRONG, ids=repr)
def test_what_is_no_pixel_size_is_refused_with_the_value_and_an_example(grid, resolution):
    with pytest.raises(ValueError, match=r"divides 180, such as 0\.25") as error:
        grid("melt", resolution)
    assert f"resolution={resolution!r}" in str(error.value)


@pytest.mark.parametrize("resolution", [60, np.float32(60), np.int64(60), Fraction(60)])
def test_any_real_number_is_a_resolution(resolution):
    assert len(pixel_centres(resolution)[1]) == 3


def test_an_encoder_of_the_wrong_output_shape_is_named():
    with pytest.raises(ValueError, match=r"returned shape \(8,\) for 8 points"):
        embed_grid(lambda lonlat: lonlat[:, 0], resolution=90)


class Recorder(nn.Module):
    """Dropout on coordinates; keeps what it saw of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5)
        self.calls: list[tuple[int, bool]] = []

    def forward(self, lonlat):
        self.calls.append((len(lonlat), torch.is_grad_enabled()))
        return self.frozen(self.dropout(lonlat * self.scale))


def test_a_module_runs_in_eval_mode_without_gradients_and_its_modes_are_put_back():
    encoder = Recorder().train()
    encoder.frozen.eval()
    grid = embed_grid(encoder, resolution=2)
    np.testing.assert_array_equal(grid.embedding[:, 0, 1], grid.lat)  # nothing was dropped
    assert not any(with_gradients for _, with_gradients in encoder.calls)
    assert encoder.training
    assert encoder.dropout.training
    assert not encoder.frozen.training


def test_modes_are_put_back_after_an_error():
    class Failing(Recorder):
        def forward(self, lonlat):
            raise RuntimeError("no")

    encoder = Failing().train()
    with pytest.raises(RuntimeError, match="no"):
        embed_grid(encoder, resolution=90)
    assert encoder.dropout.training


def test_memory_is_bounded_by_chunks_of_rows_that_do_not_change_the_result():
    encoder = Recorder()
    grid = embed_grid(encoder, resolution=0.5)
    sizes = [size for size, _ in encoder.calls]
    assert len(sizes) > 1
    assert max(sizes) <= POINTS_PER_CHUNK
    assert sum(sizes) == 360 * 720
    np.testing.assert_array_equal(grid.embedding[..., 1], np.tile(grid.lat[:, None], (1, 720)))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_grid_in_a_month_is_the_encoder_in_that_month(network):
    options = NETWORK_OPTIONS[network]
    encoder = LocationEncoder(
        "spherical_harmonics", network, 8, {"degree": 8}, options, time="month"
    )
    july, january = (embed_grid(encoder, 30, month=month) for month in (7, 1))
    np.testing.assert_allclose(
        july.embedding, pointwise(encoder.in_month(7), july), rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(july.embedding, january.embedding)
    both = xarray.concat([january.to_xarray(), july.to_xarray()], "month")
    np.testing.assert_array_equal(both["month"], [1, 7])
    assert "month" not in both.attrs, "both months would have the first one's"
    np.testing.assert_array_equal(
        both["embedding"].sel(month=7).transpose("lat", "lon", "dimension"), july.embedding
    )


def test_a_grid_too_large_for_the_memory_points_to_a_file(monkeypatch):
    empty = np.empty

    def full(shape, *options):
        if np.prod(shape) > 100:
            raise MemoryError
        return empty(shape, *options)

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(MemoryError, match=r"30 degrees takes 0 GB.*locties\.export_grid"):
        embed_grid(lambda lonlat: lonlat, 30)


def test_a_grid_without_its_month_is_refused():
    with pytest.raises(ValueError, match="month is None: pass month=7"):
        embed_grid(LocationEncoder("spherical_harmonics", "linear", 4, time="month"), 30)
    with pytest.raises(ValueError, match=r"takes no month, and month is 7"):
        embed_grid("melt", 30, month=7)
    with pytest.raises(ValueError, match=r"month=7: only a LocationEncoder .* leave the month out"):
        embed_grid(lambda lonlat: lonlat, 30, month=7)


NETWORK_OPTIONS = {
    "linear": {},
    "mlp": {"hidden": 32},
    "residual": {"hidden": 32, "layers": 2},
    "siren": {"hidden": 32},
}


def harmonic(network: str, degree: int = 40) -> LocationEncoder:
    return LocationEncoder(
        network=network,
        dim=8,
        feature_options={"degree": degree},
        network_options=NETWORK_OPTIONS[network],
    )


def scaled(encoder: LocationEncoder, factor: float) -> LocationEncoder:
    """With first-layer weights as large as training makes them."""
    with torch.no_grad():
        next(encoder.network.parameters()).mul_(factor)
    return encoder


def pointwise(encoder: LocationEncoder, grid: EmbeddingGrid) -> np.ndarray:
    lonlat = np.stack(np.meshgrid(grid.lon, grid.lat), axis=-1).reshape(-1, 2)
    with torch.no_grad():
        return encoder.eval()(lonlat).numpy().reshape(grid.embedding.shape)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("degree", [1, 2, 40])
def test_the_separable_form_equals_the_pointwise_one(network, degree):
    encoder = scaled(harmonic(network, degree), 3)
    grid = embed_grid(encoder, resolution=4)
    np.testing.assert_allclose(grid.embedding, pointwise(encoder, grid), rtol=0, atol=1e-5)
    assert grid.embedding.std(axis=(0, 1)).max() > 1e-3 or degree == 1


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_are_read_in_the_separable_form_too(network):
    encoder = scaled(harmonic(network, 5), 3)
    encoder.readout = "layers"
    grid = embed_grid(encoder, resolution=10)
    np.testing.assert_allclose(grid.embedding, pointwise(encoder, grid), rtol=0, atol=1e-5)


def test_the_features_are_not_computed_point_by_point(monkeypatch):
    """So the test above compares two forms."""
    monkeypatch.setattr(SphericalHarmonics, "forward", None)
    assert embed_grid(harmonic("siren", 3), resolution=30).embedding.shape == (6, 12, 8)


def test_an_affine_map_without_bias_is_folded_too():
    encoder = harmonic("mlp", 5)
    encoder.network = nn.Sequential(nn.Linear(25, 8, bias=False), nn.Tanh())
    grid = embed_grid(encoder, resolution=10)
    np.testing.assert_allclose(grid.embedding, pointwise(encoder, grid), atol=1e-6)


class Doubled(LocationEncoder):
    def encode(self, lonlat):
        return 2 * super().encode(lonlat)


class Reversed(nn.Sequential):
    def forward(self, x):
        return super().forward(-x)


class ReversedLinear(nn.Linear):
    def forward(self, x):
        return super().forward(-x)


def test_whatever_changes_the_arithmetic_is_embedded_point_by_point():
    plain = {"feature_options": {"degree": 4}}
    unknown = [Doubled(network="linear", dim=8, **plain)]
    for network in (Reversed(nn.Linear(16, 8)), ReversedLinear(16, 8), nn.Identity()):
        unknown.append(LocationEncoder(dim=8, **plain))
        unknown[-1].network = network
    for encoder in unknown:
        grid = embed_grid(encoder, resolution=20)
        np.testing.assert_allclose(grid.embedding, pointwise(encoder, grid), atol=1e-6)


@pytest.mark.parametrize("encoder", [harmonic("siren", 4), lambda lonlat: lonlat])
def test_blocks_of_the_stream_are_the_grid(encoder):
    grid = embed_grid(encoder, resolution=1)
    blocks = list(stream_grid(encoder, resolution=1))
    assert len(blocks) > 1
    assert max(block.embedding[..., 0].size for block in blocks) <= POINTS_PER_BLOCK
    np.testing.assert_array_equal(np.concatenate([block.lat for block in blocks]), grid.lat)
    np.testing.assert_array_equal(
        np.concatenate([block.embedding for block in blocks]), grid.embedding
    )


@pytest.mark.slow
@pytest.mark.parametrize("features", ["spherical_harmonics", "xyz"])
def test_memory_does_not_grow_with_the_grid(features, tensor_sizes):
    encoder = LocationEncoder(features, "mlp", dim=8, network_options={"hidden": 16})

    def largest(resolution: float) -> int:
        with tensor_sizes() as tensors:
            for _ in stream_grid(encoder, resolution):
                pass
        return max(tensors.bytes)

    # 4 and 16 blocks; a block is never larger than POINTS_PER_BLOCK.
    assert largest(0.5) <= largest(1) * POINTS_PER_BLOCK / (45 * 360)


def test_no_block_is_kept_when_the_next_is_handed_out():
    handed_out: list[weakref.ref] = []
    for block in stream_grid(harmonic("mlp", 3), 0.5):
        assert not any(earlier() is not None for earlier in handed_out)
        handed_out.append(weakref.ref(block.embedding))
        del block
    assert len(handed_out) > 3


def test_between_blocks_gradients_and_training_modes_are_as_they_were():
    encoder = harmonic("mlp", 3).train()
    for _ in stream_grid(encoder, resolution=60):
        assert encoder.training
        assert torch.is_grad_enabled()


def test_a_grid_says_of_what_encoder_it_is(tmp_path):
    harmonic("mlp", 3).save(tmp_path / "mine")
    for grid in (
        embed_grid(tmp_path / "mine", 60),
        next(iter(stream_grid(tmp_path / "mine", 60))),
    ):
        assert grid.metadata["encoder"] == "mine"
        assert len(grid.metadata["weights_sha256"]) == 64
        attributes = grid.to_xarray().attrs
        assert attributes.items() > grid.metadata.items()
        assert attributes["resolution_degrees"] == 60


def test_a_dataset_of_a_grid_shares_its_memory():
    grid = embed_grid(lambda lonlat: lonlat, resolution=30)
    embedding = grid.to_xarray()["embedding"]
    assert np.shares_memory(embedding.values, grid.embedding)
    np.testing.assert_array_equal(embedding.sel(lon=165, lat=-75), [165, -75])


def test_axes_that_cannot_be_written_to_are_copied_without_a_warning(recwarn):
    lon, lat = pixel_centres(30.0)
    writable = rows_embedder(harmonic("mlp", 4), lon)(lat)
    torch.set_warn_always(True)  # else torch warns once a process
    for axis in (lon, lat):
        axis.flags.writeable = False
    assert np.array_equal(rows_embedder(harmonic("mlp", 4), lon)(lat), writable)
    torch.set_warn_always(False)
    assert not recwarn.list


@pytest.mark.parametrize("where", ["", "features", "network", "network.0"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_is_honoured(where, when):
    encoder = LocationEncoder(dim=4, feature_options={"degree": 3}, network_options={"hidden": 8})
    module = encoder.get_submodule(where)
    if when == "after":
        module.register_forward_hook(lambda *args: args[-1] * 2 + 1)
    else:
        module.register_forward_pre_hook(lambda _, args: (args[0] / 2,))
    lon, lat = pixel_centres(30)
    points = torch.tensor([[x, y] for y in lat for x in lon], dtype=torch.float32)
    found = torch.from_numpy(embed_grid(encoder, 30).embedding).flatten(0, 1)
    torch.testing.assert_close(found, encoder(points).detach())
