"""Text that stands for numbers, dates or ids: never taken for classes, and its remedy works."""

import re
import warnings
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from command import run_here

import locties
from locties.apply.text import decimal_degrees, is_date, is_limit, styles_of

RNG = np.random.default_rng(0)
N = 60
PLACES = pd.DataFrame(
    {"lon": RNG.uniform(5, 25, N).round(4), "lat": RNG.uniform(40, 60, N).round(4)}
)
PH = RNG.normal(6, 1, N).round(2)
PEOPLE = RNG.integers(1000, 90_000, N)


def written(numbers: np.ndarray, style: str) -> list[str]:
    return [style.format(x) for x in numbers]


# How numbers are written, what they are, and the style that is named.
STYLES = {
    "decimal comma": ([f"{x:.2f}".replace(".", ",") for x in PH], PH, "decimal comma"),
    "a few commas": (
        [f"{x:.2f}".replace(".", ",") if i % 9 == 0 else f"{x:.2f}" for i, x in enumerate(PH)],
        PH,
        "decimal comma",
    ),
    "thousands and points": (written(PEOPLE / 2, "{:,.1f}"), PEOPLE / 2, "thousands"),
    "millions": (written(PEOPLE * 1000 + 7, "{:,}"), PEOPLE * 1000 + 7, "thousands"),
    "points": (
        [f"{x:,}.5".replace(",", "_").replace(".", ",").replace("_", ".") for x in PEOPLE],
        PEOPLE + 0.5,
        "points between thousands",
    ),
    "spaces": ([f"{x:,}".replace(",", " ") for x in PEOPLE], PEOPLE, "spaces"),
    "narrow spaces": ([f"{x:,}".replace(",", "\u202f") for x in PEOPLE], PEOPLE, "spaces"),
    "apostrophes": ([f"{x:,}".replace(",", "'") for x in PEOPLE], PEOPLE, "apostrophes"),
    "percent": (written(PH, "{} %"), PH, "percent"),
    "euro": (written(PH, "€ {}"), PH, "currency"),
    "currency behind": (written(PH, "{} USD"), PH, "currency"),
    "unit": (written(PH, "{} mg/kg"), PH, "'mg/kg'"),
    "degrees Celsius": (written(PH, "{}°C"), PH, "'°C'"),
    "minus": (written(PH, "\u2212{}"), -PH, "minus sign"),
}


def mended(error: str, folder: Path) -> Path:
    """Do the first command of an error message; the new file."""
    run_here(re.search(r"python -c '.*?'(?= |;|,|$)", error)[0])
    return next(folder.glob("a_new.*"))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", [None, "regression"])
