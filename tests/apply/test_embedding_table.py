"""A table of embeddings is an encoder: the nearest place, its numbers, and what is refused."""

import re

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command import run_here
from coordinates import check_coordinates

import locties
from locties.apply.embedding_table import ALPHAEARTH, EmbeddingTable, is_table
from locties.apply.metadata import describe
from locties.evaluation import Task, contender, evaluate
from locties.lonlat import distance_km

RNG = np.random.default_rng(0)
LONLAT = RNG.uniform([5, 45], [15, 55], (200, 2))
PLACES = pd.DataFrame(LONLAT, columns=["lon", "lat"])
CODES = RNG.integers(-127, 128, (200, 64)).astype(np.int8)


def beside(values, names, **more) -> pd.DataFrame:
    return pd.concat([PLACES, pd.DataFrame(values, columns=names), pd.DataFrame(more)], axis=1)


def numbered(dim: int, stem: str = "e") -> list[str]:
    return [f"{stem}{number}" for number in range(dim)]


NORMAL = RNG.normal(size=(200, 4)).astype(np.float32)
FLOATS = beside(NORMAL, numbered(4))
QUANTISED = beside(CODES, numbered(64), scale=np.linspace(0.01, 0.02, 200))


# ------------------------------------------------------------------------------------- as encoder


def test_a_table_made_by_embed_scores_like_its_encoder(tmp_path):
    PLACES.join(locties.embed("clip", PLACES)).to_parquet(tmp_path / "clip.parquet")
    north = Task("north", LONLAT, LONLAT[:, 1] + RNG.normal(size=200))
    quick = {"labels": "all", "splits": "block"}
    expected = evaluate("clip", north, **quick)
    found = evaluate(str(tmp_path / "clip.parquet"), north, **quick)
    assert set(found["encoder"]) == {"clip.parquet"}
    pd.testing.assert_frame_equal(found.drop(columns="encoder"), expected.drop(columns="encoder"))
    joined = evaluate(f"xyz+{tmp_path}/clip.parquet", north, probes="knn", **quick)
    again = evaluate("xyz+clip", north, probes="knn", **quick)
    assert set(joined["encoder"]) == {"xyz+clip.parquet"}
    np.testing.assert_array_equal(joined["value"], again["value"])


def test_a_place_gets_the_embedding_of_the_nearest_place():
    table = EmbeddingTable(FLOATS, within_km=400)
    points = torch.tensor(RNG.uniform([5, 45], [15, 55], (50, 2)))
    nearest = distance_km(points[:, None], torch.tensor(LONLAT)[None]).argmin(1)
    assert torch.equal(table(points), torch.tensor(NORMAL)[nearest])
    assert table.dim == 4


def test_the_nearest_place_can_lie_across_the_date_line():
    frame = pd.DataFrame({"lon": [179.9, 170.0], "lat": [0.0, 0.0], "e0": [0.5, 7], "e1": [1, 2]})
    assert EmbeddingTable(frame, within_km=30)([[-179.9, 0.0]]).tolist() == [[0.5, 1.0]]


def test_coordinates_are_read_by_name_and_masked_ones_refused():
    check_coordinates(EmbeddingTable(FLOATS, within_km=20_100))


def test_a_table_has_a_name_and_a_hash():
    table, other = EmbeddingTable(FLOATS), EmbeddingTable(FLOATS.assign(e0=FLOATS["e0"] + 1e-3))
    found = describe(table)
    assert found["encoder"] == "the table"
    assert found["weights_sha256"] == describe(EmbeddingTable(FLOATS.copy()))["weights_sha256"]
    assert found["weights_sha256"] != describe(other)["weights_sha256"]


