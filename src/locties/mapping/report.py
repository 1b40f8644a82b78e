"""A report of a map: one HTML file that needs no other, and its figures as a PNG."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from locties._util.extras import needs
from locties._util.files import DataError, written_aside
from locties._util.text import printable
from locties.mapping.output import (
    Window,
    as_text,
    at_sea,
    computer,
    layers_of,
    share_of_area,
    window_of,
)

with needs("data,study", "a report"):
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from tqdm import tqdm

    from locties.maps import CATEGORIES, SEA_COLOUR, SEQUENTIAL

if TYPE_CHECKING:
    import pandas as pd

    from locties.mapping.fit import LocationMap

PIXELS = 60_000  # pixels of the map in the report
ROWS = 16  # rows of pixels for one step of the progress bar
UNCERTAINTY = "cividis"
TRUSTED, UNTRUSTED, OTHERS = CATEGORIES[4], CATEGORIES[5], "#999999"
INSIDE, OUTSIDE = "#0077BB", "#EE7733"  # Paul Tol's bright scheme
WIDTH, DPI = 7.0, 150
SHEET = 1.3  # of WIDTH for two figures: text stays legible where the sheet is shown small

Draw = Callable[[Axes], None]


class _Theme(NamedTuple):
    page: str
    ink: str


LIGHT, DARK = _Theme("#ffffff", "#1b1f23"), _Theme("#15191d", "#e6e8ea")


class _Picture(NamedTuple):
    """A figure of the report, with its content in words for those who cannot see it."""

    title: str
    caption: str
    alt: str
    draw: Draw
    aspect: float  # height by width


def write_report(
    fitted: LocationMap,
    path: Path,
    *,
    bounds: Sequence[float] | str | None,
    resolution: float | None,
    sea: bool,
    command: str,
    progress: bool,
) -> Path:
    """Write the report; see `LocationMap.report`."""
    if path.suffix != ".html":
        raise ValueError(f"path={str(path)!r}: give a name that ends in .html")
    window = window_of(fitted.task.lonlat.numpy(), bounds, resolution, PIXELS)
    layers = _layers(fitted, window, sea, progress)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # in a name
        pictures = _pictures(fitted, layers, window)
        page = _page(fitted, pictures, sea, command)
        sheet = _sheet(fitted, pictures)
    for content, file in ((page.encode(), path), (sheet, path.with_suffix(".png"))):
        with written_aside(file) as aside:
            aside.write_bytes(content)
    return path


def _layers(
    fitted: LocationMap, window: Window, sea: bool, progress: bool
) -> dict[str, np.ndarray]:
    """The map (H, W) by layer, float with NaN where there is no number."""
    compute, (height, width) = computer(fitted, window, sea), window.shape
    strips = [
        compute(slice(row, row + ROWS), slice(0, width))
        for row in tqdm(range(0, height, ROWS), "Report", disable=not progress)
    ]
    kinds, layers = layers_of(fitted), {}
    for name in strips[0]:
        values = np.concatenate([strip[name] for strip in strips]).astype(np.float64)
        layers[name] = np.where(values == kinds[name].missing, np.nan, values)
    return layers


# ----------------------------------------------------------------------------------- the figures


def _pictures(fitted: LocationMap, layers: dict[str, np.ndarray], window: Window) -> list[_Picture]:
    task = fitted.task
    name, where = (
        printable(task.name),
        "{:.4g} to {:.4g}° east, {:.4g} to {:.4g}° north".format(
            *(window.bounds[i] for i in (0, 2, 1, 3))
        ),
    )
    share = share_of_area(layers["trusted"], window.centres()[1])
    interval = f"{fitted.metadata['coverage']:.0%}"
    height, width = window.shape
    stretch = 1 / max(np.cos(np.radians((window.bounds[1] + window.bounds[3]) / 2)), 0.2)
    aspect = float(np.clip(height / width * stretch, 0.35, 1.6))

    def on_map(draw: Callable[[Axes], None]) -> Draw:
        def drawn(ax: Axes) -> None:
            draw(ax)
            _coasts(ax, window, stretch)

        return drawn

    hatched = f"Hatched: not trusted ({1 - share:.0%} of the mapped area)."
    if task.kind == "regression":
        uncertainty = layers["high"] - layers["low"]
        middle = f"{_number(np.nanmedian(layers['value']))} {printable(task.unit)}".strip()
        wide = f"{_number(np.nanmedian(uncertainty))} {printable(task.unit)}".strip()
        return [
            _Picture(
                f"Predicted {name}",
                f"Dots are the labels, in the same colours. {hatched}",
                f"Map of the predicted {name}, {where}; the median is {middle}.",
                on_map(lambda ax: _field(ax, fitted, layers, window)),
                aspect,
            ),
            _Picture(
                f"Width of the {interval} interval",
                f"Wide intervals are uncertain. {hatched}",
                f"Map of the width of the {interval} prediction interval; the median is {wide}.",
                on_map(
                    lambda ax: _uncertainty(
                        ax, uncertainty, _unit("width", task.unit), layers, window
                    )
                ),
                aspect,
            ),
            _trust_picture(fitted, layers, window, share, on_map, aspect),
            _Picture(
                "Observed against predicted",
                f"Each label, predicted without its block, with its {interval} interval. On the "
                "line, both agree.",
                f"Scatter of {len(fitted.held_out)} labels: observed against predicted {name} on "
                f"held-out blocks; {fitted.held_out['inside'].mean():.0%} lie inside their "
                "interval.",
                lambda ax: _scatter(ax, fitted),
                0.9,
            ),
        ]
    groups = _Groups(fitted, layers["value"])
    return [
        _Picture(
            f"Predicted {name}",
            f"Dots are the labels, in the same colours. {hatched}",
            f"Map of the predicted {name}, {where}; most of it is "
            f"{groups.names[groups.commonest]}.",
            on_map(lambda ax: _classes(ax, fitted, layers, window, groups)),
            aspect + 0.15,
        ),
        _Picture(
            f"Classes in the {interval} set",
            f"Sets of many classes are uncertain. {hatched}",
            f"Map of how many classes the {interval} set holds; the mean is "
            f"{np.nanmean(layers['set_size']):.1f}.",
            on_map(lambda ax: _uncertainty(ax, layers["set_size"], "classes", layers, window)),
            aspect,
        ),
        _trust_picture(fitted, layers, window, share, on_map, aspect),
        _Picture(
            "Observed against predicted",
            "Labels, each predicted without its block: how many of each observed class (row) "
            "were predicted as which (column).",
            f"Table of observed and predicted classes of {len(fitted.held_out)} labels on held-out "
            f"blocks; {(fitted.held_out['observed'] == fitted.held_out['predicted']).mean():.0%} "
            "lie on the diagonal.",
            lambda ax: _confusion(ax, fitted, groups),
            0.9,
        ),
    ]


def _trust_picture(
    fitted: LocationMap,
    layers: dict[str, np.ndarray],
    window: Window,
    share: float,
    on_map: Callable[[Draw], Draw],
    aspect: float,
) -> _Picture:
    def draw(ax: Axes) -> None:
        palette = ListedColormap([UNTRUSTED, TRUSTED])
        ax.imshow(layers["trusted"], cmap=palette, vmin=0, vmax=1, **_placed(window))
        _labels(ax, fitted, window, color="#111111")
        names = {"like the labels: trusted": TRUSTED, "unlike them: not trusted": UNTRUSTED}
        _legend(ax, names)

    distance = np.nanmedian(layers["nearest_label_km"])
    return _Picture(
        "Where to trust the map",
        "A place is trusted if its features are no farther from those of a label than labels "
        "usually are from labels of other blocks. Dots are the labels; half of the mapped area "
        f"is within {_number(distance)} km of one.",
        f"Map in two colours: {share:.0%} of the mapped area is trusted.",
        on_map(draw),
        aspect + 0.1,
    )


def _placed(window: Window) -> dict[str, Any]:
    """Options of `imshow` that put pixels of the window in their place."""
    west, south, east, north = window.bounds
    return {"extent": (west, east, south, north), "origin": "upper", "interpolation": "nearest"}


def _field(ax: Axes, fitted: LocationMap, layers: dict[str, np.ndarray], window: Window) -> None:
    values = layers["value"]
    norm = Normalize(*_limits(values))
    image = ax.imshow(values, cmap=SEQUENTIAL, norm=norm, **_placed(window))
    _hatch(ax, layers, window)
    _labels(ax, fitted, window, c=fitted.task.target, cmap=SEQUENTIAL, norm=norm)
    _bar(ax, image, values, _unit(printable(fitted.task.name), fitted.task.unit))


def _uncertainty(
    ax: Axes, values: np.ndarray, label: str, layers: dict[str, np.ndarray], window: Window
) -> None:
    norm = Normalize(*_limits(values))
    image = ax.imshow(values, cmap=UNCERTAINTY, norm=norm, **_placed(window))
    _hatch(ax, layers, window)
    _bar(ax, image, values, label)


def _classes(
    ax: Axes,
    fitted: LocationMap,
    layers: dict[str, np.ndarray],
    window: Window,
    groups: _Groups,
) -> None:
    palette = ListedColormap(list(groups.colours))
    limits: dict[str, Any] = {"vmin": -0.5, "vmax": len(groups.colours) - 0.5}
    ax.imshow(groups.of(layers["value"]), cmap=palette, **limits, **_placed(window))
    _hatch(ax, layers, window)
    _labels(ax, fitted, window, c=groups.of(fitted.task.target), cmap=palette, **limits)
    _legend(ax, dict(zip(groups.names, groups.colours, strict=True)))


class _Groups:
    """The commonest classes, which get their own colours; all others share one."""

    def __init__(self, fitted: LocationMap, predicted: np.ndarray) -> None:
        names = [printable(name) for name in fitted.task.classes or ()]
        seen = np.concatenate([predicted[np.isfinite(predicted)].astype(int), fitted.task.target])
        counts = np.bincount(seen, minlength=len(names))
        few = len(names) <= len(CATEGORIES)
        shown = np.sort(np.argsort(-counts, kind="stable")[: len(CATEGORIES) - (not few)])
        self.names = [names[code] for code in shown] + ([] if few else ["others"])
        self.colours = (*CATEGORIES[: len(shown)], *(() if few else (OTHERS,)))
        self._group = np.full(len(names), len(shown))
        self._group[shown] = np.arange(len(shown))
        self.commonest = int(self._group[counts.argmax()])

    def of(self, codes: np.ndarray) -> np.ndarray:
        """The group of each code; NaN if there is none."""
        known = np.isfinite(codes)
        return np.where(known, self._group[np.where(known, codes, 0).astype(int)], np.nan)


def _scatter(ax: Axes, fitted: LocationMap) -> None:
    held_out = fitted.held_out
    ends = held_out[["observed", "predicted"]].to_numpy()
    low, high = ends.min(), ends.max()
    room = 0.04 * (high - low)
    ax.axline((low, low), (high, high), color="0.5", linewidth=1)
    size = float(np.clip(6000 / len(held_out), 6, 36))
    for inside, colour, marker in ((True, INSIDE, "o"), (False, OUTSIDE, "^")):
        rows = held_out[held_out["inside"] == inside]
        reach = rows[["low", "high"]].clip(low - 10 * room, high + 10 * room).to_numpy().T
        ax.vlines(rows["observed"], *reach, color=colour, alpha=0.25, linewidth=0.8)
        ax.scatter(
            rows["observed"],
            rows["predicted"],
            s=size,
            c=colour,
            marker=marker,
            linewidths=0,
            alpha=0.8,
            label=f"{'inside' if inside else 'outside'} the interval ({len(rows)})",
        )
    ax.set(xlim=(low - room, high + room), ylim=(low - 4 * room, high + 4 * room))
    ax.set_xlabel(_unit("observed", fitted.task.unit))
    ax.set_ylabel(_unit("predicted", fitted.task.unit))
    ax.legend(loc="upper left", frameon=False, fontsize=9)


def _confusion(ax: Axes, fitted: LocationMap, groups: _Groups) -> None:
    codes = {name: code for code, name in enumerate(fitted.task.classes or ())}
    observed, predicted = (
        groups.of(fitted.held_out[column].map(codes).to_numpy()).astype(int)
        for column in ("observed", "predicted")
    )
    counts = np.zeros((len(groups.names),) * 2, int)
    np.add.at(counts, (observed, predicted), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    ticks = range(len(groups.names))
    names = [_short(name) for name in groups.names]
    ax.set_xticks(ticks, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    ax.set_yticks(ticks, names, fontsize=8)
    ax.set(xlabel="predicted", ylabel="observed")


def _coasts(ax: Axes, window: Window, stretch: float) -> None:
    """Shores and axes of a map."""
    from locties.data import embedded

    west, south, east, north = window.bounds
    with suppress(ImportError, DataError):  # a map that includes the sea needs no such data
        earth = embedded.load()
        lines = [*earth.coasts, *earth.lakes]
        if east > 180:
            lines += [line + np.array([360, 0]) for line in lines]
        ax.add_collection(LineCollection(lines, colors="0.35", linewidths=0.6), autolim=False)
    ax.set(xlim=(west, east), ylim=(south, north), aspect=stretch, facecolor=SEA_COLOUR)
    ax.xaxis.set_major_formatter(lambda lon, _: _degrees((lon + 180) % 360 - 180, "EW"))
    ax.yaxis.set_major_formatter(lambda lat, _: _degrees(lat, "NS"))
    ax.locator_params(nbins=6)


def _hatch(ax: Axes, layers: dict[str, np.ndarray], window: Window) -> None:
    """Hatch what is not trusted."""
    doubtful = (layers["trusted"] == 0).astype(float)
    if doubtful.any() and min(doubtful.shape) > 1:
        lon, lat = window.centres()
        with mpl.rc_context({"hatch.color": "white", "hatch.linewidth": 0.7}):
            ax.contourf(lon, lat, doubtful, levels=[0.5, 1.5], colors="none", hatches=["////"])


def _labels(ax: Axes, fitted: LocationMap, window: Window, **colours: Any) -> None:
    lon, lat = fitted.task.lonlat.numpy().T
    lon = np.where(lon < window.bounds[0], lon + 360, lon)
    size = float(np.clip(3000 / len(lon), 3, 24))
    edge = {"edgecolors": "white", "linewidths": 0.5} if size > 5 else {"linewidths": 0}
    ax.scatter(lon, lat, s=size, zorder=4, **edge, **colours)


def _bar(ax: Axes, image: Any, values: np.ndarray, label: str) -> None:
    """A colour bar below the map, with arrows where values lie beyond its ends."""
    known = values[np.isfinite(values)]
    below = known.size and known.min() < image.norm.vmin
    above = known.size and known.max() > image.norm.vmax
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(
        image,
        ax=ax,
        label=label,
        orientation="horizontal",
        shrink=0.8,
        aspect=35,
        pad=0.02,
        extend=extend[bool(below), bool(above)],
    )


def _legend(ax: Axes, colours: dict[str, str]) -> None:
    ax.legend(
        handles=[Patch(color=colour, label=_short(name)) for name, colour in colours.items()],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.07),
        ncols=2 if max(map(len, colours)) > 12 else 3,
        frameon=False,
        fontsize=9,
    )


def _limits(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, (0.02, 0.98)) if known.size else (0, 1)
    return float(low), float(high if high > low else low + 1)


def _unit(name: str, unit: str) -> str:
    return f"{name} ({printable(unit)})" if unit else name


def _short(name: str, most: int = 32) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _number(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _degrees(value: float, ends: str) -> str:
    value = round(value, 6)
    return f"{abs(value):g}°{'' if value == 0 else ends[int(value < 0)]}"


def _style(theme: _Theme) -> dict[Any, Any]:
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inked, theme.ink),
        "figure.facecolor": theme.page,
        "axes.facecolor": theme.page,
        "text.parse_math": False,  # a "$" in a name is a dollar
        "font.size": 10,
        "axes.titlesize": 11,
    }


def _png(figure: Figure, dpi: int = DPI) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _drawn(picture: _Picture, theme: _Theme) -> bytes:
    with mpl.rc_context(_style(theme)):
        figure = Figure((WIDTH, WIDTH * picture.aspect * 0.9 + 0.9), layout="constrained")
        picture.draw(figure.subplots())
        return _png(figure)


def _sheet(fitted: LocationMap, pictures: Sequence[_Picture]) -> bytes:
    """All figures in one picture."""
    height = WIDTH * max(picture.aspect for picture in pictures[:3]) * 0.9 + 1.2
    with mpl.rc_context(_style(LIGHT)):
        figure = Figure((SHEET * WIDTH, SHEET * height), layout="constrained")
        for ax, picture in zip(figure.subplots(2, 2).flat, pictures, strict=True):
            picture.draw(ax)
            ax.set_title(picture.title)
        name, chosen = printable(fitted.task.name), printable(fitted.chosen)
        figure.suptitle(f"{name}: {chosen}, {len(fitted.task.target)} labels", fontsize=14)
        return _png(figure, DPI)


# -------------------------------------------------------------------------------------- the page

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f23; --faint: #57606a;
  --line: #d0d7de; --mark: #eef6ff; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --page: #15191d; --ink: #e6e8ea; --faint: #9aa4ae;
  --line: #39424b; --mark: #1d2b3a; --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; }
li, dd, code { overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: var(--faint); max-width: 44rem; }
figcaption b { color: var(--ink); }
.pair { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.wide { overflow-x: auto; }
.wide:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; }
caption { text-align: left; color: var(--faint); padding-bottom: .5rem; }
th, td { text-align: left; padding: .35rem 1.2rem .35rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
tr.chosen { background: var(--mark); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }
dt { color: var(--faint); } dd { margin: 0; }
a { color: var(--link); }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""


def _page(fitted: LocationMap, pictures: Sequence[_Picture], sea: bool, command: str) -> str:
    name = _html(fitted.task.name)
    first, *others = map(_figure, pictures)
    said = [*fitted.summary().splitlines(), *([] if sea else [at_sea(fitted.task)])]
    facts = "".join(f"<li>{_html(line)}</li>" for line in said if line)
    cited = "".join(f"<li>{_linked(reference)}</li>" for reference in fitted.cite)
    made = {"command": command} if command else {}
    made |= {key.replace("_", " "): as_text(value) for key, value in fitted.metadata.items()}
    how = "".join(f"<dt>{_html(key)}</dt><dd>{_html(value)}</dd>" for key, value in made.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{name}: a map from {len(fitted.task.target)} places</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{name}: a map from {len(fitted.task.target)} places</h1>
<ul>{facts}</ul>
{first}
<div class="pair">{others[0]}{others[1]}</div>
<h2>How good it is</h2>
{_scores(fitted.scores)}
{_coverage(fitted.coverage, fitted.task.kind)}
{others[2]}
<h2>What to cite</h2>
<ul>{cited}</ul>
<h2>How it was made</h2>
<dl>{how}</dl>
</main>
</body>
</html>
"""