def test_numbers_in_other_styles_are_refused_and_the_remedy_reads_them(
    style: str, kind: str | None, tmp_path: Path
) -> None:
    texts, numbers, named = STYLES[style]
    PLACES.assign(y=texts).to_csv(tmp_path / "a.csv", index=False)
    for invalid in ("raise", "drop"):
        with pytest.raises(ValueError, match=named) as error:
            locties.read_task(tmp_path / "a.csv", "y", kind=kind, invalid=invalid)
    new = mended(str(error.value), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = locties.read_task(new, "y", kind="regression")
    np.testing.assert_allclose(task.target, numbers)


@pytest.mark.parametrize("style", ["decimal comma", "percent", "thousands and points"])
def test_the_remedy_for_a_frame_and_other_files_works(style: str, tmp_path: Path) -> None:
    texts, numbers, _ = STYLES[style]
    frame = PLACES.assign(y=texts)
    with pytest.raises(ValueError, match=r"frame\.replace") as error:
        locties.read_task(frame, "y")
    code = re.search(r"frame\.replace.*?\)(?=;)", str(error.value))[0]
    task = locties.read_task(eval(code, {"frame": frame}), "y", kind="regression")
    np.testing.assert_allclose(task.target, numbers)

    points = geopandas.points_from_xy(frame["lon"], frame["lat"])
    geometry = geopandas.GeoDataFrame(frame[["y"]], geometry=points, crs=4326)
    frame.to_parquet(tmp_path / "a.parquet")
    geometry.to_file(tmp_path / "b.gpkg")
    for name in ("a.parquet", "b.gpkg"):
        with pytest.raises(ValueError, match="python -c") as error:
            locties.read_task(tmp_path / name, "y")
        run_here(re.search(r"python -c '.*?'(?=;)", str(error.value))[0])
        new = tmp_path / name.replace(".", "_new.")
        task = locties.read_task(new, "y", kind="regression")
        np.testing.assert_allclose(task.target, numbers)


def test_one_command_mends_all_columns_with_decimal_commas(tmp_path: Path) -> None:
    """A spreadsheet in another language writes every number so."""
    frame = PLACES.assign(y=PH, note="a, b", code=[f"{i},{i}" for i in range(N)])
    written = {name: frame[name].map("{:.4f}".format).str.replace(".", ",") for name in PLACES}
    frame.assign(**written, y=STYLES["decimal comma"][0], name="Ulm").to_csv(
        tmp_path / "a.csv", index=False
    )
    with pytest.raises(ValueError, match=r"'lon' holds .*also in 'lat', 'y', 'code'") as error:
        locties.read_task(tmp_path / "a.csv", "y")
    task = locties.read_task(mended(str(error.value), tmp_path), "y")
    np.testing.assert_allclose(task.target, PH)
    np.testing.assert_allclose(task.lonlat, frame[["lon", "lat"]], atol=1e-4)


def test_thousands_that_could_be_decimals_are_left_to_the_user(tmp_path: Path) -> None:
    PLACES.assign(y=written(PEOPLE, "{:,}")).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"thousands or a decimal comma") as error:
        locties.read_task(tmp_path / "a.csv", "y", kind="regression")
    commands = re.findall(r"python -c '.*?'(?= if it has)", str(error.value))
    for command, factor in zip(commands, (1, 1000), strict=True):
        run_here(command)
        task = locties.read_task(tmp_path / "a_new.csv", "y", kind="regression")
        np.testing.assert_allclose(task.target * factor, PEOPLE)


@pytest.mark.parametrize("odd", ["<0.5", "< 0,5", ">100", "-", "n.d.", "ND", "bdl", "—", "trace"])
@pytest.mark.parametrize("every", [9, 2, 60])
def test_text_among_numbers_is_named_by_row_and_can_be_dropped(
    odd: str, every: int, tmp_path: Path
) -> None:
    wrong = np.arange(N) % every == 0
    PLACES.assign(y=[odd if w else str(x) for w, x in zip(wrong, PH, strict=True)]).to_csv(
        tmp_path / "a.csv", index=False
    )
    with pytest.raises(ValueError, match=re.escape(repr(odd))) as error:
        locties.read_task(tmp_path / "a.csv", "y")
    assert re.search(r"rows? 0\b.*kind='regression' and invalid='drop'", str(error.value))
    with pytest.warns(UserWarning, match=r"rows? 0\b"):
        task = locties.read_task(tmp_path / "a.csv", "y", kind="regression", invalid="drop")
    np.testing.assert_allclose(task.target, PH[~wrong])


