"""Append columns to a table of places; its own columns stay as they are."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import shlex
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import need, needs
from locties._util.files import remedy, written_aside
from locties.apply.parts import (
    Part,
    Source,
    ending_of,
    geometry,
    places_of,
    read_parts,
    separator_of,
    source_of,
)
from locties.apply.tables import Problems, any_of, check_invalid, float_points, named, usable

with needs("own", "a table"):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet as pq

Columns = Callable[..., Any]
Named = Mapping[str, str | None]
Write = Callable[[Part, pa.RecordBatch], None]

_BUFFER = 2**20  # bytes
# Text that becomes a number in Parquet, if that loses no digits and no leading zeros.
_WHOLE = r"^(-?[1-9]\d{0,17}|0)?$"
_NUMBER = r"^(-?((0|[1-9]\d{0,14})(\.\d+)?|\.\d+)([eE][-+]?\d{1,2})?)?$"


def append_columns(
    source: str | Path | IO[bytes],
    output: str | Path | IO[bytes],
    columns: Columns,
    about: Mapping[str, str],
    *,
    lon: str | None = None,
    lat: str | None = None,
    month: str | None = None,
    invalid: str = "raise",
    progress: bool = False,
) -> None:
    """Append columns that depend on the place to a table, part by part.

    A CSV file keeps its text exactly. A Parquet file keeps its types, index, geometry and metadata.
    If a CSV file becomes Parquet, a column becomes numbers if all its values are numbers and none
    has leading zeros or too many digits; other columns stay text. Memory holds a few parts of
    `parts.ROWS` rows.

    A file appears whole or not at all. Until then ``OUTPUT.unfinished`` keeps what is computed.
    After an interrupt, a kill or a full disk, the same call resumes and writes the same bytes.

    Args:
        source: path of a CSV, TSV or Parquet, or a stream of CSV.
        output: path of a CSV, TSV or Parquet, or a stream, to which CSV is written.
        columns: a function from lonlat (N, 2) float32, and months (N,) int64 if `month` is given,
            to a DataFrame of new columns (N rows).
        about: what made the columns, such as `locties.apply.metadata.describe` of an encoder. It
            goes into the attrs of a Parquet; an interrupted call resumes only with the same
            `about`.
        lon: column of longitudes, as in `locties.embed`.
        lat: column of latitudes, as in `locties.embed`.
        month: column of months, for columns that depend on the month too; "" finds the only column
            called month.
        invalid: "raise" or "drop", as in `locties.embed`.
        progress: show a progress bar in a terminal.

    Raises:
        FileExistsError: ``OUTPUT.unfinished`` belongs to another table or to other columns.
        RuntimeError: another process is writing `output`.
    """
    check_invalid(invalid)
    given = {"lon": lon, "lat": lat, "month": month}
    with ExitStack() as stack:
        done: _Unfinished | None = None
        rows: int | None = None
        if isinstance(output, str | Path):
            path, parquet = Path(output), separator_of(ending_of(output)) is None
            table = stack.enter_context(_again(source, path.parent))
            rows, types = _scan(table, given, invalid, typed=parquet)
            identity = {**given, **about, "invalid": invalid, "source_sha256": _sha256(table)}
            done = stack.enter_context(_unfinished(path, identity))
            write = stack.enter_context(_to_file(path, types, about))
            parts = _known(table, given)
        else:
            parts, write = _checked(_stream(source), given, invalid), _to_delimited(output, ",")
        tqdm = need("tqdm", "append_columns", "cli").tqdm
        bar = stack.enter_context(
            tqdm(total=rows, unit=" rows", disable=None if progress else True)
        )
        # One part is written while the next is computed.
        pool = stack.enter_context(ThreadPoolExecutor(1))
        writing: Future[None] | None = None
        for number, (size, part, places) in enumerate(parts):
            added = done.load(number) if done else None
            if added is None:
                added = columns(*places)
            if writing:
                writing.result()
            writing = pool.submit(_keep, number, part, added, done, write)
            bar.update(size)
        if writing:
            writing.result()


def _keep(number: int, part: Part, added: Any, done: _Unfinished | None, write: Write) -> None:
    """Write a part; first save what was computed for it, unless it was saved before."""
    computed = not isinstance(added, pa.RecordBatch)
    added = _batch(added) if computed else added
    if taken := set(part.columns.schema.names) & set(added.schema.names):
        raise ValueError(f"the table already has a column {min(taken)!r}: drop it, or rename it")
    if done and computed:
        done.save(number, added)
    write(part, added)


def _batch(frame: Any) -> pa.RecordBatch:
    """The columns of a DataFrame. A matrix of floats is transposed in blocks that fit the cache."""
    if set(frame.dtypes) != {np.dtype(np.float32)}:
        return pa.RecordBatch.from_pandas(frame, preserve_index=False)
    rows = frame.to_numpy()
    columns = np.empty(rows.T.shape, rows.dtype)
    for start in range(0, len(rows), 64):
        columns[:, start : start + 64] = rows[start : start + 64].T
    fields = [pa.field(name, pa.float32(), nullable=False) for name in frame.columns]
    return pa.RecordBatch.from_arrays([pa.array(x) for x in columns], schema=pa.schema(fields))


# ------------------------------------------------------------------------------------- reading


def _stream(source: str | Path | IO[bytes]) -> Source:
    if isinstance(source, str | Path):
        return source_of(source)
    return Source("stdin", ".csv", lambda: source)


@contextmanager
def _again(source: str | Path | IO[bytes], folder: Path) -> Iterator[Source]:
    """A table that can be read several times: a stream is copied to the disk of `folder` first."""
    if isinstance(source, str | Path):
        yield source_of(source)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as copy:
        try:
            shutil.copyfileobj(source, copy)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; {remedy(error)}", str(folder)) from None

        def start() -> IO[bytes]:
            copy.seek(0)
            return open(copy.fileno(), "rb", closefd=False)

        yield Source("stdin", ".csv", start)


def _sha256(source: Source) -> str:
    with source.open() as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _counted(start: int) -> str:
    return f" (rows counted from row {start})" if start else ""


def _placed(
    source: Source, given: Named, *, warn: bool = True
) -> Iterator[tuple[int, Part, Any, Problems]]:
    """For each part: the number of rows before it, itself, its places, and their problems.

    Places are (N, 2), or (N, 3) with months.
    """
    start = 0
    for part in read_parts(source):
        try:
            with named(source.name), warnings.catch_warnings(record=True) as noted:
                warnings.simplefilter("always")
                lonlat, problems = places_of(part, **given, file=source.name)
        except ValueError as error:
            raise ValueError(f"{source.name}: {error}{_counted(start)}") from None
        if warn:
            for warning in noted:
                warnings.warn(f"{source.name}: {warning.message}{_counted(start)}", stacklevel=3)
        yield start, part, lonlat, problems
        start += len(lonlat)


def _known(source: Source, given: Named) -> Iterator[tuple[int, Part, list[Tensor]]]:
    """For each part of a table that `_scan` checked: its size, its usable rows, their places."""
    for _, part, places, problems in _placed(source, given, warn=False):
        keep = ~any_of(problems, len(places))
        yield len(places), part.filter(keep), _tensors(places[keep])


def _tensors(places: Any) -> list[Tensor]:
    """Coordinates (N, 2) float32 and, if they are there, months (N,) int64."""
    return [float_points(places[:, :2]), *torch.from_numpy(places[:, 2:]).long().unbind(1)]


def _checked(
    source: Source, given: Named, invalid: str
) -> Iterator[tuple[int, Part, list[Tensor]]]:
    """As `_known`, for a table that can be read only once: each part is checked when read."""
    total = left = 0
    for start, part, lonlat, problems in _placed(source, given):
        before = np.zeros(start, dtype=bool)  # so that rows are counted from the first
        problems = [(what, np.concatenate([before, rows])) for what, rows in problems]
        total = start + len(lonlat)
        keep = usable(problems, total, invalid)[start:]
        left += keep.sum()
        yield len(lonlat), part.filter(keep), _tensors(lonlat[keep])
    if total and not left:
        raise ValueError("no row is left")


def _scan(
    source: Source, given: Named, invalid: str, *, typed: bool
) -> tuple[int, list[pa.DataType] | None]:
    """Check all rows and count them; if `typed`, also find the types of a CSV's columns."""
    found: dict[str, list[Any]] = {}
    total, facts = 0, None
    for start, part, lonlat, problems in _placed(source, given):
        total = start + len(lonlat)
        for what, rows in problems:
            found.setdefault(what, []).append(start + np.flatnonzero(rows))
        if typed and part.separator:
            columns = part.filter(~any_of(problems, len(lonlat))).columns
            now = np.array([_facts(column) for column in columns]).reshape(-1, 3)
            facts = now if facts is None else facts & now
    flags = [(what, np.zeros(total, dtype=bool)) for what in found]
    for (_, wrong), index in zip(flags, found.values(), strict=True):
        wrong[np.concatenate(index)] = True
    if total and not usable(flags, total, invalid).any():
        raise ValueError("no row is left")
    if facts is None:
        return total, None
    return total, [
        pa.string() if empty else pa.int64() if whole else pa.float64() if number else pa.string()
        for empty, whole, number in facts
    ]


