"""Publish result tables to results/, and encoders with their cards to the library."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import yaml

import locties
from locties import maps
from locties_paper.figures import cards
from locties_paper.results import CONTINENTS, DESIGN, ENOUGH_SEEDS, design, read, write_table
from locties_paper.site.notebook import REPOSITORY


def publish(
    folder: str | Path, runs: Mapping[str, str | Path], root: str | Path = REPOSITORY
) -> None:
    """Copy result tables to `results/`, and encoders with their cards to the package.

    This adds the study behind the tables and a table of errors by continent, and draws the first
    encoder for the first page. It deletes encoders that `runs` does not name, since the rows behind
    their cards are gone. Raises ValueError, before anything is published, if a run has fewer seeds
    than `ENOUGH_SEEDS` or no rows, or if uncommitted code made a row.

    Args:
        folder: with the Parquet tables of a profile.
        runs: by published name, the folder ``.../<name>-<seed>`` of a run, with ``encoder`` and
            ``settings.json``.
        root: of the repository.
    """
    seeds = read(folder)[1].groupby("encoder")["seed"].nunique()
    if len(seeds) and seeds.min() < ENOUGH_SEEDS:
        raise ValueError(
            f"{seeds.min()} seeds of {seeds.idxmin()} in {folder}, and a published number rests on "
            f"{ENOUGH_SEEDS}: make the tables with PROFILE=study"
        )
    for path in Path(folder).glob("*.parquet"):
        table = pd.read_parquet(path)
        if "code" in table and (changed := table["code"].str.endswith("-dirty")).any():
            raise ValueError(
                f"{path} has {changed.sum()} rows of {table['code'][changed].iloc[0]}: commit the "
                "code, delete what they were gathered from, and make them again"
            )
    errors = pd.concat([cards.by_continent(run) for run in runs.values()], ignore_index=True)
    write_table(errors, Path(folder) / CONTINENTS)
    ready = {name: cards.describe(name, run, folder) for name, run in runs.items()}
    tables, encoders = Path(root) / "results", Path(root) / "src" / "locties" / "published"
    tables.mkdir(exist_ok=True)
    for table in Path(folder).glob("*.parquet"):
        shutil.copyfile(table, tables / table.name)
    kept = "# The study under which the rows in this folder were made: see `results.design`.\n"
    (tables / DESIGN).write_text(kept + yaml.safe_dump(design(folder), sort_keys=False))
    for name, (encoder, card) in ready.items():
        encoder.save(encoders / name, card)
    for old in encoders.iterdir():
        if old.name not in ready:
            shutil.rmtree(old)
    drawn, _ = next(iter(ready.values()))
    picture = maps.draw_rgb(maps.embedding_rgb(locties.embed_grid(drawn, 0.5)))
    picture.savefig(Path(root) / "book" / "_static" / "embedding.png", dpi=120)
