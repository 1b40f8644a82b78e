"""Months as numbers and dates, and their cyclic features."""

import numpy as np
import pandas as pd
import torch

from locties.month import MONTHS, check, cyclic


def test_numbers_and_dates_are_read_alike() -> None:
    expected = torch.tensor([1, 12, 7])
    for given in (
        [1, 12, 7],
        (1.0, 12.0, 7.0),
        np.array([1, 12, 7], np.int8),
        torch.tensor([1, 12, 7], dtype=torch.int32),
        pd.Series(pd.to_datetime(["2024-01-31", "1969-12-01", "2000-07-15"])),
        np.array(["1900-01", "1969-12", "2024-07"], "datetime64[M]"),
    ):
        assert check(given, 3).equal(expected)


def test_months_are_evenly_spaced_around_the_year() -> None:
    features = cyclic(torch.arange(1, 13))
    assert len(MONTHS) == len(features)
    steps = (features - features.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand(12))
    assert len(torch.unique(features.round(decimals=4), dim=0)) == 12
    torch.testing.assert_close(features.mean(0), torch.zeros(4), atol=1e-6, rtol=0)
