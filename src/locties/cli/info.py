"""`locties info`: list the names to choose from, or describe an encoder."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

import locties
from locties._util.text import printable
from locties.cli.base import Json, find_encoder, print_json

REGISTRIES = {
    "features": ("features", "FEATURES"),
    "networks": ("networks", "NETWORKS"),
    "objectives": ("objectives", "OBJECTIVES"),
    "schedules": ("training", "SCHEDULES"),
    "modalities": ("modalities", "MODALITIES"),
    "tasks": ("evaluation", "TASKS"),
    "open_tasks": ("evaluation", "OPEN_TASKS"),
    "probes": ("evaluation", "PROBES"),
    "baselines": ("evaluation", "BASELINES"),
}


def info(
    encoder: Annotated[
        str | None, typer.Argument(help="A published encoder, or the folder of one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List all names (encoders, modalities, tasks and so on), or describe an encoder.

    The list also says where the data are.

    Example: `locties info melt`
    """
    facts = _everything() if encoder is None else _encoder(find_encoder(encoder))
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        if isinstance(value, dict):
            value = [f"{key}={part}" for key, part in value.items()]
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(
            printable(f"{name.replace('_', ' '):{width}}{'none' if text in (None, '') else text}")
        )


def _everything() -> dict[str, Any]:
    facts: dict[str, Any] = {"version": locties.__version__, "encoders": locties.published()}
    for name, (module, registry) in REGISTRIES.items():
        try:
            facts[name] = list(getattr(import_module(f"locties.{module}"), registry))
        except ImportError as missing:
            facts[name] = str(missing)
    try:
        from locties.data.embedded import cache_path
    except ImportError as missing:
        return facts | {"cache": None, "data": str(missing)}
    built = cache_path().is_file()
    state = "built" if built else "not built; run: locties data build"
    return facts | {"cache": str(cache_path().parent), "data": state}


def _encoder(name: str) -> dict[str, Any]:
    from locties.saved import find_folder, read_config, split_dim

    encoder, folder = locties.load(name), find_folder(split_dim(name)[0])
    config, card = read_config(name), folder / "card.md"
    return {
        "encoder": name,
        "features": config["features"],
        "feature_options": config["feature_options"],
        "network": config["network"],
        "network_options": config["network_options"],
        "dim": encoder.dim,
        "nested": encoder.nested,
        "readout": encoder.readout,
        "parameters": sum(weights.numel() for weights in encoder.parameters()),
        "sha256": config["sha256"],
        "origin": encoder.origin or None,
        "card": str(card) if card.exists() else None,
    }
