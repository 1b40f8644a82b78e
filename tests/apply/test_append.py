"""Appending columns: the table's own stay as they are, and what was interrupted goes on."""

import datetime as dt
import decimal
import gzip
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from locties.apply import append, parts
from locties.apply.append import append_columns

ABOUT = {"encoder": "places"}


def places(lonlat: torch.Tensor) -> pd.DataFrame:
    """The coordinates again, so that each row shows where it was taken for."""
    return pd.DataFrame(lonlat.numpy(), columns=["E", "N"])


def appended(source: Path, output: Path, **options: object) -> None:
    append_columns(source, output, places, ABOUT, **options)


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROWS", 2)


# ------------------------------------------------------------------------ text stays as it is

TEXTS = {  # and what becomes of them
    "zeros and NA": (
        "id,lon,lat,x\n007,1.0,2.00,NA\n,3,4,1e5\n",
        "id,lon,lat,x,E,N\n007,1.0,2.00,NA,1,2\n,3,4,1e5,3,4\n",
    ),
    "quotes": (
        'lon,lat,x\n1,2,"a, ""b"""\n3,4,\'c\'\n',
        'lon,lat,x,E,N\n1,2,"a, ""b""",1,2\n3,4,\'c\',3,4\n',
    ),
    "quotes that need not be": ('"lon",lat\n"1","2"\n', '"lon",lat,E,N\n"1","2",1,2\n'),
    "line breaks in quotes": (
        'x,lon,lat\n"a\nb",1,2\n"c\r\nd",3,4\n',
        'x,lon,lat,E,N\n"a\nb",1,2,1,2\n"c\r\nd",3,4,3,4\n',
    ),
    "repeated and empty headers": (
        ",lon,lat,ph,ph\n0,1,2,5,6\n",
        ",lon,lat,ph,ph,E,N\n0,1,2,5,6,1,2\n",
    ),
    "Windows ends": ("lon,lat\r\n1,2\r\n", "lon,lat,E,N\r\n1,2,1,2\r\n"),
    "no last end": ("lon,lat\n1,2\n3,4", "lon,lat,E,N\n1,2,1,2\n3,4,3,4\n"),
    "blank lines": ("lon,lat\n\n1,2\n\n", "lon,lat,E,N\n1,2,1,2\n"),
    "other alphabets": ("lon,lat,x\n1,2,東\u2028\n", "lon,lat,x,E,N\n1,2,東\u2028,1,2\n"),
    "long fields": (
        f'x,lon,lat\n"{"a, " * 70_000}",1,2\n',
        f'x,lon,lat,E,N\n"{"a, " * 70_000}",1,2,1,2\n',
    ),
    "header only": ("x,lon,lat\n", "x,lon,lat,E,N\n"),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "stream"])
