"""Judge the columns of a table: which kind of task one is, its values, and which were measured."""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Any

import numpy as np

from locties._util.extras import needs
from locties.apply.suspicious import suspicious_values
from locties.lonlat import usual_columns

with needs("own", "a table"):
    import pandas as pd

    from locties.apply.tables import (
        Array,
        Problems,
        any_of,
        column_of,
        numbers_of,
        reasons_text,
        rows_text,
    )
    from locties.apply.text import is_date, is_limit, is_number, shown, styles_of

_FEW = 4  # with fewer rows, nothing can be concluded
# Names of ids, row numbers and projected coordinates, with _ between words.
_NO_MEASUREMENT = re.compile(
    r"|(.*_)?(id|fid|gid|uid|nr|row)|(object|row|site|plot|station|sample|record)_?(id|nr|number)"
    r"|unnamed_\d+|index|level_0"
    r"|((point|coords?|utm)_)?[xy](_?coord(inate)?s?)?|coords_x[12]|(utm_)?(east|north)(ing)?s?",
    re.IGNORECASE,
)


def kind_of(frame: Any, name: str, skip: Array) -> str:
    """The kind of a column, judged without the rows to `skip`; ValueError if it could be either."""
    column = column_of(frame, name)
    judged = column.notna().to_numpy() & ~skip
    values = column[judged].astype(object)
    kind = pd.api.types.infer_dtype(values)
    declared = isinstance(column.dtype, pd.CategoricalDtype) and kind != "string"
    if kind == "empty":
        return "regression"  # any kind will do: no row is left
    if declared or kind == "boolean":
        return "classification"
    if kind == "string" or (kind.startswith("mixed") and kind != "mixed-integer-float"):
        if values.map(np.isscalar).all():
            return _kind_of_text(frame, name, values.astype(str), skip)
    elif kind in ("integer", "floating", "decimal", "mixed-integer-float"):
        return _kind_of_numbers(name, values.to_numpy(dtype=np.float64))
    raise ValueError(
        f"column {name!r} holds {kind} values, such as {shown(str(values.iloc[0]))}: name another "
        "target, or make a column of numbers or of text from it"
    )


def _kind_of_numbers(name: str, values: Array) -> str:
    values = values[np.isfinite(values)]
    if len(values) and (values == values.round()).all():
        raise ValueError(
            f"column {name!r} holds whole numbers ({len(np.unique(values))} different ones), "
            "which can be measurements or codes of classes: pass kind='regression' or "
            "kind='classification'"
        )
    return "regression"


def _kind_of_text(frame: Any, name: str, texts: Any, skip: Array) -> str:
    """Classes, unless most texts are numbers or dates, or differ from row to row."""
    different = pd.Series(texts.unique())
    number = is_number(different)
    styles = styles_of(different[~number])
    measured = number | different.map(
        lambda text: is_limit(text) or any(style.matches(text) for style in styles)
    )
    dates = different.map(is_date)
    or_classes = "or pass kind='classification'"

    def most(chosen: Any) -> bool:
        """Whether these texts fill most rows, or are most of the different texts."""
        return bool(texts.isin(different[chosen]).mean() > 0.5 or chosen.mean() > 0.5)

    if most(measured):
        try:
            values, problems = numbers_of(frame, name, skip)
        except ValueError as error:
            raise ValueError(f"{error}; {or_classes}") from None
        if not problems:
            return _kind_of_numbers(name, values)
        raise ValueError(
            f"{reasons_text(problems)}; the rest are numbers. Give numbers there too, such as half "
            "a limit of detection, or pass kind='regression' and invalid='drop' to drop these "
            f"rows; {or_classes}"
        )
    problem = ""
    if most(dates):
        problem = f"dates or times, such as {shown(different[dates].iloc[0])}"
    elif len(different) == len(texts) > _FEW or len(different) > len(texts) / 2 > 2 * _FEW:
        problem = f"{len(different)} different texts in {len(texts)} rows, such as "
        problem += f"{shown(different[0])}, like names or ids"
    if problem:
        raise ValueError(
            f"column {name!r} holds {problem}: name another target, make a column of numbers or "
            f"of classes from it, {or_classes}"
        )
    return "classification"


