"""Shared by all commands: one line for each error, exit codes, and names of encoders."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import locties
from locties._util import registry
from locties._util.files import DataError
from locties._util.text import printable

if TYPE_CHECKING:
    from locties.evaluation.tasks import Task

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
# Packages of the command line itself; for any other, the library names the extra.
PACKAGES = ("pandas", "pyarrow", "rich", "tqdm", "typer")
# Options of all commands that read tables or labels.
Lon = Annotated[
    str | None, typer.Option(help="Column of longitudes; found by its name by default.")
]
Lat = Annotated[str | None, typer.Option(help="Column of latitudes; found by its name by default.")]
Kind = Annotated[
    str | None,
    typer.Option(
        help="regression or classification; needed for whole numbers, which can be either."
    ),
]
Invalid = Annotated[
    str,
    typer.Option(
        help="Rows that cannot be used, also in a table of embeddings: raise stops, drop leaves "
        "them out. keep takes a value such as -9999 as measured."
    ),
]
EXIT_CODES = (
    "Exit codes: 0 done; 1 a file cannot be used, or the run failed; 2 the command itself is "
    "wrong; 130 interrupted."
)


class Commands(TyperGroup):
    """All commands; they escape letters that stdout cannot encode, as in a C locale."""

    def main(self, *args: Any, **options: Any) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().main(*args, **options)


class Command(TyperCommand):
    """A command that prints an error as one line on stderr, without a traceback.

    `EXIT_CODES` end its help. The code is 2 after a ValueError, and 1 after a DataError, OSError,
    RuntimeError and the like; `reading` turns a ValueError about a file into an OSError. Any
    other exception is a bug and keeps its traceback.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"epilog": EXIT_CODES})

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = self._warn
            if sys.stderr is None:  # closed by the shell
                sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
            try:
                if sys.stdout is None:
                    raise OSError("stdout is closed: send it to a file, or to /dev/null")
                result = super().invoke(ctx)
                # Flush here, not at exit: typer handles a closed pipe.
                sys.stdout.flush()
            except (BrokenPipeError, typer.Exit, typer.Abort):
                raise
            except KeyboardInterrupt as interrupt:
                say(str(interrupt) or "interrupted")
                raise typer.Exit(130) from None
            except (ValueError, OSError, RuntimeError, ImportError, FloatingPointError) as error:
                say(self._in_options(_message(error)))
                wrong_usage = isinstance(error, ValueError) and not isinstance(error, DataError)
                raise typer.Exit(2 if wrong_usage else 1) from None
        return result

    def _warn(self, message: object, *_: object, **__: object) -> None:
        say(f"warning: {self._in_options(str(message))}")

    def _in_options(self, text: str) -> str:
        """Turn the arguments in a message of the library into options: lon='x' into --lon x."""
        options = {str(p.name): p for p in self.params if p.opts[0][0] == "-"}
        if not options:
            return text

        # An argument of a call is an option too.
        names = "|".join(options)
        text = re.sub(rf"locties\.\w+\(\.\.\., ((?:{names})='\w+')\)", r"\1", text)

        def option(found: re.Match[str]) -> str:
            given = options[found[1]]
            valued = found[2] and not getattr(given, "is_flag", False)
            value = shlex.quote(found[2].strip("'")) if valued else ""
            return f"{max(given.opts, key=len)} {value}".rstrip()

        text = re.sub(rf"\b({names})=('[^']*'|-?\w[\w.]*\b|(?=[ ,]))", option, text)
        # A shell separates options by spaces alone.
        return re.sub(r"(--[\w-]+ (?:'[^']*'|[^\s']+)), (?=--)", r"\1 ", text)


def say(text: str) -> None:
    """Print one line on stderr."""
    print(f"locties: {printable(' '.join(text.splitlines()))}", file=sys.stderr)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in PACKAGES:
        return f'this command needs {error.name}: pip install "locties[cli]"'
    return str(error)


@contextmanager
def reading() -> Iterator[None]:
    """Exit with code 1, not 2, after a ValueError: the file is wrong, not the command."""
    try:
        yield
    except ValueError as error:
        raise OSError(str(error)) from error


@contextmanager
def resuming() -> Iterator[None]:
    """After an interrupt, say that the same command resumes: the library's message names a call."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        where = str(interrupt).partition(":")[0] or "interrupted"
        raise KeyboardInterrupt(f"{where}; the same command resumes") from None


def number_of(month: str | None) -> int | None:
    """The month that an option gives as a number; None if it gives none, or a column."""
    return int(month) if month is not None and month.isdecimal() else None


def read_labels(
    file: Path,
    target: str,
    *,
    lon: str | None,
    lat: str | None,
    kind: str | None,
    invalid: str,
    unit: str = "",
    month: str | None = None,
    fixed: int | None = None,
) -> Task:
    """Read the labels of a file. A wrong option raises before the file is opened.

    If `fixed` is a month, all labels count as of that month, and months in the file are not read.
    """
    from locties.apply.tables import INVALID, check_invalid
    from locties.evaluation.tasks import check_kind
    from locties.user_data import in_one_month

    if kind is not None:
        check_kind(kind)
    check_invalid(invalid, INVALID)
    with reading():
        source = file if fixed is None else in_one_month(file, fixed)
        return locties.read_task(
            source, target, lon=lon, lat=lat, month=month, kind=kind, unit=unit, invalid=invalid
        )


def check_writable(*paths: Path | None) -> None:
    """Refuse folders that are missing or in which no file can be made, before any work."""
    for path in filter(None, paths):
        folder = path.parent
        if not folder.exists():
            make = shlex.join(["mkdir", "-p", str(folder)])
            raise OSError(f"{path}: there is no folder {str(folder)!r}; to make it: {make}")
        try:
            TemporaryFile(dir=folder).close()
        except OSError as error:
            raise OSError(
                f"{path} cannot be written ({error.strerror}): name a file in another folder"
            ) from error


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout, in ASCII, which every terminal and locale can show."""
    print(json.dumps(value, indent=2, allow_nan=False))


def split_names(values: Iterable[str]) -> list[str]:
    """Names from repeated options, or separated by commas."""
    return [name for value in values for name in registry.split_names(value)]


def find_encoder(name: str, others: Sequence[str] = ()) -> str:
    """The encoder that a user names; for the folder of a run, the encoder in it.

    Args:
        name: a published encoder, the folder of one or of a run, each with or without a nested
            dimension as in `locties.load`, or one of `others`.
        others: other names that are allowed here.
    """
    from locties.saved import is_encoder, split_dim

    base, dim = split_dim(name)
    encoder = Path(base) / "encoder"
    if (encoder / "config.json").is_file():
        return str(encoder) + ("" if dim is None else f":{dim}")
    known = [*locties.published(), *others]
    if name not in known and not is_encoder(name):
        raise ValueError(f"{registry.unknown('encoder', name, known)} Or the folder of one.")
    return name


def find_contender(name: str, others: Sequence[str] = ()) -> str:
    """The name to give to `contender`. Each part is a table, or as in `find_encoder`."""
    from locties.apply.embedding_table import is_table
    from locties.evaluation.baselines import BASELINES, MONTHLY_BASELINES, parts_of
    from locties.peers import PEERS

    others = [*others, *BASELINES, *MONTHLY_BASELINES, *PEERS, "layers"]
    return "+".join(
        part if is_table(part) else find_encoder(part, others) for part in parts_of(name)
    )
