"""`locties pretrain`: train a location encoder, or continue a training that was stopped."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from locties.cli.base import Json, going_on, print_json, say, split_names

if TYPE_CHECKING:
    from locties.modality import Modality

SCORES = ("validation_loss", "recall_at_10")


def pretrain(
    schedule: Annotated[str, typer.Argument(help="melt, salt or clip.")],
    modality: Annotated[
        list[str],
        typer.Option(
            "--modality", "-m", help="One or more; NAME=FILE is your own table or raster."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    pairs: Annotated[int, typer.Option(help="(sample, location) pairs seen in all.")] = 5_000_000,
    batch: Annotated[int, typer.Option(help="Pairs in a batch, of all modalities.")] = 2048,
    epochs: Annotated[
        int, typer.Option(help="Parts of the run; each ends with a validation.")
    ] = 50,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-4,
    features: Annotated[
        str, typer.Option(help="Positional features; NAME:OPTION=VALUE,... sets their options.")
    ] = "spherical_harmonics",
    network: Annotated[str, typer.Option(help="Network, with options likewise.")] = "siren",
    dim: Annotated[int, typer.Option(help="Length of an embedding.")] = 256,
    objective: Annotated[str, typer.Option(help="Loss, with options likewise.")] = "nt_xent",
    locations: Annotated[str, typer.Option(help="fixed, or fresh for every batch.")] = "fixed",
    samples: Annotated[
        int, typer.Option(help="Samples per modality, with --locations fixed.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Random seed of weights, samples and batch order.")] = 0,
    device: Annotated[str, typer.Option(help="auto takes a GPU when there is one.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train a location encoder with one modality or several.

    The folder OUTPUT gets `encoder/`, `history.parquet` and `settings.json`. Until the run is done
    it also holds its state: after a stop, the same command continues from there. `locties info`
    lists the names to choose from. A file of your own, as in `-m soil=soil.tif`, leaves out the
    cells of the other modalities.

    Example: `locties pretrain melt -m imagery -m climate --output run --pairs 60000 --batch 512
    --epochs 6 --learning-rate 1e-3 --features spherical_harmonics:degree=10 --network
    siren:hidden=128`
    """
    state = output / "checkpoint"
    if (output / "settings.json").exists() and not (state / "state.pt").exists():
        raise FileExistsError(f"{output} holds a finished run: pass another --output, or delete it")
    import locties
    from locties.training import processes

    feature, feature_options = _options(features)
    net, network_options = _options(network)
    loss, objective_options = _options(objective)
    encoder = locties.LocationEncoder(feature, net, dim, feature_options, network_options, seed)
    with going_on():
        run = locties.pretrain(
            schedule,
            _modalities(modality, samples, seed),
            encoder,
            pairs=pairs,
            batch=batch,
            epochs=epochs,
            learning_rate=learning_rate,
            objective=loss,
            objective_options=objective_options,
            locations=cast(Literal["fixed", "fresh"], locations),
            samples=samples,
            seed=seed,
            device=device,
            checkpoint=state,
        )
        run.save(output)
    if processes.rank() == 0:
        shutil.rmtree(state)
    last = run.history[run.history["epoch"] == epochs].set_index("modality")
    scores = {
        name: {score: None if math.isnan(row[score]) else row[score] for score in SCORES}
        for name, row in last.iterrows()
    }
    say(f"trained in {run.settings['seconds']} s")
    if as_json:
        print_json({"output": str(output), "settings": run.settings, "scores": scores})
        return
    print(f"{output / 'encoder'}: {schedule} on {', '.join(run.settings['modalities'])}")
    for name, score in scores.items():
        recall = score["recall_at_10"]
        print(f"{name:16} recall at 10: {'none held out' if recall is None else f'{recall:.3f}'}")


def _modalities(items: Sequence[str], samples: int, seed: int) -> list[str | Modality]:
    """Names as they are, then the user's files, each read beside all before it."""
    import locties

    pairs = [item.partition("=") for item in split_names(items)]
    modalities: list[str | Modality] = [name for name, equals, _ in pairs if not equals]
    for name, equals, file in pairs:
        if equals:
            modalities.append(
                locties.read_modality(
                    file, name=name, beside=list(modalities), samples=samples, seed=seed
                )
            )
    return modalities


def _options(text: str) -> tuple[str, dict[str, Any]]:
    """("siren", {"hidden": 64}) of "siren:hidden=64"."""
    name, _, rest = text.partition(":")
    options = {}
    for part in split_names([rest]):
        option, equals, value = part.partition("=")
        if not equals:
            raise ValueError(
                f"{part!r} in {text!r} is no option: write NAME:OPTION=VALUE, such as "
                "siren:hidden=64"
            )
        try:
            options[option] = json.loads(value)
        except ValueError:
            options[option] = value
    return name, options
