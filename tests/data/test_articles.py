"""Articles at places: each rule on a small gazetteer, and a sample of the real join read by eye."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from locties.data import sampling
from locties.data.articles import LANGUAGES, join
from locties.data.embedded import Earth
from locties.lonlat import distance_km

READ = Path(__file__).parents[2] / "results" / "articles_read.csv"


def place(name: str, country: str, lon: float, lat: float, people: int, *others: str) -> dict:
    return {"name": name, "alternatenames": list(others), "countrycode": country} | {
        "longitude": lon,
        "latitude": lat,
        "population": people,
    }


PLACES = [
    place("Valencia", "VE", -68.0, 10.2, 1_600_000),
    place("Valencia", "ES", -0.4, 39.5, 800_000, "Valence", "València"),
    place("Valencia", "ES", -5.0, 37.0, 900),
    place("Amur", "IN", 73.0, 22.0, 5000),
    place("Bern", "CH", 7.4, 46.9, 130_000),
    place("Zürich", "CH", 8.5, 47.4, 400_000),
    place("Chur", "CH", 9.5, 46.9, 40_000),
    place("Omsk", "RU", 73.4, 55.0, 1_100_000),
    place("Moscow", "RU", 37.6, 55.8, 1_200_000),
    place("Vladivostok", "RU", 131.9, 43.1, 1_200_000),
]


def found(title: str, text: str, description: str, language: str = "en", topic: str = "") -> list:
    """Where one article stands: names, as (name, country, kind)."""
    summaries = [
        [
            {"title": title, "extract": text, "description": description}
            | {"topic": topic or each.topic}
        ]
        if each.code == language
        else []
        for each in LANGUAGES
    ]
    return [
        (PLACES[a.place]["name"], PLACES[a.place]["countrycode"], PLACES[a.place]["population"])
        for a in join(summaries, PLACES)
    ]


@pytest.mark.parametrize(
    ("title", "text", "description", "language", "expected"),
    [
        ("Valencia", "A city in Spain.", "City in Spain", "en", ("Valencia", "ES", 800_000)),
        ("Valencia, Spain", "In Spain.", "City", "en", ("Valencia", "ES", 800_000)),
        ("Valence (Espagne)", "En Espagne.", "ville", "fr", ("Valencia", "ES", 800_000)),
        ("Valencia", "En Venezuela.", "ciudad", "es", ("Valencia", "VE", 1_600_000)),
        ("Switzerland", "A country.", "Country in Europe", "en", ("Zürich", "CH", 400_000)),
        ("Suisse (pays)", "Un pays.", "pays", "fr", ("Zürich", "CH", 400_000)),
    ],
)
def test_an_article_stands_at_its_place(title, text, description, language, expected) -> None:
    assert found(title, text, description, language) == [expected]


@pytest.mark.parametrize(
    ("title", "text", "description", "why"),
    [
        ("Valencia", "A city.", "City", "it names no country"),
        ("Valencia", "A city of France.", "City in France", "there is none in France"),
        ("Amur", "A river of Russia, China and India.", "River", "a river shares a city's name"),
        ("Switzerland (film)", "Set in Switzerland.", "Film", "another thing of that name"),
        ("Russia", "A country.", "Country", "no one point describes it"),
        ("Valencia", "", "City in Spain", "there is no text"),
    ],
)
def test_an_article_stands_nowhere(title, text, description, why) -> None:
    assert found(title, text, description) == [], why


def test_only_articles_on_geography_stand_somewhere() -> None:
    assert found("Valencia", "A club in Spain.", "City club", topic="Everyday life") == []


@pytest.mark.data
def test_the_sample_that_was_read_is_that_of_the_join(earth: Earth) -> None:
    read, texts = pd.read_csv(READ), earth.texts
    where = {
        (language, title): lonlat
        for language, title, lonlat in zip(
            texts.languages, texts.titles, texts.lonlat.tolist(), strict=True
        )
    }
    assert len(read) == 150
    assert set(read["verdict"]) <= {"right", "wrong"}
    assert (read["verdict"] == "wrong").mean() < 0.02
    for row in read.itertuples():
        assert where[row.language, row.title] == pytest.approx([row.lon, row.lat], abs=1e-3)


@pytest.mark.data
def test_texts_are_many_and_of_their_languages(earth: Earth) -> None:
    texts = earth.texts
    assert Counter(texts.languages) == {"en": 578, "fr": 597, "es": 449}
    assert len(texts.lonlat.unique(dim=0)) == 691
    row = texts.titles.index("Londres")
    assert texts.languages[row] == "fr"
    assert distance_km(texts.lonlat[row], torch.tensor([-0.13, 51.5])).item() < 10
    assert "Tamise" in texts.texts[row]


@pytest.mark.data
def test_cells_with_a_text_are_the_texts_or_validation(earth: Earth) -> None:
    owners = Counter(sampling.owner(earth.texts.lonlat).tolist())
    assert set(owners) == {sampling.VALIDATION, sampling.OWNERS.index("text")}
    share = owners[sampling.VALIDATION] / len(earth.texts.lonlat)
    assert 0.05 < share < 0.2
    assert np.isfinite(earth.texts.lonlat.numpy()).all()