@pytest.mark.parametrize(
    "texts",
    [
        [f"2020-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(N)],
        [f"{1 + i % 28:02}.{1 + i % 12:02}.2020" for i in range(N)],
        [f"{1 + i % 12}/{1 + i % 28}/2020" for i in range(N)],
        [f"2020-05-{1 + i % 28:02}T12:00:00Z" for i in range(N)],
        [f"{1 + i % 28} May 2020" for i in range(N)],
        [f"{i % 24:02}:{i % 60:02}" for i in range(N)],
        pd.date_range("2020-01-01", periods=N),
        pd.date_range("2020-01-01", periods=N).date,
        pd.date_range("2020-01-01", periods=N).to_period("M"),
        pd.timedelta_range(0, periods=N),
        [f"plot-{i}" for i in range(N)],
        [f"Main Street {i % 50}" for i in range(N)],
        [[1, 2]] * N,
        [b"a", b"b"] * 30,
    ],
    ids=repr,
)
def test_dates_ids_and_lists_are_no_classes(texts: list) -> None:
    with pytest.raises(ValueError, match=r"'y' holds.*column of|another target"):
        locties.read_task(PLACES.assign(y=texts), "y")


@pytest.mark.parametrize(
    "texts",
    [
        ["rye", "oats"] * 30,
        ["10-20 cm", "20-30 cm", "30-50 cm"] * 20,
        ["1a", "2b", "3c", "4d", "5e"] * 12,
        ["yes", "no"] * 30,
        ["-", "+"] * 30,
        [f"class {i % 20}" for i in range(N)],
    ],
    ids=repr,
)
def test_classes_are_taken_without_a_word(texts: list) -> None:
    for column in (texts, pd.Categorical(texts), pd.array(texts, "string")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            task = locties.read_task(PLACES.assign(y=column), "y")
        assert task.classes == tuple(sorted(set(texts)))


def test_what_is_dropped_does_not_decide_the_kind(tmp_path: Path) -> None:
    """A row of units has no coordinates, so it goes before the kind is judged."""
    path = tmp_path / "a.csv"
    rows = PLACES.assign(ph=PH).to_csv(index=False).replace("lon,lat,ph\n", "lon,lat,ph\n,,pH\n")
    path.write_text(rows.replace("\r", ""))
    with pytest.raises(ValueError, match=r"row 0\b.*invalid='drop'"):
        locties.read_task(path, "ph")
    with pytest.warns(UserWarning, match=r"row 0\b"):
        task = locties.read_task(path, "ph", invalid="drop")
    assert task.kind == "regression"
    np.testing.assert_allclose(task.target, PH)


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("52°30′36″N", 52.51), ("33 51 S", -33.85), ("13.4W", -13.4), ("W 13,4", -13.4)],
)
def test_degrees_with_marks_are_refused_with_their_number(text: str, degrees: float) -> None:
    assert decimal_degrees(text) == degrees
    with pytest.raises(ValueError, match=rf"decimal degrees.*{degrees}"):
        locties.read_task(PLACES.assign(lat=text, ph=PH), "ph", invalid="drop")


@pytest.mark.parametrize("text", ["Berlin", "52.5", "-3", "", "10 m", "NE"])
def test_other_text_is_no_degrees(text: str) -> None:
    assert decimal_degrees(text) is None


@pytest.mark.parametrize("text", ["6.5", "10-20", "maize", "may", "-", "1e5", "3", "A-12"])
def test_other_text_is_no_date_and_no_limit(text: str) -> None:
    assert not is_date(text)
    assert not is_limit(text)
    assert not styles_of([text])


def test_classes_that_differ_in_capitals_or_blanks_are_said() -> None:
    with pytest.warns(UserWarning, match="'Rye' and 'rye '"):
        locties.read_task(PLACES.assign(y=["rye ", "Rye", "oats"] * 20), "y")


def test_classes_of_one_row_are_said() -> None:
    with pytest.warns(UserWarning, match="2 of 4 classes in one row only, such as 'a'") as said:
        locties.read_task(PLACES.assign(y=["a", "b", *["rye", "oats"] * 29]), "y")
    assert said[0].filename == __file__, "it points to the caller's line"


def test_a_long_text_takes_no_room_in_other_rows() -> None:
    long = ["y" * 200_000] + ["a"] * (N - 1)
    with pytest.warns(UserWarning, match="one row only"):
        task = locties.read_task(PLACES.assign(y=long), "y")
    assert task.target.sum() == 1


@pytest.mark.parametrize("values", [[2.5] * N, np.zeros(N), np.full(N, 7)])
def test_a_target_that_never_varies_is_refused(values: list) -> None:
    with pytest.raises(ValueError, match=r"holds (2\.5|0|7) in every row"):
        locties.read_task(PLACES.assign(y=values), "y", kind="regression")
