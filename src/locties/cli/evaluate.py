"""`locties evaluate`: score a frozen encoder with probes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from locties._util.text import printable
from locties.cli.base import (
    Invalid,
    Json,
    Kind,
    Lat,
    Lon,
    find_contender,
    number_of,
    print_json,
    read_labels,
    reading,
    split_names,
)

if TYPE_CHECKING:
    from locties.evaluation.tasks import Task


def _in_month(task: Task, month: int | None) -> Task:
    """The task with a month at each point: `month`, or its own."""
    from torch import tensor

    from locties.evaluation.tasks import MONTHLY_TASKS

    if month is None and task.month is None:
        raise ValueError(
            f"the encoder takes a month and task {task.name!r} has none: give one, with --month 7, "
            f"or take --tasks {','.join(MONTHLY_TASKS)}"
        )
    if month is not None and task.month is not None:
        raise ValueError(f"task {task.name!r} has its own months: drop --month {month}")
    return task if month is None else replace(task, month=tensor(month))


def evaluate(
    encoder: Annotated[
        str,
        typer.Argument(
            help="A published encoder, a baseline, a folder or a table of embeddings; + joins "
            "several: melt+xyz."
        ),
    ],
    tasks: Annotated[
        list[str] | None, typer.Option(help="One or more; by default all of the tier.")
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="embedded (the default) or open.", show_default=False)
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Largest number of points in a task; by default 5000.")
    ] = None,
    labels: Annotated[list[str], typer.Option(help="all, or numbers of labels.")] = ["all"],  # noqa: B006
    probes: Annotated[list[str], typer.Option(help="ridge, knn, mlp.")] = ["ridge", "knn"],  # noqa: B006
    splits: Annotated[list[str], typer.Option(help="random, block.")] = ["random", "block"],  # noqa: B006
    points_file: Annotated[
        Path | None,
        typer.Option(help="Your own labels: CSV, Parquet, GeoParquet, GeoJSON, ..."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The column of POINTS-FILE to predict.")
    ] = None,
    lon: Lon = None,
    lat: Lat = None,
    month: Annotated[
        str | None,
        typer.Option(
            help="For an encoder that takes a month: 1 to 12, or its column in POINTS-FILE; by "
            "default the column month."
        ),
    ] = None,
    kind: Kind = None,
    invalid: Invalid = "raise",
    as_json: Json = False,
) -> None:
    """Score a frozen encoder on tasks, or on labels of your own.

    A probe is a small model that predicts the labels from the embedding. Its score is R² or
    accuracy over five folds. Separate several names by commas, or repeat the option. `--json`
    prints every row, with the intervals.

    Example: `locties evaluate melt --tasks air_temperature,elevation --labels all,200`

    Example: `locties evaluate melt --points-file soil.csv --target ph`

    Example: `locties evaluate run --month 7 --points-file july_rain.csv --target mm`

    Example: `locties evaluate alphaearth.parquet+melt --points-file soil.csv --target ph`
    """
    if (points_file is None) != (target is None):
        raise ValueError("your own labels need both: --points-file FILE --target COLUMN")
    if points_file is not None and tasks:
        raise ValueError(
            "give --tasks or --points-file, not both: the labels of a file are one task"
        )
    for option, value in {"tier": tier, "points": points}.items():
        if points_file is not None and value is not None:
            raise ValueError(f"--{option} {value} is for --tasks: drop it, or --points-file")
    for option, value in {"lon": lon, "lat": lat, "kind": kind}.items():
        if points_file is None and value is not None:
            raise ValueError(f"--{option} {value} is for --points-file: give both or neither")

    import locties
    from locties.apply.metadata import takes_month
    from locties.evaluation import TIERS, block_degrees, contender, folds
    from locties.evaluation.tasks import MONTHLY_TASKS
    from locties.lonlat import BLOCK_DEGREES

    judged = contender(find_contender(encoder), invalid="drop" if invalid == "drop" else "raise")
    fixed = number_of(month)
    seasonal = takes_month(judged)
    if month is not None and not seasonal:
        raise ValueError(f"{encoder} takes no month: drop --month {month}")
    if points_file is not None:
        assert target is not None
        column = (month or "") if seasonal and fixed is None else None
        task = read_labels(
            points_file,
            target,
            lon=lon,
            lat=lat,
            month=column,
            kind=kind,
            invalid=invalid,
            fixed=fixed,
        )
        with reading():
            folds(task.lonlat, "random")  # refuses too few labels
        chosen = [task]
    elif month is not None and fixed is None:
        raise ValueError(f"--month {month}: without --points-file, give a number, 1 to 12")
    else:
        known, most = TIERS[tier or "embedded"], 5000 if points is None else points
        monthly = seasonal and fixed is None and known is TIERS["embedded"]
        chosen = [
            (MONTHLY_TASKS if name in MONTHLY_TASKS else known)[name](points=most)
            for name in split_names(tasks or (MONTHLY_TASKS if monthly else known))
        ]
    if seasonal:
        chosen = [_in_month(task, fixed) for task in chosen]
    rows = locties.evaluate(
        judged,
        chosen,
        name=encoder,
        splits=split_names(splits),
        probes=split_names(probes),
        labels=split_names(labels),
    )
    if as_json:
        print_json(json.loads(rows.to_json(orient="records")))
        return

    from rich.console import Console
    from rich.table import Table

    scores = rows[rows["metric"].isin(["r2", "accuracy"])]
    cells = scores.pivot_table(
        "value", ["task", "metric", "labels"], ["split", "probe"], sort=False
    )
    table = Table("task", "metric", "labels", box=None, pad_edge=False)
    for split, probe in cells.columns:
        table.add_column(f"{split}\n{probe}", justify="right")
    for names, values in zip(cells.index, cells.to_numpy(), strict=True):
        table.add_row(*map(printable, names), *(f"{value:.3f}" for value in values))
    # A target's name may hold brackets and colons: they are plain text.
    Console(markup=False, emoji=False, highlight=False).print(table)
    for task in chosen:
        side = block_degrees(task.lonlat)
        if side != BLOCK_DEGREES and "block" in scores["split"].to_numpy():
            size = f"{side:g} degrees high" if side else "single places"
            print(f"{task.name}: the labels lie close together, so blocks are {size}")