def test_a_csv_keeps_its_text(tmp_path: Path, text: str, expected: str, ending: str) -> None:
    output = io.BytesIO() if ending == "stream" else tmp_path / f"out.{ending}"
    append_columns(io.BytesIO(text.encode()), output, places, ABOUT)
    written = output.getvalue() if ending == "stream" else output.read_bytes()
    assert (gzip.decompress(written) if ending == "csv.gz" else written) == expected.encode()


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbflon,lat\n1,2\n")
    appended(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "lon,lat,E,N\n1,2,1,2\n"


TSV = {
    "a quoted tab": ('lon\tlat\tx\n1\t2\t"a\tb"\n3\t4\tc\n', "a\tb"),
    "inches": ('lon\tlat\tx\n1\t2\t5" pipe\n3\t4\tc\n', '5" pipe'),
    "a word in quotes": ('lon\tlat\tx\n1\t2\t"Big" tree\n3\t4\tc\n', '"Big" tree'),
    "a quote that never ends": ('lon\tlat\tx\n1\t2\t"Big\n3\t4\tc\n', '"Big'),
    "a line break in quotes": ('lon\tlat\tx\n1\t2\t"a\nb"\n3\t4\tc\n', "a\nb"),
}


@pytest.mark.parametrize(("text", "value"), TSV.values(), ids=TSV)
def test_quotes_in_a_tsv_are_what_fits_its_header(tmp_path: Path, text: str, value: str) -> None:
    (tmp_path / "a.tsv").write_text(text)
    appended(tmp_path / "a.tsv", tmp_path / "b.tsv")
    written = (tmp_path / "b.tsv").read_text().replace("\t1\t2\n", "\n").replace("\t3\t4\n", "\n")
    assert written == text.replace("x\n", "x\tE\tN\n", 1)
    appended(tmp_path / "a.tsv", tmp_path / "b.parquet")
    assert pd.read_parquet(tmp_path / "b.parquet")["x"].tolist() == [value, "c"]


REFUSED = {
    "Latin-1": (
        "a.csv",
        "lon,lat,x\n1,2,Zürich\n".encode("latin-1"),
        "a.csv is not UTF-8.*iconv -f cp1252 -t utf8 ",
    ),
    "empty": ("a.csv", b"", "a.csv cannot be read: it is empty"),
    "short row": ("a.csv", b"lon,lat,x\n1,2,3\n4,5\n", "2 fields, not 3.*'4,5'"),
    "long row": ("a.csv", b"lon,lat\n1,2\n4,5,6\n", "3 fields, not 2.*'4,5,6'"),
    "open quote": ("a.csv", b'lon,lat,x\n1,2,"a\n3,4,b\n', "a.csv cannot be read: line 3"),
    "quote in quotes": ("a.csv", b'lon,lat,x\n1,2,"a" b\n', "line 2.*write a quote twice"),
    "two ways": ("a.tsv", b'x\tlon\tlat\n"a\t1\t2\nb"\t3\t4\n', "two ways.*tr -d"),
    "lon twice": ("a.csv", b"lon,lat,lon\n1,2,3\n", "several columns 'lon'|several columns could"),
    "no lon": ("a.csv", b"east,lat\n1,2\n", "a.csv.*there is no column 'lon'"),
    "one column": ("a.csv", b"lon\n1\n", "there is no column 'lat'"),
    "no gzip": ("a.csv.gz", b"lon,lat\n1,2\n", "a.csv.gz cannot be read"),
    "no Parquet": ("a.parquet", b"lon,lat\n1,2\n", "a.parquet cannot be read"),
}


@pytest.mark.parametrize(("name", "content", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=said):
        appended(tmp_path / name, tmp_path / "out.csv")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("convert", ["iconv -f cp1252 -t utf8", "tr -d '\"'"])
def test_remedies_work_when_done(tmp_path: Path, convert: str) -> None:
    name, content, _ = REFUSED["Latin-1" if "iconv" in convert else "two ways"]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=convert) as refused:
        appended(tmp_path / name, tmp_path / "out.csv")
    command = convert + str(refused.value).partition(convert)[2].partition(", or")[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    appended(tmp_path / command.split()[-1], tmp_path / "out.csv")


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet.gz", "a", "a.csv.zip", "a.json"])
def test_an_ending_that_cannot_be_honoured_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text("lon,lat\n1,2\n")
    with pytest.raises(ValueError, match=rf"{name} .*\.csv\.gz.*\.parquet"):
        appended(tmp_path / "a.csv", tmp_path / name)


# ------------------------------------------------------------------------------ types in a Parquet

COLUMNS = {  # text, and what it becomes
    "whole": (["1", "-20", "0", ""], [1, -20, 0, None]),
    "an id of 18 digits": (["617700169958293503", "1", "2", "3"], [617700169958293503, 1, 2, 3]),
    "an id of 20 digits": (["61770016995829350312", "1", "2", "3"], None),
    "zeros in front": (["007", "8", "9", "10"], None),
    "fraction at the end": (["1", "2", "3", "3.5"], [1.0, 2.0, 3.0, 3.5]),
    "long id beside a fraction": (["617700169958293503", "1", "2", "3.5"], None),
    "code at the end": (["1", "2", "3", "MO-17"], None),
    "text after nothing": (["", "", "", "seen"], None),
    "nothing": (["", "", "", ""], None),
    "NA": (["1", "NA", "3", "4"], None),
    "decimal comma": (["1,5", "2,5", "3", "4"], None),
    "exponents": (["1e5", "2E-3", "-.5", "0.0"], [1e5, 2e-3, -0.5, 0.0]),
    "too large": (["1e999", "1", "2", "3"], None),
    "minus zero": (["-0", "1", "2", "3"], [-0.0, 1.0, 2.0, 3.0]),
    "blanks": ([" 1", "2 ", "3", "4"], None),
    "dates": (["2020-01-01", "2020-01-02", "", ""], None),
    "truth": (["true", "false", "", ""], None),
}


@pytest.mark.parametrize(("text", "numbers"), COLUMNS.values(), ids=COLUMNS)
def test_a_column_of_a_csv_is_of_numbers_if_all_its_values_are(
    tmp_path: Path, text: list[str], numbers: list | None
) -> None:
    frame = pd.DataFrame({"x": text, "lon": range(4), "lat": 0.5})
    frame.to_csv(tmp_path / "a.csv", index=False)
    appended(tmp_path / "a.csv", tmp_path / "b.parquet")
    column = pq.read_table(tmp_path / "b.parquet")["x"]
    assert column.to_pylist() == (text if numbers is None else numbers)


def typed_table() -> pa.Table:
    when = dt.datetime(2020, 1, 2, 3, 4, 5)
    numbers = decimal.Decimal("1.10"), None, decimal.Decimal("2.20")
    return pa.table(
        {
            "id": pa.array([617700169958293503, None, 617700169958293505], pa.int64()),
            "year": pa.array([2001, None, 2003], pa.int32()),
            "lon": [1.0, 2.0, 3.0],
            "lat": pa.array([4, 5, 6], pa.int8()),
            "code": ["007", None, "NA"],
            "large": pa.array(["a", "b", None], pa.large_string()),
            "price": pa.array(numbers, pa.decimal128(10, 2)),
            "day": pa.array([dt.date(2020, 1, 2), None, dt.date(1900, 1, 1)]),
            "when": pa.array([when, None, when], pa.timestamp("us", "UTC")),
            "kind": pa.array(["x", None, "y"]).dictionary_encode(),
            "flag": [True, None, False],
            "list": pa.array([[1, 2], None, []], pa.list_(pa.int16())),
            "struct": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}],
            "bytes": pa.array([b"\x00\xff", None, b""], pa.binary()),
            "half": pa.array(np.array([0.5, 1.5, 2.5], np.float16)),
            "none": pa.nulls(3),
        },
        metadata={"origin": "a database"},
    )


