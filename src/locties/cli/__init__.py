"""The command line: `locties data|pretrain|evaluate|embed|map|doctor|convert|features|info`.

Each command has its own file. A command imports heavy packages only when it runs, so that help and
usage errors appear at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

try:
    import typer

    from locties import __version__
    from locties.cli import convert, data, doctor, embed, evaluate, features, info, map, pretrain
    from locties.cli.base import EXIT_CODES, Command, Commands
except KeyboardInterrupt:  # importing takes a while
    print("locties: interrupted", file=sys.stderr)
    raise SystemExit(130) from None
except ModuleNotFoundError as error:  # a light install has the command but not typer
    if error.name != "typer":
        raise
    raise SystemExit('locties: the command line needs typer: pip install "locties[cli]"') from None

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.command(cls=Command)(pretrain.pretrain)
app.command(cls=Command)(evaluate.evaluate)
app.command(cls=Command)(embed.embed)
app.command("map", cls=Command)(map.map_)
app.add_typer(convert.app, name="convert")
app.add_typer(features.app, name="features")
app.command(cls=Command)(doctor.doctor)
app.command(cls=Command)(info.info)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"locties {__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Train location encoders, score them, and use them to embed places and to make maps.

    Results go to stdout; progress, warnings and errors to stderr.

    Example: `locties evaluate melt --tasks elevation`
    """
