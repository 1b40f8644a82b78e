"""An interactive map: click a place, and the Earth is coloured by similarity to it.

`explore` embeds the land with several encoders and compresses the embeddings for a page. An encoder
that takes a month is embedded in all twelve, and the page has a slider.
`Explorer.html` puts data, style and script into one piece of HTML that needs no network. At a
click, the script computes `cosine`.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import shapely
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

from locties import maps
from locties._util.registry import unknown
from locties.apply.grid import embed_points, pixel_centres
from locties.apply.metadata import Encoder, takes_month
from locties.data import embedded
from locties.data.sampling import SOUTHERN_LIMIT
from locties.lonlat import check
from locties.month import MONTHS
from locties.saved import published

COMPARED = 256  # places for which similarities are checked against the full embedding
STEP = 8  # dimensions are added in steps
SAMPLES = 6  # points along each side of a cell that are tested for land
COAST_DEGREES = 0.1  # tolerance of a simplified coast: a fifth of a pixel on a wide page
SMALLEST_ISLAND, SMALLEST_LAKE = 0.7, 2.0  # degrees
COLOURS = 64
SHOWN = 3  # maps side by side
PREFERRED = ("large", "seasonal", "melt", "salt", "clip")


class Cells(NamedTuple):
    """Cells of nearly equal area that hold land north of Antarctica.

    Rows of equal height, north to south, are cut into columns from -180 degrees eastwards, fewer
    towards the poles. Cells are numbered row by row.

    Attributes:
        columns: (H,) int, cells in each row.
        number: (N,) int32, ascending: numbers of the cells that are kept.
        lonlat: (N, 2) float32, their centres, degrees.
    """

    columns: np.ndarray
    number: np.ndarray
    lonlat: np.ndarray

    def find(self, lonlat: Tensor) -> np.ndarray:
        """Positions (P,) in `number` of the cells that hold points (P, 2); -1 if not kept."""
        lon, lat = check(lonlat).double().numpy().T
        height = len(self.columns)
        row = np.minimum(((90 - lat) * height / 180).astype(int), height - 1)
        # Just west of 180 degrees the product can round up to the number of columns.
        column = ((lon + 180) / 360 * self.columns[row]).astype(int)
        column = np.minimum(column, self.columns[row] - 1)
        number = np.cumsum([0, *self.columns])[row] + column
        at = np.minimum(np.searchsorted(self.number, number), len(self.number) - 1)
        return np.where(self.number[at] == number, at, -1)


def land_cells(resolution: float) -> Cells:
    """The cells on land. `resolution` is their height in degrees; it must divide 180."""
    _, lat = pixel_centres(resolution)
    columns = np.round(2 * len(lat) * np.cos(np.radians(lat))).astype(int)
    centre_lat = np.repeat(lat, columns)
    centre_lon = np.concatenate([(np.arange(n) + 0.5) * 360 / n - 180 for n in columns])
    inside = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    lon = (
        centre_lon[:, None, None]
        + inside[:, None] * (360 / np.repeat(columns, columns))[:, None, None]
    )
    lon, lat = np.broadcast_arrays(lon, centre_lat[:, None, None] + inside * 180 / len(lat))
    points = torch.from_numpy(np.stack([lon, lat], axis=-1).reshape(-1, 2))
    land = (embedded.load().land.nearest(points)[:, 0] == 1).numpy().reshape(-1, SAMPLES**2)
    number = np.flatnonzero(land.any(axis=1) & (centre_lat > SOUTHERN_LIMIT))
    lonlat = np.stack([centre_lon, centre_lat], axis=1)[number]
    return Cells(columns, number.astype(np.int32), lonlat.astype(np.float32))


class Compressed(NamedTuple):
    """Embeddings in fewer bytes that keep their cosine similarities, up to a known error.

    Attributes:
        codes: (N, d) int8; cosines of its rows approximate those of the embeddings.
        largest_error: of the cosines compared.
        mean_error: of the cosines compared.
    """

    codes: np.ndarray
    largest_error: float
    mean_error: float


def compress(embedding: np.ndarray, tolerance: float) -> Compressed:
    """Keep the fewest principal components that reach the tolerance, in one byte each.

    Embeddings (N, D) are L2-normalised but not centred, so that dropping the last components
    changes inner products least. Each row is scaled to fill its bytes, since a cosine ignores
    length.
    `tolerance` is the largest error of a cosine between `COMPARED` places and all others.
    """
    unit = embedding / np.linalg.norm(embedding.astype(np.float64), axis=1, keepdims=True)
    _, axes = np.linalg.eigh(unit.T @ unit)  # ascending
    scores = unit @ axes[:, ::-1]
    places = np.random.default_rng(0).permutation(len(unit))[:COMPARED]
    exact = unit[places] @ unit.T
    for dim in range(STEP, scores.shape[1] + STEP, STEP):
        kept = scores[:, :dim]
        codes = np.round(127 * kept / np.abs(kept).max(axis=1, keepdims=True)).astype(np.int8)
        error = np.abs(cosine(codes, places) - exact)
        if error.max() <= tolerance:
            return Compressed(codes, float(error.max()), float(error.mean()))
    raise ValueError(
        f"tolerance={tolerance}: similarities kept in bytes are off by up to {error.max():.2g}; "
        "allow more"
    )


def cosine(codes: np.ndarray, places: np.ndarray | int) -> np.ndarray:
    """Cosine (P, N) of the rows at P places, or (N,) at one place, with each row of `codes`."""
    unit = codes / np.linalg.norm(codes.astype(np.float64), axis=1, keepdims=True)
    similarity: np.ndarray = unit[places] @ unit.T
    return similarity


@dataclass(frozen=True, eq=False, repr=False)
class Explorer:
    """The content of a page.

    Attributes:
        cells: of land.
        encoders: by title, the compressed embeddings of the cells: one, or one for each month.
        cities: P names, the largest city first.
        countries: P codes (ISO 3166-1 alpha-2).
        lonlat: (P, 2) float32, degrees, of the cities.
        place: the city shown first.
        low: lower end of the colours; the upper end is 1.
    """

    cells: Cells
    encoders: dict[str, list[Compressed]]
    cities: list[str]
    countries: list[str]
    lonlat: np.ndarray
    place: str
    low: float

    def nearest(self, city: str, title: str, count: int = 8) -> list[str]:
        """The cities most similar to `city`, itself first. A cell stands for its largest city.

        An encoder that takes a month is read in January.
        """
        if city not in self.cities:
            raise unknown("city", city, self.cities)
        chosen = self.cities.index(city)
        cell = self.cells.find(torch.from_numpy(self.lonlat))
        first = dict(zip(reversed(cell.tolist()), reversed(range(len(cell))), strict=True))
        first[int(cell[chosen])] = chosen
        similar = cosine(self.encoders[title][0].codes, cell[chosen])
        order = sorted(first, key=lambda position: -similar[position])
        return [self.cities[first[position]] for position in order[:count]]

    @property
    def _in_january(self) -> list[str]:
        """The titles of the first maps, which are those of January."""
        return [
            title if len(kept) == 1 else f"{title} in {MONTHS[0]}"
            for title, kept in self.encoders.items()
        ]

    def draw(self) -> Figure:
        """The first maps as a picture, for readers without scripts."""
        figure, axes = maps.globe(1, len(self.encoders), width=4.0 * len(self.encoders))
        chosen = self.lonlat[self.cities.index(self.place)]
        [at] = self.cells.find(torch.from_numpy(chosen[None]))
        lon, lat = np.meshgrid(*pixel_centres(0.5))
        points = torch.from_numpy(np.stack([lon, lat], axis=-1).reshape(-1, 2))
        position = self.cells.find(points).reshape(lon.shape)
        for title, kept, ax in zip(self._in_january, self.encoders.values(), axes, strict=True):
            field = np.where(position < 0, np.nan, cosine(kept[0].codes, int(at))[position])
            label = f"cosine similarity to {self.place}"
            maps.draw_field(field, label, limits=(self.low, 1), title=title, ax=ax)
            maps.mark(ax, chosen.tolist(), self.place)
        return figure

    def html(self) -> str:
        """The data, the style and the script as one piece of HTML."""
        picture = io.BytesIO()
        figure = self.draw()
        figure.savefig(picture, dpi=70)
        plt.close(figure)
        colours = plt.get_cmap(maps.SEQUENTIAL)(np.linspace(0, 1, COLOURS))
        earth = embedded.load()
        data = {
            "columns": self.cells.columns.tolist(),
            "cells": _text(self.cells.number),
            "encoders": [
                {
                    "title": title,
                    "months": [
                        {"dim": each.codes.shape[1], "codes": _text(each.codes)} for each in kept
                    ],
                }
                for title, kept in self.encoders.items()
            ],
            "months": MONTHS,
            "cities": [
                [name, country, *np.round(lonlat.astype(float), 2).tolist()]
                for name, country, lonlat in zip(
                    self.cities, self.countries, self.lonlat, strict=True
                )
            ],
            "coasts": _lines(earth.coasts, SMALLEST_ISLAND),
            "lakes": _lines(earth.lakes, SMALLEST_LAKE),
            "centre": float(maps.PROJECTION.proj4_params["lon_0"]),
            "colours": [to_hex(colour) for colour in colours],
            "low": self.low,
            "place": self.place,
        }
        static = files("locties_paper.figures") / "_static"
        # A closing tag would end the script; JSON reads \u003c as the same character.
        return Template((static / "explorer.html").read_text("utf-8")).substitute(
            controls=(static / "controls.css").read_text("utf-8"),
            style=(static / "explorer.css").read_text("utf-8"),
            points=(static / "points.js").read_text("utf-8"),
            element=(static / "element.js").read_text("utf-8"),
            script=(static / "explorer.js").read_text("utf-8"),
            data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
            picture=base64.b64encode(picture.getvalue()).decode(),
            alt=html.escape(
                f"World maps of cosine similarity to {self.place} in "
                f"{', '.join(self._in_january)}: one map each."
            ),
        )


def chosen_by_default() -> list[str]:
    """The names of the encoders to show: the first of `PREFERRED` that come with locties."""
    there = published()
    return [name for name in PREFERRED if name in there][:SHOWN]


def explore(
    encoders: Mapping[str, Encoder],
    resolution: float = 1.5,
    tolerance: float = 0.05,
    month_tolerance: float = 0.1,
    population: int = 300_000,
    place: str = "Nairobi",
) -> Explorer:
    """Embed the land with several encoders, for a page.

    Args:
        encoders: by title, a function from lonlat (N, 2), and months (N,) if it has a `time`, to
            (N, dim), in the order of the maps.
        resolution: height of a cell, degrees; it must divide 180.
        tolerance: largest error of a cosine similarity on the page.
        month_tolerance: the same for an encoder that takes a month: its twelve maps are large.
        population: of the smallest city listed.
        place: the city shown first, by its name in GeoNames.

    Example:
        >>> from locties.lonlat import to_xyz
        >>> explorer = explore({"xyz": to_xyz}, resolution=10, population=3_000_000)
        >>> explorer.nearest("Nairobi", "xyz", 2)
        ['Nairobi', 'Addis Ababa']
    """
    cells = land_cells(resolution)
    places = embedded.load().places
    large = torch.nonzero(places.population >= population)[:, 0]
    large = large[torch.argsort(places.population[large], descending=True, stable=True)]
    large = large[torch.from_numpy(cells.find(places.lonlat[large]) >= 0)]
    cities = [places.names[i][0] for i in large.tolist()]
    if place not in cities:
        raise unknown(f"city of {population:,} inhabitants", place, cities)
    lonlat = torch.from_numpy(cells.lonlat)
    kept = {}
    for title, encoder in encoders.items():
        months = _months(encoder, len(lonlat))
        allowed = tolerance if len(months) == 1 else month_tolerance
        kept[title] = [compress(embed_points(encoder, lonlat, month), allowed) for month in months]
    some = np.random.default_rng(0).permutation(len(cells.number))[:COMPARED]
    # A median, so that one encoder with lower similarities does not set the scale for all.
    tenths = [
        np.mean([np.quantile(cosine(each.codes, some), 0.1) for each in months])
        for months in kept.values()
    ]
    return Explorer(
        cells,
        kept,
        cities,
        [places.countries[code] for code in places.country[large].tolist()],
        places.lonlat[large].numpy(),
        place,
        low=np.floor(10 * float(np.median(tenths))) / 10,
    )


def _months(encoder: Encoder, n: int) -> list[Tensor] | list[None]:
    """Every month, for n places, that an encoder takes; None alone if it takes none."""
    if not takes_month(encoder):
        return [None]
    return [torch.full((n,), month) for month in range(1, len(MONTHS) + 1)]


def _text(values: np.ndarray) -> str:
    """Little-endian bytes in base64."""
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def _lines(lines: Sequence[np.ndarray], smallest: float) -> dict[str, Any]:
    """Lines longer than `smallest` degrees, simplified, in hundredths of degrees."""
    simple = [
        shapely.get_coordinates(shapely.simplify(shapely.LineString(line), COAST_DEGREES))
        for line in lines
        if np.ptp(line, axis=0).max() > smallest
    ]
    points = np.round(100 * np.concatenate(simple)).astype(np.int16)
    return {"points": _text(points), "lengths": [len(line) for line in simple]}
