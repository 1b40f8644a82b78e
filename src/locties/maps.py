"""Figures on the globe: fields, embeddings, clusters, points, predictions and their errors.

Every map uses the Equal Earth projection, which preserves areas. It is centred on 11 degrees east,
so that its edge runs through Bering Strait and cuts no land. Coasts and the land mask come from the
embedded tier, so no map needs a download.

`embedding_rgb`, `similarity` and `clusters` compute arrays; `draw_*` draw arrays on `ax`, or on a
new figure, and return the figure. A field is an array (H, 2H), north row first and west column
first, as in `locties.embed_grid`.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from locties._util.extras import needs

with needs("data,study", "locties.maps"):
    import cartopy.crs as ccrs
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from cartopy.mpl.geoaxes import GeoAxes
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap, Normalize, to_rgba
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.patheffects import withStroke

from locties.apply.grid import EmbeddingGrid, pixel_centres
from locties.data import embedded
from locties.lonlat import check

PROJECTION = ccrs.EqualEarth(central_longitude=11)
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
# Paul Tol's muted scheme, then the three colours that stay farthest from it (and from each other)
# for normal, deuteranopic, protanopic and tritanopic eyes.
CATEGORIES = (
    *("#332288", "#DDCC77", "#CC6677", "#117733", "#88CCEE", "#882255"),
    *("#44AA99", "#999933", "#AA4499", "#00FCCF", "#8400CD", "#661100"),
)

COLOUR_BAR_INCHES = 0.65
CANVAS_WIDTH = 1600  # pixels: a figure 8 inches wide at 200 dots per inch
SMALLEST_ISLAND, SMALLEST_LAKE = 0.002, 0.006  # times the map's width; smaller ones hide the field
SEA_COLOUR, LAND_COLOUR = "#edf1f4", "#cfd3d6"
TITLE_POINTS, LABEL_POINTS, TICK_POINTS = 13, 12, 11  # readable at half of 8 inches
# Names and units are text: in "US$ per m$^2$", $ begins no formula.
_as_written = mpl.rc_context({"text.parse_math": False})

# Ottosson's OKLab to cube roots of cone responses, and these to linear sRGB (IEC 61966-2-1).
_OKLAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def embedding_rgb(grid: EmbeddingGrid, where: np.ndarray | None = None) -> np.ndarray:
    """Colour an embedding by its first three principal components.

    Similar colours mean similar embeddings. A colour has no meaning of its own and differs between
    encoders. The first component is lightness. The second runs from blue to yellow, which
    colour-blind readers also see. The third, fainter, runs from green to red. Components are those
    of the L2-normalised embeddings, weighted by area. Each is clipped to its 2nd and 98th
    percentile. Its sign is chosen so that its skewness is positive; rotating the embedding space
    then changes no colour.

    Args:
        grid: embeddings of at least three dimensions.
        where: (H, W) bool, the pixels that the components are fitted on; land by default.

    Returns:
        (H, W, 3) float32 in [0, 1], sRGB.

    Source: colours in OKLab (Ottosson, "A perceptual color space for image processing", 2020).
    """
    if grid.embedding.shape[-1] < 3:
        raise ValueError(
            f"an embedding of {grid.embedding.shape[-1]} dimensions has no three components: give "
            "3 or more, or use draw_field for each"
        )
    where = _chosen(grid, where)
    weights = _area(grid)[where]
    fitted = _normalised(grid.embedding[where])
    fitted -= np.average(fitted, axis=0, weights=weights).astype(np.float32)
    _, axes = np.linalg.eigh((fitted * weights[:, None]).T @ fitted)  # ascending variance
    axes = axes[:, :-4:-1]
    axes = axes * np.where(weights @ (fitted @ axes) ** 3 < 0, -1, 1)
    scores = grid.embedding @ axes / _norms(grid.embedding)
    low, high = np.quantile(
        scores[where], (0.02, 0.98), axis=0, weights=weights, method="inverted_cdf"
    )
    spread = np.where(high > low, high - low, 1)
    return _colours(np.clip((scores - low) / spread, 0, 1))


def _colours(parts: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in [0, 1] of three numbers in [0, 1]: lightness, blue-yellow, green-red."""
    lightness, yellow, red = np.moveaxis(parts, -1, 0)
    lab = np.stack([0.4 + 0.48 * lightness, 0.14 * red - 0.07, 0.22 * yellow - 0.11], axis=-1)
    linear = np.clip((lab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T, 0, 1)
    gamma = 1.055 * linear ** (1 / 2.4) - 0.055
    rgb: np.ndarray = np.where(linear <= 0.0031308, 12.92 * linear, gamma)
    return rgb.astype(np.float32)


def similarity(grid: EmbeddingGrid, lonlat: Sequence[float]) -> np.ndarray:
    """Cosine similarity (H, W) of each pixel's embedding to that at a place (lon, lat in degrees).

    Example:
        >>> from locties.apply.grid import embed_grid
        >>> from locties.lonlat import to_xyz
        >>> similarity(embed_grid(to_xyz, resolution=90), [-135, 45]).round(2)[0].tolist()
        [1.0, 0.5, 0.0, 0.5]
    """
    [[lon, lat]] = _degrees([lonlat])
    place = _normalised(grid.embedding[_pixels(lon, lat, len(grid.lat))])
    cosine: np.ndarray = (grid.embedding @ place) / _norms(grid.embedding)[..., 0]
    return cosine.clip(-1, 1)


def clusters(
    grid: EmbeddingGrid, k: int, seed: int = 0, where: np.ndarray | None = None
) -> np.ndarray:
    """Group pixels by k-means on their L2-normalised embeddings, weighted by area.

    Clusters are numbered by mean latitude, north to south, so that the maps of two encoders can be
    compared.

    Args:
        grid: embeddings.
        k: number of clusters, 2 to 12: nobody can distinguish more colours.
        seed: seed of the k-means.
        where: (H, W) bool, the pixels that the means are fitted on; land by default.

    Returns:
        (H, W) int8, 0 to k - 1, for every pixel.
    """
    if not 2 <= k <= len(CATEGORIES):
        raise ValueError(f"k = {k} clusters: choose 2 to {len(CATEGORIES)}")
    with needs("study", "maps.clusters"):
        from sklearn.cluster import MiniBatchKMeans  # takes longer to import than all the rest

    where = _chosen(grid, where)
    weights = _area(grid)[where]
    means = MiniBatchKMeans(k, batch_size=4096, n_init=3, random_state=seed)
    means.fit(_normalised(grid.embedding[where]), sample_weight=weights)
    labels = np.stack([means.predict(_normalised(row)) for row in grid.embedding])
    latitude = np.broadcast_to(grid.lat[:, None], where.shape)[where]
    area = np.bincount(labels[where], weights, minlength=k)
    mean = np.bincount(labels[where], weights * latitude, minlength=k) / np.maximum(area, 1e-12)
    # A cluster without members has no latitude and comes last.
    rank = np.argsort(np.argsort(np.where(area > 0, -mean, np.inf))).astype(np.int8)
    numbered: np.ndarray = rank[labels]
    return numbered


def land_mask(height: int) -> np.ndarray:
    """Where the pixel centres of a grid of `height` rows are on land, not in a lake: (H, 2H) bool.

    Example:
        >>> bool(0.2 < land_mask(36).mean() < 0.4)
        True
    """
    lon, lat = pixel_centres(180 / height)
    return _is_land(*np.meshgrid(lon, lat))


@_as_written
def globe(
    rows: int = 1, columns: int = 1, width: float = 8.0, below: float = COLOUR_BAR_INCHES
) -> tuple[Figure, list[GeoAxes]]:
    """A figure of empty globes with coasts, and its axes row by row, for the draw functions' `ax`.

    It is `width` inches wide, with `below` inches under each panel for a colour bar or legend.
    """
    panel = width / columns
    height = rows * (panel * 0.487 + 0.3 + below)  # a title takes 0.3 inches
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(width, height),
        subplot_kw={"projection": PROJECTION},
        layout="compressed",
        facecolor="white",
        squeeze=False,
    )
    thickness = 0.4 + 0.6 * panel / 8
    axes = list(grid.flat)
    for ax in axes:
        ax.set_global()
        ax.set_facecolor(SEA_COLOUR)
        ax.spines["geo"].set(linewidth=0.6, edgecolor="0.45")
        for lines, colour, line_width, order in (
            (_graticule(), "0.82", 0.5, 0.5),
            (_outlines(), "white", 1.0, 3),  # a pale rim, so that dark areas show their coast
            (_outlines(), "0.15", 0.4, 3.1),
        ):
            collection = LineCollection(
                lines, colors=colour, linewidths=line_width * thickness, zorder=order
            )
            collection.set_alpha(0.6 if colour == "white" else 1)
            collection.set_in_layout(False)
            ax.add_collection(collection, autolim=False)
    return figure, axes