def _html(text: str) -> str:
    return escape(printable(text))


def _linked(reference: str) -> str:
    """A reference with a link to its DOI."""
    return re.sub(
        r"\bdoi (10\.\d+/[^\s,;:]+)", r'doi <a href="https://doi.org/\1">\1</a>', _html(reference)
    )


def _figure(picture: _Picture) -> str:
    light, dark = (
        "data:image/png;base64," + base64.b64encode(_drawn(picture, theme)).decode()
        for theme in (LIGHT, DARK)
    )
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_html(picture.alt)}"></picture>'
        f"<figcaption><b>{_html(picture.title)}.</b> {_html(picture.caption)}</figcaption></figure>"
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], chosen: int) -> str:
    """A table whose first column is text and all others numbers."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' * (i > 0)}>{_html(text)}</{tag}>"
            for i, text in enumerate(texts)
        )

    body = "".join(
        f"<tr{' class=chosen' * (i == chosen)}>{cells('td', row)}</tr>"
        for i, row in enumerate(rows)
    )
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{_html(caption)}"><table>'
        f"<caption>{_html(caption)}</caption><thead><tr>{cells('th', head)}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _scores(scores: pd.DataFrame) -> str:
    metric = {"r2": "R²", "accuracy": "Accuracy"}[scores["metric"].iloc[0]]
    rows = [
        [
            row["candidate"] + (" (chosen)" if row["chosen"] else ""),
            f"{row['block']:.2f}",
            f"{row['block_low']:.2f} to {row['block_high']:.2f}",
            f"{row['random']:.2f}",
        ]
        for _, row in scores.iterrows()
    ]
    rows[-1][0] = "the choice, repeated without each block"
    caption = (
        f"{metric} of each candidate. In the last row, the choice is repeated without each "
        "block: expect this score at new places as far from labels as blocks are from each other."
    )
    head = ["candidate", "held-out blocks", "95% interval", "random folds"]
    return _table(caption, head, rows, int(scores["chosen"].to_numpy().argmax()))


def _coverage(coverage: pd.DataFrame, kind: str) -> str:
    what, width = ("intervals", "mean width") if kind == "regression" else ("sets", "mean size")
    rows = []
    for _, row in coverage.iterrows():
        found = ["not measured", "", "infinite"]
        if np.isfinite(row["mean_width"]):
            ends = f"{row['low']:.1%} to {row['high']:.1%}"
            found = [f"{row['measured']:.1%}", ends, f"{row['mean_width']:.3g}"]
        rows.append([row["where"], f"{row['nominal']:.0%}", *found])
    caption = f"How often the {what} held the label, for labels that were not used to make them."
    return _table(caption, ["labels of", "wanted", "measured", "95% interval", width], rows, -1)