def test_a_parquet_keeps_its_columns(tmp_path: Path) -> None:
    table = typed_table()
    pq.write_table(table, tmp_path / "a.parquet")
    appended(tmp_path / "a.parquet", tmp_path / "b.parquet")
    written = pq.read_table(tmp_path / "b.parquet")
    assert written.select(table.column_names).equals(table)
    assert written.schema.metadata[b"origin"] == b"a database"
    assert written["E"].to_pylist() == [1, 2, 3]
    assert pd.read_parquet(tmp_path / "b.parquet").attrs == ABOUT


def test_a_parquet_as_csv_keeps_digits_and_says_nested_values_as_json(tmp_path: Path) -> None:
    pq.write_table(typed_table().drop_columns("bytes"), tmp_path / "a.parquet")
    appended(tmp_path / "a.parquet", tmp_path / "b.csv")
    rows = pd.read_csv(tmp_path / "b.csv", dtype=str, keep_default_na=False)
    first = rows.iloc[0].to_dict()
    assert first["id"] == "617700169958293503"
    assert (first["year"], first["code"], first["price"]) == ("2001", "007", "1.10")
    assert (first["list"], first["struct"]) == ("[1, 2]", '{"a": 1, "b": "x"}')
    assert first["day"] == "2020-01-02"
    assert pd.Timestamp(first["when"]) == pd.Timestamp("2020-01-02T03:04:05Z")
    own = rows.iloc[1].drop(["lon", "lat", "large", "half", "E", "N"])
    assert set(own) == {""}, "what is missing stays missing"
    pq.write_table(typed_table(), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"bytes.*\.parquet"):
        appended(tmp_path / "a.parquet", tmp_path / "c.csv")