def draw_field(
    values: np.ndarray,
    label: str,
    unit: str = "",
    *,
    cmap: str = SEQUENTIAL,
    limits: tuple[float, float] | None = None,
    land_only: bool = True,
    title: str = "",
    ax: GeoAxes | None = None,
) -> Figure:
    """Draw a field of numbers with a colour bar.

    Args:
        values: (H, 2H), north first; NaN is left blank.
        label: name of the numbers, for the colour bar.
        unit: unit of the numbers; empty for none.
        cmap: a Matplotlib colour map. With `DIVERGING` the default limits are symmetric about 0.
        limits: ends of the colours; by default the 2nd and 98th percentile of what is shown.
        land_only: leave the sea and lakes blank.
        title: title of the panel.
        ax: one of `globe`'s axes; by default a new figure.

    Example:
        >>> warmth = np.tile(30 - abs(np.linspace(89, -89, 90)) / 2, (180, 1)).T
        >>> draw_field(warmth, "air temperature", "degC").savefig("warmth.png")
    """
    canvas = _warp(np.asarray(values, dtype=np.float32), 2)
    if land_only:
        canvas[~_land_on_canvas()] = np.nan
    norm = _norm(canvas, cmap, limits)
    ax = _ready(ax, title)
    _show(ax, plt.get_cmap(cmap)(norm(np.ma.masked_invalid(canvas)), bytes=True))
    _colour_bar(ax, norm, cmap, label, unit, canvas)
    return _figure(ax)