def target_values(frame: Any, name: str, kind: str, skip: Array) -> tuple[Array, Problems]:
    """Values (N,): float64 of a regression; text or int64 of a classification."""
    if kind == "regression":
        return measurements(frame, name, skip)
    column = column_of(frame, name)
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column) or str(column.dtype) == "geometry":
        raise ValueError(f"column {name!r} is of type {column.dtype}, not classes")
    missing = column.isna().to_numpy()
    numeric = kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column)
    if numeric:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = ~np.isfinite(values)
        if not (values[~missing] == values[~missing].round()).all():
            raise ValueError(
                f"column {name!r} holds fractions, not codes of classes: pass "
                "kind='regression', or cut it into classes with pandas.cut"
            )
    problems = [
        (
            f"{name!r} is missing (empty, NA, null and the like; if that is a class, write another "
            "word for it)",
            missing,
        )
    ]
    if numeric:
        return np.where(missing, 0, values).astype(np.int64), problems
    # Objects: an array of text would give each row the size of the longest.
    return column.astype(object).map(str).to_numpy(dtype=object), problems


def measurements(frame: Any, name: str, skip: Array) -> tuple[Array, Problems]:
    """A column (N,) float64, and its rows without a value, other than those to `skip`."""
    values, problems = numbers_of(frame, name, skip)
    absent = ~np.isfinite(values) & ~any_of(problems, len(values)) & ~skip
    return values, [*problems, (f"{name!r} is missing or not finite", absent)]


def codes_for_missing(name: str, values: Array, invalid: str) -> Problems:
    """Values (N,) that seem to mean a missing value, and their rows; NaN is ignored.

    With "keep" they are measured: a warning, and no problem.
    """
    problems = []
    for value, rows in suspicious_values(values):
        others = values[np.isfinite(values) & ~rows]
        what = f"{name!r} holds {value:.10g}, far from the others ({others.min():g} to "
        what += f"{others.max():g})"
        if invalid == "keep":
            warnings.warn(f"{what}, in {rows_text(rows)}: it is kept", stacklevel=4)
        else:
            remedy = "which seems to mean a missing value; to keep it, pass invalid='keep'"
            problems.append((f"{what}, {remedy}", rows))
    return problems


def check_classes(name: str, values: Array) -> None:
    """Warn of classes that differ only in capitals and blanks, and of classes of one row."""
    classes, counts = np.unique(values.astype(object), return_counts=True)
    first: dict[str, str] = {}
    for text in map(str, classes):
        same = first.setdefault(" ".join(text.split()).casefold(), text)
        if same != text:
            warnings.warn(
                f"column {name!r} has the classes {shown(same)} and {shown(text)}: if they are one "
                "class, write them in the same way",
                stacklevel=3,
            )
    single = classes[counts == 1]
    if len(single):
        warnings.warn(
            f"column {name!r} has {len(single)} of {len(classes)} classes in one row only, such as "
            f"{shown(str(single[0]))}: too few to learn and to test; merge or drop them",
            stacklevel=3,
        )


def measured_columns(frame: Any, others: set[str]) -> list[str]:
    """The numeric columns without coordinates, row numbers and ids, with a warning that lists them.

    These are not in the profile: usual names of coordinates and ids, names in `others`, and whole
    numbers that count the rows.
    """
    numeric = list(frame.select_dtypes(["number", "bool"]).columns)
    left_out = {*others, *itertools.chain(*usual_columns(numeric))}
    for name in set(numeric) - left_out:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", "_", str(name)).strip("_")
        column = column_of(frame, name)
        counts = pd.api.types.is_integer_dtype(column) and len(column) > _FEW
        if _NO_MEASUREMENT.fullmatch(words) or (counts and (column.diff().iloc[1:] == 1).all()):
            left_out.add(name)
    columns = [name for name in numeric if name not in left_out]
    if not columns:
        raise ValueError(
            "the table has no numeric column beside coordinates and row numbers"
            + (f" ({', '.join(numeric)}): pass columns= and names to use some" if numeric else "")
        )
    dropped = [name or "the unnamed one" for name in numeric if name in left_out - others]
    warnings.warn(
        f"the profile is made of {', '.join(columns)}"
        + (f", without {', '.join(dropped)}" if dropped else "")
        + "; to choose, pass columns= and their names",
        stacklevel=4,
    )
    return columns
