"""`locties pretrain`: train a location encoder, and go on with a training that was cut short."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from locties.cli.base import Json, going_on, print_json, say, split_names


def pretrain(
    schedule: Annotated[str, typer.Argument(help="melt, salt or clip.")],
    modality: Annotated[
        list[str],
        typer.Option(
            "--modality", "-m", help="One or more; NAME=FILE is one's own, a table or a raster."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    pairs: Annotated[int, typer.Option(help="(sample, location) pairs seen in all.")] = 5_000_000,
    batch: Annotated[int, typer.Option(help="Pairs in a batch, of all modalities.")] = 2048,
    epochs: Annotated[int, typer.Option(help="Parts of the run, each with a validation.")] = 50,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its peak.")] = 1e-4,
    features: Annotated[
        str, typer.Option(help="Positional features; NAME:OPTION=VALUE,... sets theirs.")
    ] = "spherical_harmonics",
    network: Annotated[str, typer.Option(help="Network; likewise.")] = "siren",
    dim: Annotated[int, typer.Option(help="Length of an embedding.")] = 256,
    objective: Annotated[str, typer.Option(help="The loss; likewise.")] = "nt_xent",
    locations: Annotated[str, typer.Option(help="fixed, or fresh for every batch.")] = "fixed",
    samples: Annotated[int, typer.Option(help="Of each modality, when fixed.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of weights, samples and order.")] = 0,
    device: Annotated[str, typer.Option(help="auto takes a GPU when there is one.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train a location encoder with one modality or several, into the folder OUTPUT.

    OUTPUT gets `encoder/`, `history.parquet` and `settings.json`, and while the run lasts its
    state: stopped at any moment, the same command goes on from there. `locties info` lists the
    names that there are. A file of one's own, as in `-m soil=soil.tif`, is read beside the other
    modalities, whose cells it leaves out.

    Example: `locties pretrain melt -m imagery -m climate --output run --pairs 60000 --batch 512
    --epochs 6 --learning-rate 1e-3 --features spherical_harmonics:degree=10 --network
    siren:hidden=128`
    """
    state = output / "checkpoint"
    if (output / "settings.json").exists() and not (state / "state.pt").exists():
        raise FileExistsError(f"{output} holds a finished run: choose another folder, or delete it")
    import locties
    from locties.training import processes

    named, files = [], {}
    for item in split_names(modality):
        name, own, file = item.partition("=")
        if own:
            files[name] = file
        else:
            named.append(name)
    feature, feature_options = _options(features)
    net, network_options = _options(network)
    loss, objective_options = _options(objective)
    encoder = locties.LocationEncoder(feature, net, dim, feature_options, network_options, seed)
    with going_on():
        own_ones: list[Any] = []
        for name, file in files.items():
            beside = [*named, *own_ones]
            own_ones.append(
                locties.read_modality(file, name=name, beside=beside, samples=samples, seed=seed)
            )
        run = locties.pretrain(
            schedule,
            [*named, *own_ones],
            encoder,
            pairs=pairs,
            batch=batch,
            epochs=epochs,
            learning_rate=learning_rate,
            objective=loss,
            objective_options=objective_options,
            locations=locations,  # type: ignore[arg-type]
            samples=samples,
            seed=seed,
            device=device,
            checkpoint=state,
        )
        run.save(output)
    if processes.rank() == 0:
        shutil.rmtree(state)
    last = run.history[run.history["epoch"] == epochs]
    scores = {
        row.modality: {
            "validation_loss": None if math.isnan(row.validation_loss) else row.validation_loss,
            "recall_at_10": None if math.isnan(row.recall_at_10) else row.recall_at_10,
        }
        for row in last.itertuples()
    }
    say(f"trained in {run.settings['seconds']} s")
    if as_json:
        print_json({"output": str(output), "settings": run.settings, "scores": scores})
        return
    print(f"{output / 'encoder'}: {schedule} on {', '.join(run.settings['modalities'])}")
    for name, score in scores.items():
        recall = score["recall_at_10"]
        print(f"{name:16} recall at 10: {'none held out' if recall is None else f'{recall:.3f}'}")


def _options(text: str) -> tuple[str, dict[str, Any]]:
    """("siren", {"hidden": 64}) of "siren:hidden=64"."""
    name, _, rest = text.partition(":")
    options = {}
    for part in split_names([rest]):
        option, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not understood at {part!r}: write NAME:OPTION=VALUE,...")
        try:
            options[option] = json.loads(value)
        except ValueError:
            options[option] = value
    return name, options
