"""The maps: numbers behind them, and what is on the drawn picture."""

import io
import math
import socket

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from locties import maps
from locties.apply.grid import EmbeddingGrid, embed_grid

EVERYWHERE = np.ones((90, 180), bool)
NAIROBI, SYDNEY = (36.8, -1.3), (151.2, -33.9)
ONE = np.array([NAIROBI])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def grid() -> EmbeddingGrid:
    """A smooth and uneven embedding of 16 dimensions, 2 degrees."""
    generator = torch.Generator().manual_seed(0)
    directions, phases = (
        torch.randn(3, 16, generator=generator),
        torch.rand(16, generator=generator),
    )

    def encoder(lonlat):
        lon, lat = torch.deg2rad(lonlat).T
        xyz = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
        return torch.exp(torch.sin(2 * xyz @ directions + 6 * phases))

    return embed_grid(encoder, resolution=2)


def with_embedding(grid: EmbeddingGrid, embedding: np.ndarray) -> EmbeddingGrid:
    return grid._replace(embedding=embedding.astype(np.float32))


def drawn(figure: plt.Figure, lonlat: tuple[float, float], panel: int = 0) -> np.ndarray:
    """Red, green, blue in 0 to 1 of the rendered figure at a place."""
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())
    [point] = maps._project(np.array([lonlat]))
    x, y = figure.axes[panel].transData.transform(point)
    return picture[len(picture) - 1 - int(y), int(x), :3] / 255


def texts(figure: plt.Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


# ---------------------------------------------------------------------------- colours of embeddings


def test_rgb_lies_in_the_unit_cube_and_uses_it(grid):
    rgb = maps.embedding_rgb(grid, EVERYWHERE)
    assert rgb.shape == (90, 180, 3)
    assert rgb.dtype == np.float32
    assert 0 <= rgb.min() < 0.1
    assert 0.9 < rgb.max() <= 1
    assert (rgb.std(axis=(0, 1)) > 0.15).all(), "each channel shows a component"


def test_rgb_does_not_change_with_the_basis_of_the_embedding_space(grid):
    rgb = maps.embedding_rgb(grid, EVERYWHERE)
    np.testing.assert_array_equal(maps.embedding_rgb(grid, EVERYWHERE), rgb)
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(16, 16)))
    reflection = np.diag(random.choice([-1.0, 1.0], 16))
    for change in (rotation, reflection, -np.eye(16), 5 * np.eye(16)):
        changed = with_embedding(grid, grid.embedding @ change)
        np.testing.assert_allclose(maps.embedding_rgb(changed, EVERYWHERE), rgb, atol=2e-3)


def test_rgb_weighs_pixels_by_area(grid):
    """What varies beyond 80 degrees only, over 11% of the rows, is 1.5% of the Earth."""
    random = np.random.default_rng(0)
    polar = np.abs(grid.lat) > 80
    embedding = np.zeros((90, 180, 4))
    embedding[..., 0] = 10
    embedding[~polar, :, 1] = random.normal(size=((~polar).sum(), 180))
    embedding[~polar, :, 2] = 0.8 * random.normal(size=((~polar).sum(), 180))
    embedding[polar, :, 3] = 4 * random.normal(size=(polar.sum(), 180))
    rgb = maps.embedding_rgb(with_embedding(grid, embedding), EVERYWHERE)
    luminance = rgb.astype(float) ** 2.2 @ (0.2126, 0.7152, 0.0722)  # which shows the first
    varies_by_row = luminance.std(axis=1)
    assert varies_by_row[~polar].min() > 3 * varies_by_row[polar].max()


def test_rgb_is_fitted_where_it_is_told_to(grid):
    """Wild values elsewhere change nothing where the components are fitted."""
    north = EVERYWHERE & (grid.lat > 0)[:, None]
    wild = grid.embedding.copy()
    wild[~north] = np.random.default_rng(0).normal(size=wild[~north].shape)
    expected = maps.embedding_rgb(grid, north)[north]
    found = maps.embedding_rgb(with_embedding(grid, wild), north)[north]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rgb_of_a_constant_embedding_is_no_nan(grid):
    rgb = maps.embedding_rgb(with_embedding(grid, np.ones((90, 180, 4))), EVERYWHERE)
    assert np.isfinite(rgb).all()


def test_rgb_refuses_what_it_cannot_colour(grid):
    with pytest.raises(ValueError, match="2 dimensions"):
        maps.embedding_rgb(grid._replace(embedding=grid.embedding[..., :2]), EVERYWHERE)
    with pytest.raises(ValueError, match=r"shape \(90, 180\) and 0 pixels"):
        maps.embedding_rgb(grid, ~EVERYWHERE)
    with pytest.raises(ValueError, match=r"where has shape \(45, 90\)"):
        maps.embedding_rgb(grid, EVERYWHERE[::2, ::2])


# --------------------------------------------------------------------------------------- similarity


