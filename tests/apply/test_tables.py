"""Columns of coordinates: found alike everywhere, and never by their order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import locties
from locties import evaluation
from locties.apply.tables import coordinate_columns
from locties.cli import app
from locties.modality import profile_encoder

RNG = np.random.default_rng(0)
LONLAT = RNG.uniform([-80, -60], [80, 60], (120, 2))
FRAME = pd.DataFrame(LONLAT[:, ::-1], columns=["latitude", "longitude"])
MASKED = np.ma.masked_array(LONLAT, np.arange(240).reshape(120, 2) == 3)  # the latitude of row 1
TASK = evaluation.Task("north", LONLAT, LONLAT[:, 1])
ENCODER = locties.LocationEncoder("xyz", "mlp", 4, network_options={"hidden": 8})

# Wherever coordinates are taken, as an array of what comes out.
TAKEN: dict[str, Callable] = {
    "encoder": lambda x: ENCODER(x).detach(),
    "check": locties.lonlat.check,
    "spherical_harmonics": lambda x: locties.spherical_harmonics(x, 4),
    "embed": lambda x: locties.embed(ENCODER, x),
    "LocationFeatures": lambda x: locties.LocationFeatures(ENCODER).fit_transform(x),
    "LocationFeatures.transform": lambda x: (
        locties.LocationFeatures(ENCODER).fit(LONLAT).transform(x)
    ),
    "Task": lambda x: evaluation.Task("north", x, LONLAT[:, 1]).lonlat,
    "Modality": lambda x: locties.Modality("m", x, torch.ones(120, 2), profile_encoder(2)).lonlat,
    "fit_probe": lambda x: locties.fit_probe(ENCODER, TASK)(x),
    "folds": lambda x: evaluation.folds(x, "block"),
    "nearest_label_km": lambda x: evaluation.nearest_label_km(x, LONLAT + 1),
    "place_density": lambda x: evaluation.place_density(x)(torch.tensor(LONLAT)),
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_a_frame_is_read_by_name_wherever_coordinates_are_taken(take: Callable) -> None:
    np.testing.assert_array_equal(np.asarray(take(FRAME)), np.asarray(take(LONLAT)))


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_a_masked_coordinate_is_refused_by_row_wherever_they_are_taken(take: Callable) -> None:
    with pytest.raises(ValueError, match=r"row 1\b.*|missing: row 1\b"):
        take(MASKED)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["id", "LAT", "Lon"], ("Lon", "LAT")),
        (["decimalLatitude", "decimalLongitude"], ("decimalLongitude", "decimalLatitude")),
        ([" lng", "latitude", "x", "y"], (" lng", "latitude")),
    ],
)
def test_usual_names_are_found_in_any_case_and_order(names, found) -> None:
    assert coordinate_columns(pd.DataFrame(columns=names)) == found


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["lon", "Longitude", "lat"], ["lon, Longitude", "Pass lon='lon', or another"]),
        (["lon", "lat", "Latitude"], ["lat, Latitude", "Pass lat='lat', or another"]),
        (["x", "y"], ["no column 'lon' nor 'lat'", "Pass lon='x', lat='y'"]),
        (["east", "lat"], ["no column 'lon'", "east, lat", "Pass lon= and lat="]),
    ],
)
def test_names_that_are_not_clear_are_listed_with_what_to_pass(names, words) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is tested just below)
        coordinate_columns(pd.DataFrame(columns=names))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("given", [{}, {"lon": "x", "lat": "y"}])
def test_embed_the_readers_and_the_command_line_find_the_same(given: dict, tmp_path: Path) -> None:
    lon, lat = given.get("lon", "Longitude"), given.get("lat", "LAT")
    frame = pd.DataFrame({lat: LONLAT[:, 1], "ph": RNG.normal(6, 1, 120), lon: LONLAT[:, 0]})
    if given:
        frame[["lon", "lat"]] = 0.0  # what is given wins
    expected = ENCODER(LONLAT).detach().numpy()
    embedded = locties.embed(ENCODER, frame, **given).to_numpy()
    np.testing.assert_allclose(embedded, expected, atol=1e-5)
    in_mapping = locties.embed(ENCODER, dict(frame), **given).to_numpy()
    np.testing.assert_array_equal(in_mapping, embedded)
    np.testing.assert_array_equal(locties.read_task(frame, "ph", **given).lonlat, LONLAT)
    soil = locties.read_modality(frame, name="soil", beside=(), **given)
    assert soil.samples[torch.arange(1)].shape == (1, 1), "coordinates are no measurement"
    assert {tuple(p) for p in soil.lonlat.tolist()} <= set(
        map(tuple, LONLAT.astype(np.float32).tolist())
    )
    ENCODER.save(tmp_path / "encoder")
    frame.to_csv(tmp_path / "a.csv", index=False)
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    encoder, file = str(tmp_path / "encoder"), str(tmp_path / "a.csv")
    quick = ["--target", "ph", "--splits", "random", "--probes", "ridge"]
    for command in (["embed", encoder, file], ["evaluate", encoder, "--points-file", file, *quick]):
        result = CliRunner().invoke(app, [*command, *options])
        assert result.exit_code == 0, result.stderr


def test_an_index_that_repeats_is_said_before_a_join_mixes_rows() -> None:
    with pytest.warns(UserWarning, match="reset_index"):
        locties.embed(ENCODER, pd.concat([FRAME[:2], FRAME[:2]]))


def test_a_masked_measurement_is_a_missing_one() -> None:
    values = np.ma.masked_array(LONLAT[:, 1], np.arange(120) == 7)
    with pytest.raises(ValueError, match="row 7"):
        evaluation.Task("north", LONLAT, values)
