"""Recognise numbers written as text, and give the command that rewrites them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from locties._util.extras import needs

with needs("own", "a table"):
    import pandas as pd

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LOOSE = r"[-+]?\d+(?:[.,]\d+)?"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"(?:\d{{1,4}}([-/.])\d{{1,2}}\1\d{{1,4}}|\d{{4}}[-/]\d{{2}}|\d{{1,2}}/\d{{4}}"
    rf"|(?:\d{{1,2}}[\s-]*)?{_MONTH}[\s,-]*\d{{1,4}}(?:[\s,-]+\d{{4}})?)"
    r"(?:[T\s]+\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(?::\d{2})?",
    re.IGNORECASE,
)
_LIMIT = re.compile(rf"[<>≤≥~]=?\s*{_LOOSE}")
_DEGREES = re.compile(
    r"[NSEW]?\s*[-+]?\d+(?:[.,]\d+)?\s*(?:[°º˚d:\s]\s*(?:\d+(?:[.,]\d+)?\s*['′’m:\s]?\s*"
    r"(?:\d+(?:[.,]\d+)?\s*[\"″”s']*\s*)?)?)?\s*[NSEW]?",
    re.IGNORECASE,
)
_MARKS = re.compile(r"[°º˚'′’:\s]|[NSEW]\s*$|^\s*[NSEW]", re.IGNORECASE)


class Style(NamedTuple):
    """A way to write numbers that pandas reads as text."""

    what: str
    pattern: str
    changes: tuple[tuple[str, str], ...]  # regular expressions and their replacements, in order

    def matches(self, text: str) -> bool:
        """Whether `text` is a number in this style."""
        return re.fullmatch(self.pattern, text.strip()) is not None


_COMMA = Style("a decimal comma", r"[-+]?\d+,\d+", ((",", "."),))
_THOUSANDS = Style("commas between thousands", r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", ((",", ""),))
_POINTS = Style(
    "points between thousands",
    r"[-+]?[1-9]\d{0,2}((\.\d{3})+,\d+|(\.\d{3}){2,})",
    (("[.]", ""), (",", ".")),
)
_STYLES = (
    Style(
        "spaces or apostrophes between thousands",
        r"[-+]?\d{1,3}([\s'’]\d{3})+([.,]\d+)?",
        (("[\\s'’]", ""),),
    ),
    Style("a percent sign", rf"{_LOOSE}\s*[%‰]", (("[\\s%‰]", ""),)),
    Style(
        "a currency",
        rf"([€$£¥]|EUR|USD|GBP|CHF)\s*{_NUMBER}|{_NUMBER}\s*([€$£¥]|EUR|USD|GBP|CHF)",
        (("[€$£¥A-Z\\s]", ""),),
    ),
    Style("a minus sign that is no hyphen", rf"[−–]{_NUMBER}", (("[−–]", "-"),)),
)


def is_number(texts: Any) -> Any:
    """Which texts of a Series pandas reads as numbers: a Series of bool."""
    return pd.to_numeric(texts, errors="coerce").notna()


def styles_of(texts: Sequence[str]) -> list[Style]:
    """The style of the numbers among texts, if pandas does not read it.

    With two styles, the texts can be read in both ways.

    Example:
        >>> [style.what for style in styles_of(["6,5", "7,25"])]
        ['a decimal comma']
        >>> [style.what for style in styles_of(["1,234", "12,480"])]
        ['commas between thousands', 'a decimal comma']
    """
    texts = [text.strip() for text in texts]

    def written(style: Style) -> list[str]:
        return [text for text in texts if style.matches(text)]

    if written(_POINTS):
        return [_POINTS]
    if thousands := written(_THOUSANDS):
        if set(written(_COMMA)) - set(thousands):
            return [_COMMA]
        points = any("." in text for text in texts)
        clear = points or any(text.count(",") > 1 for text in thousands)
        return [_THOUSANDS] if clear else [_THOUSANDS, _COMMA]
    for style in (_COMMA, *_STYLES):
        if written(style):
            return [style]
    return _with_unit(texts)


def _with_unit(texts: list[str]) -> list[Style]:
    """The style of at least five different numbers before the same unit."""
    found = [re.fullmatch(rf"({_NUMBER})(\s*[^\d\s.,;-][^\d,;]*)", text) for text in texts]
    units = {match[2] for match in found if match}
    numbers = {match[1] for match in found if match}
    if len(units) != 1 or len(numbers) < 5:
        return []
    unit = units.pop()
    literal = re.escape(unit)
    return [Style(f"the unit {unit.strip()!r}", _NUMBER + literal, ((literal, ""),))]


def is_date(text: str) -> bool:
    """Whether `text` is a date or a time.

    Example:
        >>> [is_date(text) for text in ("2020-05-01", "1 May 2020", "12:30", "6.5", "maize")]
        [True, True, True, False, False]
    """
    return bool(_DATE.fullmatch(text.strip()))


def is_limit(text: str) -> bool:
    """Whether `text` is a limit of detection, such as <0.5."""
    return bool(_LIMIT.fullmatch(text.strip()))


def decimal_degrees(text: str) -> float | None:
    """Degrees from text with minutes, seconds or a hemisphere; None for any other text.

    Example:
        >>> decimal_degrees("52°30′36″N"), decimal_degrees("13.4W"), decimal_degrees("Berlin")
        (52.51, -13.4, None)
    """
    text = text.strip()
    if not _DEGREES.fullmatch(text) or not _MARKS.search(text):
        return None
    parts = [float(part.replace(",", ".")) for part in re.findall(r"\d+(?:[.,]\d+)?", text)]
    size: float = sum(part / 60**i for i, part in enumerate(parts))
    return round(-size if re.search(r"^-|[SW]", text, re.IGNORECASE) else size, 6)


def rewritten(frame: Any, change: str, geometry: bool = False) -> str:
    """Code that applies `change`, a method call, to a frame; a shell command if it has a file.

    The file is ``frame.attrs["file"]``, which `read_table` sets. With `geometry`, the change turns
    a DataFrame into a GeoDataFrame.
    """
    file = frame.attrs.get("file")
    if file is None:
        return f"frame{change}"
    path = Path(file)
    stem, _, suffix = path.name.partition(".") if "." in path.name else (file, "", "csv")
    package = "geopandas" if hasattr(frame, "to_crs") else "pandas"
    ending = suffix.lower().removesuffix(".gz")
    if ending.endswith(("csv", "tsv")):
        separator = ', sep="\\t"' if ending.endswith("tsv") else ""
        read, write = f"csv({quoted(file)}{separator})", f"csv(%s{separator}, index=False)"
    elif ending.endswith(("parquet", "pq")):
        read, write = f"parquet({quoted(file)})", "parquet(%s)"
    else:
        read, write, suffix = f"file({quoted(file)})", "file(%s)", "gpkg"
    if geometry:
        write, suffix = "file(%s)", "gpkg"
    new = quoted(str(path.with_name(f"{stem}_new.{suffix}")))
    code = f"{package}.read_{read}{change}.to_{write % new}"
    packages = ", ".join(
        name for name in ("geopandas", "pandas") if re.search(rf"\b{name}\.", code)
    )
    return f"python -c {shlex.quote(f'import {packages}; {code}')}"


def misread(frame: Any, name: str, texts: Sequence[str], styles: Sequence[Style]) -> ValueError:
    """The error for a column of text with numbers in one of these styles.

    The remedy converts all columns of such numbers, so one command is enough.
    """
    example = next(text for text in texts if styles[0].matches(text))
    others: list[str] = []
    remedies = []
    for style in styles:
        alike = [other for other in frame.columns if other != name and _is_in(style, frame[other])]
        others += [other for other in alike if other not in others]
        columns = json.dumps([name, *alike], ensure_ascii=False)
        call = "".join(
            f".replace(dict.fromkeys({columns}, {{{quoted(old)}: {quoted(new)}}}), regex=True)"
            for old, new in style.changes
        )
        if is_number(_changed(style, texts)).all():
            call += f".astype(dict.fromkeys({columns}, float))"
        condition = f" if it has {style.what}" if len(styles) > 1 else ""
        remedies.append(rewritten(frame, call) + condition)
    too = f" (also in {', '.join(map(repr, others))})" if others else ""
    return ValueError(
        f"column {name!r} holds text with {' or '.join(style.what for style in styles)}, such as "
        f"{shown(example)}{too}: convert it, with {', or with '.join(remedies)}"
    )


def _changed(style: Style, texts: Sequence[str]) -> Any:
    """A Series of these texts in the style that pandas reads."""
    changed = pd.Series(texts, dtype=object)
    for old, new in style.changes:
        changed = changed.str.replace(old, new, regex=True)
    return changed


def _is_in(style: Style, column: Any) -> bool:
    """Whether a column holds nothing but numbers, some of them in this style."""
    if column.ndim != 1 or pd.api.types.is_numeric_dtype(column):
        return False  # ndim is 2 if several columns have this name
    texts = column.dropna().unique()
    if not all(isinstance(text, str) for text in texts):
        return False
    return style in styles_of(texts) and bool(is_number(_changed(style, texts)).all())


def shown(text: str) -> str:
    """A text in quotes; only its first letters if it is long."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def quoted(text: str) -> str:
    """A text as Python code in double quotes, so that a shell command can quote it."""
    return json.dumps(text, ensure_ascii=False)