@pytest.mark.slow
def test_a_map_is_fitted_on_a_table():
    north = Task("north", LONLAT, NORMAL[:, 0] + RNG.normal(scale=0.1, size=200))
    fitted = locties.fit_map(EmbeddingTable(FLOATS), north, progress=False)
    assert fitted.chosen.startswith("the table, ridge")
    assert fitted.metadata["weights_sha256"] == describe(EmbeddingTable(FLOATS))["weights_sha256"]
    with pytest.raises(ValueError, match=r"\(60, 0\), which is \d+ km away.*bounds of a map"):
        fitted.predict([[60.0, 0.0]])


# ---------------------------------------------------------------------------------------- numbers


def test_tessera_multiplies_by_the_scale_of_each_row():
    expected = CODES.astype(np.float32) * QUANTISED["scale"].to_numpy(np.float32)[:, None]
    np.testing.assert_array_equal(EmbeddingTable(QUANTISED)(LONLAT).numpy(), expected)
    by_axis = RNG.uniform(0.01, 0.02, (200, 64)).astype(np.float32)
    lists = PLACES.assign(embedding=list(CODES), scales=list(by_axis))
    np.testing.assert_array_equal(EmbeddingTable(lists)(LONLAT).numpy(), CODES * by_axis)


def test_alphaearth_squares_and_keeps_the_sign():
    """(v / 127.5)^2 with the sign of v, in float64 as the oracle."""
    table = EmbeddingTable(beside(CODES, ALPHAEARTH))
    v = CODES.astype(np.float64)
    expected = np.sign(v) * (v / 127.5) ** 2
    np.testing.assert_allclose(table(LONLAT).numpy(), expected, rtol=1e-6)


def test_alphaearth_already_in_floats_stays_as_it_is():
    unit = RNG.normal(size=(200, 64)) / 8
    table = EmbeddingTable(beside(unit, ALPHAEARTH))
    np.testing.assert_array_equal(table(LONLAT).numpy(), unit.astype(np.float32))


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (QUANTISED, np.int8),
        (QUANTISED.astype(dict.fromkeys(numbered(64), "int64")), np.int8),
        (QUANTISED.astype(dict.fromkeys(numbered(64), "Int16")), np.int8),
        (QUANTISED.assign(e0=300), np.int16),
        (beside(NORMAL.astype(np.float16), numbered(4)), np.float16),
        (beside(NORMAL.astype(np.float64), numbered(4)), np.float32),
    ],
)
def test_numbers_are_kept_small(frame, kept):
    table = EmbeddingTable(frame)
    assert table._values.dtype == kept
    assert table(LONLAT).dtype == torch.float32


@pytest.mark.parametrize("kind", ["int8", "halffloat", "float", "double"])
@pytest.mark.parametrize("fixed", [True, False])
def test_a_parquet_column_of_lists_is_read(tmp_path, kind, fixed):
    arrow = pa.type_for_alias(kind)
    rows = (CODES[:, :4] if kind == "int8" else NORMAL.astype(np.float16)).tolist()
    lists = pa.array(rows, pa.list_(arrow, 4) if fixed else pa.list_(arrow))
    columns = {"lon": LONLAT[:, 0], "lat": LONLAT[:, 1], "embedding": lists, "scale": [1.0] * 200}
    pq.write_table(pa.table(columns), tmp_path / "lists.parquet")
    table = EmbeddingTable(tmp_path / "lists.parquet")
    assert table(LONLAT).tolist() == rows


def test_points_of_a_geoparquet_in_metres_are_converted(tmp_path):
    points = geopandas.points_from_xy(*LONLAT.T, crs=4326)
    frame = geopandas.GeoDataFrame(FLOATS.drop(columns=["lon", "lat"]), geometry=points)
    frame.to_crs(3857).to_parquet(tmp_path / "metres.parquet")
    table = contender(tmp_path / "metres.parquet")
    np.testing.assert_array_equal(table(torch.tensor(LONLAT)).numpy(), NORMAL)


