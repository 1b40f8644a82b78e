"""Write a map: a GeoTIFF or Zarr of its pixels, or a table of given places."""

from __future__ import annotations

import json
import math
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from locties import __version__
from locties._util.extras import need
from locties._util.files import DataError
from locties._util.text import printable
from locties.apply import cf
from locties.apply.grid import Edges, pixel_centres, pixels_touched, rows_of_globe
from locties.apply.metadata import CRS
from locties.apply.tiles import Layer, write_grid

if TYPE_CHECKING:
    import pandas as pd

    from locties.evaluation.tasks import Task
    from locties.lonlat import LonLat
    from locties.mapping.fit import LocationMap

TILE = 256  # largest side of a tile and of a GeoTIFF's block, in pixels
MARGIN = 0.1  # share of the larger side of the labels' extent
SMALLEST_MARGIN = 0.01  # degrees
USUAL_PIXELS = 160_000  # number of pixels that the default resolution aims at
MOST_PIXELS = 200_000_000
STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8)  # times a power of ten: the default resolutions
NONE = -1  # means no number, in layers of whole numbers


class Window(NamedTuple):
    """Pixels of a global grid that a map covers.

    Attributes:
        height: rows of the globe.
        pixels: edges of the window; columns may continue beyond 180 degrees east.
    """

    height: int
    pixels: Edges

    @property
    def resolution(self) -> float:
        """Size of a pixel, degrees."""
        return 180 / self.height

    @property
    def shape(self) -> tuple[int, int]:
        top, bottom, left, right = self.pixels
        return bottom - top, right - left

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north edges in degrees."""
        top, bottom, left, right = (edge * self.resolution for edge in self.pixels)
        west, south, east, north = left - 180, 90 - bottom, right - 180, 90 - top
        return round(west, 9), round(south, 9), round(east, 9), round(north, 9)

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Longitudes (W,) and latitudes (H,) of the pixels' centres."""
        return pixel_centres(self.resolution, self.pixels)


def window_of(
    lonlat: np.ndarray,
    bounds: Sequence[float] | str | None = None,
    resolution: float | None = None,
    pixels: int = USUAL_PIXELS,
) -> Window:
    """The pixels of a map of labels at lonlat (N, 2); checks the arguments before any work.

    Args:
        lonlat: degrees.
        bounds: as for `Outputs.to_geotiff`.
        resolution: as for `Outputs.to_geotiff`.
        pixels: number of pixels that the default resolution aims at.
    """
    west, south, east, north = _around(lonlat) if bounds is None else _checked(bounds)
    area = (east - west) * (north - south)
    if resolution is None:
        resolution = _round(math.sqrt(area / pixels))
    height = rows_of_globe(resolution)
    window = Window(height, pixels_touched(west, south, east, north, height))
    rows, columns = window.shape
    if rows * columns > MOST_PIXELS:
        raise ValueError(
            f"resolution={resolution!r} asks for {rows:,} x {columns:,} pixels: at most "
            f"{MOST_PIXELS:,} are written. Pass resolution="
            f"{_round(2 * math.sqrt(area / MOST_PIXELS)):g}, or smaller bounds"
        )
    return window


def _round(size: float) -> float:
    """The round resolution nearest to a size in degrees."""
    powers = range(math.floor(math.log10(size)) - 1, 1)
    sizes = [180 / round(180 / (step * 10.0**power)) for power in powers for step in STEPS]
    return min(sizes, key=lambda each: abs(math.log(each / size)))


def _around(lonlat: np.ndarray) -> tuple[float, float, float, float]:
    """The extent of places, with a margin; across the antimeridian if it is half the globe."""
    lon, lat = np.asarray(lonlat, dtype=np.float64).T
    west, east = lon.min(), lon.max()
    eastern = np.where(lon < 0, lon + 360, lon)
    if east - west > 180 > np.ptp(eastern):
        west, east = eastern.min(), eastern.max()
    margin = max(MARGIN * max(east - west, np.ptp(lat)), SMALLEST_MARGIN)
    limit = 180 if east <= 180 else west - margin + 360
    return (
        float(max(west - margin, -180)),
        float(max(lat.min() - margin, -90)),
        float(min(east + margin, limit)),
        float(min(lat.max() + margin, 90)),
    )


