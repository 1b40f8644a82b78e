"""`locties convert`: turn encoders of other projects into encoder folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from locties.cli.base import Command

app = typer.Typer(no_args_is_help=True)


@app.callback()
def main() -> None:
    """Turn encoders of other projects into encoder folders.

    Example: `locties convert satclip satclip-vit16-l40.ckpt satclip`
    """


@app.command(cls=Command)
def satclip(
    checkpoint: Annotated[Path, typer.Argument(help="A released .ckpt, or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist yet.")],
) -> None:
    """Turn a released SatCLIP checkpoint into an encoder folder, and print its size.

    No code in the checkpoint is run. `locties.load` reads the folder. Every command takes the
    folder's path as the name of an encoder.

    Example: `locties convert satclip satclip-vit16-l40.ckpt satclip`
    """
    from locties.peers import convert_satclip

    config = convert_satclip(checkpoint, out).config
    siren = config["network_options"]
    print(
        f"{out} L = {config['feature_options']['degree']}, "
        f"SIREN {siren['layers']}x{siren['hidden']}, {config['dim']} dimensions"
    )
