"""The paper's claims as tests: statistic, margin and correction first, then a verdict from rows.

    from locties_paper.effects import claims
    table = claims.verdicts(claims.read())
    table[table["group"] == "overall"]

A verdict is *supported*, *refuted* or *undecided*. It rests on rows of one tier, one profile, one
state of the data and one kind of device, on as many seeds as the claim asks for, and on every cell
(task × split × probe); where any of that is missing it is undecided, and its note says what is
missing. Nothing is supported because a test failed to reject. Tests are one-sided at the 5% level,
and intervals of paired differences have 90% coverage, so that either end is the bound of one such
test.

A claim is one function under `claim`, which says the runs that it needs and whose docstring is
what the book prints of the test; it reads `Tables` and returns an `Outcome` or raises `Undecided`.
Seeds from 100 on are the pilot's. They fix the margin and choose the strongest baseline, and no
test reads them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from locties._util.registry import Registry
from locties.evaluation.splits import SPLITS
from locties.evaluation.statistics import Interval, mean_interval
from locties.training.loop import WARM_UP
from locties_paper import results
from locties_paper.effects.statistics import equivalence, equivalence_power, holm, variance_shares
from locties_paper.erasure.verdict import MARGIN as ERASURE_MARGIN
from locties_paper.erasure.verdict import verdict as erasure_verdict

Array = NDArray[np.float64]

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
ALPHA = 0.05
SEEDS = 10  # for a verdict
# Where t-tests look for effects and not for their absence, in means of many scores: as far as these
# are normal the level holds at any number of seeds, and fewer leave more claims undecided.
FEWER_SEEDS = 5
FIRST_PILOT_SEED = 100
PILOT_SEEDS = 5
PILOT_POINTS = 1  # the seed of the pilot's points, where they were drawn anew
POWER = 0.8
MARGINS = (0.01, 0.02, 0.03, 0.05)  # in R² or accuracy; a pilot takes the smallest with power
TASKS = 4  # a verdict on "the downstream tasks" needs at least the paper's number of them
PROBES = ("ridge", "knn")
CELL = ["task", "split", "probe"]
EARLY = 0.25  # of a run's pairs
SETTLED = 0.2  # of a run's pairs, after which its changes are counted

FIVE = ("imagery", "climate", "haze", "relief", "toponyms")
METHODS = ("melt-all", "salt-all")
BASELINES = tuple(f"clip-{modality}" for modality in FIVE)
# MELT on one modality: the baselines' samples with MELT's direction of the loss.
ONES = tuple(f"one-{modality}" for modality in FIVE)
# Each modality is in three of them, so their mean differs from that of ONES in number alone.
THREES = (
    "three-imagery-climate-haze",
    "three-climate-haze-relief",
    "three-haze-relief-toponyms",
    "three-imagery-relief-toponyms",
    "melt-three",
)
BUDGETS = {
    "equal pairs": {1: ONES, 3: THREES, 5: ("melt-all",)},
    "equal pairs a modality": {
        1: tuple(f"{run}-each" for run in ONES),
        3: tuple(f"{run}-each" for run in THREES),
        5: ("melt-all",),
    },
}
FACTORS = {
    "encoder": ("harmonics", "fourier", "sphere"),
    "modalities": ("one", "three", "five"),
    "objective": ("nt_xent", "siglip", "vicreg"),
}
ALONG = tuple(
    f"along-{subset}-{volume}"
    for subset, volume in product(("one", "three", "five"), ("few", "fixed", "fresh"))
)


class Setting(NamedTuple):
    """What the rows behind one verdict must share."""

    tier: str
    profile: str
    device: str


class Pilot(NamedTuple):
    """The margin that a pilot fixes, and the numbers it rests on."""

    setting: Setting
    margin: float
    seeds: int
    median_spread: float
    power: float
    largest_spread: float
    least_power: float
    joint_power: float


# What the pilots fixed; add one with `python -m locties_paper.effects.claims` before the test seeds
# are run, and never change it after.
PILOTS: tuple[Pilot, ...] = (
    Pilot(
        Setting("embedded", "study", "cpu"),
        margin=0.01,
        seeds=5,
        median_spread=0.00835507822287497,
        power=0.9336380551958435,
        largest_spread=0.062076262324850424,
        least_power=0.0,
        joint_power=0.0,
    ),
    Pilot(
        Setting("open", "study", "cpu"),
        margin=0.01,
        seeds=5,
        median_spread=0.0076282815299861615,
        power=0.969574819452445,
        largest_spread=0.07514614226197164,
        least_power=0.0,
        joint_power=0.0,
    ),
)


class Tables(NamedTuple):
    """Rows that the tests read.

    Attributes:
        runs: of `locties.evaluate`, with provenance.
        histories: of training, with columns encoder and seed.
        along: as `runs`, with a column pairs: scores at checkpoints within runs.
        erasure: what is read of each modality's content from its embeddings, with provenance.
    """

    runs: pd.DataFrame
    histories: pd.DataFrame
    along: pd.DataFrame
    erasure: pd.DataFrame


class Undecided(Exception):
    """Why the rows carry no verdict."""


class Outcome(NamedTuple):
    """A verdict and its reasons.

    Attributes:
        lacks: what is missing for a verdict; the verdict stands only where nothing is.
        verdict: supported, refuted or undecided.
        decisive: the row whose numbers the overall row repeats.
        rows: one for each test behind the verdict.
        setting: of the rows.
        note: what else there is to say.
    """

    lacks: list[str]
    verdict: str
    decisive: dict[str, Any]
    rows: list[dict[str, Any]]
    setting: Setting
    note: str


@dataclass(frozen=True)
class Claim:
    """One claim: what it says, which runs on how many seeds its test needs, and the test.

    One that reads no scores of tasks (`of_tasks`) is judged once, and not on each tier.
    """

    name: str
    text: str
    needs: tuple[str, ...]
    seeds: int
    of_tasks: bool
    test: Callable[[Tables, Mapping[Setting, float]], Outcome]


CLAIMS = Registry("claim")


def claim(
    name: str, text: str, needs: Iterable[str], seeds: int = SEEDS, of_tasks: bool = True
) -> Callable[[Any], Any]:
    """Register a test under the name of its claim."""

    def register(test: Any) -> Any:
        CLAIMS[name] = Claim(name, text, tuple(dict.fromkeys(needs)), seeds, of_tasks, test)
        return test

    return register


# --------------------------------------------------------------------------------- from the rows


class _Scores(NamedTuple):
    setting: Setting
    cells: list[tuple[str, str, str]]
    seeds: list[int]
    value: dict[str, Array]  # by run, (cells, seeds)
    note: str


def _setting(rows: pd.DataFrame) -> Setting:
    """What all rows share; undecided, naming the mix, where they do not."""
    columns = {
        "tier": rows["tier"],
        "profile": rows["profile"],
        "device": pd.Series(np.where(rows["device"] == "cpu", "cpu", "gpu")),
        "data": rows["data"],
    }
    names = {what: sorted(set(column)) for what, column in columns.items()}
    for what, found in names.items():
        if len(found) > 1:
            raise Undecided(
                f"the rows mix several of {what}: {', '.join(map(str, found))}; "
                "a verdict rests on one"
            )
    return Setting(names["tier"][0], names["profile"][0], names["device"][0])


def _present(table: pd.DataFrame, needed: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of the runs needed; undecided where a run has none."""
    present = set(table["encoder"])
    absent = [run for run in needed if run not in present]
    if absent:
        named = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise Undecided(
            f"{what} of {len(absent)} of the {len(needed)} runs needed are missing ({named})"
        )
    return table[table["encoder"].isin(needed)]


