"""The parts of the study, each with contenders and tables of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from locties.evaluation.leakage import OPEN_LEAKS
from locties.modalities import RASTER_GROUPS
from locties_paper.design import (
    BATCH,
    FEATURES,
    FIRST_SEED,
    FIVE,
    HARMONICS,
    KINDS,
    NETWORKS,
    PAIRS,
    PILOT_DRAW,
    PILOT_SEED,
    READS,
    REPLICATES,
    TRIPLES,
    WITH_RAW,
    Contender,
    Scoring,
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

FAMILY = ("small", "base", "large")  # the encoders to use; `locties_paper.family` trains them
# Contenders without training, as `locties.evaluation.baselines.contender` names them.
UNTRAINED = (
    *("constant", "xyz", "harmonics_10", "harmonics_40"),
    *(name + read for name in ("raw", "geoclip", "best", *FAMILY) for read in ("", HARMONICS)),
    f"large+raw{HARMONICS}",
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


def counts() -> Iterator[Contender]:
    """One, three and five modalities: with equal pairs in all, and with equal pairs of each."""
    for each in main():
        n = len(each.modalities)
        one, more = each.schedule == "clip", each.schedule == "melt" and each.objective == "nt_xent"
        if each.trains and (one or more) and set(each.modalities) <= set(FIVE):
            curve = dict.fromkeys([n * A_MODALITY, 5 * A_MODALITY])
            yield replace(each, budgets=(), curve=tuple(curve), reads=READS[1:])


def turns() -> Iterator[Contender]:
    """SALT at the ends of its turns, and MELT at the same times, on one draw of points."""
    seeds = [(FIRST_SEED + seed, [0]) for seed in range(5)]
    for name in ("salt", "melt"):
        each = Contender(name, name, FIVE, budgets=(1.0,), reads=READS[:1], replicates=seeds)
        yield replace(each, each_epoch=True)


def probes() -> Iterator[Contender]:
    """The answer's contenders, alone, at the budgets that the pilot of ``main`` chose."""
    contenders = {each.name: each for each in main()}
    for name in ("untrained", "melt", "salt", "regression", STRONGEST):
        yield replace(
            contenders[name],
            budgets=(BEST[name],),
            curve=(),
            replicates=replicates(5),
            reads=READS[:1],
        )


def left_out() -> Iterator[Contender]:
    """MELT and regression without the modalities that leak into some open task."""
    for objective, name in (("nt_xent", "melt"), ("regression", "regression")):
        for leaking in LEFT_OUT:
            kept = [each for each in FIVE if each not in leaking]
            yield Contender(without(name, leaking), "melt", kept, objective, reads=READS)


def recipe() -> Iterator[Contender]:
    """The recipe of the encoders to use, and runs that change one part of it; on pilot places.

    In all of them an embedding also has its nested dimensions.
    """
    pilot = [(PILOT_SEED + seed, [PILOT_DRAW]) for seed in range(3)]
    default = Contender(
        "recipe",
        "melt",
        ["rasters"],
        "regression",
        RECIPE,
        budgets=(),
        curve=(2.0,),
        replicates=pilot,
        reads=READS,
        settings={"locations": "fresh", "batch": 2048},
    )
    yield replace(default, curve=(1 / 2, 2.0, 8.0))
    for group in RASTER_GROUPS:
        kept = [each for each in RASTER_GROUPS if each != group]
        yield replace(default, name=f"recipe-without_{group}", groups=kept)
    yield replace(default, name="recipe-unpaired", modalities=FIVE)
    # Contrast is at its best after fewer pairs.
    contrast = replace(default, objective="nt_xent", curve=(1 / 16, 1 / 4, 2.0))
    yield replace(contrast, name="recipe-contrast")
    yield replace(contrast, name="recipe-unpaired_contrast", modalities=FIVE)
    both = {"objective_options": {"weight": 0.5, "read": "locations"}}
    yield replace(
        contrast,
        name="recipe-contrast_and_regression",
        objective="fidelity",
        settings={**default.settings, **both},
    )
    fixed = {**default.settings, "locations": "fixed"}
    yield replace(default, name="recipe-fixed_locations", settings=fixed)
    for name, encoder in {
        "harmonics_10": FEATURES["harmonics_10"],
        "harmonics_40": FEATURES["harmonics_40"],
        "fourier": FEATURES["fourier"],
        "finest_128": {"feature_options": {**RECIPE["feature_options"], "finest": 128}},
        "finest_1024": {"feature_options": {**RECIPE["feature_options"], "finest": 1024}},
        "siren": NETWORKS["siren"],
        "mlp": {"network": "mlp", "network_options": {"hidden": 256, "layers": 3}},
        "not_nested": {"nested": ()},
    }.items():
        yield replace(default, name=f"recipe-{name}", encoder={**RECIPE, **encoder})


