"""`locties pretrain`: train a location encoder, or resume a stopped training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from locties.cli.base import Json, check_writable, print_json, resuming, say, split_names

if TYPE_CHECKING:
    from locties.modality import Modality

OUTPUTS = ("checkpoint", "encoder", "history.parquet", "settings.json")
SCORES = ("validation_loss", "recall_at_10")


def pretrain(
    schedule: Annotated[
        str,
        typer.Argument(
            help="melt (all modalities in every batch), salt (in turn) or clip (one modality)."
        ),
    ],
    modality: Annotated[
        list[str],
        typer.Option(
            "--modality",
            "-m",
            help="One or more; NAME=PATH is your own table, raster or folder of features.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    pairs: Annotated[
        int, typer.Option(help="(sample, location) pairs of the whole run.")
    ] = 5_000_000,
    batch: Annotated[int, typer.Option(help="Pairs in a batch, all modalities together.")] = 2048,
    epochs: Annotated[
        int, typer.Option(help="Epochs of the run; each ends with a validation.")
    ] = 50,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-4,
    features: Annotated[
        str, typer.Option(help="Positional features; NAME:OPTION=VALUE,... sets their options.")
    ] = "spherical_harmonics",
    network: Annotated[
        str, typer.Option(help="Network; NAME:OPTION=VALUE,... sets its options.")
    ] = "siren",
    dim: Annotated[int, typer.Option(help="Length of an embedding.")] = 256,
    nested: Annotated[
        list[str] | None,
        typer.Option(help="Such as 16,64: the first 16 and 64 numbers become embeddings too."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="Loss; NAME:OPTION=VALUE,... sets its options.")
    ] = "nt_xent",
    locations: Annotated[str, typer.Option(help="fixed, or fresh for every batch.")] = "fixed",
    samples: Annotated[
        int, typer.Option(help="Samples per modality, with --locations fixed.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Random seed of weights, samples and batch order.")] = 0,
    lon: Annotated[
        list[str] | None,
        typer.Option(help="Longitude column of all tables; NAME=COLUMN for one table."),
    ] = None,
    lat: Annotated[
        list[str] | None, typer.Option(help="Latitude column; NAME=COLUMN for one table.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Columns that form the profiles; NAME=COLUMN,... for one table."),
    ] = None,
    bands: Annotated[
        list[str] | None,
        typer.Option(help="Bands of rasters, from 1; NAME=BAND,... for one raster."),
    ] = None,
    invalid: Annotated[
        str, typer.Option(help="Rows that cannot be used: raise stops, drop leaves them out.")
    ] = "raise",
    device: Annotated[str, typer.Option(help="auto takes a GPU if there is one.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train a location encoder with one modality or several.

    With the defaults this takes tens of minutes on two cores; an estimate is printed at the start.

    The folder OUTPUT gets `encoder/`, `history.parquet` and `settings.json`. If the command is
    stopped, the same command resumes from `checkpoint/` there; delete that folder when the run is
    done. `locties info` lists the names to choose from. `-m soil=soil.tif` adds data of your own,
    without samples in the cells of other modalities. `-m text=FOLDER` is a folder that `locties
    features` wrote.

    Example: `locties pretrain melt -m imagery -m rain --output run --pairs 60000 --batch 512
    --epochs 6 --learning-rate 1e-3 --features spherical_harmonics:degree=10 --network
    siren:hidden=128`

    Example: `locties pretrain melt -m imagery -m soil=soil.csv --lon east --lat north --columns
    ph,clay -o run`

    Example: `locties pretrain melt -m soil=soil.csv -m dem=dem.tif --columns soil=ph,clay --bands
    dem=1 -o run`
    """
    state = output / "checkpoint"
    check_writable(output)
    _check_output(output, state)
    import locties

    feature, feature_options = _options(features)
    net, network_options = _options(network)
    loss, objective_options = _options(objective)
    options = {"lon": lon, "lat": lat, "columns": columns, "bands": bands}
    encoder = locties.LocationEncoder(
        feature,
        net,
        dim,
        feature_options,
        network_options,
        seed,
        nested=_numbers("nested", split_names(nested or [])),
    )
    with resuming():
        run = locties.pretrain(
            schedule,
            _modalities(modality, options, invalid, samples, seed),
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


def _check_output(output: Path, state: Path) -> None:
    """Refuse a folder that holds anything but this command's run."""
    from locties.saved import check_replaceable

    others = [path.name for path in output.glob("[!.]*") if path.name not in OUTPUTS]
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: pass a new folder")
    if others:
        raise ValueError(f"--output {output} holds other files ({min(others)}): pass a new folder")
    try:
        check_replaceable(output / "encoder")
    except FileExistsError as error:
        raise ValueError(f"--output {output}: {error}") from None
    if (output / "settings.json").exists() and not (state / "state.pt").exists():
        raise ValueError(f"--output {output} holds a finished run: pass another, or delete it")


def _modalities(
    items: Sequence[str],
    options: Mapping[str, Sequence[str] | None],
    invalid: str,
    samples: int,
    seed: int,
) -> list[str | Modality]:
    """The names, then the user's files; each file avoids the cells of all before it."""
    import locties

    pairs = [item.partition("=") for item in split_names(items)]
    modalities: list[str | Modality] = [name for name, equals, _ in pairs if not equals]
    for name in modalities:
        if not Path(str(name)).exists():
            continue
        if name not in locties.MODALITIES:
            raise ValueError(f"-m {name} is a file or folder: give it a name, -m NAME={name}")
        say(
            f"warning: -m {name} is the modality of locties, not the file or folder {name!r} here; "
            f"for that, write -m {name}=./{name}"
        )
    files: dict[str, str] = {}
    for name, equals, file in pairs:
        if equals and files.setdefault(name, file) != file:
            raise ValueError(f"modality {name!r} is given twice: rename the second")
    chosen = {option: _by_file(option, given or [], files) for option, given in options.items()}
    for name, file in files.items():
        lists = {option: values[name] for option, values in chosen.items() if values[name]}
        for option in ("lon", "lat"):
            if len(lists.get(option, ())) > 1:
                raise ValueError(f"{option}={', '.join(lists[option])!r}: give one column")
        try:
            modalities.append(
                locties.read_modality(
                    file,
                    name=name,
                    lon=lists.get("lon", [None])[0],
                    lat=lists.get("lat", [None])[0],
                    columns=lists.get("columns"),
                    bands=_numbers("bands", lists["bands"]) if "bands" in lists else None,
                    invalid=invalid,
                    beside=list(modalities),
                    samples=samples,
                    seed=seed,
                )
            )
        except ValueError as error:
            raise ValueError(f"modality {name!r}, {file}: {error}") from None
    return modalities


def _by_file(option: str, given: Sequence[str], files: Mapping[str, str]) -> dict[str, list[str]]:
    """An option's values by file: NAME=VALUE,... for one; VALUE,... for all of its kind."""
    found: dict[str, list[str]] = {name: [] for name in files}
    if not given:
        return found
    from locties.user_data import source_kind

    kind = "raster" if option == "bands" else "table"
    fitting = [name for name, file in files.items() if source_kind(file) == kind]
    for text in given:
        name, equals, values = text.partition("=")
        one = bool(equals) and name in files
        if not one and not fitting:
            raise ValueError(f"{option}={text!r} is for a {kind}: give one with -m NAME=FILE")
        for each in [name] if one else fitting:
            found[each] += split_names([values if one else text])
    return found


def _numbers(option: str, texts: Sequence[str]) -> list[int]:
    if wrong := [text for text in texts if not text.isdecimal()]:
        raise ValueError(f"{option}={wrong[0]!r}: give numbers, counted from 1")
    return list(map(int, texts))


def _options(text: str) -> tuple[str, dict[str, Any]]:
    """("siren", {"hidden": 64}) of "siren:hidden=64"."""
    name, _, rest = text.partition(":")
    options = {}
    for part in split_names([rest]):
        option, equals, value = part.partition("=")
        if not equals:
            raise ValueError(
                f"{part!r} in {text!r} is not an option: write NAME:OPTION=VALUE, such as "
                "siren:hidden=64"
            )
        try:
            options[option] = json.loads(value)
        except ValueError:
            options[option] = value
    return name, options
