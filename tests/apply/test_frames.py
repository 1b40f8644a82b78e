"""Embedding tables: whose rows, under which names, and what is refused."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import torch

import locties
from locties.apply.grid import POINTS_PER_CHUNK

LONLAT = np.array([[13.4, 52.5], [2.35, 48.86], [-70.6, -33.4], [179.9, -16.5]])


def small(seed: int = 0) -> locties.LocationEncoder:
    return locties.LocationEncoder("xyz", "mlp", 6, network_options={"hidden": 8}, seed=seed)


def table() -> pd.DataFrame:
    index = pd.Index(["Berlin", "Paris", "Santiago", "Fiji"], name="place")
    return pd.DataFrame(LONLAT, index, ["lon", "lat"]).assign(y=[1, 2, 3, 4])


def points(crs: str | int = 4326) -> geopandas.GeoDataFrame:
    geometry = geopandas.points_from_xy(*LONLAT.T, crs=4326)
    return geopandas.GeoDataFrame(table()[["y"]], geometry=geometry).to_crs(crs)


def expected(encoder: locties.LocationEncoder) -> np.ndarray:
    return encoder(LONLAT).detach().numpy()


def test_each_row_gets_the_embedding_of_its_place():
    result = locties.embed(small(), table())
    np.testing.assert_allclose(result.to_numpy(), expected(small()), atol=1e-6)
    assert list(result.columns) == [f"embedding_00{i}" for i in range(6)]
    assert (result.dtypes == np.float32).all()
    pd.testing.assert_index_equal(result.index, table().index)
    assert table().join(result).shape == (4, 9)


def test_other_columns_can_be_named():
    frame = table().rename(columns={"lon": "x", "lat": "y2"})
    result = locties.embed(small(), frame, lon="x", lat="y2")
    np.testing.assert_allclose(result.to_numpy(), expected(small()), atol=1e-6)


@pytest.mark.parametrize("crs", [4326, 3857, "ESRI:54030", 4269, "OGC:CRS84"])
def test_points_in_any_crs_are_the_same_places(crs):
    for frame in (points(crs), points(crs).geometry, points(crs).rename_geometry("where")):
        result = locties.embed(small(), frame)
        np.testing.assert_allclose(result.to_numpy(), expected(small()), atol=1e-4)
        pd.testing.assert_index_equal(result.index, table().index)


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, lambda x: torch.tensor(x).half()])
def test_arrays_are_taken_too(make):
    given = make(LONLAT.round(0))
    result = locties.embed(small(), given)
    here = small()(LONLAT.round(0)).detach().numpy()
    np.testing.assert_allclose(result.to_numpy(), here, atol=1e-3)
    assert list(result.index) == [0, 1, 2, 3]


def test_an_encoder_is_a_name_a_folder_an_encoder_or_a_function(tmp_path):
    small(3).save(tmp_path / "mine")
    for encoder, name in (
        (tmp_path / "mine", "mine"),
        (str(tmp_path / "mine"), "mine"),
        (small(3), "embedding"),
        (lambda lonlat: small(3)(lonlat), "embedding"),
    ):
        result = locties.embed(encoder, table())
        assert result.columns[5] == f"{name}_005"
        np.testing.assert_allclose(result.to_numpy(), expected(small(3)), atol=1e-6)
    assert locties.embed("melt", table()).columns[-1] == "melt_255"


def test_attrs_say_what_the_numbers_are_and_survive_parquet(tmp_path):
    encoder = small()
    encoder.origin = {"model": "small", "licence": "CC0"}
    encoder.save(tmp_path / "mine")
    sha256 = (tmp_path / "mine" / "config.json").read_text().split('"sha256": "')[1][:64]
    result = locties.embed(encoder, table())
    assert result.attrs == {
        "encoder": "small",
        "weights_sha256": sha256,
        "licence": "CC0",
        "crs": "EPSG:4326",
        "locties": locties.__version__,
    }
    assert locties.embed(tmp_path / "mine", table()).attrs == {**result.attrs, "encoder": "mine"}
    result.to_parquet(tmp_path / "embedded.parquet")
    assert pd.read_parquet(tmp_path / "embedded.parquet").attrs == result.attrs
    function = locties.embed(lambda lonlat: lonlat, table()).attrs
    assert function["licence"] == "not stated"
    assert "weights_sha256" not in function


def test_memory_is_bounded_by_chunks_that_do_not_change_the_result():
    sizes = []

    def encoder(lonlat: torch.Tensor) -> torch.Tensor:
        sizes.append(len(lonlat))
        return lonlat

    lonlat = np.random.default_rng(0).uniform([-180, -90], [180, 90], (2 * POINTS_PER_CHUNK + 5, 2))
    result = locties.embed(encoder, lonlat)
    np.testing.assert_array_equal(result.to_numpy(), lonlat.astype(np.float32))
    assert sizes == [POINTS_PER_CHUNK, POINTS_PER_CHUNK, 5]


def test_a_module_in_training_is_used_in_eval_mode_and_given_back_in_training():
    encoder = torch.nn.Sequential(torch.nn.Dropout(0.5)).train()
    result = locties.embed(encoder, table())
    np.testing.assert_array_equal(result.to_numpy(), LONLAT.astype(np.float32))
    assert encoder.training


def test_an_empty_table_gives_an_empty_one_with_its_columns():
    assert locties.embed(small(), table().iloc[:0]).shape == (0, 6)


def test_a_path_is_read_as_the_table_it_names(tmp_path):
    table().to_csv(tmp_path / "points.csv", index=False)
    points().to_parquet(tmp_path / "points.parquet")
    for file in (tmp_path / "points.csv", str(tmp_path / "points.parquet")):
        np.testing.assert_allclose(locties.embed(small(), file), expected(small()), atol=1e-5)
    with pytest.raises(OSError, match=r"'no\.csv'"):
        locties.embed(small(), "no.csv")


REPEATED = {
    "concat": pd.concat([table(), table().iloc[::-1]]),
    "one label": table().set_index(pd.Index([7, 7, 7, 7])),
    "several levels": table().set_index([pd.Index(["a", "a", "b", "b"]), pd.Index([1, 1, 1, 2])]),
    "explode": table().assign(of=[[1, 2], [3], [4], [5]]).explode("of"),
    "missing labels": table().set_index(pd.Index([1.0, np.nan, np.nan, 2.0])),
    "points": points().iloc[[0, 1, 1]],
    "geometry": points().geometry.iloc[[0, 0]],
    "once unusable": pd.concat([table(), table().iloc[:1].assign(lat=np.nan)]),
}


@pytest.mark.parametrize("frame", REPEATED.values(), ids=REPEATED)
@pytest.mark.parametrize("invalid", ["raise", "drop"])
@pytest.mark.filterwarnings("ignore:1 of 5 rows cannot be used")
def test_a_repeated_index_is_refused_and_its_remedy_pairs_rows_rightly(frame, invalid):
    with pytest.raises(ValueError, match=r"repeats (?!np\.).*reset_index\(drop=True\)"):
        locties.embed(lambda lonlat: lonlat, frame, invalid=invalid)
    mended = frame.reset_index(drop=True)
    if invalid == "raise" and frame is REPEATED["once unusable"]:
        return
    result = locties.embed(lambda lonlat: lonlat, mended, invalid=invalid)
    if hasattr(frame, "lon"):
        joined = mended.join(result, how="right")
        np.testing.assert_allclose(joined[["lon", "lat"]], joined[result.columns], rtol=1e-6)


@pytest.mark.parametrize("method", ["map_partitions", "map_batches"])
def test_a_frame_in_partitions_is_refused_with_how_to_embed_each(method):
    partitioned = type("Partitioned", (), {method: None})()
    with pytest.raises(ValueError, match=r"Partitioned is in partitions.*map_partitions"):
        locties.embed(small(), partitioned)


def test_longitudes_are_wrapped():
    wrapped = locties.embed(small(), np.array([[190.0, 5.0]]))
    pd.testing.assert_frame_equal(wrapped, locties.embed(small(), np.array([[-170.0, 5.0]])))


# -------------------------------------------------------------------------------- what is refused


def with_missing() -> pd.DataFrame:
    frame = table()
    frame.loc["Paris", "lat"] = np.nan
    return frame


@pytest.mark.parametrize("kind", ["frame", "points", "array"])
def test_rows_without_a_place_are_left_out_when_asked(kind):
    frame = with_missing()
    if kind == "points":
        frame = points().set_geometry([*points().geometry[:1], None, *points().geometry[2:]])
    elif kind == "array":
        frame = frame[["lon", "lat"]].to_numpy()
    with pytest.warns(UserWarning, match="1 of 4 rows cannot be used.*missing: row 1. They are"):
        result = locties.embed(small(), frame, invalid="drop")
    kept = [0, 2, 3]
    np.testing.assert_allclose(result.to_numpy(), expected(small())[kept], atol=1e-6)
    names = range(4) if kind == "array" else table().index
    assert list(result.index) == [names[row] for row in kept]
    assert result.attrs["crs"] == "EPSG:4326"
    if kind == "frame":
        assert frame.join(result, how="right").notna().all(axis=None)


def test_no_row_left_is_an_empty_table():
    with pytest.warns(UserWarning, match="4 of 4 rows cannot be used"):
        result = locties.embed(small(), table().assign(lat=np.nan), invalid="drop")
    assert result.shape == (0, 6)


def test_what_to_do_with_rows_is_checked():
    with pytest.raises(ValueError, match="invalid 'skip'"):
        locties.embed(small(), table(), invalid="skip")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (
            with_missing(),
            r"1 of 4 rows cannot be used.*header\)\. Longitude or latitude is missing: row 1\.",
        ),
        (with_missing(), r"row 0 is.*pass invalid='drop'"),
        (table().assign(lat=[52.5, 99, 48, 3]), "latitude is outside|could be a longitude"),
        (table().rename(columns={"lon": "east"}), "no column 'lon'.*Pass lon="),
        (table().rename(columns={"lon": "x", "lat": "y2"}), "Pass lon='x'"),
        (table().assign(Longitude=1.0), "several columns could be the lon: lon, Longitude"),
        (table().assign(lon="13,4"), "decimal comma"),
        (table() * 100_000, "seem to be projected, in metres"),
        (LONLAT * 100_000, "pyproj.Transformer"),
        (points().set_crs(None, allow_override=True), "has no CRS"),
        (points(3857).set_crs(4326, allow_override=True), "seem to be projected"),
        (points().set_crs(3857, allow_override=True), "all coordinates.*seem to be"),
        (points(3857).set_geometry(points(3857).buffer(9)), "geometries are not points"),
        (points().set_geometry([shapely.Point(), *points().geometry[1:]]), "geometry is missing"),
        (LONLAT[:, 0], r"shape \(4,\); pass shape \(N, 2\)"),
        (np.ones((4, 3)), r"shape \(4, 3\); pass shape \(N, 2\)"),
        (LONLAT + 1j, "complex.*longitude then latitude"),
    ],
)
def test_what_is_no_place_is_refused_with_what_to_do(frame, said):
    with pytest.raises(ValueError, match=said):
        locties.embed(small(), frame)


def test_swapped_columns_are_refused_with_how_to_swap_them():
    asia = pd.DataFrame({"lon": [35.7, 39.9, -33.9], "lat": [139.7, 116.4, 151.2]})
    with pytest.raises(ValueError, match=r"seem to be swapped; pass lon='lat', lat='lon'"):
        locties.embed(small(), asia)
    with pytest.raises(ValueError, match=r"seem to be swapped; pass array\[:, ::-1\]"):
        locties.embed(small(), asia.to_numpy())
    right = locties.embed(small(), asia, lon="lat", lat="lon")
    np.testing.assert_array_equal(right, locties.embed(small(), asia.to_numpy()[:, ::-1]))


def test_an_encoder_that_is_none_is_refused():
    with pytest.raises(FileNotFoundError, match="melt-huge"):
        locties.embed("melt-huge", table())
    with pytest.raises(ValueError, match=r"int is not an encoder.*'melt'"):
        locties.embed(3, table())
    with pytest.raises(ValueError, match=r"DataFrame is not an encoder.*first argument"):
        locties.embed(table(), "melt")
    with pytest.raises(ValueError, match=r"returned shape \(4,\) for 4 points"):
        locties.embed(lambda lonlat: lonlat[:, 0], table())


def seasonal() -> locties.LocationEncoder:
    return locties.LocationEncoder("xyz", "mlp", 6, network_options={"hidden": 8}, time="month")


MONTHS = [1, 7, 12, 2]
DATES = ["2024-01-31", "2023-07-01", "1969-12-31", "2000-02-29"]
AS_COLUMNS = {
    "numbers": MONTHS,
    "floats": [1.0, 7.0, 12.0, 2.0],
    "dates": pd.to_datetime(DATES),
    "periods": pd.PeriodIndex(DATES, freq="M"),
    "dates as text": DATES,
    "months as text": [date[:7] for date in DATES],
    "times as text": [f"{date}T23:59:59Z" for date in DATES],
}


@pytest.mark.parametrize("column", AS_COLUMNS.values(), ids=AS_COLUMNS)
def test_each_row_gets_the_embedding_of_its_month(column: object) -> None:
    encoder = seasonal()
    wanted = encoder(LONLAT, MONTHS).detach().numpy()
    named = table().assign(when=column)
    np.testing.assert_allclose(locties.embed(encoder, named, month="when"), wanted, atol=1e-6)
    guessed = table().assign(Month=column)
    np.testing.assert_allclose(locties.embed(encoder, guessed), wanted, atol=1e-6)


def test_months_may_stand_beside_the_table() -> None:
    encoder = seasonal()
    each = locties.embed(encoder, LONLAT, month=MONTHS)
    np.testing.assert_allclose(each, encoder(LONLAT, MONTHS).detach().numpy(), atol=1e-6)
    columns = {"lon": LONLAT[:, 0], "lat": LONLAT[:, 1], "month": MONTHS}
    np.testing.assert_array_equal(locties.embed(encoder, columns), each)
    assert locties.embed(encoder, points().assign(month=MONTHS)).to_numpy() == pytest.approx(
        each.to_numpy(), abs=1e-5
    )
    july = locties.embed(encoder.in_month(7), table())
    pd.testing.assert_frame_equal(july, locties.embed(encoder, table(), month=7), atol=1e-6)
    assert july.attrs["month"] == "7"


def test_rows_without_a_month_are_refused_or_dropped() -> None:
    frame = table().assign(month=[1, 13, None, 2.5])
    with pytest.raises(ValueError, match=r"3 of 4 rows .*'month' is not a month .* 1, 2, 3"):
        locties.embed(seasonal(), frame)
    with pytest.warns(UserWarning, match="3 of 4 rows"):
        left = locties.embed(seasonal(), frame, invalid="drop")
    assert list(left.index) == ["Berlin"]


@pytest.mark.parametrize(
    "months",
    [
        [1, 13, np.nan, 2.5],
        pd.Series([1, 13, None, 0], table().index, "Int64"),
        pd.Series(["2024-01-31", "2024-13-01", None, "x"], table().index),
    ],
)
def test_rows_without_a_month_beside_the_table_are_refused_or_dropped(months: object) -> None:
    with pytest.raises(ValueError, match=r"3 of 4 rows .*month.* is not a month .* 1, 2, 3"):
        locties.embed(seasonal(), table(), month=months)
    with pytest.warns(UserWarning, match="3 of 4 rows"):
        left = locties.embed(seasonal(), table(), month=months, invalid="drop")
    pd.testing.assert_frame_equal(left, locties.embed(seasonal(), table()[:1], month=1))


@pytest.mark.parametrize(
    ("encoder", "data", "month", "said"),
    [
        (
            seasonal(),
            table(),
            None,
            r"no column is called month; columns: lon, lat, y. Pass month=7",
        ),
        (seasonal(), table(), "y2", "unknown column 'y2': did you mean 'y'"),
        (seasonal(), LONLAT, None, "ndarray has no columns: pass month=7"),
        (seasonal(), table().assign(month=1, Month=2), None, "2 columns are called month"),
        (seasonal(), table().assign(month=list("abcd")), None, "'month' holds text, such as 'a'"),
        (seasonal(), table().assign(month="Jul"), None, "'Jul': give months as .* 2024-07-31"),
        (seasonal(), table(), ["Jul"] * 4, r"month=\['Jul', .*: give whole numbers"),
        (seasonal(), table(), 13, "is 13: give whole numbers from 1"),
        (seasonal(), table(), [1, 2], r"shape \(2,\) and there are 4 places"),
        (seasonal(), LONLAT, pd.Series([1, 2]), r"shape \(2,\) and there are 4 places"),
        (seasonal(), table(), pd.Series([1, 2, 3, 4]), r"index of month .* month\.to_numpy\(\)"),
        ("melt", table(), 7, "takes no month, and month is 7: leave the month out"),
        (small().forward, table(), "y", "takes no month, and month is 'y': leave"),
    ],
)
def test_a_wrong_month_is_refused_with_a_remedy(
    encoder: object, data: object, month: object, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        locties.embed(encoder, data, month=month)