def draw_rgb(
    rgb: np.ndarray, *, land_only: bool = True, title: str = "", ax: GeoAxes | None = None
) -> Figure:
    """Draw colours (H, 2H, 3) in [0, 1], north first, such as `embedding_rgb` gives.

    The other arguments are as in `draw_field`.
    """
    rgb = np.asarray(rgb, dtype=np.float32)
    if not (rgb.min() >= 0 and rgb.max() <= 1):
        raise ValueError(f"colours from {rgb.min()} to {rgb.max()}: give numbers in [0, 1]")
    canvas = _warp(rgb, 3)
    shown = _land_on_canvas() if land_only else np.ones(canvas.shape[:2], bool)
    ax = _ready(ax, title, below=0)
    _show(ax, (np.dstack([canvas, shown]) * 255).astype(np.uint8))
    return _figure(ax)


def draw_points(
    lonlat: np.ndarray,
    values: np.ndarray | None = None,
    label: str = "",
    unit: str = "",
    *,
    names: Sequence[str] | None = None,
    cmap: str = SEQUENTIAL,
    limits: tuple[float, float] | None = None,
    title: str = "",
    ax: GeoAxes | None = None,
) -> Figure:
    """Draw points: where samples lie, the numbers of a task, or its classes.

    Points are drawn in a fixed random order, so that the order of the data hides none of them. The
    other arguments are as in `draw_field`.

    Args:
        lonlat: (N, 2), longitude then latitude, degrees.
        values: (N,) numbers, or class indices if `names` is given; None draws places only.
        names: class names, at most 12; a legend then replaces the colour bar.

    Example:
        >>> lonlat = np.array([[13.4, 52.5], [2.35, 48.86], [-60.0, -3.1]])
        >>> figure = draw_points(lonlat, np.array([9.6, 12.1, 27.0]), "air temperature", "degC")
    """
    lonlat = _degrees(lonlat)
    if values is not None and np.shape(values) != (len(lonlat),):
        raise ValueError(
            f"values of shape {np.shape(values)} for {len(lonlat)} points: give one each"
        )
    colours = np.broadcast_to(to_rgba(CATEGORIES[0]), (len(lonlat), 4))
    norm = None
    if values is not None and names is not None:
        values = np.asarray(values)
        colours = _palette(values, names)(np.ma.masked_less(values, 0))
    elif values is not None:
        values = np.asarray(values, dtype=np.float32)
        norm = _norm(values, cmap, limits)
        colours = plt.get_cmap(cmap)(norm(np.ma.masked_invalid(values)))
    ax = _ready(ax, title)
    _show(ax, np.where(_land_on_canvas()[..., None], to_rgba(LAND_COLOUR), 0))
    order = np.random.default_rng(0).permutation(len(lonlat))
    x, y = _project(lonlat).T
    ax.scatter(
        x[order],
        y[order],
        s=np.clip(40_000 / max(len(lonlat), 1), 1, 36) * _panel_width(ax) ** 2,
        c=colours[order],
        linewidths=0,
        rasterized=True,
        zorder=4,
    )
    if names is not None:
        legend(ax, names)
    elif values is not None and norm is not None:
        _colour_bar(ax, norm, cmap, label, unit, values)
    return _figure(ax)


