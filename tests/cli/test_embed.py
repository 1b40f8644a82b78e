"""`locties embed`: tables in parts, every format, what is refused, and the globe."""

import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import torch
from command import run, run_here, start

import locties
from locties.apply import grid, parts

PLACES = 'id,lon,lat,"no, te"\n007,13.40,52.5,"a, ""b"""\n008,-200,-10,\n'


@pytest.fixture
def embedding(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the parts that are embedded."""
    lengths, whole = [], grid.embed_points

    def spy(encoder: Callable, lonlat: torch.Tensor, month: object = None) -> np.ndarray:
        lengths.append(len(lonlat))
        return whole(encoder, lonlat, month)

    monkeypatch.setattr(grid, "embed_points", spy)
    return lengths


def embedded_at(encoder: Path, lonlat: object) -> np.ndarray:
    with torch.no_grad():
        return locties.load(encoder)(np.asarray(lonlat, dtype=np.float32)).numpy()


def test_embed_leaves_the_columns_as_they_are(encoder: Path) -> None:
    result = run("embed", encoder, input=PLACES)
    assert result.exit_code == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert head == 'id,lon,lat,"no, te",small_000,small_001,small_002'
    assert rows[0].startswith('007,13.40,52.5,"a, ""b""",')
    assert rows[1].startswith("008,-200,-10,,")
    printed = pd.read_csv(io.StringIO(result.stdout), dtype={"id": str})
    values = printed.iloc[:, 4:].to_numpy(dtype=np.float32)
    assert (values == embedded_at(encoder, [[13.4, 52.5], [-200, -10]])).all()
    assert result.stderr == ""


def test_embed_never_replaces_its_input(encoder: Path, tmp_path: Path) -> None:
    places = tmp_path / "places.csv"
    places.write_text(PLACES)
    result = run("embed", encoder, places, "-o", places)
    assert result.exit_code == 2
    assert "is the input itself" in result.stderr
    assert places.read_text() == PLACES


def test_embed_reads_and_writes_by_suffix(encoder: Path, tmp_path: Path) -> None:
    places = tmp_path / "places.csv"
    places.write_text(PLACES)
    parquet, back = tmp_path / "places.parquet", tmp_path / "back.tsv"
    assert run("embed", encoder, places, "-o", parquet).exit_code == 0
    table = pd.read_parquet(parquet)
    assert table["lon"].tolist() == [13.4, -200.0]
    assert table.attrs["encoder"] == "small"
    assert (table.iloc[:, 4:].to_numpy() == embedded_at(encoder, table[["lon", "lat"]])).all()
    table.iloc[:, :4].to_parquet(parquet)
    assert run("embed", encoder, parquet, "-o", back).exit_code == 0
    assert pd.read_csv(back, sep="\t")["small_002"].tolist() == pytest.approx(
        table["small_002"].tolist()
    )
    assert sorted(tmp_path.iterdir()) == sorted([places, parquet, back, encoder])


def test_embed_leaves_repeated_and_empty_headers(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv.gz"
    text = ",lon,lat,ph,ph\n0,1,2,3.5,9.5\n"
    assert run("embed", encoder, "-o", out, input=text).exit_code == 0
    head, row = gzip.decompress(out.read_bytes()).decode().splitlines()
    assert head == ",lon,lat,ph,ph,small_000,small_001,small_002"
    assert row.startswith("0,1,2,3.5,9.5,")


def test_embed_names_a_file_that_it_cannot_read(
    encoder: Path, points: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(points)
    at = table.column_names.index("at")
    pq.write_table(table.set_column(at, "at", [[b"garbage"] * len(table)]), points)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(PLACES.encode())[:-9])
    for file in (points, tmp_path / "cut.csv.gz"):
        result = run("embed", encoder, file)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"locties: {file} cannot be read: ")


def test_embed_leaves_text_of_a_parquet_text(encoder: Path, tmp_path: Path) -> None:
    places = pd.DataFrame({"lon": [13.4, 2.3], "lat": [52.5, 48.9], "id": ["007", "008"]})
    places.to_parquet(tmp_path / "places.parquet")
    assert (
        run("embed", encoder, tmp_path / "places.parquet", "-o", tmp_path / "o.pq").exit_code == 0
    )
    assert pd.read_parquet(tmp_path / "o.pq")["id"].tolist() == ["007", "008"]


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """Five places as GeoParquet, in Web Mercator, with longitudes that are not theirs beside."""
    geopandas = pytest.importorskip("geopandas")
    lonlat = np.array([[13.4, 52.5], [-60.0, -3.1], [91.1, 29.7], [15.3, -4.3], [2.35, 48.9]])
    columns = {"id": list("abcde"), "lon": 0.0, "lat": range(5)}
    where = geopandas.points_from_xy(*lonlat.T, crs=4326)
    frame = geopandas.GeoDataFrame(columns, geometry=where).to_crs(3857)
    frame.rename_geometry("at").to_parquet(tmp_path / "points.geoparquet")
    return tmp_path / "points.geoparquet"


def test_embed_takes_the_points_of_a_geoparquet(
    encoder: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import geopandas

    monkeypatch.setattr(parts, "ROWS", 2)
    result = run("embed", encoder, points, "-o", tmp_path / "out.parquet")
    assert result.exit_code == 0, result.stderr
    before, after = (geopandas.read_parquet(p) for p in (points, tmp_path / "out.parquet"))
    assert list(after.columns) == [*before.columns, "small_000", "small_001", "small_002"]
    assert after.crs == before.crs == "EPSG:3857"
    assert after.geometry.name == "at"
    assert after.geometry.geom_equals_exact(before.geometry, 0).all()
    where = before.geometry.to_crs(4326)
    expected = embedded_at(encoder, np.stack([where.x, where.y], axis=1))
    assert np.allclose(after.iloc[:, 4:].to_numpy(), expected, rtol=1e-5, atol=1e-6)
    named = run("embed", encoder, points, "--lon", "lon", "--lat", "lat", "-o", tmp_path / "o.pq")
    assert named.exit_code == 0, named.stderr
    read = pd.read_parquet(tmp_path / "o.pq").iloc[:, 4:].to_numpy()
    assert np.allclose(read, embedded_at(encoder, before[["lon", "lat"]]), rtol=1e-6)


def test_embed_writes_points_to_csv_as_text(encoder: Path, points: Path) -> None:
    result = run("embed", encoder, points)
    assert result.exit_code == 0, result.stderr
    printed = pd.read_csv(io.StringIO(result.stdout))
    assert printed["at"].str.fullmatch(r"POINT \(-?\d+\.\d+ -?\d+\.\d+\)").all()
    assert printed["id"].tolist() == list("abcde")


def test_embed_names_what_the_metadata_of_a_geoparquet_lack(encoder: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"at": [b""]})
    for said, lacks in (
        ({"columns": {"at": {"encoding": "WKB"}}}, "primary_column"),
        ({"primary_column": "at", "columns": {"at": {}}}, "encoding of 'at'"),
        ({"primary_column": "at", "columns": {}}, "its primary column"),
    ):
        pq.write_table(table.replace_schema_metadata({"geo": json.dumps(said)}), tmp_path / "p.pq")
        result = run("embed", encoder, tmp_path / "p.pq")
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"GeoParquet: its metadata lacks {lacks}." in result.stderr


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_embed_of_no_rows_is_a_header(encoder: Path, tmp_path: Path, suffix: str) -> None:
    pd.DataFrame({"lon": [1.0], "lat": [2.0]}).iloc[:0].to_parquet(tmp_path / "none.parquet")
    result = run("embed", encoder, tmp_path / "none.parquet", "-o", tmp_path / f"out.{suffix}")
    assert result.exit_code == 0, result.stderr
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    columns = list(read(tmp_path / f"out.{suffix}"))
    assert columns[:2] == ["lon", "lat"]
    assert len(columns) == 2 + locties.load(encoder).dim


def test_embed_says_what_a_geoparquet_needs(
    encoder: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import geopandas

    frame = geopandas.read_parquet(points)
    frame.set_crs(None, allow_override=True).to_parquet(tmp_path / "nowhere.parquet")
    nowhere = run("embed", encoder, tmp_path / "nowhere.parquet")
    assert (nowhere.exit_code, nowhere.stdout) == (1, "")
    assert "the geometry has no CRS" in nowhere.stderr
    frame.to_parquet(tmp_path / "arrow.parquet", geometry_encoding="geoarrow")
    arrow = run("embed", encoder, tmp_path / "arrow.parquet")
    assert (arrow.exit_code, arrow.stdout) == (1, "")
    assert "column 'at' has its geometry as 'point': write it as WKB" in arrow.stderr
    monkeypatch.setitem(sys.modules, "geopandas", None)
    missing = run("embed", encoder, points, "-o", tmp_path / "out.parquet")
    assert missing.exit_code == 1
    said = 'locties: a GeoParquet file needs geopandas: pip install "locties[own]"\n'
    assert missing.stderr == said
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_embed_takes_a_table_in_parts(
    encoder: Path,
    embedding: list[int],
    tmp_path: Path,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "ROWS", 40)
    rng = np.random.default_rng(0)
    places = pd.DataFrame(rng.uniform([-180, -90], [180, 90], (100, 2)), columns=["E", "N"])
    places.to_csv(tmp_path / "places.csv", index=False)
    out = tmp_path / f"out.{suffix}"
    result = run("embed", encoder, tmp_path / "places.csv", "--lon", "E", "--lat", "N", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert embedding == [40, 40, 20]
    table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    expected = embedded_at(encoder, places.to_numpy())
    assert np.allclose(table.iloc[:, 2:], expected, rtol=1e-6, atol=0)


def test_embed_says_what_is_wrong_and_leaves_no_file(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROWS", 2)
    out = tmp_path / "out.csv"
    bad = "lon,lat\n1,2\n3,4\n5,6\n100,-95\n"
    result = run("embed", encoder, "-o", out, input=bad)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        "(row 0 is the first below the header). Latitude is outside [-90, 90]: row 3"
        in result.stderr
    )
    assert sorted(tmp_path.iterdir()) == [encoder]
    twice = run("embed", encoder, input=run("embed", encoder, input=PLACES).stdout)
    assert twice.exit_code == 1
    assert "already has a column 'small_000'" in twice.stderr
    long = run("embed", encoder, input="lon,lat\n1,2,3\n")
    assert long.exit_code == 1
    assert "stdin has 3 fields, not 2" in long.stderr


GAPS = "id,lon,lat\n0,1,2\n1,,4\n2,5,6\n3,7,\n4,,\n5,100,95\n6,11,12\n"  # parts of two rows


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_embed_leaves_rows_out_when_asked_and_says_which(
    encoder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROWS", 2)
    places, out = tmp_path / f"places.{suffix}", tmp_path / f"out.{suffix}"
    if suffix == "csv":
        places.write_text(GAPS)
    else:  # with an index, of which two rows have the same
        frame = pd.read_csv(io.StringIO(GAPS)).set_index(pd.Index([0] * 7, name="same"))
        frame.to_parquet(places)
    refused = run("embed", encoder, places, "-o", out)
    assert (refused.exit_code, refused.stdout) == (1, "")
    missing = "4 of 7 rows cannot be used (row 0 is the first below the header). Longitude or "
    missing += "latitude is missing: rows 1, 3, 4; "
    wrong = f"{missing}latitude is outside [-90, 90]: row 5. "
    assert wrong in refused.stderr
    assert "pass --invalid drop" in refused.stderr
    assert "frame" not in refused.stderr
    assert not out.exists()
    result = run("embed", encoder, places, "--invalid", "drop", "-o", out)
    assert result.exit_code == 0, result.stderr
    table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert table["id"].tolist() == [0, 2, 6]
    expected = embedded_at(encoder, [[1, 2], [5, 6], [11, 12]])
    assert np.allclose(table.iloc[:, 3:].to_numpy(), expected, rtol=1e-6)
    assert result.stderr == f"locties: warning: {wrong}They are dropped\n"


def test_a_stream_is_checked_part_by_part(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROWS", 2)
    result = run("embed", encoder, "--invalid", "drop", input=GAPS)
    assert result.exit_code == 0, result.stderr
    assert [line[0] for line in result.stdout.splitlines()[1:]] == ["0", "2", "6"]
    warned = result.stderr.splitlines()
    assert [line.partition("missing: ")[2][:5] for line in warned] == ["row 1", "row 3", "row 4"]
    refused = run("embed", encoder, input=GAPS)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "1 of 2 rows cannot be used" in refused.stderr


def test_embed_of_no_usable_row_is_a_fault(encoder: Path, tmp_path: Path) -> None:
    none = "lon,lat\n,2\n3,\n"
    result = run("embed", encoder, "--invalid", "drop", "-o", tmp_path / "out.csv", input=none)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "2 of 2 rows cannot be used" in result.stderr
    assert result.stderr.endswith("locties: no row is left\n")
    assert sorted(tmp_path.iterdir()) == [encoder]


@pytest.mark.parametrize(
    ("name", "text", "separator"),
    [
        ("a.csv", "lon;lat\n13.4;52.5\n", "';'"),
        ("a.csv", "lon;lat\n13,4;52,5\n", "';'"),
        ("-", "lon;lat\n13,4;52,5\n", "';'"),
        ("-", "lon\tlat\n13.4\t52.5\n", r"'\t'"),
        ("a.tsv", "lon,lat\n13.4,52.5\n", "','"),
    ],
)
def test_embed_names_a_command_that_mends_the_separator(
    encoder: Path,
    tmp_path: Path,
    name: str,
    text: str,
    separator: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != "-":
        Path(name).write_text(text)
    result = run("embed", encoder, name, input=text)
    assert (result.exit_code, result.stdout) == (1, "")
    header = text.splitlines()[0]
    called = "stdin" if name == "-" else name
    said = f"locties: {called} has one column, {header!r}: its separator seems to be {separator}; "
    assert result.stderr.startswith(said)
    command = result.stderr.split("convert it: ")[1].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, input=text, text=True)
    assert Path(f"{Path(called).stem}_new.csv").read_text() == "lon,lat\n13.4,52.5\n"


def test_embed_of_a_csv_that_is_a_header_alone_is_a_header(encoder: Path) -> None:
    result = run("embed", encoder, input="lon,lat\n")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "lon,lat,small_000,small_001,small_002\n"


def test_embed_goes_by_the_name_of_a_run(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "my-run").mkdir()
    encoder.rename(tmp_path / "my-run" / "encoder")
    result = run("embed", tmp_path / "my-run", input=PLACES)
    assert result.stdout.splitlines()[0].endswith('"no, te",my-run_000,my-run_001,my-run_002')


@pytest.mark.slow
def test_embed_in_a_pipe(encoder: Path) -> None:
    process = start("embed", encoder)
    out, said = process.communicate(PLACES.encode(), timeout=120)
    assert (process.returncode, said) == (0, b"")
    assert out.decode() == run("embed", encoder, input=PLACES).stdout


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_fault(encoder: Path, tmp_path: Path) -> None:
    rows = "".join(f"{i / 400 + 1},{i / 1000}\n" for i in range(40_000))
    (tmp_path / "long.csv").write_text(f"lon,lat\n{rows}")
    process = start("embed", encoder, tmp_path / "long.csv")
    assert process.stdout.readline() == b"lon,lat,small_000,small_001,small_002\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=120) != 0


def test_embed_writes_the_globe(encoder: Path, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    result = run("embed", encoder, "--grid", "30", "-o", tmp_path / "globe.zarr")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'globe.zarr'}\n")
    globe = xarray.open_zarr(tmp_path / "globe.zarr")
    here = globe["embedding"].sel(lon=15, lat=45).to_numpy()
    assert here == pytest.approx(embedded_at(encoder, [[15, 45]])[0], rel=1e-5)


def test_embed_exports_the_globe(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def export_grid(*arguments: object, **options: object) -> None:
        calls.append((arguments, options))

    monkeypatch.setattr(locties, "export_grid", export_grid)
    result = run("embed", encoder, "--grid", "0.5", "-o", "globe.zarr")
    assert (result.exit_code, result.stdout) == (0, "globe.zarr\n")
    assert calls == [((str(encoder), "globe.zarr", 0.5), {"month": None, "progress": True})]

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(locties, "export_grid", interrupt)
    result = run("embed", encoder, "--grid", "0.5", "-o", "globe.zarr")
    assert result.exit_code == 130
    assert result.stderr == "locties: interrupted; the same command resumes\n"


def test_an_interrupted_file_says_that_the_same_command_resumes(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, whole = iter(range(1)), grid.embed_points

    def interrupt(*arguments: object) -> np.ndarray:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(parts, "ROWS", 1)
    monkeypatch.setattr(grid, "embed_points", interrupt)
    for output in ("-", tmp_path / "out.csv"):
        result = run("embed", encoder, "-o", output, input=PLACES)
        assert result.exit_code == 130
        resumes = "; the same command resumes" if output != "-" else ""
        assert result.stderr == f"locties: interrupted{resumes}\n"
        calls = iter(range(1))
    monkeypatch.setattr(grid, "embed_points", whole)
    assert run("embed", encoder, "-o", tmp_path / "out.csv", input=PLACES).exit_code == 0
    assert (tmp_path / "out.csv").read_text() == run("embed", encoder, input=PLACES).stdout


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["geojson", "gpkg", "fgb", "shp"])
def test_a_file_that_can_only_be_read_whole_is_refused_with_its_conversion(
    ending: str, encoder: Path, tmp_path: Path
) -> None:
    points = geopandas.points_from_xy([13.4, 2.35], [52.5, 48.86], crs=4326)
    source = tmp_path / f"the sites.{ending}"
    geopandas.GeoDataFrame({"ph": [6.1, 7.4]}, geometry=points).to_crs(3857).to_file(source)
    refused = run("embed", encoder, source, "--output", tmp_path / "out.parquet")
    assert refused.exit_code == 1
    [command] = re.findall(r"python -c .*", refused.stderr)
    run_here(command)
    converted, output = tmp_path / "the sites_new.parquet", tmp_path / "out.parquet"
    result = run("embed", encoder, converted, "--output", output)
    assert result.exit_code == 0, result.stderr
    table = geopandas.read_parquet(output)
    expected = embedded_at(encoder, [[13.4, 52.5], [2.35, 48.86]])
    np.testing.assert_allclose(table.filter(regex=r"_\d{3}$"), expected, atol=1e-5)


def test_embed_takes_a_month_as_a_number_or_a_column(seasonal: Path, tmp_path: Path) -> None:
    text = "lon,lat,month,day\n13.4,52.5,1,2024-07-31\n-60,-3.1,7,2024-12-01\n"
    function = locties.load(seasonal)
    for option, months in (([], [1, 7]), (["--month", "day"], [7, 12]), (["--month", "4"], [4, 4])):
        result = run("embed", seasonal, *option, input=text)
        assert result.exit_code == 0, result.stderr
        table = pd.read_csv(io.StringIO(result.stdout))
        wanted = function(table[["lon", "lat"]], months).detach()
        np.testing.assert_allclose(table.iloc[:, 4:], wanted, rtol=1e-5, atol=1e-6)
    out = tmp_path / "out.parquet"
    assert run("embed", seasonal, "-o", out, "--month", "4", input=text).exit_code == 0
    assert pd.read_parquet(out).attrs["month"] == "4"


def test_embed_says_what_is_wrong_with_a_month(
    encoder: Path, seasonal: Path, tmp_path: Path
) -> None:
    text, grid = "lon,lat\n13.4,52.5\n", ("--grid", "30", "-o", tmp_path / "a.zarr")
    for command, code, said in (
        ((seasonal,), 1, "no column is called month; columns: lon, lat. Pass --month 7"),
        ((seasonal, "--month", "13"), 2, "month at row 0 is 13: give whole numbers from 1"),
        ((encoder, "--month", "7"), 2, "takes no month, and month is 7: leave the month out"),
        ((encoder, "--month", "day"), 2, "small takes no month: drop --month day"),
        ((seasonal, *grid), 2, "month is None: pass --month 7"),
        ((seasonal, *grid, "--month", "day"), 2, "--month as a number, 1 to 12, not 'day'"),
        ((encoder, *grid, "--lon", "x"), 2, "drop --lon and --lat, or drop --grid"),
        ((encoder, *grid, "--invalid", "drop"), 2, "drop --invalid drop, or drop --grid"),
    ):
        result = run("embed", *command, input=text)
        assert (result.exit_code, result.stdout) == (code, "")
        assert said in result.stderr
    assert run("embed", seasonal, *grid, "--month", "7").exit_code == 0