def own() -> Iterator[Contender]:
    """Does joint training lose what only one modality holds?

    An encoder of one modality sees as many of its pairs as joint training does. It is also trained
    at its best budget.
    """
    contenders = {each.name: each for each in main()}
    few: dict[str, Any] = {"budgets": (), "replicates": replicates(5), "reads": READS[:1]}
    yield replace(contenders["untrained"], **{**few, "budgets": (0.0,)})
    for name in ("melt", "salt", "regression"):
        yield replace(contenders[name], curve=JOINT, **few)
    alone = tuple(budget / len(FIVE) for budget in JOINT)
    for name in FIVE:
        curve = tuple(dict.fromkeys([*alone, BEST[f"clip-{name}"]]))
        yield replace(contenders[f"clip-{name}"], curve=curve, **few)
        yield replace(contenders[f"regression-{name}"], curve=alone, **few)


def without(name: str, modalities: Sequence[str]) -> str:
    """The name of a contender that lacks some modalities."""
    return f"{name}-without-{'-'.join(modalities)}"


# The encoder of the recipe: 2.0 million parameters.
RECIPE: dict[str, Any] = {
    "features": "hash_grid",
    "feature_options": {"rows": 2**15},
    **NETWORKS["residual"],
    "dim": 256,
    "nested": (16, 64),
}
A_MODALITY = 1 / 20  # pairs of each modality, times PAIRS
JOINT = (1 / 16, 1 / 4, 1.0)  # budgets of joint training in ``own``
# The budgets that the pilot of ``main`` chose. A test compares them.
BEST = {
    "untrained": 0.0,
    "melt": 1 / 16,
    "salt": 1 / 4,
    "regression": 1 / 4,
    "clip-imagery": 1 / 4,
    "clip-rain": 1 / 16,
    "clip-haze": 1 / 64,
    "clip-relief": 1 / 64,
    "clip-toponyms": 1 / 64,
}
STRONGEST = "clip-haze"  # the best encoder of one modality on pilot places
RASTERS = FIVE[:4]  # the modalities that `raw` reads
# Those of the five that leak into an open task, for each such task.
LEFT_OUT = sorted({tuple(n for n in FIVE if n in found) for found in OPEN_LEAKS.values()} - {()})

SWEEPS = {
    "main": Sweep(
        "modalities and objectives, each at its best budget", main(), (*UNTRAINED, BOOSTED)
    ),
    "crossed": Sweep("encoders by objectives, each at its best budget", crossed()),
    "paper": Sweep("the paper's own settings", paper()),
    "scale": Sweep("pairs, batches and frozen modality encoders", scale()),
    "counts": Sweep("one, three and five modalities at equal pairs", counts()),
    "turns": Sweep("along the turns of SALT", turns()),
    "probes": Sweep(
        "SatCLIP's probe",
        probes(),
        ("raw", "geoclip"),
        Scoring(tiers=["open"], probes=["mlp"], labels="all", seconds=130.0),
    ),
    "left_out": Sweep(
        "without the modality that leaks",
        left_out(),
        [without("raw", each) + read for each in LEFT_OUT for read in ("", HARMONICS)],
    ),
    "own": Sweep(
        "what one modality alone holds",
        own(),
        [
            *("raw", *(f"raw-only-{name}" for name in FIVE)),
            *(without("raw", [name]) for name in RASTERS),
        ],
        Scoring(tiers=["own"], labels="all", seconds=4.0),
    ),
    "recipe": Sweep("parts of the recipe for encoders to use, on pilot places", recipe()),
}