INDEXES = {
    "names": pd.Index(list("abcde"), name="station"),
    "no name": pd.Index([3, 1, 4, 1, 5]),
    "several levels": pd.MultiIndex.from_tuples([(i, "x") for i in range(5)], names=["a", "b"]),
    "times": pd.date_range("2020-01-01", periods=5, tz="UTC", name="when"),
    "rows": pd.RangeIndex(5),
    "a range": pd.RangeIndex(100, 110, 2),
    "a range with a name": pd.RangeIndex(5, name="id"),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_the_index_of_a_parquet_stays(tmp_path: Path, index: pd.Index) -> None:
    frame = pd.DataFrame({"lon": [1.0, 2, 3, 4, 5], "lat": [1.0, 2, np.nan, 4, 5]}, index)
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match="1 of 5 rows.*row 2"):
        appended(tmp_path / "a.parquet", tmp_path / "b.parquet", invalid="drop")
    written = pd.read_parquet(tmp_path / "b.parquet")
    left = frame.dropna()
    expected = pd.RangeIndex(4) if index.equals(pd.RangeIndex(5)) and not index.name else left.index
    pd.testing.assert_index_equal(written.index, expected, exact="equiv")
    np.testing.assert_array_equal(written[["E", "N"]], left)
    with pytest.warns(UserWarning, match="1 of 5 rows"):
        appended(tmp_path / "a.parquet", tmp_path / "b.csv", invalid="drop")
    text = pd.read_csv(tmp_path / "b.csv", dtype=str)
    for name in filter(None, index.names):
        assert len(text[name]) == 4


def test_categories_that_differ_between_parts_stay(tmp_path: Path) -> None:
    kinds = pd.Categorical(list("abcab"), categories=list("cbad"))
    frame = pd.DataFrame({"lon": range(5), "lat": 1, "kind": kinds})
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=2)
    appended(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert pd.read_parquet(tmp_path / "b.parquet")["kind"].tolist() == list("abcab")


def test_columns_of_any_type_can_be_appended(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("lon,lat\n1,2\n3,4\n5,6\n")

    def classes(lonlat: torch.Tensor) -> pd.DataFrame:
        names = [f'class {x:.0f}, "quoted"' for x in lonlat[:, 0]]
        return pd.DataFrame({"class": names, "trusted": True, "value": np.float64(1.5)})

    append_columns(tmp_path / "a.csv", tmp_path / "b.csv", classes, ABOUT)
    read = pd.read_csv(tmp_path / "b.csv")
    assert read["class"].tolist() == [f'class {x}, "quoted"' for x in (1, 3, 5)]
    assert read["trusted"].tolist() == [True] * 3
    assert read["value"].tolist() == [1.5] * 3


# ---------------------------------------------------------------------------------- what goes on


def interrupted(at: int) -> Callable[[torch.Tensor], pd.DataFrame]:
    """`places`, until it was called `at` times."""
    calls = iter(range(at))

    def columns(lonlat: torch.Tensor) -> pd.DataFrame:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return places(lonlat)

    return columns


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = [f"{i:03d},{i},{i / 2 + 1}" for i in range(11)]
    (tmp_path / "a.csv").write_text("\n".join(["id,lon,lat", *lines, ""]))
    return tmp_path / "a.csv"


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet"])
def test_what_was_interrupted_goes_on_to_the_same_bytes(
    tmp_path: Path, table: Path, ending: str
) -> None:
    whole, output = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    appended(table, whole)
    with pytest.raises(KeyboardInterrupt):
        append_columns(table, output, interrupted(4), ABOUT)
    folder = tmp_path / f"out.{ending}.unfinished"
    assert not output.exists()
    saved = sorted(folder.glob("*.arrow"))
    assert len(saved) == 4
    saved[1].write_bytes(saved[1].read_bytes()[:-1] + b"x")  # a damaged part is computed again
    append_columns(table, output, interrupted(3), ABOUT)
    assert output.read_bytes() == whole.read_bytes()
    assert not folder.exists()


def test_another_table_or_encoder_does_not_go_on(tmp_path: Path, table: Path) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        append_columns(table, output, interrupted(2), ABOUT)
    with pytest.raises(FileExistsError, match=r"encoder is 'places', not 'other'.*rm -r"):
        append_columns(table, output, places, {"encoder": "other"})
    with pytest.raises(FileExistsError, match="its lon is None, not 'lon'"):
        appended(table, output, lon="lon", lat="lat")
    table.write_text(table.read_text().replace("010,10,", "010,9,"))
    with pytest.raises(FileExistsError, match="source_sha256") as refused:
        appended(table, output)
    subprocess.run(str(refused.value).partition("with ")[2].partition(",")[0].split(), check=True)
    appended(table, output)
    assert "010,9,6.0,9,6" in output.read_text()


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, table: Path) -> None:
    (tmp_path / "out.csv.unfinished").mkdir()
    (tmp_path / "out.csv.unfinished" / "diary.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another output"):
        appended(table, tmp_path / "out.csv")
    assert (tmp_path / "out.csv.unfinished" / "diary.txt").read_text() == "mine"


def test_of_two_at_once_one_is_refused(tmp_path: Path, table: Path) -> None:
    output = tmp_path / "out.csv"

    def columns(lonlat: torch.Tensor) -> pd.DataFrame:
        with pytest.raises(RuntimeError, match="in use by process"):
            appended(table, output)
        return places(lonlat)

    append_columns(table, output, columns, ABOUT)
    assert len(output.read_text().splitlines()) == 12


def test_a_column_that_is_there_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("lon,lat,N\n1,2,3\n")
    with pytest.raises(ValueError, match="already has a column 'N'"):
        appended(tmp_path / "a.csv", tmp_path / "b.csv")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.csv"]


def test_bad_rows_are_named_before_any_work(tmp_path: Path) -> None:
    lines = [f"{200 if i == 9 else 0},{-95 if i == 9 else 1}" for i in range(11)]
    (tmp_path / "a.csv").write_text("\n".join(["lon,lat", *lines]))
    with pytest.raises(ValueError, match=r"1 of 11 rows.*row 9"):
        append_columns(tmp_path / "a.csv", tmp_path / "b.csv", interrupted(0), ABOUT)


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path: Path, table: Path) -> None:
    code = (
        "import os, sys; sys.path[:0] = [{here!r}]\n"
        "from pathlib import Path; import test_append as t\n"
        "t.parts.ROWS = 2\n"
        "calls = iter(range(3))\n"
        "def columns(x):\n"
        "    if next(calls, None) is None: os.kill(os.getpid(), 9)\n"
        "    return t.places(x)\n"
        "t.append_columns({table!r}, {out!r}, columns, t.ABOUT)\n"
    ).format(here=str(Path(__file__).parent), table=str(table), out=str(tmp_path / "out.parquet"))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out.parquet").exists()
    note = json.loads((tmp_path / "out.parquet.unfinished" / "note.json").read_text())
    assert note["encoder"] == "places"
    appended(table, tmp_path / "whole.parquet")
    append_columns(table, tmp_path / "out.parquet", interrupted(4), ABOUT)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["a.csv", "out.parquet", "whole.parquet"]


