"""The parts of the study, each with contenders and tables of its own."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from locties_paper.design import (
    BATCH,
    FEATURES,
    FIVE,
    HARMONICS,
    KINDS,
    NETWORKS,
    PAIRS,
    READS,
    REPLICATES,
    TRIPLES,
    WITH_RAW,
    Contender,
    Sweep,
    replicates,
)

# The paper's own settings: the encoder, and the arguments of `locties.pretrain`.
PAPER_ENCODER: dict[str, Any] = {
    **FEATURES["harmonics_40"],
    "network": "siren",
    "network_options": {"hidden": 512, "layers": 2},
    "dim": 256,
}
PAPER = {"batch": 2048, "epochs": 50, "learning_rate": 1e-4, "samples": 100_000}
PAPER_BUDGET = 5_000_000 / PAIRS

# Contenders without training, as `locties.evaluation.baselines.contender` names them.
UNTRAINED = (
    *("constant", "xyz", "harmonics_10", "harmonics_40"),
    *(name + read for name in ("raw", "geoclip", "best") for read in ("", HARMONICS)),
)
BOOSTED = "raw_boosting"  # gradient boosting on raw values, of tasks with numbers


def main() -> Iterator[Contender]:
    """Schedules, objectives and sets of modalities, with the default encoder."""
    curve, long = (1 / 16, 1 / 4, 1.0), (1 / 16, 1 / 4, 1.0, 4.0)
    every = (*READS, WITH_RAW)
    yield Contender("untrained", "melt", FIVE, budgets=(0.0,), reads=every)
    yield Contender("melt", "melt", FIVE, budgets=long, curve=curve, reads=every)
    yield Contender("salt", "salt", FIVE, budgets=long, curve=curve, reads=READS)
    yield Contender(
        "regression", "melt", FIVE, "regression", budgets=long, curve=curve, reads=every
    )
    yield Contender("melt-kinds", "melt", KINDS)
    yield Contender("salt-kinds", "salt", KINDS)
    for name in (*FIVE, "text", "imagery_frozen"):
        yield Contender(f"clip-{name}", "clip", [name], budgets=(1 / 64, 1 / 16, 1 / 4, 1.0))
    for name in FIVE:
        yield Contender(f"regression-{name}", "melt", [name], "regression")
    for kind, objective in (("melt", "nt_xent"), ("regression", "regression")):
        for three in TRIPLES:
            yield Contender(f"{kind}-{'-'.join(three)}", "melt", three, objective)


def fresh(objective: str, features: str, network: str) -> Contender:
    """An encoder with an objective, on five modalities, at fresh locations in each batch."""
    return Contender(
        f"{objective}-{features}-{network}",
        "melt",
        FIVE,
        objective,
        {**FEATURES[features], **NETWORKS[network], "dim": 256},
        settings={"locations": "fresh"},
    )


def crossed() -> Iterator[Contender]:
    """Every encoder with both objectives: which of the two limits the score?

    The finest is also trained on each modality alone: are more modalities worth more to it?
    """
    encoders = [
        *((name, "siren" if "harmonics" in name else "residual") for name in FEATURES),
        ("harmonics_10", "residual"),
    ]
    twice = replicates(REPLICATES // 2, draws=2)
    for objective, budgets in (
        ("nt_xent", (1 / 16, 1 / 4, 1.0)),
        ("regression", (1 / 4, 1.0, 4.0)),
    ):
        for features, network in encoders:
            yield replace(fresh(objective, features, network), budgets=budgets, replicates=twice)
        finest = fresh(objective, "hash_grid", "residual")
        for name in FIVE:
            alone = replace(finest, name=f"{finest.name}-{name}", modalities=[name])
            yield replace(alone, budgets=budgets, replicates=twice)


def paper() -> Iterator[Contender]:
    """The paper's own settings, which leave no budget to choose."""
    melt = Contender(
        "paper-melt",
        "melt",
        FIVE,
        encoder=PAPER_ENCODER,
        budgets=(PAPER_BUDGET,),
        replicates=replicates(3),
        reads=READS,
        settings=PAPER,
    )
    yield replace(melt, name="paper-untrained", budgets=(0.0,))
    yield melt
    yield replace(melt, name="paper-salt", schedule="salt")
    for name in FIVE:
        yield replace(melt, name=f"paper-clip-{name}", schedule="clip", modalities=[name])


def scale() -> Iterator[Contender]:
    """Pairs, batch, and frozen against trained modality encoders; no budget is chosen."""
    default = fresh("nt_xent", "harmonics_10", "siren")
    curves: list[tuple[Contender, tuple[float, ...]]] = [
        (fresh(objective, *encoder), (1 / 4, 1.0, 4.0, PAPER_BUDGET))
        for encoder in (("harmonics_10", "siren"), ("hash_grid", "residual"))
        for objective in ("nt_xent", "regression")
    ]
    for batch in (256, 512, 1024, 2048, 4096):  # at equal steps
        settings = {**default.settings, "batch": batch}
        each = replace(default, name=f"batch_{batch}", settings=settings)
        curves.append((each, (batch / BATCH,)))
    for name, imagery in (("frozen", "imagery_frozen"), ("trained", "imagery")):
        each = Contender(f"kinds-{name}", "melt", [imagery, *KINDS[1:]])
        curves.append((each, (1 / 16, 1 / 4, 1.0)))
    for each, curve in curves:
        yield replace(each, budgets=(), curve=curve, replicates=replicates(3), reads=READS)


SWEEPS = {
    "main": Sweep(
        "modalities and objectives, each at its best budget", main(), (*UNTRAINED, BOOSTED)
    ),
    "crossed": Sweep("encoders by objectives, each at its best budget", crossed()),
    "paper": Sweep("the paper's own settings", paper()),
    "scale": Sweep("pairs, batches and frozen modality encoders", scale()),
}