@_as_written
def mark(ax: GeoAxes, lonlat: Sequence[float], name: str) -> None:
    """Mark a place (longitude, latitude in degrees) with a star and its name."""
    [[x, y]] = _project(_degrees([lonlat]))
    ax.plot(x, y, "*", color="#EE3377", markersize=15, markeredgecolor="white", zorder=6)
    east = x > 0.5 * PROJECTION.x_limits[1]
    ax.annotate(
        name,
        (x, y),
        xytext=(-9 if east else 9, 0),
        textcoords="offset points",
        ha="right" if east else "left",
        va="center",
        fontsize=LABEL_POINTS,
        fontweight="bold",
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        zorder=6,
    )


@_as_written
def legend(ax: GeoAxes, names: Sequence[str]) -> None:
    """Name the first of `CATEGORIES` in a legend below the map."""
    colours = zip(names, CATEGORIES, strict=False)
    # Count the rows needed at the panel's width, then use the fewest columns for them.
    fit = 90 * _panel_width(ax) / (max(map(len, names)) + 6)
    rows = math.ceil(len(names) / max(1, int(fit)))
    ax.legend(
        handles=[Patch(color=colour, label=name) for name, colour in colours],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        ncols=math.ceil(len(names) / rows),
        frameon=False,
        fontsize=TICK_POINTS,
        handlelength=1,
        columnspacing=1.2,
    )


def _chosen(grid: EmbeddingGrid, where: np.ndarray | None) -> np.ndarray:
    """`where`, checked; land by default."""
    if where is None:
        return land_mask(len(grid.lat))
    if where.shape != grid.embedding.shape[:2] or not where.any():
        raise ValueError(
            f"where has shape {where.shape} and {np.count_nonzero(where)} pixels chosen: "
            f"choose at least one of {grid.embedding.shape[:2]}"
        )
    return where


