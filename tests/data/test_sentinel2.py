"""S2-100K: the chips in its shards."""

import numpy as np
import pytest
from s2_files import dataset, pixels, tiff, write_index

from locties.data import sentinel2
from locties.data.manifest import DataError
from locties.data.sentinel2 import Chips, true_colour


@pytest.fixture
def data(tmp_path):
    return dataset(tmp_path)


def start():
    return {"position": []}


def test_chips_are_read_in_order_and_problems_named(data):
    found = list(Chips(*data).items(start()))
    assert [item.after for item in found] == [[0, i + 1] for i in range(7)] + [
        [1, i + 1] for i in range(6)
    ]
    assert np.array_equal(found[2].content, pixels(2))
    assert found[2].row == 10
    problems = {item.name: item.problem for item in found if item.content is None}
    assert problems.pop("patch_10.tif").startswith("cannot be read: ")
    assert problems == {
        "patch_5.tif": "has 5 bytes, fewer than 10,000",
        "stranger.tif": "is not in the index",
        "patch_11.tif": "has (bands, height, width, type) (3, 256, 256, 'uint16'), "
        "not 12, 256, 256, uint16",
    }


def test_chips_go_on_after_a_position(data):
    whole = [item.name for item in Chips(*data).items(start())]
    shards = start()
    next(Chips(*data).items(shards))
    rest = [item.name for item in Chips(*data).items(shards | {"position": [0, 5]})]
    assert rest == whole[5:]


def test_a_shard_is_asked_for_only_when_the_one_before_is_read(data, monkeypatch):
    asked = []
    obtain = sentinel2.obtain
    monkeypatch.setattr(sentinel2, "obtain", lambda a: (asked.append(a[-11:]), obtain(a))[1])
    stream = Chips(*data).items(start())
    for _ in range(7):
        next(stream)
    assert asked[1:] == ["shard-0.tar"], "after the index"


def test_a_folder_of_chips_is_read_with_the_index_in_it(tmp_path):
    write_index(tmp_path / "index.csv", {"b.tif": (1, 2), "a.tif": (3, 4)})
    for number, name in enumerate(("b.tif", "a.tif", "c.tif")):
        (tmp_path / name).write_bytes(tiff(number))
    chips, manifest = Chips([tmp_path]), start()
    found = {item.name: item for item in chips.items(manifest)}
    assert list(found) == ["a.tif", "b.tif", "c.tif"]
    assert np.array_equal(found["b.tif"].content, pixels(0))
    assert found["c.tif"].problem == "is not in the index"
    assert [found[name].row for name in chips.index.names] == [0, 1]
    (tmp_path / "a.tif").write_bytes(tiff(5))
    with pytest.raises(DataError, match="has changed since its first chips were read"):
        next(Chips([tmp_path]).items(manifest))


def test_shards_without_an_index_are_refused(data):
    with pytest.raises(ValueError, match=r"shard-0.tar is not a folder with index.csv: pass index"):
        Chips(data[0])


def test_true_colour_is_red_green_and_blue_up_to_a_reflectance_of_0_3():
    chip = np.zeros((12, 1, 2), np.uint16)
    chip[3, 0], chip[2, 0], chip[1, 0] = [3000, 12_000], [1500, 1500], [0, 30]
    assert true_colour(chip).tolist() == [[[255, 127, 0], [255, 127, 2]]]
