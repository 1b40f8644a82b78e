"""What the commands share: one line for what went wrong, an exit code, and names of encoders."""

from __future__ import annotations

import json
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import locties

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


class Command(TyperCommand):
    """A command that says what went wrong on one line of stderr, without a traceback.

    Exit codes: 1 for a fault of data or run (OSError, RuntimeError and their like), 2 for wrong
    usage (ValueError), 130 for an interrupt. A bug, any other exception, keeps its traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = self._warn
            try:
                result = super().invoke(ctx)
                # Here, where typer knows what a reader that has gone away means, not at exit.
                sys.stdout.flush()
            except (BrokenPipeError, typer.Exit, typer.Abort):
                raise
            except KeyboardInterrupt as interrupt:
                say(str(interrupt) or "interrupted")
                raise typer.Exit(130) from None
            except ValueError as error:
                say(self._in_options(str(error)))
                raise typer.Exit(2) from None
            except (OSError, RuntimeError, ImportError, FloatingPointError) as error:
                say(self._in_options(_message(error)))
                raise typer.Exit(1) from None
        return result

    def _warn(self, message: object, *_: object, **__: object) -> None:
        say(f"warning: {self._in_options(str(message))}")

    def _in_options(self, text: str) -> str:
        """A library's message names arguments; here they are options: lon='x' is --lon x."""
        options = {str(p.name): max(p.opts, key=len) for p in self.params if p.opts[0][0] == "-"}
        if not options:
            return text

        def option(found: re.Match[str]) -> str:
            value = shlex.quote(found[2].strip("'")) if found[2] else ""
            return f"{options[found[1]]} {value}".rstrip()

        return re.sub(rf"\b({'|'.join(options)})=('[^']*'|-?\w[\w.]*\b|(?=[ ,]))", option, text)


def say(text: str) -> None:
    """One line on stderr."""
    print(f"locties: {' '.join(text.splitlines())}", file=sys.stderr)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = _extra(error.name.partition(".")[0])
        run = f'; run: pip install "locties[{extra}]"' if extra else ""
        return f"{error}: this command needs it{run}"
    return str(error)


def _extra(module: str) -> str | None:
    """The extra that brings a module: the command line's own, else the one of fewest libraries.

    None for a module of no extra, and where locties itself is run without being installed.
    """
    odd = {"PIL": "pillow", "mpl_toolkits": "basemap-data", "sklearn": "scikit-learn"}
    library = {**odd, "yaml": "pyyaml"}.get(module, module.replace("_", "-"))
    extras: dict[str, list[str]] = {}
    try:
        requirements = metadata.requires("locties") or []
    except metadata.PackageNotFoundError:
        requirements = []
    for requirement in requirements:
        if found := re.match(r"([\w.-]+).*\bextra == ['\"](\w+)", requirement):
            extras.setdefault(found[2], []).append(found[1])
    having = [name for name, libraries in extras.items() if library in libraries]
    return min(having, key=lambda name: (name != "cli", len(extras[name])), default=None)


@contextmanager
def reading() -> Iterator[None]:
    """What a file holds is wrong, not how the command was called: exit code 1."""
    try:
        yield
    except ValueError as error:
        raise OSError(str(error)) from error


@contextmanager
def going_on() -> Iterator[None]:
    """At an interrupt a library's message says how the same call goes on; here it is a command."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        where = str(interrupt).partition(":")[0] or "interrupted"
        raise KeyboardInterrupt(f"{where}; the same command goes on from there") from None


def print_json(value: Any) -> None:
    """A value on stdout, with null for what is no number."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def split_names(values: Iterable[str]) -> list[str]:
    """Names given one an option, or several after commas."""
    from locties._util import registry

    return [name for value in values for name in registry.split_names(value)]


PUBLISHED = Path(locties.__file__).parent / "published"


def published() -> list[str]:
    """Names of the encoders that come with locties."""
    return sorted(folder.name for folder in PUBLISHED.glob("*") if folder.is_dir())


def find_encoder(name: str, others: Sequence[str] = ()) -> str:
    """The encoder that a user names: as she wrote it, or the one inside a run's folder.

    Args:
        name: a published encoder, the folder of one or of a run, or one of `others`.
        others: what else is known here.

    Raises:
        ValueError: there is neither such a folder nor such a name.
    """
    from locties._util.registry import unknown

    folder = Path(name)
    if (folder / "encoder" / "config.json").is_file():
        return str(folder / "encoder")
    known = [*published(), *others]
    if name not in known and not folder.is_dir():
        raise ValueError(f"{unknown('encoder', name, known)} Or the folder of one.")
    return name