@pytest.mark.parametrize(
    "place", [NAIROBI, SYDNEY, (-180, -90), (180, 90), (539.9, 0), (math.nextafter(180, 0), 0)]
)
def test_similarity_is_a_cosine_and_one_at_the_place(grid, place):
    found = maps.similarity(grid, place)
    row = min(int((90 - place[1]) // 2), 89)
    column = 179 if 179 < place[0] < 180 else int((place[0] + 180) % 360 // 2)
    assert found.shape == (90, 180)
    assert found[row, column] == pytest.approx(1, abs=1e-6)
    assert found.min() >= -1
    assert found.max() <= 1
    a, b = grid.embedding[row, column].astype(float), grid.embedding[7, 11].astype(float)
    assert found[7, 11] == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)), abs=1e-6)


def test_similarity_refuses_a_place_off_the_globe(grid):
    with pytest.raises(ValueError, match="latitude"):
        maps.similarity(grid, (-1.3, 136.8))


# ----------------------------------------------------------------------------------------- clusters


def test_clusters_find_separated_groups_and_number_them_from_north_to_south(grid):
    centres = np.eye(4)[[2, 0, 3]]
    truth = np.digitize(-grid.lat, [-30, 30])[:, None].repeat(180, axis=1)
    noise = 0.05 * np.random.default_rng(0).normal(size=(90, 180, 4))
    found = maps.clusters(with_embedding(grid, centres[truth] + noise), 3, where=EVERYWHERE)
    np.testing.assert_array_equal(found, truth)


def test_clusters_are_the_same_for_the_same_seed(grid):
    first = maps.clusters(grid, 6, seed=3, where=EVERYWHERE)
    np.testing.assert_array_equal(maps.clusters(grid, 6, seed=3, where=EVERYWHERE), first)
    assert set(np.unique(first)) == set(range(6))


@pytest.mark.parametrize("k", [1, 13])
def test_clusters_refuse_more_than_there_are_colours(grid, k):
    with pytest.raises(ValueError, match=f"k = {k} clusters: choose 2 to 12"):
        maps.clusters(grid, k, where=EVERYWHERE)


# ------------------------------------------------------------------------------------ land, colours


@pytest.mark.data
def test_the_land_mask_is_the_right_way_up():
    land = maps.land_mask(180)
    assert land.shape == (180, 360)
    places = {
        "Sahara": (10, 25),
        "Amazonia": (-62, -4),
        "Antarctica": (60, -80),
        "Japan": (138.5, 36.5),
    }
    seas = {
        "Atlantic": (-30, 30),
        "Arctic": (-170, 85),
        "Pacific": (-140, -20),
        "Caspian": (51, 42),
    }
    for expected, named in ((True, places), (False, seas)):
        for name, (lon, lat) in named.items():
            assert land[int(90 - lat), int(lon + 180)] == expected, name
    weights = np.cos(np.radians(89.5 - np.arange(180)))
    share = np.average(land.mean(axis=1), weights=weights)
    assert share == pytest.approx(0.29, abs=0.01), "29% of the Earth is land"


# ----------------------------------------------------------------------------------------- drawings


@pytest.mark.slow
@pytest.mark.data
def test_north_is_up_and_east_is_right_on_the_picture(grid):
    """Latitude is drawn as brightness, then longitude, and read from the rendered pixels."""
    lon, lat = np.meshgrid(grid.lon, grid.lat)
    figure = maps.draw_field(
        lat, "latitude", "degrees", cmap="gray", limits=(-90, 90), land_only=False
    )
    for latitude in (-60, -35, 20, 50):
        brightness = drawn(figure, (-150, latitude))
        assert brightness == pytest.approx((latitude + 90) / 180, abs=0.02), latitude
    figure = maps.draw_field(
        lon, "longitude", "degrees", cmap="gray", limits=(-180, 180), land_only=False
    )
    for longitude in (-150, -40, 80, 165):
        brightness = drawn(figure, (longitude, -45))
        assert brightness == pytest.approx((longitude + 180) / 360, abs=0.02), longitude


@pytest.mark.data
def test_only_land_is_coloured_unless_asked(grid):
    red = np.broadcast_to([1.0, 0.0, 0.0], (90, 180, 3))
    sahara, atlantic = (10, 25), (-38, 37)
    land = maps.draw_rgb(red)
    np.testing.assert_allclose(drawn(land, sahara), [1, 0, 0], atol=0.01)
    np.testing.assert_allclose(drawn(land, atlantic), to_rgb(maps.SEA_COLOUR), atol=0.01)
    np.testing.assert_allclose(
        drawn(maps.draw_rgb(red, land_only=False), atlantic), [1, 0, 0], atol=0.01
    )


@pytest.mark.data
def test_the_star_is_at_the_place_and_named(grid):
    figure = maps.draw_field(maps.similarity(grid, NAIROBI), "cosine similarity")
    maps.mark(figure.axes[0], NAIROBI, "Nairobi")
    assert {"Nairobi", "cosine similarity"} <= set(texts(figure))
    [star] = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    [expected] = maps.PROJECTION.transform_points(maps.ccrs.PlateCarree(), *np.array([NAIROBI]).T)
    np.testing.assert_allclose(star.get_xydata()[0], expected[:2])