def _facts(column: pa.Array) -> list[bool]:
    """Whether all values of a column of text are empty, whole numbers, and numbers."""
    empty = not pc.any(pc.not_equal(column, "")).as_py()
    tests = (pc.all(pc.match_substring_regex(column, pattern)) for pattern in (_WHOLE, _NUMBER))
    return [empty, *(test.as_py() is not False for test in tests)]


# ------------------------------------------------------------------------------- unfinished output


class _Unfinished:
    """The folder of computed parts; the name of a file holds the checksum of its bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {int(file.name.partition("-")[0]): file for file in folder.glob("*.arrow")}

    def load(self, number: int) -> pa.RecordBatch | None:
        """A part, if it was computed and is undamaged."""
        if (file := self.files.get(number)) is None:
            return None
        content = file.read_bytes()
        if file.name != _name(number, zlib.crc32(content)):
            return None
        return pa.ipc.open_stream(content).read_next_batch()

    def save(self, number: int, added: pa.RecordBatch) -> None:
        aside = self.folder / "part"
        with aside.open("wb", buffering=0) as raw:
            summed = _Summed(raw)
            with _buffered(summed) as buffer, pa.ipc.new_stream(buffer, added.schema) as stream:
                stream.write_batch(added)
        aside.replace(self.folder / _name(number, summed.crc))


class _Summed:
    """A file for pyarrow that computes the checksum of what is written to it."""

    closed, crc = False, 0

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw

    def write(self, content: Any) -> None:
        self.crc = zlib.crc32(content, self.crc)
        view = memoryview(content)
        while view:  # an unbuffered file may take less than it is given
            view = view[self.raw.write(view) :]

    def flush(self) -> None:
        pass

    close = flush


def _buffered(stream: Any) -> Any:
    """A stream for pyarrow that is written in few large pieces; each column is a small one."""
    return pa.BufferedOutputStream(pa.PythonFile(stream, "w"), _BUFFER)


def _name(number: int, crc: int) -> str:
    return f"{number:06d}-{crc:08x}.arrow"


@contextmanager
def _unfinished(output: Path, identity: Mapping[str, str | None]) -> Iterator[_Unfinished]:
    """Lock ``OUTPUT.unfinished``; delete it when `output` is written, or if it is empty."""
    from locties._util.lock import only_process

    folder = output.with_name(f"{output.name}.unfinished")
    note = folder / "note.json"
    if folder.is_dir() and not note.exists() and any(folder.glob("[!.]*")):
        raise FileExistsError(f"{folder} was not written by locties: choose another output")
    folder.mkdir(parents=True, exist_ok=True)
    with only_process(folder):
        there = json.loads(note.read_text()) if note.exists() else identity
        for name, value in identity.items():
            if there.get(name) != value:
                raise FileExistsError(
                    f"{folder} holds other rows or columns: its {name} is {there.get(name)!r}, not "
                    f"{value!r}. Start again with rm -r {shlex.quote(str(folder))}, or choose "
                    "another output"
                )
        with written_aside(note) as aside:
            aside.write_text(json.dumps(identity))
        try:
            yield _Unfinished(folder)
        except BaseException:
            if any(folder.glob("*.arrow")):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------------------------------- writing


@contextmanager
def _to_file(
    path: Path, types: Sequence[pa.DataType] | None, about: Mapping[str, str]
) -> Iterator[Write]:
    """A function that writes part after part; the file appears whole or not at all."""
    separator, packed = separator_of(ending_of(path)), path.name.lower().endswith(".gz")
    with written_aside(path) as aside:
        if separator is None:
            with _to_parquet(aside, types, about) as write:
                yield write
        else:
            with aside.open("wb") as raw, ExitStack() as stack:
                stream: Any = raw
                if packed:  # without name and time, so that the same table gives the same bytes
                    stream = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
                yield _to_delimited(stream, separator)


@contextmanager
def _to_parquet(
    path: Path, types: Sequence[pa.DataType] | None, about: Mapping[str, str]
) -> Iterator[Write]:
    writer: Any = None
    stack = ExitStack()

    def write(part: Part, added: pa.RecordBatch) -> None:
        nonlocal writer
        own = part.columns
        fields, arrays = list(own.schema), own.columns
        if types:
            fields = [field.with_type(kind) for field, kind in zip(fields, types, strict=True)]
            arrays = [_of_type(array, kind) for array, kind in zip(arrays, types, strict=True)]
        metadata = dict(own.schema.metadata or {})
        attrs = {**json.loads(metadata.get(b"PANDAS_ATTRS", b"{}")), **about}
        metadata[b"PANDAS_ATTRS"] = json.dumps(attrs).encode()
        schema = pa.schema([*fields, *added.schema], metadata)
        if writer is None:
            # Embeddings never repeat: a dictionary, bounds and compression would not help.
            floats = [field.name for field in added.schema if pa.types.is_floating(field.type)]
            packed = {name: "none" if name in floats else "snappy" for name in schema.names}
            known = [name for name in schema.names if name not in floats]
            stream = stack.enter_context(_buffered(path.open("wb", buffering=0)))
            writer = stack.enter_context(
                pq.ParquetWriter(
                    stream, schema, compression=packed, use_dictionary=known, write_statistics=known
                )
            )
        writer.write_batch(pa.RecordBatch.from_arrays([*arrays, *added.columns], schema=schema))

    with stack:
        yield write


def _of_type(text: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return text
    return pc.if_else(pc.equal(text, ""), None, text).cast(kind)


def _to_delimited(stream: IO[bytes], separator: str) -> Write:
    begun = False

    def write(part: Part, added: pa.RecordBatch) -> None:
        nonlocal begun
        own = part.lines if part.separator == separator else _lines(part.columns, separator)
        lines = [f"{a}{separator}{b}" for a, b in zip(own, _lines(added, separator), strict=True)]
        if not begun:
            header = part.header
            if part.separator != separator:
                [header] = _joined([part.columns.schema.names], separator)
            lines[:0] = [separator.join([header, *_joined([added.schema.names], separator)])]
            begun = True
        stream.write("".join(f"{line}{part.end}" for line in lines).encode())
        stream.flush()

    return write


class _Lines(list[str]):
    """A file for `csv.writer` that keeps a line for each row."""

    def write(self, line: str) -> None:
        self.append(line)


def _joined(rows: Iterable[Sequence[str]], separator: str) -> list[str]:
    lines = _Lines()
    csv.writer(lines, delimiter=separator, lineterminator="").writerows(rows)
    return lines


def _lines(columns: pa.RecordBatch, separator: str) -> list[str]:
    """The rows as lines of separated values."""
    kinds = [field.type for field in columns.schema]
    if kinds and all(pa.types.is_floating(k) or pa.types.is_integer(k) for k in kinds):
        text = io.BytesIO()  # much faster than the csv module
        pa.csv.write_csv(
            columns, text, pa.csv.WriteOptions(include_header=False, delimiter=separator)
        )
        return text.getvalue().decode().splitlines()
    shapes = geometry(columns)
    texts = [
        shapes[name].to_wkt(rounding_precision=-1).fillna("") if name in shapes else _texts(column)
        for name, column in zip(columns.schema.names, columns, strict=True)
    ]
    return _joined(zip(*texts, strict=True), separator)


def _texts(column: pa.Array) -> list[str]:
    """The values of a column as text: missing ones as nothing, nested ones as JSON."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        values = column.cast(pa.string()).to_pylist()
    except pa.ArrowInvalid:
        raise ValueError(
            "a column holds bytes, not text: drop it, or write Parquet, with output='FILE.parquet'"
        ) from None
    except pa.ArrowNotImplementedError:
        values = [None if v is None else json.dumps(v, default=str) for v in column.to_pylist()]
    return ["" if value is None else value for value in values]