def _checked(bounds: Sequence[float] | str) -> tuple[float, float, float, float]:
    try:
        numbers = bounds.split(",") if isinstance(bounds, str) else bounds
        west, south, east, north = map(float, numbers)
    except (TypeError, ValueError):
        west = south = east = north = math.nan
    inside = -180 <= west <= 180 and -180 <= east <= 180 and west != east
    if not (inside and -90 <= south < north <= 90):
        raise ValueError(
            f"bounds={bounds!r}: give west, south, east and north in degrees, longitudes within "
            "[-180, 180] and south < north within [-90, 90]. West is greater than east only "
            "across the antimeridian"
        )
    return west, south, east if west < east else east + 360, north


class Outputs:
    """The outputs of a `locties.mapping.LocationMap`."""

    task: Task
    metadata: dict[str, Any]

    @abstractmethod
    def predict(self, lonlat: LonLat) -> pd.DataFrame:
        """Predict at places (N, 2)."""

    def to_geotiff(
        self,
        path: str | os.PathLike[str],
        *,
        bounds: Sequence[float] | str | None = None,
        resolution: float | None = None,
        sea: bool = False,
        progress: bool = True,
    ) -> Path:
        """Write the map as a cloud-optimised GeoTIFF, EPSG:4326, float32, NaN where there is none.

        A regression has the bands value, low and high (the ends of the prediction interval),
        trusted (1 if the place is similar to labelled places, else 0) and nearest_label_km. A
        classification has value (the number of the class; the band's tag `classes` has the names),
        probability (of that class), set_size (of the calibrated set), trusted and nearest_label_km.
        Memory holds one tile at a time. After an interrupt or a crash, the same call resumes after
        the last finished tile.

        Args:
            path: a name that ends in .tif.
            bounds: (west, south, east, north) in degrees, or as text with commas, widened to whole
                pixels; west is greater than east across the antimeridian. By default the extent of
                the labels, with a margin of a tenth of its larger side, at least 0.01 degrees.
            resolution: pixel size in degrees; it must divide 180, to six digits. By default a
                round number with which the map has 100,000 to 250,000 pixels.
            sea: map the sea and the great lakes too. By default they have no number; a pixel with a
                label always has one.
            progress: show a progress bar.

        Raises:
            FileExistsError: something else is at `path`; it stays as it is.
            RuntimeError: another process is writing to `path`.

        Example:
            >>> import locties
            >>> soil = locties.fit_map("melt", "points.csv", "ph")      # doctest: +SKIP
            >>> soil.to_geotiff("ph.tif", resolution=0.05)              # doctest: +SKIP
        """
        return self._write(Path(path), ".tif", bounds, resolution, sea, progress)

    def to_zarr(
        self,
        path: str | os.PathLike[str],
        *,
        bounds: Sequence[float] | str | None = None,
        resolution: float | None = None,
        sea: bool = False,
        progress: bool = True,
    ) -> Path:
        """Write the map as a Zarr store by the CF conventions; the rest is as in `to_geotiff`.

        The bands are variables; open it with ``xarray.open_zarr(path, decode_coords="all")``.

        Args:
            path: a name that ends in .zarr.
            bounds: as for `to_geotiff`, like all other arguments.
        """
        return self._write(Path(path), ".zarr", bounds, resolution, sea, progress)

    def to_table(
        self,
        path: str | os.PathLike[str],
        places: str | os.PathLike[str],
        *,
        lon: str | None = None,
        lat: str | None = None,
        invalid: str = "raise",
        progress: bool = True,
    ) -> Path:
        """Append the predictions to a table of places and write it.

        Memory holds a few thousand rows. After an interrupt or a crash, the same call resumes.

        Args:
            path: path of a CSV, TSV or Parquet to write.
            places: path of a CSV, TSV or Parquet; a GeoParquet gives its points.
            lon: column of longitudes, as in `locties.embed`.
            lat: column of latitudes, as in `locties.embed`.
            invalid: "raise" or "drop", as in `locties.embed`.
            progress: show a progress bar.
        """
        from locties.apply.append import append_columns

        about = self._identity()
        about["sample"] = json.dumps(about["sample"])
        places = os.fspath(places)
        options: dict[str, Any] = {"lon": lon, "lat": lat, "invalid": invalid}
        append_columns(places, Path(path), self.predict, about, progress=progress, **options)
        return Path(path)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        bounds: Sequence[float] | str | None = None,
        resolution: float | None = None,
        sea: bool = False,
        command: str = "",
        progress: bool = True,
    ) -> Path:
        """Write a page about the map, in one file, and its figures as a PNG.

        The page shows the map, the width of the intervals and where not to trust them. It shows
        scores, coverage, and labels against predictions on held-out blocks. It says what to cite
        and how the map was made.

        Args:
            path: a name that ends in .html; the PNG is beside it, with the same name.
            bounds, sea: as for `to_geotiff`.
            resolution: pixel size in degrees; by default a round number with about 60,000 pixels.
            command: the command that made the map; the page shows it.
            progress: show a progress bar.
        """
        from locties.mapping.report import write_report

        options: dict[str, Any] = {"bounds": bounds, "resolution": resolution, "sea": sea}
        return write_report(
            cast("LocationMap", self), Path(path), **options, command=command, progress=progress
        )

    def _identity(self) -> dict[str, Any]:
        """Values that distinguish this map from all others: texts, and numbers of a sample."""
        some = self.predict(self.task.lonlat[:8]).select_dtypes("number")
        return {**self._about(), "sample": some.to_numpy(np.float64).tolist()}

    def _about(self) -> dict[str, str]:
        return {name: as_text(value) for name, value in self.metadata.items()}

    def _write(
        self,
        path: Path,
        ending: str,
        bounds: Sequence[float] | str | None,
        resolution: float | None,
        sea: bool,
        progress: bool,
    ) -> Path:
        if path.suffix != ending:
            raise ValueError(f"path={str(path)!r}: give a name that ends in {ending}")
        labels = self.task.lonlat.numpy()
        window = window_of(labels, bounds, resolution)
        if not sea and (message := at_sea(self.task)):
            warnings.warn(f"{message} Pass sea=True to map all", stacklevel=3)
        lon, lat = window.centres()
        about = {
            "title": f"{printable(self.task.name)}, predicted from {len(labels)} places",
            "source": f"locties {__version__}, fit_map",
            **self._about(),
            "crs": CRS,
        }
        grid = cf.grid(lon, lat, window.resolution, about)
        identity = {
            "resolution_degrees": grid.attrs["resolution_degrees"],
            "bounds": list(window.bounds),
            "sea": sea,
            **self._identity(),
        }
        return write_grid(
            path,
            grid,
            layers_of(self),
            computer(self, window, sea),
            identity,
            side=TILE,
            cog=True,
            progress=progress,
        )


