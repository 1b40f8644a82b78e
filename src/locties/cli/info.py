"""`locties info`: what is here, and what an encoder is."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any

import typer

import locties
from locties.cli.base import Json, find_encoder, print_json

REGISTRIES = {
    "features": ("features.py", "FEATURES"),
    "networks": ("networks.py", "NETWORKS"),
    "objectives": ("objectives/__init__.py", "OBJECTIVES"),
    "schedules": ("training/schedules.py", "SCHEDULES"),
    "modalities": ("modalities.py", "MODALITIES"),
    "tasks": ("evaluation/tasks.py", "TASKS"),
    "open_tasks": ("evaluation/public_tasks.py", "OPEN_TASKS"),
    "probes": ("evaluation/probes.py", "PROBES"),
    "baselines": ("evaluation/baselines.py", "BASELINES"),
}


def info(
    encoder: Annotated[
        str | None, typer.Argument(help="A published encoder, or the folder of one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what there is to choose from, and where the data are; or what an encoder is.

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
        print(f"{name.replace('_', ' '):{width}}{'none' if text in (None, '') else text}")


def _everything() -> dict[str, Any]:
    names = {
        what: [str(word.arg) for word in _assigned(*home).keywords]
        for what, home in REGISTRIES.items()
    }
    facts = {"version": locties.__version__, "encoders": locties.published(), **names}
    try:
        from locties.data.manifest import cache_folder, manifest_hash
    except ImportError:
        return facts | {"cache": None, "data": 'not there; run: pip install "locties[data]"'}
    builder = ast.literal_eval(_assigned("data/embedded.py", "BUILDER"))
    built = (cache_folder() / f"earth-{manifest_hash(builder)[:12]}.npz").is_file()
    state = "built" if built else "not built; run: locties data build"
    return facts | {"cache": str(cache_folder()), "data": state}


def _assigned(source: str, name: str) -> Any:
    """What a module assigns to a name, as it is written there.

    Importing every registry takes seconds, and takes packages that using an encoder does not need.
    """
    path = Path(locties.__file__).parent / source
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return statement.value
    raise LookupError(f"{path} assigns no {name}")


def _encoder(name: str) -> dict[str, Any]:
    encoder = locties.load(name)
    from locties.encoder import PUBLISHED

    folder = Path(name) if Path(name).is_dir() else PUBLISHED / name
    config = encoder.config
    sha256 = _sha256(folder)
    card = next(iter(sorted(folder.glob("*.md"))), None)
    return {
        "encoder": name,
        "features": config["features"],
        "feature_options": config["feature_options"],
        "network": config["network"],
        "network_options": config["network_options"],
        "dim": encoder.dim,
        "readout": config["readout"],
        "parameters": sum(weights.numel() for weights in encoder.parameters()),
        "sha256": sha256,
        "origin": encoder.origin or None,
        "card": None if card is None else str(card),
    }


def _sha256(folder: Path) -> str:
    import json

    return json.loads((folder / "config.json").read_text())["sha256"]