def _complete(table: pd.DataFrame, needed: Sequence[str]) -> _Scores:
    """Scores of the runs needed, paired by seed, in every cell.

    A seed that any run lacks in any cell is left out of all, and the note names it.
    """
    # Of every tier that is in it: a mix is found below, and named.
    parts = [results.scores(part, tier=tier) for tier, part in table.groupby("tier", sort=False)]
    rows = pd.concat(parts) if parts else table
    rows = _present(rows[np.isfinite(rows["value"])], needed, "scores")
    twice = rows[rows.duplicated([*CELL, "encoder", "seed"])]
    setting = _setting(rows)
    if len(twice):
        raise ValueError(
            f"two scores of {twice.iloc[0]['encoder']!r}, seed {twice.iloc[0]['seed']}, in "
            f"{' '.join(twice.iloc[0][CELL])}: keep one row for each run, cell and seed"
        )
    tasks = list(dict.fromkeys(rows["task"]))
    if len(tasks) < TASKS:
        raise Undecided(f"{len(tasks)} tasks, and the test needs {TASKS}")
    cells = list(product(tasks, SPLITS, PROBES))
    found = sorted(set(rows["seed"]))
    wide = rows.pivot(index=CELL, columns=["encoder", "seed"], values="value")  # noqa: PD010
    wide = wide.reindex(index=cells, columns=list(product(needed, found)))
    values = wide.to_numpy().reshape(len(cells), len(needed), len(found))
    there = np.isfinite(values)
    for j, i in np.argwhere(~there.any(-1)):
        raise Undecided(f"no score of {needed[i]} in {' '.join(cells[j])}")
    whole = there.all((0, 1))
    seeds = [seed for seed, complete in zip(found, whole, strict=True) if complete]
    if len(seeds) < 2:
        raise Undecided(f"{len(seeds)} seeds complete in all runs")
    dropped = [str(seed) for seed in found if seed not in seeds]
    note = f"seeds left out, as a run lacks them: {', '.join(dropped)}" if dropped else ""
    kept = values[..., whole]
    return _Scores(setting, cells, seeds, {run: kept[:, i] for i, run in enumerate(needed)}, note)


def _tested(runs: pd.DataFrame, needed: Sequence[str]) -> _Scores:
    return _complete(runs[(runs["seed"] < FIRST_PILOT_SEED) & (runs["points_seed"] == 0)], needed)


def _piloted(runs: pd.DataFrame) -> _Scores:
    rows = runs[runs["seed"] >= FIRST_PILOT_SEED]
    anew = rows[rows["points_seed"] == PILOT_POINTS]
    found = _complete(anew if len(anew) else rows, [*METHODS, *BASELINES])
    if len(found.seeds) < PILOT_SEEDS:
        raise Undecided(f"{len(found.seeds)} seeds, and the pilot needs {PILOT_SEEDS}")
    note = "" if len(anew) else "the pilot was scored at the points of the test"
    return found._replace(note=note)


def _few(n: int, needed: int = SEEDS) -> list[str]:
    return [f"{n} of the {needed} seeds needed"] if n < needed else []