def layers_of(fitted: Outputs) -> dict[str, Layer]:
    """The layers of a map by name, in the order of a GeoTIFF's bands."""
    target = printable(fitted.task.name)
    units = {"units": printable(fitted.task.unit)} if fitted.task.unit else {}
    coverage = float(fitted.metadata["coverage"])
    whole = {"_FillValue": NONE}
    common = {
        "trusted": Layer(
            {
                "long_name": "whether the place is similar to labelled places",
                "flag_values": [0, 1],
                "flag_meanings": "no yes",
                **whole,
            },
            "int8",
            NONE,
        ),
        "nearest_label_km": Layer({"long_name": "distance to the nearest label", "units": "km"}),
    }
    if fitted.task.kind == "regression":
        interval = f"{coverage:.0%} prediction interval of {target}"
        own = {
            "value": Layer({"long_name": f"predicted {target}", **units}),
            "low": Layer({"long_name": f"lower end of the {interval}", **units}),
            "high": Layer({"long_name": f"upper end of the {interval}", **units}),
        }
    else:
        names = [printable(str(name)) for name in (fitted.task.classes or ())]
        own = {
            "value": Layer(
                {
                    "long_name": f"predicted class of {target}",
                    "flag_values": list(range(len(names))),
                    "flag_meanings": " ".join("_".join(name.split()) or "_" for name in names),
                    "classes": json.dumps(dict(enumerate(names)), ensure_ascii=False),
                    **whole,
                },
                "int16",
                NONE,
            ),
            "probability": Layer({"long_name": "probability of the predicted class", "units": "1"}),
            "set_size": Layer(
                {"long_name": f"number of classes in the {coverage:.0%} set", **whole},
                "int16",
                NONE,
            ),
        }
    layers = own | common
    beside = " ".join(name for name in layers if name != "value")
    value = layers["value"]
    layers["value"] = value._replace(attributes={**value.attributes, "ancillary_variables": beside})
    return layers


