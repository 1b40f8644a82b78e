"""The page of downloads: every table, in both formats, and what it holds."""

import pandas as pd
import pytest

from locties_paper.site import downloads

RUNS = pd.DataFrame(
    {"encoder": ["melt", "Köln, xyz"], "seed": [0, 1], "value": [1 / 3, float("nan")]}
)


@pytest.fixture
def page(tmp_path):
    for folder in ("made", "published"):
        (tmp_path / folder).mkdir()
    RUNS.to_parquet(tmp_path / "made" / "runs.parquet", index=False)
    RUNS.assign(value=-1.0).to_parquet(tmp_path / "published" / "runs.parquet", index=False)
    RUNS.to_csv(tmp_path / "published" / "more.csv", index=False)
    downloads.write([tmp_path / "made", tmp_path / "published"], tmp_path / "book")
    return (tmp_path / "book" / "downloads.md").read_text()


def test_each_table_is_there_as_it_was(page, tmp_path):
    folder = tmp_path / "book" / downloads.FILES
    for name in ("runs", "more"):
        pd.testing.assert_frame_equal(pd.read_csv(folder / f"{name}.csv"), RUNS)
        pd.testing.assert_frame_equal(
            pd.read_parquet(folder / f"{name}.parquet"), RUNS, check_dtype=False
        )


def test_a_large_table_is_compressed_and_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "LARGE", 10)
    (tmp_path / "made").mkdir()
    RUNS.to_parquet(tmp_path / "made" / "runs.parquet", index=False)
    contents = []
    for book in ("once", "again"):
        downloads.write([tmp_path / "made"], tmp_path / book)
        contents.append((tmp_path / book / downloads.FILES / "runs.csv.gz").read_bytes())
        assert not (tmp_path / book / downloads.FILES / "runs.csv").exists()
    assert contents[0] == contents[1]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "once" / downloads.FILES / "runs.csv.gz"), RUNS
    )