@pytest.mark.data
def test_points_lie_where_they_should_with_their_colour():
    lonlat = np.array([[10, 25], [-58, -15], [135, -25]])
    figure = maps.draw_points(lonlat, np.array([0.0, 5.0, 10.0]), "height", "m", limits=(0, 10))
    assert "height (m)" in texts(figure)
    for place, share in zip(lonlat, (0.0, 0.5, 1.0), strict=True):
        expected = plt.get_cmap(maps.SEQUENTIAL)(share)[:3]
        np.testing.assert_allclose(drawn(figure, place), expected, atol=0.02)
    figure = maps.draw_points(lonlat, np.array([1, 0, 1]), names=["arid", "polar"])
    assert {"arid", "polar"} <= set(texts(figure))
    np.testing.assert_allclose(drawn(figure, lonlat[1]), to_rgb(maps.CATEGORIES[0]), atol=0.02)


@pytest.mark.data
def test_a_diverging_scale_is_symmetric_about_zero():
    lonlat = np.random.default_rng(0).uniform([-180, -60], [180, 70], (300, 2))
    figure = maps.draw_points(lonlat, np.full(300, 3.0), "error", "K", cmap=maps.DIVERGING)
    assert "error (K)" in texts(figure)
    [bar] = [ax._colorbar for ax in figure.axes if hasattr(ax, "_colorbar")]
    assert bar.vmin == -bar.vmax == pytest.approx(-3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("said", "draw"),
    [
        (r"\(180, 90\).*\(H, 2H\)", lambda: maps.draw_field(np.zeros((180, 90)), "x")),
        (r"\(90,\).*\(H, 2H\)", lambda: maps.draw_field(np.zeros(90), "x")),
        (r"\(90, 180\).*\(H, 2H, 3\)", lambda: maps.draw_rgb(np.zeros((90, 180)))),
        (r"0\.0 to 2\.0.*\[0, 1\]", lambda: maps.draw_rgb(np.eye(90, 180)[..., None] * [2, 2, 2])),
        ("nothing to draw", lambda: maps.draw_field(np.full((90, 180), np.nan), "x")),
        ("13 .*12", lambda: maps.draw_points(ONE, np.array([0]), names=list("abcdefghijklm"))),
        ("class 2 .*name", lambda: maps.draw_points(ONE, np.array([2]), names=["a", "b"])),
        (r"\(2,\) for 3 points", lambda: maps.draw_points(np.zeros((3, 2)), np.ones(2))),
        (r"row 0 .*91.*latitude", lambda: maps.draw_points(np.array([[0, 91.0]]))),
    ],
)
def test_what_cannot_be_drawn_is_refused(said, draw):
    with pytest.raises(ValueError, match=said):
        draw()


@pytest.mark.data
def test_a_map_needs_no_network_and_changes_no_global_setting(grid, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a map opened a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = dict(mpl.rcParams)
    figure = maps.draw_rgb(maps.embedding_rgb(grid))
    figure.savefig(io.BytesIO(), format="png")
    assert dict(mpl.rcParams) == before
    coasts = [a for a in figure.axes[0].collections if isinstance(a, LineCollection)]
    assert sum(len(lines.get_segments()) for lines in coasts) > 500


@pytest.mark.data
def test_no_outline_crosses_the_map_or_follows_the_frame_of_the_source():
    """A line cut wrongly at the seam is thousands of km long; meridian 180 cuts no Chukotka."""
    longest = max(np.linalg.norm(np.diff(line, axis=0), axis=1).max() for line in maps._outlines())
    assert longest < 1000e3
    for line in maps._outlines():
        lon, lat, _ = maps.ccrs.PlateCarree().transform_points(maps.PROJECTION, *line.T).T
        on_the_date_line = np.abs(lon) > 179.999
        assert not (
            on_the_date_line[1:] & on_the_date_line[:-1] & (np.abs(np.diff(lat)) > 0.3)
        ).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["US$ per ha, in $", "$\\frac{1}{", "a_b^c pH [/] 20 % & {braces}"]
)
def test_names_and_units_are_drawn_as_they_are_written(text):
    lonlat = np.array([[13.4, 52.5], [-60.0, -3.1]])
    figures = [
        maps.draw_points(lonlat, np.array([1.0, 2.0]), text, text, title=text),
        maps.draw_points(lonlat, np.array([0, 1]), names=[text, "b"], title=text),
    ]
    maps.mark(figures[0].axes[0], (0.0, 0.0), text)
    for figure in figures:
        figure.draw_without_rendering()  # a formula that cannot be read raises an error here
        written = [t for t in figure.findobj(Text) if text in t.get_text()]
        assert written
        assert not any(t.get_parse_math() for t in written)
    assert mpl.rcParams["text.parse_math"], "the reader's own setting stays"
