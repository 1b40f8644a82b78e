"""Numbers that stand for "missing": found where they are far off, and only there."""

import warnings

import numpy as np
import pytest

from locties.apply.suspicious import suspicious_values

RNG = np.random.default_rng(0)
PH = RNG.normal(6.5, 1, 60).round(2)
ELEVATION = np.append(RNG.lognormal(5.5, 1.2, 58).round(), [-30, -30])
POPULATION = RNG.lognormal(8, 2, 60).round()
KELVIN = RNG.uniform(250, 300, 60)
SMALLEST = float(np.finfo(np.float32).min)
CODES = [-9999, -99999, -999, -99.9, -99, 9999.9, 999.9, 99999, -8888, -32768, 32767, 65535]
CODES += [-(2**31), 2**31 - 1, SMALLEST, -SMALLEST, 1e20, -1e20, 1e30, 9.96921e36, -1e10, -1.7e308]


def with_code(values: np.ndarray, code: float, every: int) -> np.ndarray:
    return np.where(np.arange(len(values)) % every == 0, code, values)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("every", [10, 60])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_a_code_far_off_is_found_with_its_rows(code: float, every: int, dtype: str) -> None:
    if abs(code) > 1e300 and dtype == "f4":
        pytest.skip("no float32")
    values = with_code(PH, code, every).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [(value, rows)] = suspicious_values(values)
    assert np.float32(value) == np.float32(code) if dtype == "f4" else value == code
    assert rows.nonzero()[0].tolist() == list(range(0, 60, every))


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (ELEVATION, -9999),
        (ELEVATION, -32768),
        (POPULATION, -9999),
        (POPULATION, -99),
        (KELVIN, 0),
        (KELVIN, -28672),
        (RNG.integers(0, 3, 60), 255),
        (RNG.integers(0, 255, 60).astype("u2"), 65535),
    ],
)
def test_repeated_codes_of_other_quantities_are_found(values: np.ndarray, code: float) -> None:
    assert [value for value, _ in suspicious_values(with_code(values, code, 10))] == [code]


@pytest.mark.parametrize(
    "values",
    [
        PH,
        ELEVATION,
        POPULATION,
        KELVIN,
        RNG.integers(0, 256, 1000),
        RNG.integers(0, 2, 60) * 255,
        np.maximum(RNG.normal(0, 20, 200), 0),  # rain: half of it is zero
        np.minimum(RNG.lognormal(0, 1, 200), 9.9),  # censored at an upper limit
        RNG.uniform(0, 120, 200).round(),  # holds 66, 77, 88 and 99
        np.append(PH, 14.0),
        np.full(20, -9999.0),
        np.array([]),
        np.array([np.nan, np.inf, -np.inf]),
        np.array([1.5, 9999.0]),
    ],
)
def test_measurements_are_left_alone(values: np.ndarray) -> None:
    assert suspicious_values(values) == []


def test_several_codes_in_an_array_with_gaps() -> None:
    bands = np.ma.masked_invalid(PH.reshape(2, 5, 6).copy())
    bands[0, 0, :2], bands[1, 4, 3:5], bands[0, 1, 1] = -9999, -8888, np.nan
    bands[0, 2, 2] = np.ma.masked
    found = suspicious_values(bands)
    assert [(value, rows.shape, rows.sum()) for value, rows in found] == [
        (-9999, (2, 5, 6), 2),
        (-8888, (2, 5, 6), 2),
    ]
