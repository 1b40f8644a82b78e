"""S2-100K: its index, and the chips in its shards."""

import numpy as np
import pytest
import torch
from s2_files import dataset, pixels, write_index

from locties.data.manifest import DataError
from locties.data.sentinel2 import chips, read_index, satclip_chip


@pytest.fixture
def data(tmp_path):
    return dataset(tmp_path)


def test_index_gives_longitude_first(tmp_path):
    index = read_index(write_index(tmp_path / "index.csv", {"a.tif": (13.4, 52.5)}))
    assert index.names == ("a.tif",)
    assert index.lonlat.tolist() == [[13.4, 52.5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fn,lat\na.tif,1\n", "has no column lon"),
        ("", "has no column fn, lat, lon"),
        ("fn,lon,lat\n", "holds no chip"),
        ("fn,lon,lat\na,1,2\nb,1,north\n", "line 3 has lon '1' and lat 'north'"),
        ("fn,lon,lat\na,1,2\nb,1\n", "line 3 has lon '1' and lat None"),
        ("fn,lon,lat\na,12,100\n", "line 2 has lon '12' and lat '100'"),
        ("fn,lon,lat\na,1,2\na,3,4\n", "line 3 names the chip 'a', as does line 2"),
        ("fn,lon,lat\n\xff", "is not a CSV file"),
    ],
)
def test_a_damaged_index_names_the_line(tmp_path, text, message):
    (tmp_path / "index.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_index(tmp_path / "index.csv")


def test_chips_are_read_in_order_and_problems_named(data):
    shards, index = data
    found = list(chips(shards, read_index(index)))
    assert [(c.shard, c.member) for c in found] == [(0, i) for i in range(7)] + [
        (1, i) for i in range(6)
    ]
    assert np.array_equal(found[2].pixels, pixels(2))
    assert found[2].row == 10
    problems = {c.name: c.problem for c in found if c.pixels is None}
    assert problems.pop("patch_10.tif").startswith("cannot be read: ")
    assert problems == {
        "patch_5.tif": "has 5 bytes, fewer than 10,000",
        "stranger.tif": "is not in the index",
        "patch_11.tif": "has (bands, height, width, type) (3, 256, 256, 'uint16'), "
        "not 12, 256, 256, uint16",
    }


def test_a_shard_is_asked_for_only_when_the_one_before_is_read(data):
    shards, index = data
    asked = []

    def ask():
        for path in shards:
            asked.append(path.name)
            yield path

    stream = chips(ask(), read_index(index))
    for _ in range(7):
        next(stream)
    assert asked == ["shard-0.tar"]


def test_satclip_recipe_scales_and_puts_zeros_in_place_of_b10():
    made = satclip_chip(torch.from_numpy(pixels(4).astype(np.int32)))
    assert made.shape == (13, 256, 256)
    assert made.dtype == torch.float32
    assert (made[10] == 0).all()
    assert np.allclose(made[9].numpy(), pixels(4)[9] / 10_000)
    assert np.allclose(made[11].numpy(), pixels(4)[10] / 10_000)
