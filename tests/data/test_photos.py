"""Photographs: where they were taken, the right way up, and what is wrong with the others."""

import os
import signal
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from killed import killed_at_sync
from PIL import Image

from locties.data.frozen import features
from locties.data.frozen_encoders import FROZEN, FrozenEncoder
from locties.data.frozen_folder import read_features
from locties.data.manifest import DataError
from locties.data.photos import SHORT, Photos, exif_place, read_photo

MIRROR = os.environ.get("LOCTIES_MIRROR")
GPS, ORIENTATION = 0x8825, 0x0112
BERLIN = {1: "N", 2: (52, 31, 12.5), 3: "E", 4: (13, 24, 36)}


def picture(seed=0, size=(64, 48), mode="RGB"):
    """Smooth, so that JPEG keeps it."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def save(path, image=None, gps=BERLIN, orientation=None, **options):
    image = image or picture()
    exif = Image.Exif()
    if gps is not None:
        exif[GPS] = gps
    if orientation:
        exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif.tobytes(), **options)
    return path


def means(batch):
    return np.array([[*each.mean((0, 1)), *each.shape] for each in batch], np.float32)


MEANS = FrozenEncoder("means", "1", "0" * 64, "images", 6, "cpu", means)


# ------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_a_position_is_degrees_minutes_seconds_and_a_letter(tmp_path, ending):
    place, problem = exif_place(save(tmp_path / f"a.{ending}"))
    assert problem is None
    assert place == pytest.approx((13 + 24 / 60 + 36 / 3600, 52 + 31 / 60 + 12.5 / 3600))
    south = BERLIN | {1: "S", 3: "W", 2: (33, Fraction(515, 10), 0)}
    place, _ = exif_place(save(tmp_path / f"b.{ending}", gps=south))
    assert place == pytest.approx((-13.41, -33 - 51.5 / 60))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({2: None}, "has no position in its EXIF data"),
        ({4: None}, "has no position in its EXIF data"),
        ({1: None}, "with no letter where N or S must be"),
        ({3: "Q"}, "with the letter 'Q' where E or W must be"),
        ({2: (0, 0, 0), 4: (0, 0, 0)}, "lies at 0, 0"),
        ({2: (95, 0, 0)}, "lies at longitude 13.41, latitude 95, which is nowhere"),
        ({4: (190, 0, 0)}, "lies at longitude 190"),
        ({9: "V"}, "its camera calls void"),
        ({18: "TOKYO"}, "in the datum 'TOKYO', not WGS-84"),
        ({2: (52, 31)}, "not degrees, minutes, seconds"),
    ],
)
def test_a_position_that_cannot_be_right_is_named(tmp_path, change, said):
    gps = {tag: value for tag, value in (BERLIN | change).items() if value is not None}
    place, problem = exif_place(save(tmp_path / "a.jpg", gps=gps))
    assert place is None
    assert said in problem


def test_a_position_with_a_zero_denominator_is_named(tmp_path):
    content = save(tmp_path / "a.jpg", gps=BERLIN | {2: (52, 31, Fraction(25, 2))}).read_bytes()
    broken = content.replace(
        (25).to_bytes(4, "big") + (2).to_bytes(4, "big"),
        (25).to_bytes(4, "big") + (0).to_bytes(4, "big"),
    )
    assert broken != content
    (tmp_path / "a.jpg").write_bytes(broken)
    assert "not degrees, minutes, seconds" in exif_place(tmp_path / "a.jpg")[1]


@pytest.mark.parametrize("datum", ["WGS-84", "WGS84", "wgs 84"])
def test_wgs_84_is_the_datum_in_any_spelling(tmp_path, datum):
    assert exif_place(save(tmp_path / "a.jpg", gps=BERLIN | {18: datum}))[1] is None


# ---------------------------------------------------------------------------------------- pixels

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_a_picture_is_turned_upright(tmp_path, orientation, ending):
    upright, turn = picture(), TURNS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    options = {"quality": 98, "subsampling": 0} if ending == "jpg" else {}
    path = save(tmp_path / f"a.{ending}", stored, orientation=orientation, **options)
    pixels, _ = read_photo(path)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_grey_palettes_and_transparency_become_rgb(tmp_path, mode):
    image = picture(mode=mode)
    pixels, problem = read_photo(save(tmp_path / "a.png", image))
    assert problem is None
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_a_large_picture_is_scaled_down_and_a_small_one_is_not(tmp_path):
    large, _ = read_photo(save(tmp_path / "a.jpg", picture(size=(3000, 2000)), quality=95))
    assert large.shape == (SHORT, SHORT * 3 // 2, 3)
    expected = picture(size=(SHORT * 3 // 2, SHORT))
    assert np.abs(large.astype(int) - np.asarray(expected)).mean() < 3
    small, _ = read_photo(save(tmp_path / "b.jpg", picture(size=(300, 2))))
    assert small.shape == (2, 300, 3)


def test_a_photo_with_a_preview_behind_it_is_read(tmp_path):
    picture().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture(1)])
    pixels, problem = read_photo(tmp_path / "a.jpg")
    assert problem is None
    assert np.abs(pixels.astype(int) - np.asarray(picture())).mean() < 5


def bomb(path):
    """A PNG whose header says 60,000 x 60,000 pixels."""
    picture(size=(8, 8), mode="L").save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


FAULTS = {
    "empty.jpg": (lambda path: path.write_bytes(b""), "is empty"),
    "text.jpg": (lambda path: path.write_bytes(b"<html>"), "cannot be read: cannot identify"),
    "none.jpg": (lambda path: save(path, gps=None), "has no position"),
    "zero.jpg": (lambda path: save(path, gps=BERLIN | {2: (0, 0, 0), 4: (0, 0, 0)}), "at 0, 0"),
    "heic.heic": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic"), "cannot be read"),
}
LATE = {
    "torn.jpg": (lambda path: tear(save(path, picture(size=(640, 480)))), "truncated"),
    "torn.png": (lambda path: tear(save(path, picture(size=(640, 480)))), "truncated|broken"),
    "cmyk.jpg": (lambda path: save(path, picture(mode="CMYK")), "mode CMYK: save it as RGB"),
    "deep.png": (
        lambda path: save(path, Image.fromarray(np.ones((9, 9), np.uint16))),
        "mode I;16: save it as RGB with 8 bits",
    ),
    "moving.gif": (
        lambda path: picture().save(path, save_all=True, append_images=[picture(1)]),
        "is animated",
    ),
    "pages.tif": (
        lambda path: save(path, save_all=True, append_images=[picture(1)]),
        "has several pages",
    ),
    "bomb.png": (bomb, "cannot be read: Image size"),
}


def tear(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", LATE)
def test_pixels_that_cannot_be_used_are_named(tmp_path, name):
    write, said = LATE[name]
    write(tmp_path / name)
    pixels, problem = read_photo(tmp_path / name)
    assert pixels is None
    assert any(part in problem for part in said.split("|")), problem


# --------------------------------------------------------------------------- folders and tables


@pytest.fixture
def pictures(tmp_path):
    """A folder: seven good pictures, and one with each fault."""
    folder = tmp_path / "pictures"
    for number in range(7):
        gps = BERLIN | {2: (number, 30, 0)}
        save(folder / f"day {number % 2}" / f"{number}.jpg", picture(number), gps)
    for name, (write, _) in (FAULTS | LATE).items():
        write(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_gives_its_good_pictures_and_names_the_others(pictures, tmp_path):
    photos = Photos(pictures, progress=False)
    manifest = features(photos, MEANS, tmp_path / "out", batch=3, progress=False)
    named = dict(manifest["unusable"])
    late = {"moving.gif", "bomb.png"}  # without a position already
    assert named.keys() == {*FAULTS, *LATE}
    for name, (_, said) in (FAULTS | {k: v for k, v in LATE.items() if k not in late}).items():
        assert any(part in named[name] for part in said.split("|")), named[name]
    assert manifest["rows"] == 7
    index, computed = read_features(tmp_path / "out")
    for name, (lon, lat), row in zip(index.names, index.lonlat.tolist(), computed, strict=True):
        if name in named:
            assert row.isnan().all()
            continue
        number = int(Path(name).stem)
        assert (lon, lat) == pytest.approx((13.41, number + 0.5))
        assert row.numpy() == pytest.approx(means([read_photo(pictures / name)[0]])[0], rel=1e-5)


def test_killed_at_any_write_and_resumed_it_is_bit_identical(pictures, tmp_path):
    def run(out):
        photos = Photos(pictures, progress=False)
        return features(photos, MEANS, tmp_path / out, batch=2, progress=False)

    whole = run("whole")
    for number in (2, 5, 8, 9):
        assert killed_at_sync(lambda: run("out"), number) == -signal.SIGKILL
    assert run("out") == whole
    for name in ("features.npy", "index.csv", "manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_photo_that_changes_meanwhile_stops_the_run(pictures, tmp_path):
    photos = Photos(pictures, progress=False)
    save(pictures / "day 0" / "2.jpg", picture(size=(200, 200)))
    with pytest.raises(DataError, match=r"2.jpg has changed since the run began"):
        features(photos, MEANS, tmp_path / "out", progress=False)
    save(tmp_path / "one" / "a.jpg", gps=None)
    with pytest.raises(DataError, match=r"none of 1 photos .*a.jpg: has no position"):
        Photos(tmp_path / "one", progress=False)


@pytest.mark.skipif(MIRROR is None, reason="LOCTIES_MIRROR names no mirror")
def test_real_street_photographs_of_one_town_are_more_alike(tmp_path):
    photos = Photos(Path(MIRROR) / "photos-sample" / "index.csv")
    manifest = features(photos, FROZEN["efficientnet_lite0"]("cpu"), tmp_path, progress=False)
    assert (manifest["rows"], manifest["unusable"]) == (4, [])
    index, computed = read_features(tmp_path)
    singapore = index.lonlat[:, 0] > 100
    assert singapore.tolist() == [False, False, True, True]
    centred = (computed - computed.mean(0)).numpy()
    likeness = np.corrcoef(centred)
    assert min(likeness[0, 1], likeness[2, 3]) > likeness[:2, 2:].max()


def test_a_table_names_what_it_cannot_use(tmp_path):
    for number in range(2):
        save(tmp_path / f"{number}.jpg", picture(number), gps=None)
    (tmp_path / "empty.jpg").write_bytes(b"")
    rows = [
        ("0.jpg", 13.4, 52.5),
        ("1.jpg", -0.1, 51.5),
        ("0.jpg", 2.0, 48.0),
        ("gone.jpg", 2.0, 48.0),
        (".", 2.0, 48.0),
        ("empty.jpg", 2.0, 48.0),
        (None, 2.0, 48.0),
        ("1.jpg", 2.0, None),
    ]
    rows += [("0.jpg", float(i), 1.0) for i in range(30)] + [("1.jpg", 3.0, -91.0)]
    frame = pd.DataFrame(rows, columns=["File", "lon", "lat"])
    frame.to_csv(tmp_path / "table.csv", index=False)
    photos = Photos(tmp_path / "table.csv")
    assert photos.index.names == ("0.jpg", "1.jpg")
    assert photos.index.lonlat.tolist() == [[13.4, 52.5], [-0.1, 51.5]]
    named = photos.unusable
    assert named[:6] == [
        ("0.jpg", "is given twice"),
        ("gone.jpg", "is not there"),
        (".", "is not a file"),
        ("empty.jpg", "is empty (0 bytes)"),
        ("row 6", "has no path"),
        ("1.jpg", "longitude or latitude is missing"),
    ]
    assert "latitude" in named[-1][1]


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        (["what", "lon", "lat"], {}, "which column is the path.*path='what'"),
        (["file", "image", "lon", "lat"], {}, "could be it: file, image.*path='file'"),
        (["file", "lon", "lat"], {"path": "fil"}, "unknown column 'fil': did you mean 'file'"),
        (["file", "x", "y"], {}, "Pass lon='x', lat='y'"),
    ],
)
def test_a_column_that_is_not_found_is_asked_for(columns, options, said):
    frame = pd.DataFrame([[1] * len(columns)], columns=columns)
    with pytest.raises(ValueError, match=said):
        Photos(frame, **options)


def test_a_folder_has_no_columns_and_may_hold_no_photo(tmp_path):
    with pytest.raises(ValueError, match="path='file': a folder has no columns"):
        Photos(tmp_path, path="file")
    with pytest.raises(DataError, match="holds no photos"):
        Photos(tmp_path, progress=False)
