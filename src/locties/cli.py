"""The command line: ``locties data build`` and its siblings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from locties import __version__

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="The datasets: list, fetch, verify, build.", no_args_is_help=True)
app.add_typer(data, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"locties {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Location encoders tied to several unpaired geospatial modalities.

    Example: `locties data build`
    """


Tier = Annotated[str | None, typer.Option(help="embedded, open or paper; all by default.")]


@data.command("list")
def list_data(tier: Tier = None) -> None:
    """Show every dataset of the manifest: where it comes from, its size and licence.

    Example: `locties data list --tier embedded`
    """
    from locties.data.manifest import sources

    try:
        listed = sources(tier)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    table = Table("name", "tier", "carrier", "MB", "licence")
    table.columns[3].justify = "right"
    for source in listed:
        megabytes = f"{source.bytes / 1e6:.1f}"
        table.add_row(source.name, source.tier, source.where, megabytes, source.licence)
    Console().print(table)


@data.command()
def verify(
    tier: Annotated[str, typer.Option(help="embedded, open or paper.")] = "embedded",
) -> None:
    """Check every file of a tier by size and sha256; exit with 1 on a fault.

    Example: `locties data verify --tier open`
    """
    from locties.data.manifest import verify as check

    console = Console(soft_wrap=True, highlight=False, markup=False)
    faults = 0
    try:
        for source, fault in check(tier):
            faults += fault is not None
            console.print(f"{source.name:18} {'ok' if fault is None else 'FAULT: ' + fault}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if faults:
        raise typer.Exit(1)


@data.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets; all of the tier by default.")
    ] = None,
    tier: Annotated[str, typer.Option(help="open or paper.")] = "open",
    mirror: Annotated[
        Path | None,
        typer.Option(
            help="A folder whose files answer first, by sha256, whatever their names.",
            envvar="LOCTIES_MIRROR",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Download datasets into the cache folder, each file verified by size and sha256.

    What is there is kept, and a broken download goes on where it stopped. Nothing else in locties
    ever opens a connection.

    Example: `locties data fetch stations biomes`
    """
    from locties.data.fetch import choose
    from locties.data.fetch import fetch as fetch_source

    try:
        chosen = choose(names or [], tier)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for source in chosen:
        try:
            paths = fetch_source(source, mirror)
        except OSError as error:
            print_error(error)
            raise typer.Exit(1) from None
        print(f"{source.name:18} {len(paths):3} files {source.bytes / 1e6:6.1f} MB")


@data.command()
def build(
    force: Annotated[bool, typer.Option("--force", help="Build even where it is built.")] = False,
) -> None:
    """Build the one cache file of the embedded tier, and print its path and size.

    It is read from the installed wheels: no network is used. The file can be carried to a machine
    without these wheels: put it into the folder that `LOCTIES_CACHE` names there.

    Example: `locties data build`
    """
    from locties.data import embedded

    try:
        path = embedded.build(force=force)
    except OSError as error:
        print_error(error)
        raise typer.Exit(1) from None
    print(f"{path} {path.stat().st_size / 1e6:.1f} MB")


def print_error(error: Exception | str) -> None:
    """One line on stderr: what went wrong and what to run."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")


# ----------------------------------------------------------------------------------- locties s2

s2 = typer.Typer(help="Sentinel-2 chips (S2-100K): features of a frozen network.")
app.add_typer(s2, name="s2", no_args_is_help=True)


@s2.callback()
def _s2() -> None:
    """Keeps `features` a command of its own while it is the only one."""


@s2.command()
def features(
    shards: Annotated[
        list[str], typer.Argument(help="Tar shards: paths, or http(s) addresses to fetch.")
    ],
    index: Annotated[str, typer.Option(help="S2-100K's index.csv: path or address.")],
    backbone: Annotated[
        str,
        typer.Option(help="`module:callable`, called without arguments, returns a torch module."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the result.")],
    weights: Annotated[
        Path | None,
        typer.Option(help="safetensors, or a state dict of tensors; nothing is unpickled."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Chips computed at once.")] = 64,
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto takes a GPU when there is one.")] = "auto",
) -> None:
    """Compute the features of every chip once, into a memory-mapped array in OUT.

    **Disk**: S2-100K is 78 GB in 100 shards, kept in the folder of `LOCTIES_CACHE` when addresses
    are given. The array takes N x d x 4 bytes for N chips and d features (half of it as float16):
    100,000 chips take 205 MB with d = 512 and 819 MB with d = 2,048.

    **Time**: the download takes 2.2 hours at 10 MB/s. Reading and decoding takes about 10 s of one
    core per 1,000 chips, in up to 8 threads; with a convolutional network of three small layers
    the whole took about 25 s of one core per 1,000 chips (measured on two cores, batches of 64),
    so 42 minutes for 100,000. A ResNet takes longer on a CPU; a GPU was not measured.

    Stopped at any moment, by whatever, the same command goes on from the last batch.

    Example: `locties s2 features shard-000*.tar --index index.csv --backbone mymodels:resnet18
    --weights resnet18.safetensors --out s2`
    """
    from importlib import import_module

    from torch import nn

    from locties.data import sentinel2

    # A console script does not look for modules where the user stands.
    sys.path.insert(0, str(Path.cwd()))
    module, _, name = backbone.partition(":")
    try:
        network = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise typer.BadParameter(f"--backbone {backbone}: {error}; give module:callable") from None
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise typer.BadParameter(f"--backbone {backbone} returns {kind}, no torch module")
    try:
        if weights is not None:
            sentinel2.load_weights(network, weights)
        manifest = sentinel2.features(
            shards, index, network, out, name=backbone, batch=batch, dtype=dtype, device=device
        )
    except (OSError, ValueError, RuntimeError) as error:
        print_error(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print_error("interrupted; the same command goes on from the last batch")
        raise typer.Exit(130) from None
    problems = [f"{name} {problem}" for name, problem in manifest["damaged"]]
    for line in problems[:20]:
        print(f"damaged: {line}", file=sys.stderr)
    print(
        f"{out / 'features.npy'}: {manifest['rows']:,} of {manifest['shape'][0]:,} rows; "
        f"{len(problems):,} chips damaged, {len(manifest['unindexed']):,} not in the index, "
        f"{manifest['missing']:,} rows without a chip (named in {out / 'manifest.json'})"
    )


convert = typer.Typer(help="Encoders of others as encoder folders.", no_args_is_help=True)
app.add_typer(convert, name="convert")


@convert.callback()
def convert_main() -> None:
    """Encoders of others as encoder folders.

    Example: `locties convert satclip satclip-vit16-l40.ckpt satclip`
    """


@convert.command()
def satclip(
    checkpoint: Annotated[Path, typer.Argument(help="A released .ckpt, or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist yet.")],
) -> None:
    """Make an encoder folder of a released SatCLIP checkpoint, and print its size.

    Nothing in the checkpoint is executed. The folder is what `locties.load` reads, and its path
    is the encoder's name wherever one is evaluated.

    Example: `locties convert satclip satclip-vit16-l40.ckpt satclip`
    """
    from locties.peers import convert_satclip

    try:
        config = convert_satclip(checkpoint, out).config
    except (OSError, ValueError) as error:
        print_error(error)
        raise typer.Exit(1) from None
    siren = config["network_options"]
    print(
        f"{out} L = {config['feature_options']['degree']}, "
        f"SIREN {siren['layers']}x{siren['hidden']}, {config['dim']} dimensions"
    )