# ---------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    "more",
    [
        {"id": range(200), "ph": 1.0, "x1": 3.0},
        {"name": "a", "year2020": 1, "year2021": 2},
        {"pm10": 1.0, "pm25": 2.0},
        {"e_mean": 1.0, "label": [0, 1] * 100, "scale": 2.0},
    ],
)
@pytest.mark.parametrize("stem", ["e", "A0", "", "melt_00", "axis.", "v-"])
def test_numbered_columns_are_the_embedding_and_no_others(more, stem):
    frame = beside(NORMAL, numbered(4, stem)).assign(**more)
    shuffled = frame[RNG.permutation(frame.columns)]
    np.testing.assert_array_equal(EmbeddingTable(shuffled)(LONLAT).numpy(), NORMAL)


def test_columns_are_in_the_order_of_their_numbers():
    values = RNG.normal(size=(200, 12)).astype(np.float32)
    frame = beside(values, [f"e{number}" for number in range(1, 13)])
    np.testing.assert_array_equal(EmbeddingTable(frame[sorted(frame)])(LONLAT).numpy(), values)


def test_names_of_columns_can_be_given_or_be_numbers():
    frame = FLOATS.assign(month1=0.5, month2=1.0)
    table = EmbeddingTable(frame, columns=["e2", "e0"])
    np.testing.assert_array_equal(table(LONLAT).numpy(), NORMAL[:, [2, 0]])
    unnamed = pd.concat([PLACES, pd.DataFrame(NORMAL)], axis=1)
    np.testing.assert_array_equal(EmbeddingTable(unnamed)(LONLAT).numpy(), NORMAL)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (PLACES.assign(id=range(200), ph=1.0), r"among lon, lat, id, ph: number them.*columns=\["),
        (FLOATS.assign(month1=0.5, month2=1.0), r"e0 to e3 or month1 to month2: .*columns=\["),
        (FLOATS.assign(list=[[1.0, 2.0]] * 200), r"list or e0 to e3"),
        (FLOATS.drop(columns="e2"), r"e0 to e3 .*number 2 is missing.*columns=\["),
        (FLOATS.assign(e2="text"), r"number 2 .*holds no numbers"),
        (beside(CODES, numbered(64)), r"whole numbers from -127 to 127.*'scale'.*assign\(scale=1"),
        (beside(CODES[:, :63], ALPHAEARTH[:63]), "whole numbers from -127 to 127"),
        (beside(CODES.astype(int) * 2, ALPHAEARTH), "whole numbers from -254 to 254"),
        (QUANTISED.assign(Scales=1.0), "scale and Scales could be the scale: drop one"),
        (QUANTISED.assign(scale=[[1.0, 2.0]] * 200), "2 numbers a row: give 1.* 64 values"),
        (pd.concat([FLOATS, FLOATS.assign(e0=0.5)]), "several embeddings.* 200 rows.*year"),
        (FLOATS.iloc[:0], "no row"),
        (FLOATS.assign(e0=np.nan), "200 of 200 rows .*not finite"),
        (FLOATS.rename(columns={"lon": "east"}), r"no column 'lon'.*Rename one column 'lon' "),
        (FLOATS.assign(Longitude=1.0), r"lon, Longitude\. Rename .* drop others"),
    ],
)
def test_what_is_not_clear_is_refused(frame, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingTable(frame)


def test_the_remedies_for_a_file_work(tmp_path):
    path = tmp_path / "two.parquet"
    for frame in (
        FLOATS.assign(month1=0.5, month2=1.0),
        beside(CODES, numbered(64)),
    ):
        frame.to_parquet(path)
        with pytest.raises(ValueError, match="python -c") as error:
            contender(str(path))
        [command] = re.findall(r"python -c .*", str(error.value))
        run_here(command)
        assert contender(str(tmp_path / "two_new.parquet")).dim == len(frame.columns) - 2 - 2 * (
            "month1" in frame
        )


def test_a_repeated_row_is_no_fault():
    table = EmbeddingTable(pd.concat([FLOATS, FLOATS.iloc[::-1]]))
    np.testing.assert_array_equal(table(LONLAT).numpy(), NORMAL)


# ------------------------------------------------------------------------------------------- rows


def test_rows_without_an_embedding_are_named_and_can_be_dropped(tmp_path):
    values = NORMAL.copy()
    values[[3, 7], 1] = np.nan, np.inf
    frame = beside(values, numbered(4))
    with pytest.raises(ValueError, match=r"2 of 200 rows of the table.*rows 3, 7.*invalid='drop'"):
        EmbeddingTable(frame)
    with pytest.warns(UserWarning, match="rows 3, 7"):
        table = EmbeddingTable(frame, invalid="drop", within_km=0)
    with pytest.raises(ValueError, match="2 of 200 places"):
        table(LONLAT)
    frame.to_parquet(tmp_path / "gaps.parquet")
    for name in (str(tmp_path / "gaps.parquet"), tmp_path / "gaps.parquet"):
        with pytest.raises(ValueError, match=r"rows 3, 7.*EmbeddingTable\(.*, invalid='drop'\)"):
            contender(name)
        with pytest.warns(UserWarning, match="rows 3, 7"):
            contender(name, invalid="drop")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (beside(np.where(np.arange(200)[:, None] == 5, -128, CODES), ALPHAEARTH), r"-128\): row 5"),
        (QUANTISED.assign(scale=QUANTISED["scale"].where(PLACES.index != 5)), "scale is .*: row 5"),
        (QUANTISED.assign(e3=QUANTISED["e3"].where(PLACES.index != 5)), "embedding .*: row 5"),
        (PLACES.assign(e=[[0.5] * (3 - (i == 5)) for i in range(200)]), "'e' has not 3 .*: row 5"),
        (FLOATS.assign(lat=FLOATS["lat"].where(PLACES.index != 5)), "missing: row 5"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(frame, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingTable(frame)


# --------------------------------------------------------------------------------------- distance


@pytest.mark.parametrize("step", [0.25, 1.0])
def test_by_default_a_grid_is_covered_between_its_points_and_not_beyond(step):
    lon, lat = np.meshgrid(np.arange(0, 20, step), np.arange(40, 60, step))
    grid = pd.DataFrame({"lon": lon.ravel(), "lat": lat.ravel()})
    table = EmbeddingTable(grid.assign(e0=grid["lon"] + 0.5, e1=grid["lat"]))
    inside = RNG.uniform([0, 40], [20 - step, 60 - step], (500, 2))
    with pytest.warns(UserWarning, match=r"not in the table .*nearest place, up to .*within_km="):
        found = table(inside)
    assert (np.abs(found.numpy() - [0.5, 0] - inside) <= step).all()
    with pytest.raises(ValueError, match=r"95% of its places have a neighbour.*EmbeddingTable"):
        table([[10.0, 60.0 + step]])


@pytest.mark.filterwarnings("error")
def test_a_distance_can_be_given():
    assert len(EmbeddingTable(FLOATS)(LONLAT)) == 200, "no warning: all are in the table"
    assert len(EmbeddingTable(FLOATS, within_km=1)(LONLAT + 1e-3)) == 200
    table = EmbeddingTable(FLOATS, within_km=0)
    np.testing.assert_array_equal(table(LONLAT).numpy(), NORMAL)
    with pytest.raises(ValueError, match=r"further than 0 km .*within_km="):
        table(LONLAT + 1e-3)
    with pytest.raises(ValueError, match="within_km=-1"):
        EmbeddingTable(FLOATS, within_km=-1)
    assert EmbeddingTable(FLOATS[:1]).within_km == 0


def test_a_name_is_a_table_by_its_ending(tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    assert is_table("a.parquet")
    assert is_table("a.csv.gz")
    assert not is_table("melt")
    assert not is_table(tmp_path / "folder.parquet")
    with pytest.raises(OSError, match=r"there is no file 'none\.parquet'"):
        contender("none.parquet")