def _area(grid: EmbeddingGrid) -> np.ndarray:
    """Relative area of every pixel: (H, W)."""
    area = np.cos(np.radians(grid.lat)).astype(np.float32)
    return np.broadcast_to(area[:, None], grid.embedding.shape[:2])


def _norms(embedding: np.ndarray) -> np.ndarray:
    """Lengths (..., 1) of embeddings, without a copy of them, which can be a gigabyte."""
    norms: np.ndarray = np.sqrt(np.einsum("...d,...d->...", embedding, embedding))
    return norms.clip(1e-12)[..., None]


def _normalised(embedding: np.ndarray) -> np.ndarray:
    unit: np.ndarray = embedding / _norms(embedding)
    return unit


def _degrees(lonlat: Any) -> np.ndarray:
    """Checked lonlat (N, 2)."""
    return check(lonlat).cpu().numpy()


def _pixels(lon: Any, lat: Any, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the pixels that hold the points, in a global grid of `height` rows."""
    # Clipped, since just west of 180 degrees the product can round up to the number of columns.
    row = np.clip(np.floor((90 - lat) * (height / 180)).astype(np.intp), 0, height - 1)
    column = np.clip(np.floor((lon + 180) * (height / 180)).astype(np.intp), 0, 2 * height - 1)
    return row, column


def _is_land(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Whether points (...) are on land, neither sea nor lake."""
    points = torch.from_numpy(np.stack([lon.ravel(), lat.ravel()], axis=1))
    land = embedded.load().land.nearest(points)[:, 0] == 1
    return land.numpy().reshape(lon.shape)


@cache
def _outlines() -> list[np.ndarray]:
    """Shores of land and of great lakes, projected and cut at the edge of the map."""
    width, earth = np.ptp(PROJECTION.x_limits), embedded.load()
    return [
        line
        for shores, smallest in ((earth.coasts, SMALLEST_ISLAND), (earth.lakes, SMALLEST_LAKE))
        for line in _project_lines(shores)
        if np.ptp(line, axis=0).max() > smallest * width
    ]


@cache
def _graticule() -> list[np.ndarray]:
    """Meridians and parallels every 30 degrees, projected."""
    along_lat, along_lon = np.linspace(-90, 90, 91), np.linspace(-180, 180, 181)
    meridians = [np.stack([np.full(91, lon), along_lat], 1) for lon in range(-180, 180, 30)]
    parallels = [np.stack([along_lon, np.full(181, lat)], 1) for lat in range(-60, 90, 30)]
    return _project_lines([*meridians, *parallels], drop_frame=False)


def _project(lonlat: np.ndarray) -> np.ndarray:
    """Map coordinates (N, 2), metres, of lonlat (N, 2)."""
    lon, lat = np.asarray(lonlat, dtype=np.float64).T
    points: np.ndarray = PROJECTION.transform_points(ccrs.PlateCarree(), lon, lat)
    return points[:, :2]


def _project_lines(lines: Sequence[np.ndarray], drop_frame: bool = True) -> list[np.ndarray]:
    """Project lines and cut them at the edge of the map.

    `drop_frame` also removes lines along meridian 180, where the source closes its polygons.
    """
    lonlat = np.concatenate(lines)
    points = _project(lonlat)
    cut = np.abs(np.diff(points[:, 0])) > 0.5 * PROJECTION.x_limits[1]
    if drop_frame:
        lon = lonlat[:, 0]
        cut |= (lon[1:] == lon[:-1]) & (np.abs(lon[1:]) == 180)
    ends = np.cumsum([len(line) for line in lines])[:-1]
    pieces = np.split(points, np.union1d(ends, np.flatnonzero(cut) + 1))
    return [piece for piece in pieces if len(piece) > 1]


@cache
def _canvas() -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the canvas' pixels, each (h, w); 0 off the globe.

    Warping by the inverse projection takes a third of the time of cartopy's nearest-neighbour
    search.
    """
    (west, east), (south, north) = PROJECTION.x_limits, PROJECTION.y_limits
    height = round(CANVAS_WIDTH * (north - south) / (east - west))
    x = west + (np.arange(CANVAS_WIDTH) + 0.5) * (east - west) / CANVAS_WIDTH
    y = north - (np.arange(height) + 0.5) * (north - south) / height
    lonlat = ccrs.PlateCarree().transform_points(PROJECTION, *np.meshgrid(x, y))[..., :2]
    lonlat = np.where(np.isfinite(lonlat), lonlat, 0)
    return lonlat[..., 0], lonlat[..., 1]


@cache
def _land_on_canvas() -> np.ndarray:
    return _is_land(*_canvas())


def _warp(values: np.ndarray, ndim: int) -> np.ndarray:
    """The field as pixels of the canvas: (h, w, ...), each the nearest pixel of the field."""
    shape = np.shape(values)
    if len(shape) != ndim or shape[1] != 2 * shape[0] or shape[2:] not in ((), (3,)):
        expected = "(H, 2H)" if ndim == 2 else "(H, 2H, 3)"
        raise ValueError(f"a field of shape {values.shape}: give {expected}, north row first")
    warped: np.ndarray = values[_pixels(*_canvas(), len(values))]
    return warped


def _norm(values: np.ndarray, cmap: str, limits: tuple[float, float] | None) -> Normalize:
    if limits is not None:
        return Normalize(*limits)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("nothing to draw: all values shown are missing or infinite")
    if cmap == DIVERGING:
        most = float(np.quantile(np.abs(finite), 0.98))
        return Normalize(-most, most)
    low, high = np.quantile(finite, (0.02, 0.98))
    return Normalize(float(low), float(high))


def _palette(classes: np.ndarray, names: Sequence[str]) -> ListedColormap:
    if len(names) > len(CATEGORIES):
        raise ValueError(
            f"{len(names)} classes cannot be distinguished by colour: group them into at most "
            f"{len(CATEGORIES)}"
        )
    if np.max(classes) >= len(names):
        raise ValueError(f"class {np.max(classes)} has no name: give more than {len(names)} names")
    return ListedColormap(CATEGORIES[: len(names)])


def _ready(ax: GeoAxes | None, title: str, below: float = COLOUR_BAR_INCHES) -> GeoAxes:
    if ax is None:
        ax = globe(below=below)[1][0]
    if title:
        ax.set_title(title, fontsize=TITLE_POINTS)
    return ax


def _figure(ax: GeoAxes) -> Figure:
    figure: Figure = ax.get_figure()
    return figure


def _show(ax: GeoAxes, rgba: np.ndarray) -> None:
    extent = (*PROJECTION.x_limits, *PROJECTION.y_limits)
    ax.imshow(rgba, origin="upper", extent=extent, transform=PROJECTION, zorder=2)


def _panel_width(ax: GeoAxes) -> float:
    """Width of a panel as a share of 8 inches."""
    return _figure(ax).get_figwidth() / int(ax.get_subplotspec().get_gridspec().ncols) / 8


@_as_written
def _colour_bar(
    ax: GeoAxes, norm: Normalize, cmap: str, label: str, unit: str, values: np.ndarray
) -> None:
    """A colour bar below the map, with arrows where values lie beyond its ends."""
    below, above = np.nanmin(values) < norm.vmin, np.nanmax(values) > norm.vmax
    bar = _figure(ax).colorbar(
        ScalarMappable(norm, cmap),
        ax=ax,
        orientation="horizontal",
        shrink=0.7,
        aspect=35,
        pad=0.03,
        extend={(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above],
    )
    bar.set_label(f"{label} ({unit})" if unit else label, fontsize=LABEL_POINTS)
    bar.ax.tick_params(labelsize=TICK_POINTS)
    bar.outline.set_linewidth(0.5)
