"""Texts with positions, from a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from locties._util.extras import needs
from locties._util.files import DataError
from locties.data.frozen import Item, as_it_is, in_order, nothing_usable
from locties.data.frozen_folder import make_index

with needs("data,own", "texts"):
    from locties.apply.tables import coordinates, one_column, read_table, unusable_rows

COLUMNS = ("text", "summary", "extract", "abstract", "description", "content", "body", "caption")


class Texts:
    """Texts for `locties.data.frozen.features`; a row that cannot be used is named.

    Args:
        source: a table, as for `locties.read_task`, in UTF-8; quote a text of several lines.
        text: column of texts; guessed by default.
        lon: column of longitudes; guessed by default.
        lat: column of latitudes.
    """

    kind = "texts"
    forms: Mapping[str, Callable[[Any], Any]] = {"texts": as_it_is}

    def __init__(
        self,
        source: Any,
        *,
        text: str | None = None,
        lon: str | None = None,
        lat: str | None = None,
    ) -> None:
        frame = read_table(source)
        column = one_column(frame, text, COLUMNS, "text")
        lonlat, problems = coordinates(frame, lon, lat)
        faults = unusable_rows(problems)
        self.texts: list[str] = []
        self.unusable: list[tuple[str, str]] = []
        names, kept = [], []
        for row, each in enumerate(frame[column]):
            problem = faults.get(row) or _problem(each)
            if problem:
                self.unusable.append((f"row {row}", problem))
                continue
            self.texts.append(each)
            names.append(f"row {row}")
            kept.append(row)
        if not names:
            raise DataError(nothing_usable(self.kind, source, self.unusable))
        self.index = make_index(names, lonlat[kept])
        content = "\0".join(self.texts).encode()
        name = Path(source).name if isinstance(source, str | Path) else "a table"
        self.recipe = {"name": name, "texts": hashlib.sha256(content).hexdigest()}

    def items(self, manifest: dict[str, Any]) -> Iterator[Item]:
        """The texts after the manifest's position."""
        return in_order(self.index, self.texts, manifest)


def _problem(text: Any) -> str | None:
    """Why a text cannot be used, or None."""
    if not isinstance(text, str):
        missing = text is None or text != text
        return "has no text" if missing else f"holds {type(text).__name__}, not text"
    if not text.strip():
        return "has an empty text"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds {text[error.start]!r}, which is no character"
    if "\ufffd" in text:
        return "holds U+FFFD, which marks letters lost by a wrong encoding"
    return None