def test_a_full_disk_is_named_with_what_to_do(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(append._Unfinished, "save", full)
    with pytest.raises(OSError, match="make room") as raised:
        appended(table, tmp_path / "out.csv")
    assert raised.value.filename == str(tmp_path / "out.csv")


# ------------------------------------------------------------------------------------- months


def places_in_months(lonlat: torch.Tensor, month: torch.Tensor) -> pd.DataFrame:
    return places(lonlat).assign(M=month.numpy())


def test_months_reach_the_columns_part_by_part(tmp_path: Path) -> None:
    source, output = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_text("lon,lat,month,day\n1,2,1,2024-12-24\n3,4,7,2024-11-01\n5,6,12,2023-10-09\n")
    for month, expected in (("", [1, 7, 12]), ("day", [12, 11, 10])):
        append_columns(source, output, places_in_months, ABOUT, month=month)
        assert pd.read_csv(output)["M"].tolist() == expected
        assert pd.read_csv(output)["E"].tolist() == [1, 3, 5]
        output.unlink()
    source.write_text("lon,lat,month\n1,2,1\n3,4,7\n5,6,13\n")
    with pytest.raises(ValueError, match=r"1 of 3 rows .*'month' is not a month .*: row 2"):
        append_columns(source, output, places_in_months, ABOUT, month="")
    append_columns(io.BytesIO(b"lon,lat,month\n"), output, places_in_months, ABOUT, month="")
    assert output.read_text() == "lon,lat,month,E,N,M\n"


def test_a_run_in_another_month_does_not_go_on(tmp_path: Path) -> None:
    """Parts that were computed in January never join those of July."""
    source, output = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_text("lon,lat\n1,2\n3,4\n5,6\n")

    def fails(lonlat: torch.Tensor) -> pd.DataFrame:
        if lonlat[0, 0] > 4:
            raise OSError("no more")
        return places(lonlat)

    with pytest.raises(OSError, match="no more"):
        append_columns(source, output, fails, ABOUT | {"month": "1"})
    with pytest.raises(FileExistsError, match="its month is '1', not '7'"):
        append_columns(source, output, places, ABOUT | {"month": "7"})
    append_columns(source, output, places, ABOUT | {"month": "1"})
    assert pd.read_csv(output)["E"].tolist() == [1, 3, 5]