def _pairs(histories: pd.DataFrame, parts: Mapping[str, int]) -> None:
    """Undecided unless all runs saw equally many pairs a part; rounding to batches is forgiven."""
    rows = _present(histories[histories["seed"] < FIRST_PILOT_SEED], list(parts), "histories")
    seen = rows.groupby("encoder")["pairs"].max()
    for_each = seen / pd.Series(parts)
    if for_each.max() > 1.02 * for_each.min():
        least, most = for_each.idxmin(), for_each.idxmax()
        raise Undecided(f"pairs seen are not equal: {least} {seen[least]:,}, {most} {seen[most]:,}")


def _with_provenance(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Training rows with the provenance of the same run's scores."""
    where = runs[["encoder", "seed", "tier", "profile", "device", "data"]].drop_duplicates()
    own = table.drop(columns=[*where.columns[2:]], errors="ignore")
    return own.merge(where, on=["encoder", "seed"], how="inner")


def _row(
    group: str, cell: str, statistic: str, interval: Interval, n: int, **more: Any
) -> dict[str, Any]:
    value, low, high = interval
    names = {"group": group, "cell": cell, "verdict": "", "statistic": statistic}
    numbers = {"value": value, "low": low, "high": high, "level": 1 - 2 * ALPHA, "n": n}
    rest = dict.fromkeys(["margin", "p", "p_against", "p_better"], np.nan)
    return {**names, **numbers, **rest, **more}


def _mean_row(
    group: str, cell: str, statistic: str, differences: Array, **more: Any
) -> dict[str, Any]:
    interval = mean_interval(differences, 1 - 2 * ALPHA)
    return _row(group, cell, statistic, interval, len(differences), **more)


def _one_sided(differences: Array, bound: float, alternative: str) -> Array:
    """p-values over the last axis; 1 where differences without any spread allow no test."""
    p = stats.ttest_1samp(differences, bound, axis=-1, alternative=alternative).pvalue
    return np.nan_to_num(p, nan=1.0)


def _said(lacks: Sequence[str], **p: Array) -> NDArray[np.str_]:
    """The first of the names whose p-value is small, else "unclear"; nothing where rows lack."""
    found = np.select([values < ALPHA for values in p.values()], list(p), "unclear")
    return np.full(found.shape, UNDECIDED) if lacks else found


def _every(rows: Sequence[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Verdict and decisive row where every test must pass, and one against is enough."""
    against = min(rows, key=lambda row: row["p_against"])
    if against["p_against"] < ALPHA:
        return REFUTED, against
    weakest = max(rows, key=lambda row: row["p"])
    return SUPPORTED if weakest["p"] < ALPHA else UNDECIDED, weakest


def _counted(said: NDArray[np.str_]) -> str:
    names, counts = np.unique(said[said != UNDECIDED], return_counts=True)
    return ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))


def _joined(notes: Iterable[str]) -> str:
    return "; ".join(note for note in notes if note)


# ------------------------------------------------------------------------------------------ C1


def _strongest(pilot: _Scores, among: Sequence[str] = BASELINES) -> dict[str, str]:
    """By task, the baseline with the highest mean over splits, probes and pilot seeds."""
    tasks = np.array([task for task, _, _ in pilot.cells])
    return {
        task: max(among, key=lambda run: pilot.value[run][tasks == task].mean())
        for task in dict.fromkeys(tasks.tolist())
    }


def _against(scores: _Scores, strongest: Mapping[str, str]) -> Array:
    """`(methods, cells, seeds)`: each method minus the task's strongest baseline."""
    base = np.stack([scores.value[strongest[cell[0]]][i] for i, cell in enumerate(scores.cells)])
    return np.stack([scores.value[method] - base for method in METHODS])


def _parity(differences: Array, margin: float) -> tuple[Array, Array, Array]:
    """p-values of within the margin, below it and above it; the latter two corrected together."""
    within = np.nan_to_num(equivalence(differences, margin), nan=1.0)
    sides = [_one_sided(differences, -margin, "less"), _one_sided(differences, margin, "greater")]
    worse, better = holm(np.stack(sides))
    return within, worse, better


def fix_margin(runs: pd.DataFrame) -> Pilot:
    """The margin of equivalence that the pilot seeds fix.

    The smallest of `MARGINS` at which ten seeds have a power of at least .8 in the median cell,
    the true difference being 0. Cells with a larger spread have less, so a claim over every cell
    has less; `least_power` says how much the worst cell has, `joint_power` how much all have
    together if they were independent.

    Args:
        runs: tidy rows of one tier, with seeds from 100 on.

    Raises:
        Undecided: too few pilot rows, a mix of settings, or a spread that no margin covers.
    """
    pilot = _piloted(_filled(runs))
    spread = _against(pilot, _strongest(pilot)).std(axis=-1, ddof=1).ravel()
    median, largest = float(np.median(spread)), float(spread.max())
    for margin in MARGINS:
        power, *cells = equivalence_power([median, *spread], SEEDS, margin)
        if power >= POWER:
            return Pilot(
                pilot.setting,
                margin,
                len(pilot.seeds),
                median,
                float(power),
                largest,
                float(min(cells)),
                float(np.prod(cells)),
            )
    raise Undecided(
        f"with {SEEDS} seeds no margin up to {MARGINS[-1]} has power {POWER} at the median spread "
        f"of {median:.3f}: more seeds are needed"
    )


@claim(
    "C1",
    "Both MELT and SALT match the strongest two-modality baseline.",
    needs=[*METHODS, *BASELINES],
)
def matches(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """Equivalence of MELT and of SALT, on all five modalities, to the strongest baseline.

    - Statistic: score minus the baseline's, paired by seed, in each cell (method × task × split ×
      probe); all runs see the same number of pairs.
    - Margin: fixed after a pilot of the seeds' spread (`fix_margin`), once for each tier, profile
      and kind of device.
    - Supported: two one-sided t-tests show every cell within the margin. All must pass (an
      intersection-union test), so nothing is corrected.
    - Refuted: some cell lies beyond the margin, on either side, after Holm's correction over all
      cells and both sides.
    - Beside it, `p_better` tests superiority over the baseline, Holm-corrected over all cells: what
      is not equivalent may be better.
    - The strongest baseline is chosen for each task on the pilot seeds, which no test reads, by the
      mean over splits and probes. Where the pilot also has points of its own
      (``points_seed`` 1) the choice has seen neither the seeds nor the points of the test; what
      optimism remains comes from the pilot's points lying near them. Where it has not, the note
      says so: a baseline that does well at just these points is then preferred, which lifts the
      baseline a little.
    """
    tested = _tested(tables.runs, [*METHODS, *BASELINES])
    _pairs(tables.histories, dict.fromkeys([*METHODS, *BASELINES], 1))
    n, margin = len(tested.seeds), margins.get(tested.setting, np.nan)
    lacks, notes = _few(n), [tested.note]
    if np.isnan(margin):
        lacks.append("no margin is fixed yet: run the pilot")
    try:
        pilot = _piloted(tables.runs)
        if pilot.setting != tested.setting:
            raise Undecided(f"made at {'/'.join(pilot.setting)}, not {'/'.join(tested.setting)}")
        strongest = _strongest(pilot)
        notes.append(pilot.note)
    except Undecided as why:
        lacks.append(f"the pilot seeds that choose the baseline: {why}; the rows show clip-imagery")
        strongest = dict.fromkeys((task for task, _, _ in tested.cells), "clip-imagery")
    differences = _against(tested, strongest)
    within, worse, better = _parity(differences, margin)
    superior = holm(_one_sided(differences, 0.0, "greater"))
    said = _said(lacks, equivalent=within, worse=worse, better=better)
    rows = [
        _mean_row(
            f"{METHODS[i]} minus the strongest baseline",
            f"{' '.join(tested.cells[j])} ({strongest[tested.cells[j][0]]})",
            "difference of scores",
            differences[i, j],
            verdict=said[i, j],
            margin=margin,
            p=within[i, j],
            p_against=min(worse[i, j], better[i, j]),
            p_better=superior[i, j],
        )
        for i, j in np.ndindex(said.shape)
    ]
    notes.append(_counted(said))
    return Outcome(lacks, *_every(rows), rows, tested.setting, _joined(notes))


def leak_free_parity(tables: Tables, leaks: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """C1's comparison for MELT where neither side saw what shares its source with the task.

    MELT on the four other modalities (the runs ``without-<modality>``), less the strongest of the
    other two-modality runs, which the pilot chooses as in C1. It has no part in the verdict.

    Args:
        tables: of `read`, of one tier.
        leaks: by task, the one modality that shares its source with the labels; other tasks are
            left out.

    Returns:
        A row for each cell, as `verdicts` gives them: group is the run, cell names the baseline.
        Corrected over these cells; verdict equivalent, worse or better beyond C1's margin, or
        unclear. Two columns more: mean, the run's score, and five, that of MELT on all five.

    Raises:
        Undecided: where rows of these runs are missing, or no margin is fixed.

    Example:
        >>> from locties.evaluation import LEAKS
        >>> tables = read()
        >>> tables = tables._replace(runs=tables.runs[tables.runs["tier"] == "embedded"])
        >>> leak_free_parity(tables, LEAKS)["group"].unique()[:2].tolist()
        ['without-climate', 'without-relief']
    """
    left_out = {task: f"without-{modality}" for task, (modality,) in leaks.items()}
    runs = list(dict.fromkeys(left_out.values()))
    tested = _tested(_filled(tables.runs), ["melt-all", *runs, *BASELINES])
    margin = {pilot.setting: pilot.margin for pilot in PILOTS}.get(tested.setting)
    if margin is None:
        raise Undecided("no margin is fixed yet: run the pilot")
    pilot = _piloted(tables.runs)
    strongest = {}
    for task, run in left_out.items():
        kept = [name for name in BASELINES if name.split("-")[1] != run.split("-")[1]]
        strongest[task] = _strongest(pilot, kept)[task]
    cells = [(i, cell) for i, cell in enumerate(tested.cells) if cell[0] in left_out]
    differences = np.stack(
        [tested.value[left_out[c[0]]][i] - tested.value[strongest[c[0]]][i] for i, c in cells]
    )
    within, worse, better = _parity(differences, margin)
    said = _said([], equivalent=within, worse=worse, better=better)
    return pd.DataFrame(
        _mean_row(
            left_out[cell[0]],
            f"{' '.join(cell)} ({strongest[cell[0]]})",
            "difference of scores",
            differences[k],
            verdict=said[k],
            margin=margin,
            p=within[k],
            p_against=min(worse[k], better[k]),
            mean=tested.value[left_out[cell[0]]][i].mean(),
            five=tested.value["melt-all"][i].mean(),
        )
        for k, (i, cell) in enumerate(cells)
    )


# ------------------------------------------------------------------------------------------ C2


@claim(
    "C2",
    "More modalities do not consistently improve downstream scores.",
    needs=[run for sizes in BUDGETS.values() for runs in sizes.values() for run in runs],
    seeds=FEWER_SEEDS,
)
def more_modalities(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """Five modalities against three, and three against one, at two budgets.

    - Runs: MELT on each modality alone, on five sets of three that hold each modality three times,
      and on all five; a size's score is the mean over its sets, so that sizes differ in number and
      not in which modalities they hold. All have MELT's direction of the loss.
    - Budgets: equal pairs in all, and equal pairs for each modality (a fifth of the pairs alone,
      three fifths with three). The histories are checked for it.
    - Statistic: five minus three and three minus one, paired by seed, in each cell (task × split ×
      probe). To *help consistently* is to help at both steps in every cell.
    - Refuted: at both budgets one-sided t-tests show every difference above 0 (intersection-union,
      so nothing is corrected).
    - Supported: at both budgets some difference is below 0, after Holm's correction over the
      budget's cells and steps.
    - Undecided otherwise: differences that are not shown to be above 0 are not shown to be below.
    - A cell is *better* by its own test, which is not corrected since all would have to be, and
      *worse* after the correction.
    """
    needed = CLAIMS["C2"].needs
    tested = _tested(tables.runs, needed)
    for budget, sizes in BUDGETS.items():
        a_part = budget != "equal pairs"
        _pairs(
            tables.histories,
            {run: size if a_part else 1 for size, runs in sizes.items() for run in runs},
        )
    lacks, rows, verdicts = _few(len(tested.seeds), FEWER_SEEDS), [], {}
    for budget, sizes in BUDGETS.items():
        one, three, five = (
            np.mean([tested.value[run] for run in runs], axis=0) for runs in sizes.values()
        )
        steps = np.stack([five - three, three - one])
        helps = _one_sided(steps, 0.0, "greater")
        hurts = holm(_one_sided(steps, 0.0, "less"))
        if (hurts < ALPHA).any():
            verdicts[budget] = SUPPORTED
        else:
            verdicts[budget] = REFUTED if (helps < ALPHA).all() else UNDECIDED
        said = _said(lacks, worse=hurts, better=helps)
        rows += [
            _mean_row(
                f"{budget}: {('five minus three', 'three minus one')[i]}",
                " ".join(tested.cells[j]),
                "difference of scores",
                steps[i, j],
                verdict=said[i, j],
                p=hurts[i, j],
                p_against=helps[i, j],
            )
            for i, j in np.ndindex(said.shape)
        ]
    agreed = set(verdicts.values())
    verdict = agreed.pop() if len(agreed) == 1 else UNDECIDED
    notes = (
        [tested.note] if lacks else [f"at {budget} {found}" for budget, found in verdicts.items()]
    )
    notes += [_counted(np.array([row["verdict"] for row in rows]))]
    decisive = max(rows, key=lambda row: row["p_against"])  # the one that helps least
    return Outcome(lacks, verdict, decisive, rows, tested.setting, _joined(notes))


def leak_free(tables: Tables, leaks: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """C2's step from one modality to three, without the sets that hold a leaking modality.

    A set of three is set against the mean of its own three alone, so that with every set kept this
    is C2's own step. The set of five holds every modality, so nothing can be said of that step.
    It has no part in the verdict, and nothing is corrected.

    Args:
        tables: of `read`, of one tier.
        leaks: by task, the modalities that share their source with its labels.

    Returns:
        Rows as `verdicts` gives them, a group for each budget; verdict better, worse or unclear.

    Raises:
        Undecided: where rows of C2's runs are missing.
    """
    tested = _tested(_filled(tables.runs), CLAIMS["C2"].needs)
    rows = []
    for budget, sizes in BUDGETS.items():
        steps = {}
        for run in sizes[3]:
            held = _held(run)
            alone = [one for one in sizes[1] if one.split("-")[1] in held]
            alone_mean = np.mean([tested.value[one] for one in alone], axis=0)
            steps[held] = tested.value[run] - alone_mean  # (cells, seeds)
        for j, cell in enumerate(tested.cells):
            kept = [
                step[j] for held, step in steps.items() if not held & set(leaks.get(cell[0], ()))
            ]
            step = np.mean(kept, axis=0)
            up, down = (_one_sided(step, 0.0, side) for side in ("greater", "less"))
            rows.append(
                _mean_row(
                    f"{budget}: three minus one",
                    " ".join(cell),
                    "difference of scores",
                    step,
                    verdict=str(_said([], worse=down, better=up)),
                    p=down,
                    p_against=up,
                )
            )
    return pd.DataFrame(rows)


def _held(run: str) -> frozenset[str]:
    """The modalities of one of `THREES`, by its name."""
    if run.startswith("melt-three"):
        return frozenset({"imagery", "climate", "toponyms"})
    return frozenset(run.split("-")[1:4])


# ------------------------------------------------------------------------------------------ C3


def crossed_run(encoder: str, modalities: str, objective: str) -> str:
    """The run at one combination of levels of `FACTORS`; three belong to other claims too."""
    if (encoder, objective) == ("harmonics", "nt_xent"):
        return {"one": "one-imagery", "three": "melt-three", "five": "melt-all"}[modalities]
    return f"cross-{encoder}-{modalities}-{objective}"


@claim(
    "C3",
    "The location encoder is the main limit.",
    needs=[crossed_run(*levels) for levels in product(*FACTORS.values())],
    seeds=FEWER_SEEDS,
)
def main_limit(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """Share of the variance that encoder, modalities and objective each explain.

    - Design: three location encoders × three modality sets × three objectives, MELT, every
      combination with every seed, at equal pairs. Three levels each, so that no factor has more
      room than another, and noise adds the same to each.
    - Statistic: omega squared of each main effect within a seed, in each cell (task × split ×
      probe), averaged over the cells, each counting alike; the encoder's less another factor's,
      paired by seed.
    - Supported: one-sided t-tests show both differences above 0 (intersection-union, so nothing is
      corrected).
    - Refuted: some difference is below 0, after Holm's correction over the two.
    - It holds for these levels: a factor explains more where its levels differ more. They were
      chosen as ones that a practitioner would consider, before any was run.
    """
    needed = CLAIMS["C3"].needs
    tested = _tested(tables.runs, needed)
    _pairs(tables.histories, dict.fromkeys(needed, 1))
    n = len(tested.seeds)
    levels = [len(names) for names in FACTORS.values()]
    values = np.stack([tested.value[run] for run in needed])  # (combinations, cells, seeds)
    shares = variance_shares(values.transpose(2, 1, 0).reshape(n, len(tested.cells), *levels))
    means = shares.mean(1)  # (seeds, factors)
    differences = (means[:, :1] - means[:, 1:]).T
    above = _one_sided(differences, 0.0, "greater")
    below = holm(_one_sided(differences, 0.0, "less"))
    lacks = _few(n, FEWER_SEEDS)
    said = _said(lacks, more=above, less=below)
    encoder, *others = FACTORS
    rows = [
        _mean_row(
            f"{encoder} minus {other}",
            "mean",
            "difference of shares",
            differences[i],
            verdict=said[i],
            p=above[i],
            p_against=below[i],
        )
        for i, other in enumerate(others)
    ]
    verdict, decisive = _every(rows)
    for k, factor in enumerate(FACTORS):
        parts = zip(map(" ".join, tested.cells), shares[..., k].T, strict=True)
        rows += [
            _mean_row(factor, cell, "share of variance", share)
            for cell, share in [("mean", means[:, k]), *parts]
        ]
    named = ", ".join(f"{row['group']} {row['value']:.2f}" for row in rows if row["cell"] == "mean")
    note = _joined([f"means: {named}", tested.note if lacks else ""])
    return Outcome(lacks, verdict, decisive, rows, tested.setting, note)


# ------------------------------------------------------------------------------------------ C4


@claim(
    "C4",
    "The contrastive objective reaches its peak early, whatever the diversity or the volume.",
    needs=ALONG,
)
def peaks_early(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """What is gained after a quarter of the run, at a constant learning rate.

    - Runs: MELT on one, three and five modalities; a quarter of the samples, all of them, and
      fresh locations at every step. The histories are checked for a constant learning rate after
      the warm-up, so that no schedule can fake a peak.
    - Statistic: in each run and cell (task × split × probe), the score at the best checkpoint after
      a quarter of the pairs minus that at the best before. Half of the seeds choose the two
      checkpoints, by their mean; the other half is tested, so the choice flatters neither.
    - Margin: that of C1's pilot.
    - Supported: one-sided t-tests show every gain below the margin (intersection-union, so nothing
      is corrected). A score that rises no more and one that falls both count; a cell is said to
      have fallen where the last checkpoint is shown to be below the early one by the margin.
    - Refuted: some gain is above the margin, after Holm's correction over runs and cells.
    """
    rows_of = _present(tables.along, ALONG, "scores along training")
    _constant_rate(_present(tables.histories, ALONG, "histories"))
    along = _with_provenance(rows_of, tables.runs) if "device" not in rows_of else rows_of
    steps = {
        run: sorted(set(found["pairs"])) for run, found in along.groupby("encoder", sort=False)
    }
    found = []
    flat = along.assign(encoder=along["encoder"] + "@" + along["pairs"].astype(str))
    flat_names = [f"{run}@{pairs}" for run in ALONG for pairs in steps[run]]
    tested = _tested(_filled(flat), flat_names)
    margin = margins.get(tested.setting, np.nan)
    lacks = _few(len(tested.seeds))
    if np.isnan(margin):
        lacks.append("no margin is fixed yet: run the pilot")
    for run in ALONG:
        values = np.stack([tested.value[f"{run}@{pairs}"] for pairs in steps[run]])
        early = sum(pairs <= EARLY * steps[run][-1] for pairs in steps[run])
        if not 0 < early < len(steps[run]):
            raise Undecided(f"{run} has no checkpoint within the first {EARLY:.0%} of its pairs")
        found.append(_late_gain(values, early))
    gains, finals = (np.stack(part) for part in zip(*found, strict=True))
    if gains.shape[-1] < 2:
        raise Undecided(f"{len(tested.seeds)} seeds")
    small = _one_sided(gains, margin, "less")
    large = holm(_one_sided(gains, margin, "greater"))
    fallen = holm(_one_sided(finals, -margin, "less"))
    said = _said(lacks, rises=large, fell=np.maximum(small, fallen), peaked=small)
    rows = [
        _mean_row(
            ALONG[i],
            " ".join(tested.cells[j]),
            "late gain of score",
            gains[i, j],
            verdict=said[i, j],
            margin=margin,
            p=small[i, j],
            p_against=large[i, j],
        )
        for i, j in np.ndindex(said.shape)
    ]
    note = _joined([tested.note, _counted(said)])
    return Outcome(lacks, *_every(rows), rows, tested.setting, note)


def _late_gain(values: Array, early: int) -> tuple[Array, Array]:
    """What is gained after the first `early` checkpoints, and at the last, over the best of them.

    Every other seed chooses the best early and the best late checkpoint of each cell, and the
    seeds between are scored there: on the same seeds, the best of many noisy checkpoints would
    always seem to beat the best of a few.

    Args:
        values: `(checkpoints, cells, seeds)`.
        early: how many checkpoints are early.

    Returns:
        Two arrays `(cells, seeds // 2)`.
    """
    means, judged = values[..., ::2].mean(-1), values[..., 1::2]
    cell = np.arange(values.shape[1])
    before = judged[means[:early].argmax(0), cell]
    after = judged[early + means[early:].argmax(0), cell]
    return after - before, judged[-1] - before


def _constant_rate(histories: pd.DataFrame) -> None:
    for (run, _), rows in histories.groupby(["encoder", "seed"]):
        settled = rows[rows["pairs"] > 1.1 * WARM_UP * rows["pairs"].max()]["learning_rate"]
        if settled.max() > 1.001 * settled.min():
            raise Undecided(f"the learning rate of {run} is not constant, which can fake a peak")


# ------------------------------------------------------------------------------------------ C5


@claim("C5", "MELT trains more stably than SALT.", needs=METHODS, of_tasks=False)
def more_stable(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """How much the validation losses of MELT and SALT jump from epoch to epoch.

    - Rows: validation loss of each modality on one fixed batch at one temperature, at the same
      numbers of pairs seen; both on all five modalities.
    - Statistic: the standard deviation of the changes from epoch to epoch after a fifth of the
      run, SALT's over MELT's; its logarithm, paired by seed, for each modality.
    - Supported: one-sided t-tests show every modality's ratio above 1 (intersection-union, so
      nothing is corrected).
    - Refuted: some modality's ratio is below 1, after Holm's correction over modalities.
    - Beside it, and without a vote: forgetting, the fall of a modality's recall at 10 from the end
      of its turn in SALT to the end of its pause, minus that of MELT over the same epochs.
    """
    histories = tables.histories[tables.histories["seed"] < FIRST_PILOT_SEED]
    rows_of = _with_provenance(_present(histories, METHODS, "histories"), tables.runs)
    rows_of = _present(rows_of, METHODS, "provenance of histories")
    setting = _setting(rows_of)
    _pairs(histories, dict.fromkeys(METHODS, 1))
    modalities = list(dict.fromkeys(rows_of["modality"]))
    changes: dict[str, list[float]] = {name: [] for name in modalities}
    falls: dict[str, list[float]] = {name: [] for name in modalities}
    seeds = []
    for seed, own in rows_of.groupby("seed"):
        melt, salt = (
            own[own["encoder"] == run].pivot(index="pairs", columns="modality")  # noqa: PD010
            for run in METHODS
        )
        if not melt.index.equals(salt.index) or len(melt) < 3:
            continue
        seeds.append(int(seed))
        settled = melt.index > SETTLED * melt.index.max()
        for name in modalities:
            spread = [
                np.diff(run["validation_loss", name].to_numpy()[settled]).std(ddof=1)
                for run in (melt, salt)
            ]
            changes[name].append(float(np.log(spread[1] / spread[0])))
            active = salt["active", name].to_numpy(dtype=bool)
            recall = [run["recall_at_10", name].to_numpy() for run in (melt, salt)]
            falls[name].append(_fall(recall[1], active) - _fall(recall[0], active))
    if len(seeds) < 2:
        raise Undecided(f"{len(seeds)} seeds in common")
    lacks = _few(len(seeds))
    ratios = np.array([changes[name] for name in modalities])
    above = _one_sided(ratios, 0.0, "greater")
    below = holm(_one_sided(ratios, 0.0, "less"))
    said = _said(lacks, steadier=above, jumpier=below)
    rows = []
    for i, name in enumerate(modalities):
        ends = np.exp(mean_interval(ratios[i], 1 - 2 * ALPHA)).tolist()
        more = {"verdict": said[i], "p": above[i], "p_against": below[i]}
        statistic = "ratio of standard deviations"
        rows.append(_row("SALT over MELT", name, statistic, Interval(*ends), len(seeds), **more))
    verdict, decisive = _every(rows)
    rows += [
        _mean_row("SALT minus MELT", name, "forgetting (fall of recall at 10)", np.array(fall))
        for name, fall in falls.items()
        if np.isfinite(fall).all()
    ]
    return Outcome(lacks, verdict, decisive, rows, setting, "")


def _fall(recall: Array, active: NDArray[np.bool_]) -> float:
    """Mean fall from the last epoch of each turn to the last of the pause after it."""
    ends = np.flatnonzero(active[:-1] & ~active[1:])
    starts = np.append(np.flatnonzero(active[1:] & ~active[:-1]), len(active) - 1)
    pauses = [(end, starts[starts > end][0]) for end in ends]
    return float(np.mean([recall[end] - recall[last] for end, last in pauses] or [np.nan]))


# ------------------------------------------------------------------------------------------ C6


@claim("C6", "Alignment erases what modalities do not share.", needs=[], of_tasks=False)
def erases(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """What ridge reads of private and of shared content, before tying and after.

    - Rows: R² read from modality embeddings of the parts of each modality's content that the other
      modalities do not predict (private) and that they do (shared), from untrained encoders and
      from trained ones; with fewer dimensions than content has, as `erasure` explains.
    - Statistics, paired by seed and as means over modalities: *erasure*, the fall of private R²;
      *selectivity*, erasure less the fall of shared R².
    - Margin: fixed in `locties_paper.erasure.verdict` after a pilot of one seed, never moved. The
      intervals of 95% and the rule of ten seeds followed two more trials of few seeds.
    - Changed after a verdict was seen: a first set of ten seeds, of 160 steps, said refuted. That
      was judged too short, and the runs that count have 1,000 steps, at ten other seeds.
    - Supported: both lower ends are above the margin (intersection-union).
    - Refuted: an upper end is below it (at 2.5% each, Bonferroni).
    """
    if tables.erasure.empty:
        raise Undecided("readings of content are missing")
    setting = _setting(tables.erasure)
    read = tables.erasure.query("source == 'modality' and part in ('private', 'shared')")
    found = erasure_verdict(read[read["stage"].isin(["before", "after"])])
    more = {"level": 0.95, "margin": ERASURE_MARGIN, "verdict": found.verdict}
    rows = {
        name: _row(name, "mean of modalities", statistic, found.intervals[name], found.n, **more)
        for name, statistic in (
            ("erasure", "fall of private R²"),
            ("selectivity", "fall of private R² less that of shared"),
        )
    }
    decisive = rows[found.decisive]
    return Outcome(_few(found.n), found.verdict, decisive, [*rows.values()], setting, "")


# ------------------------------------------------------------------------------------------ all


def read(folder: str | Path = "") -> Tables:
    """The tables in a folder of results.

    Args:
        folder: the published results where it is empty. Tables beside the runs' may be missing.

    Raises:
        FileNotFoundError: with what to run.
    """
    runs, histories = results.read(folder)
    folder = Path(folder) if folder else results.PUBLISHED

    def others(name: str) -> list[pd.DataFrame]:
        path = folder / f"{name}.parquet"
        return [pd.read_parquet(path)] if path.exists() else []

    return Tables(
        _filled(pd.concat([_filled(runs), *others("sweeps")], ignore_index=True)),
        pd.concat([histories, *others("sweeps_histories")], ignore_index=True),
        next(iter(others("scores_along")), runs.iloc[:0].assign(pairs=0)),
        next(iter(others("erasure")), runs.iloc[:0]),
    )


def _filled(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows with the columns that earlier tables lack."""
    usual: dict[str, Any] = {"tier": "embedded", "points_seed": 0}
    return runs.assign(
        **{name: runs[name].fillna(v) if name in runs else v for name, v in usual.items()}
    )


def verdicts(tables: Tables, margins: Mapping[Setting, float] | None = None) -> pd.DataFrame:
    """Judge every claim, on each tier that has rows; once where it reads no scores of tasks.

    Args:
        tables: of `read`.
        margins: of equivalence; by default those that `PILOTS` fixed.

    Returns:
        Columns claim, group, cell, verdict, statistic, value, low, high, level, n, margin, p,
        p_against, p_better, note, tier, profile, device. For each claim and tier first the row of
        group "overall", whose verdict is supported, refuted or undecided and whose numbers are
        those of the row that decides; then the rows behind it. ``p`` is of the test that would
        support the claim and ``p_against`` of the one that would refute it, corrected as the test
        says; ``p_better`` is of superiority. Rows that no test judges have an empty verdict.
    """
    if margins is None:
        margins = {pilot.setting: pilot.margin for pilot in PILOTS}
    runs, along, content = (_filled(t) for t in (tables.runs, tables.along, tables.erasure))
    judged = []
    for tier in dict.fromkeys(runs["tier"]):
        own = tables._replace(
            runs=runs[runs["tier"] == tier],
            along=along[along["tier"] == tier],
            erasure=content[content["tier"] == tier],
        )
        asked = [found for found in CLAIMS.values() if found.of_tasks or tier == "embedded"]
        judged += [judge(found, own, margins).assign(tier=tier) for found in asked]
    return pd.concat(judged, ignore_index=True)


def judge(which: Claim, tables: Tables, margins: Mapping[Setting, float]) -> pd.DataFrame:
    """The rows of one claim, as in `verdicts`; a mix of settings is undecided."""
    try:
        outcome = which.test(tables._replace(runs=_filled(tables.runs)), margins)
    except Undecided as why:
        nothing = Interval(np.nan, np.nan, np.nan)
        note = f"{why}; it takes {which.seeds} seeds of each run"
        overall = _row("overall", "", "", nothing, 0, verdict=UNDECIDED, note=note)
        setting, rows = Setting("", "", ""), []
    else:
        verdict = UNDECIDED if outcome.lacks else outcome.verdict
        decided_by = f"{outcome.decisive['group']}: {outcome.decisive['cell']}"
        notes = [*outcome.lacks, outcome.note, f"numbers of {decided_by}"]
        overall = outcome.decisive | {"group": "overall", "cell": "", "verdict": verdict}
        overall |= {"note": _joined(notes)}
        setting, rows = outcome.setting, outcome.rows
    table = pd.DataFrame([overall, *({"note": ""} | row for row in rows)])
    table.insert(0, "claim", which.name)
    return table.assign(**setting._asdict())


def write(folder: str | Path, to: str | Path) -> None:
    """Judge the tables in a folder and write the verdicts: `results/claims.parquet`."""
    results.write_table(verdicts(read(folder)), to)


if __name__ == "__main__":
    for tier, rows in _filled(read().runs).groupby("tier"):
        try:
            print(fix_margin(rows))
        except Undecided as why:
            print(f"{tier}: {why}")
