"""The global grid: where its pixels are, and how it treats the encoder."""

import numpy as np
import pytest
import torch
from torch import nn

import locties
from locties.grid import POINTS_PER_CHUNK, embed_grid, pixel_centres


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
    [
        (0.7, "0.700389 (180 / 257)"),
        (50, "45 (180 / 4)"),
        (400, "180 (180 / 1)"),
        (130, "90 (180 / 2)"),
    ],
)
def test_a_resolution_that_does_not_divide_180_is_refused_with_the_nearest_that_does(
    resolution, nearest
):
    with pytest.raises(ValueError, match="does not divide 180") as error:
        embed_grid(lambda lonlat: lonlat, resolution)
    assert f"resolution {resolution} " in str(error.value)
    assert nearest in str(error.value)


@pytest.mark.parametrize("resolution", [0, -1, float("nan"), float("inf")])
def test_a_resolution_that_is_no_positive_number_is_refused(resolution):
    with pytest.raises(ValueError, match="positive"):
        embed_grid(lambda lonlat: lonlat, resolution)


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


def test_a_module_runs_ineval_mode_without_gradients_and_its_modes_are_put_back():
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


def test_a_location_encoder_gives_the_same_on_the_grid_as_point_by_point():
    encoder = locties.LocationEncoder(
        dim=8, feature_options={"degree": 6}, network_options={"hidden": 16}
    )
    grid = locties.embed_grid(encoder, resolution=10)
    with torch.no_grad():
        expected = encoder.eval()([[grid.lon[30], grid.lat[4]]])[0]
    np.testing.assert_allclose(grid.embedding[4, 30], expected, atol=1e-5)
