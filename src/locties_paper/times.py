"""Show where the time of `make book` went: ``python -m locties_paper.times PROFILE``.

With ``--keep`` the times also replace those of the profile in ``results/book_times.csv``, which
`make plan` reads.
"""

import argparse
from pathlib import Path

import pandas as pd

from locties._util.files import written_aside
from locties_paper.results import PUBLISHED_ROWS

KEPT = PUBLISHED_ROWS / "book_times.csv"


def taken(profile: str, build: Path = Path("_build")) -> pd.DataFrame:
    """The times of a profile's last build, the longest first.

    Columns profile, notebook, seconds (by the clock) and cpu_seconds (of all cores).
    """
    rows = [
        (profile, path.stem, *map(float, path.read_text().split(",")))
        for path in (build / profile / "times").glob("*.csv")
    ]
    table = pd.DataFrame(rows, columns=["profile", "notebook", "seconds", "cpu_seconds"])
    return table.sort_values("seconds", ascending=False, ignore_index=True)


def keep(table: pd.DataFrame, to: Path = KEPT) -> None:
    """Replace a profile's rows in the table of times."""
    kept = pd.read_csv(to)
    others = kept[~kept["profile"].isin(table["profile"])]
    with written_aside(to) as aside:
        pd.concat([others, table]).to_csv(aside, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("profile")
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    found = taken(asked.profile)
    print(found.drop(columns="profile").to_string(index=False))
    if asked.keep:
        keep(found)