def computer(
    fitted: Outputs, window: Window, sea: bool
) -> Callable[[slice, slice], dict[str, np.ndarray]]:
    """A function from rows and columns of the window to the layers there."""
    lon, lat = window.centres()
    layers = layers_of(fitted)
    labels = fitted.task.lonlat.numpy()
    kept = np.empty((0, 2), int)
    if not sea:
        kept = _pixels_with(labels[~is_land(labels)], window)

    def compute(rows: slice, columns: slice) -> dict[str, np.ndarray]:
        x, y = np.meshgrid(lon[columns], lat[rows])
        shown = np.ones(x.shape, bool)
        points = np.stack([x.ravel(), y.ravel()], axis=1)
        if not sea:
            shown = is_land(points).reshape(x.shape)
            row, column = (kept - (rows.start or 0, columns.start or 0)).T
            inside = (row >= 0) & (row < len(x)) & (column >= 0) & (column < x.shape[1])
            shown[row[inside], column[inside]] = True
        there = {
            name: np.full(x.shape, layer.missing, layer.dtype) for name, layer in layers.items()
        }
        if shown.any():
            frame = fitted.predict(points[shown.ravel()])
            for name in layers:
                there[name][shown] = _column(fitted, frame, name)
        return there

    return compute


def _column(fitted: Outputs, frame: pd.DataFrame, name: str) -> np.ndarray:
    """The numbers of a layer, from the table of `predict`."""
    if fitted.task.kind == "regression" or name not in ("value", "probability"):
        return np.asarray(frame[name])
    codes = {label: code for code, label in enumerate(fitted.task.classes or ())}
    chosen = np.asarray(frame["value"].map(codes))
    if name == "value":
        return chosen
    every = np.asarray(frame[[f"p_{label}" for label in codes]])
    return np.asarray(every[np.arange(len(every)), chosen])


def _pixels_with(lonlat: np.ndarray, window: Window) -> np.ndarray:
    """Row and column (N, 2), in the window, of the pixel that contains each place."""
    top, _, left, _ = window.pixels
    row = np.floor((90 - lonlat[:, 1]) / window.resolution).astype(int) - top
    turns = 2 * window.height
    column = (np.floor((lonlat[:, 0] + 180) / window.resolution).astype(int) - left) % turns
    return np.stack([row, column], axis=1)


def at_sea(task: Task) -> str:
    """A warning about labels that are not on land; empty if there are none."""
    wet = int((~is_land(task.lonlat.numpy())).sum())
    if not wet:
        return ""
    return (
        f"By the land mask, in pixels of 5 arc minutes, {wet} of {len(task.lonlat)} labels lie in "
        "the sea or a lake: there, only pixels with a label are mapped."
    )


def is_land(lonlat: np.ndarray) -> np.ndarray:
    """Whether places (N, 2) are on land, neither sea nor lake."""
    from locties.data import embedded

    try:
        land = embedded.load().land
    except (ImportError, DataError) as error:
        raise type(error)(f"{error}. Or pass sea=True, which needs no land mask") from error
    there: np.ndarray = land.nearest(torch.from_numpy(lonlat))[:, 0].numpy() == 1
    return there


def as_text(value: Any) -> str:
    """A value of the metadata as plain text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return printable(text)


def trusted_share(path: Path) -> float:
    """The share of a written map's area that is trusted, read from about a million pixels."""
    if path.suffix == ".zarr":
        xarray = need("xarray", "a Zarr store", "export")
        with xarray.open_zarr(path) as store:
            step = math.ceil(math.sqrt(store["trusted"].size / 1e6))
            some = store["trusted"][::step, ::step]
            return share_of_area(some.to_numpy(), some["lat"].to_numpy())
    rasterio = need("rasterio", "a GeoTIFF", "export")
    with rasterio.open(path) as dataset:
        step = math.ceil(math.sqrt(dataset.width * dataset.height / 1e6))
        shape = math.ceil(dataset.height / step), math.ceil(dataset.width / step)
        some = dataset.read(dataset.descriptions.index("trusted") + 1, out_shape=shape)
        bounds = dataset.bounds
        half = (bounds.top - bounds.bottom) / shape[0] / 2
        return share_of_area(some, np.linspace(bounds.top - half, bounds.bottom + half, shape[0]))


def share_of_area(trusted: np.ndarray, lat: np.ndarray) -> float:
    """The trusted share of the mapped area. Pixels (H, W): 1 trusted, 0 not, NaN not mapped.

    Example:
        >>> round(share_of_area(np.array([[1, 0], [np.nan, 1]]), np.array([60.0, 0.0])), 3)
        0.75
    """
    area = np.cos(np.radians(lat))[:, None] * np.isfinite(trusted)
    return float((area * np.nan_to_num(trusted)).sum() / max(area.sum(), 1e-300))
