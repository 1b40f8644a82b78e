"""C6: does alignment erase what modalities do not share?"""

from collections.abc import Mapping

from locties_paper.effects.evidence import Setting, Tables, Undecided, missing_seeds, setting_of
from locties_paper.effects.judging import Claim, Outcome, result_row
from locties_paper.erasure.verdict import MARGIN, verdict


def erases(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """What ridge reads of private and of shared content, before alignment and after.

    - Rows: R² read from modality embeddings. *Private* is the part of a modality's content that the
      other modalities do not predict; *shared* is the part that they do. Encoders are untrained or
      trained, and have fewer dimensions than content has.
    - Statistics, paired by seed, as means over modalities: *erasure* is the fall of private R²;
      *selectivity* is erasure minus the fall of shared R².
    - Margin: fixed after a pilot of one seed, in `locties_paper.erasure.verdict`, and never moved.
      The 95% intervals and the rule of ten seeds came later, after two more trials of few seeds.
    - Changed after a verdict was seen: the first ten seeds, with runs of 160 steps, gave *refuted*.
      We judged these runs too short. The runs that count have 1,000 steps and ten other seeds.
    - Supported: both lower ends are above the margin (intersection-union).
    - Refuted: an upper end is below the margin (at 2.5% each, Bonferroni).
    """
    if tables.erasure.empty:
        raise Undecided("readings of content are missing")
    setting = setting_of(tables.erasure)
    read = tables.erasure.query("source == 'modality' and part in ('private', 'shared')")
    found = verdict(read[read["stage"].isin(["before", "after"])])
    more = {"level": 0.95, "margin": MARGIN, "verdict": found.verdict}
    rows = {
        name: result_row(
            name, "mean of modalities", statistic, found.intervals[name], found.n, **more
        )
        for name, statistic in (
            ("erasure", "fall of private R²"),
            ("selectivity", "fall of private R² less that of shared"),
        )
    }
    decisive = rows[found.decisive]
    return Outcome(missing_seeds(found.n), found.verdict, decisive, [*rows.values()], setting, "")


CLAIM = Claim(
    "C6",
    "Alignment erases what modalities do not share.",
    needs=lambda _: (),
    test=erases,
    of_tasks=False,
)
