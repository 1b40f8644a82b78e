"""`locties s2`: compute features of Sentinel-2 chips once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from locties.cli.base import Command, resuming

app = typer.Typer(no_args_is_help=True)


@app.callback()
def main() -> None:
    """Compute features of Sentinel-2 chips (S2-100K) with a frozen network.

    Example: `locties s2 features shard-000*.tar --index index.csv --backbone mymodels:resnet18
    --out s2`
    """


@app.command(cls=Command)
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
    device: Annotated[str, typer.Option(help="auto takes a GPU if there is one.")] = "auto",
) -> None:
    """Compute the features of every chip once, into a memory-mapped array in OUT.

    **Disk**: S2-100K is 78 GB in 100 shards. If addresses are given, the shards are kept in the
    folder that `LOCTIES_CACHE` names. The array takes N x d x 4 bytes for N chips and d features,
    or half with float16: 100,000 chips take 205 MB with d = 512 and 819 MB with d = 2,048.

    **Time**: the download takes 2.2 hours at 10 MB/s. For 1,000 chips, reading and decoding take
    about 10 s of one core, in up to 8 threads. With a convolutional network of three small layers,
    everything took about 25 s of one core (measured on two cores, batches of 64): 42 minutes for
    100,000 chips. A ResNet takes longer on a CPU; a GPU was not measured.

    If the command stops, the same command resumes after the last batch.

    Example: `locties s2 features shard-000*.tar --index index.csv --backbone mymodels:resnet18
    --weights resnet18.safetensors --out s2`
    """
    from importlib import import_module

    from torch import nn

    from locties.data import frozen

    # A console script does not look for modules in the current folder.
    sys.path.insert(0, str(Path.cwd()))
    module, _, name = backbone.partition(":")
    try:
        network = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"--backbone {backbone}: {error}; give module:callable") from None
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise ValueError(f"--backbone {backbone} returns {kind}, not a torch module")
    with resuming():
        if weights is not None:
            frozen.load_weights(network, weights)
        manifest = frozen.features(
            shards, index, network, out, name=backbone, batch=batch, dtype=dtype, device=device
        )
    problems = [f"{name} {problem}" for name, problem in manifest["damaged"]]
    for line in problems[:20]:
        print(f"damaged: {line}", file=sys.stderr)
    print(
        f"{out / 'features.npy'}: {manifest['rows']:,} of {manifest['shape'][0]:,} rows; "
        f"{len(problems):,} chips damaged, {len(manifest['unindexed']):,} not in the index, "
        f"{manifest['missing']:,} rows without a chip (named in {out / 'manifest.json'})"
    )
