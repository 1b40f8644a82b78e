"""Columns of a table: the kind of a target, and which columns are measurements."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import locties
from locties.apply.columns import measured_columns


def table(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    columns = {"lon": (5, 25), "lat": (40, 60), "ph": (4, 9), "clay": (0, 50)}
    return pd.DataFrame({name: rng.uniform(*ends, n) for name, ends in columns.items()})


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        ([0.5, 1.0, 2.0], "regression", None),
        (["b", "a", "b"], "classification", ("a", "b")),
        (pd.Categorical(["b", "a", "b"], categories=["b", "a", "c"]), "classification", ("a", "b")),
        ([True, False, True], "classification", ("False", "True")),
    ],
)
def test_the_kind_follows_from_the_type(values, kind, classes) -> None:
    task = locties.read_task(table(3).assign(y=values), "y")
    assert (task.kind, task.classes) == (kind, classes)


@pytest.mark.parametrize("values", [[3, 10, 3], [3.0, 10.0, 3.0]])
def test_whole_numbers_are_never_guessed(values) -> None:
    frame = table(3).assign(code=values)
    with pytest.raises(ValueError, match=r"'code' holds whole numbers \(2 different ones\).*kind="):
        locties.read_task(frame, "code")
    assert locties.read_task(frame, "code", kind="regression").target.tolist() == [3, 10, 3]
    task = locties.read_task(frame, "code", kind="classification")
    assert (task.classes, task.target.tolist()) == (("3", "10"), [0, 1, 0])


def test_whole_numbers_made_floats_by_a_missing_value_are_not_guessed_either() -> None:
    frame = table(4).assign(code=[1, None, 2, 1])
    with pytest.raises(ValueError, match="whole numbers"):
        locties.read_task(frame, "code", invalid="drop")
    with pytest.warns(UserWarning, match="'code' is missing.*row 1"):
        task = locties.read_task(frame, "code", kind="classification", invalid="drop")
    assert task.classes == ("1", "2")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["6,5", "7,1", "5,9"], r"a decimal comma, such as '6,5'.*kind='classification'"),
        (["6.5", "7.1", "<0.5"], r"such as '<0.5': row 2;.*invalid='drop'"),
        (["1", "2", "3"], r"numbers as text.*astype.*kind='classification'"),
    ],
)
def test_numbers_as_text_are_not_taken_for_classes(values: list[str], words: str) -> None:
    frame = table(3).assign(y=values)
    with pytest.raises(ValueError, match=words):
        locties.read_task(frame, "y")
    assert len(locties.read_task(frame, "y", kind="classification").classes) == 3


@pytest.mark.parametrize(
    "name",
    [
        *("Unnamed: 0", "", "index", "id", "ID", "fid", "OBJECTID", "ogc_fid", "site_id", "siteID"),
        *("plotId", "Row Number", "row", "station_nr", "decimalLatitude", "Longitude (deg)"),
        *("x", "Y", "x_coord", "POINT_X", "coords.x1", "easting", "UTM_North", "utm_x"),
    ],
)
@pytest.mark.parametrize("geometry", [False, True])
def test_ids_row_numbers_and_coordinates_are_no_measurements(name: str, geometry: bool) -> None:
    frame = table().drop(columns=["lon", "lat"] if geometry else [])
    frame[name] = np.random.default_rng(0).integers(0, 1000, len(frame))
    with pytest.warns(UserWarning, match=r"made of ph, clay.*columns="):
        columns = measured_columns(frame, set() if geometry else {"lon", "lat"})
    assert columns == ["ph", "clay"]


@pytest.mark.parametrize("name", ["humid", "acid", "carbon", "latency", "nox", "fluid", "exposure"])
def test_other_names_are_measurements(name: str) -> None:
    with pytest.warns(UserWarning, match=f"ph, clay, {name}"):
        measured_columns(table().assign(**{name: 1.5}), {"lon", "lat"})


def test_whole_numbers_that_count_the_rows_are_no_measurement() -> None:
    frame = table().assign(sample=range(7, 207), year=2001)
    with pytest.warns(UserWarning, match="made of ph, clay, year, without sample"):
        measured_columns(frame, {"lon", "lat"})


def test_a_value_that_means_missing_is_named() -> None:
    frame = table()
    frame.loc[:1, "ph"] = -9999

    def least(modality: locties.Modality) -> float:
        return float(modality.samples[torch.arange(len(modality.lonlat))].min())

    read = partial(locties.read_modality, frame, name="m", columns=["ph"], beside=())
    with pytest.raises(ValueError, match=r"2 of 200 rows.*'ph' holds -9999.*rows 0, 1\..*'drop'"):
        read()
    with pytest.warns(UserWarning, match=r"-9999.*rows 0, 1.*is kept"):
        assert least(read(invalid="keep")) == -9999
    with pytest.warns(UserWarning, match=r"-9999.*rows 0, 1\. They are dropped"):
        assert least(read(invalid="drop")) > 0
