"""The error for a name that is not known, and checks of numbers."""

import pytest

from locties._util.registry import Registry, check_counts, check_options, check_seed, unknown


@pytest.mark.parametrize("name", ["Siren", "SIREN", "sirne", "SIRNE", "siren "])
def test_a_name_is_suggested_whatever_its_case(name):
    assert f"{name!r}: did you mean 'siren'?" in str(unknown("network", name, ["mlp", "siren"]))


def test_a_known_name_is_suggested_as_it_is_written():
    registry = Registry("model", SatCLIP=1, melt=2)
    with pytest.raises(ValueError, match="did you mean 'SatCLIP'"):
        registry["satclip"]


@pytest.mark.parametrize("name", ["zzz", None, 5, ""])
def test_a_name_like_no_other_lists_all(name):
    error = str(unknown("network", name, ["siren", "mlp"]))
    assert "did you mean" not in error
    assert "Known: mlp, siren." in error


def test_keywords_that_a_function_only_hands_on_are_no_options():
    with pytest.raises(ValueError, match=r"option of xyz 'args'.*Known: size\."):
        check_options(lambda size, *args, **kwargs: None, {"args": 1}, "xyz")


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "1", None, float("nan"), [1]])
def test_what_is_no_count_is_named(count):
    with pytest.raises(ValueError, match=r"dim is .* at least 1"):
        check_counts(dim=count)


@pytest.mark.parametrize("seed", [1.0, True, "0", None, 2**64, -(2**63) - 1])
def test_what_is_no_seed_is_named(seed):
    with pytest.raises(ValueError, match="seed is "):
        check_seed(seed)
    check_seed(2**64 - 1)
    check_seed(-(2**63))
