"""Raster: bilinear samples and patches, at the date line, the poles and in between."""

import pytest
import torch

from locties.data.raster import Raster


def numbered(height: int = 6, width: int = 12, dtype: torch.dtype = torch.int16) -> Raster:
    """Two channels: row * 100 + column, and its negative."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    plane = (rows * 100 + columns).to(dtype)
    dlon, dlat = 360 / width, 180 / height
    return Raster(torch.stack([plane, -plane]), -180 + dlon / 2, 90 - dlat / 2, dlon, dlat)


def test_a_pixel_centre_gives_the_pixel_itself() -> None:
    raster = numbered()
    lonlat = torch.tensor([[-165.0, 75.0], [165.0, 75.0], [15.0, -75.0]])
    expected = torch.tensor([[0.0, 0.0], [11.0, -11.0], [506.0, -506.0]])
    torch.testing.assert_close(raster.sample(lonlat), expected)
    torch.testing.assert_close(raster.nearest(lonlat), expected)
    torch.testing.assert_close(raster.patches(lonlat, 1)[:, :, 0, 0], expected)


def test_between_centres_values_are_bilinear() -> None:
    # A quarter of a pixel east and half a pixel south of row 2, column 5.
    value = numbered().sample(torch.tensor([[-15.0 + 7.5, 15.0 - 15.0]]))
    torch.testing.assert_close(value, torch.tensor([[255.25, -255.25]]))


def test_a_plane_is_reproduced_everywhere_away_from_its_seam() -> None:
    raster = numbered()
    generator = torch.Generator().manual_seed(0)
    lonlat = torch.rand(500, 2, generator=generator) * torch.tensor([329.0, 149.0])
    lonlat -= torch.tensor([164.5, 74.5])
    plane = (75 - lonlat[:, 1]) / 30 * 100 + (lonlat[:, 0] + 165) / 30
    torch.testing.assert_close(raster.sample(lonlat)[:, 0], plane, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("longitude", [180.0, -180.0, 540.0, -180.000001])
def test_samples_wrap_at_the_date_line(longitude: float) -> None:
    # Half way between column 11 and column 0 of the first row.
    value = numbered().sample(torch.tensor([[longitude, 75.0]], dtype=torch.float64))
    torch.testing.assert_close(value[0, 0], torch.tensor(5.5), atol=1e-4, rtol=0)


def test_beyond_the_last_row_its_values_hold() -> None:
    value = numbered().sample(torch.tensor([[-165.0, 90.0], [-165.0, -90.0]]))
    torch.testing.assert_close(value[:, 0], torch.tensor([0.0, 500.0]))


def test_an_odd_patch_is_centred_on_its_pixel_with_north_up_and_east_right() -> None:
    patch = numbered().patches(torch.tensor([[-10.0, 10.0]]), 3)[0, 0]
    assert patch.tolist() == [[104, 105, 106], [204, 205, 206], [304, 305, 306]]


def test_an_even_patch_has_the_point_within_half_a_pixel_of_its_middle() -> None:
    columns, rows = torch.arange(360).expand(180, 360), torch.arange(180)[:, None].expand(180, 360)
    raster = Raster(torch.stack([columns, rows]), -179.5, 89.5, 1, 1)
    generator = torch.Generator().manual_seed(0)
    lonlat = (torch.rand(200, 2, generator=generator) - 0.5) * torch.tensor([300.0, 100.0])
    middle = raster.patches(lonlat, 4).mean(dim=(2, 3))
    point = torch.stack([lonlat[:, 0] + 179.5, 89.5 - lonlat[:, 1]], dim=1)
    away = (middle - point).abs().max().item()
    assert away <= 0.5 + 1e-4, f"a point is {away} pixels from the middle of its patch"


def test_patches_wrap_at_the_date_line() -> None:
    patch = numbered().patches(torch.tensor([[179.0, 15.0]]), 3)[0, 0]
    assert patch[1].tolist() == [210, 211, 200]


def test_patches_repeat_the_last_row_at_the_poles() -> None:
    north, south = numbered().patches(torch.tensor([[-135.0, 89.0], [-135.0, -89.0]]), 3)[:, 0]
    assert north[0].tolist() == north[1].tolist() == [0, 1, 2]
    assert south[2].tolist() == south[1].tolist() == [500, 501, 502]


def test_scale_and_offset_are_applied_to_all_ways_of_reading() -> None:
    values = torch.full((1, 2, 4), 200, dtype=torch.uint8)
    raster = Raster(values, -135, 45, 90, 90, scale=0.5, offset=-10)
    lonlat = torch.tensor([[12.3, 45.6]])
    for read in (raster.sample(lonlat), raster.nearest(lonlat), raster.patches(lonlat, 2)):
        assert read.dtype == torch.float32
        assert read.unique().tolist() == [90.0]


def test_a_patch_is_contiguous_so_that_it_can_be_viewed() -> None:
    assert numbered().patches(torch.zeros(5, 2), 4).is_contiguous()


def test_to_keeps_everything_but_the_device() -> None:
    raster = Raster(torch.ones(1, 2, 4), -135, 45, 90, 90, scale=2, offset=1)
    moved = raster.to("meta")
    assert moved.values.device.type == "meta"
    assert (moved.scale, moved.offset, moved.lon0) == (2, 1, -135)


@pytest.mark.parametrize(
    ("shape", "dlon", "message"),
    [((4, 8), 45, "shape"), ((1, 4, 8), 40, "360 / "), ((1, 4, 8), -45, "360 / ")],
)
def test_a_raster_that_is_not_global_is_refused(
    shape: tuple[int, ...], dlon: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Raster(torch.zeros(shape), 0, 0, dlon, 45)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_reads_the_same_values() -> None:
    raster, lonlat = numbered(), (torch.rand(100, 2) - 0.5) * torch.tensor([359.0, 179.0])
    on_gpu = raster.to("cuda")
    torch.testing.assert_close(on_gpu.sample(lonlat.cuda()).cpu(), raster.sample(lonlat))
    assert on_gpu.patches(lonlat.cuda(), 4).cpu().equal(raster.patches(lonlat, 4))
