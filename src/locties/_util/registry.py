"""Names and counts that users choose, and the error for a wrong one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def unknown(what: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for an unknown name: it gives the nearest known name, and all of them.

    Example:
        >>> print(unknown("network", "sirne", ["mlp", "siren"]))
        unknown network 'sirne': did you mean 'siren'? Known: mlp, siren.
    """
    known = sorted(known)
    lower = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(str(name).casefold(), lower, n=1)
    hint = f": did you mean {lower[near[0]]!r}?" if near else "."
    return ValueError(f"unknown {what} {name!r}{hint} Known: {', '.join(known) or 'none'}.")


class Registry(dict[str, Any]):
    """A dict from name to class or factory; an unknown name raises ValueError with a suggestion.

    Extending locties is one assignment: ``FEATURES["mine"] = MyFeature``.

    Args:
        what: what an entry is called in an error, such as "network".
        entries: by name.

    Example:
        >>> shapes = Registry("shape", circle=1)
        >>> shapes["circl"]
        Traceback (most recent call last):
        ValueError: unknown shape 'circl': did you mean 'circle'? Known: circle.
    """

    def __init__(self, what: str, **entries: Any) -> None:
        super().__init__(**entries)
        self.what = what

    def __missing__(self, name: object) -> Any:
        raise unknown(self.what, name, self)


def check_options(function: Callable[..., Any], options: Mapping[str, Any], what: str) -> None:
    """Raise ValueError for the first of `options` that is not a keyword of `function`."""
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for option in options:
        if option not in known:
            raise unknown(f"option of {what}", option, known)


def check_choice(what: str, name: object, known: Collection[str]) -> None:
    """Raise ValueError if `name` is not one of the `known`."""
    if not isinstance(name, str) or name not in known:
        raise unknown(what, name, known)


def check_counts(**counts: object) -> None:
    """Raise ValueError for the first of `counts` that is not a whole number of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; pass a whole number of at least 1.")


def check_seed(seed: object) -> None:
    """Raise ValueError if torch does not accept `seed`."""
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not whole or not -(2**63) <= int(seed) < 2**64:  # type: ignore[call-overload]
        raise ValueError(f"seed is {seed!r}; pass a whole number of at most 64 bits.")


def split_names(text: str) -> list[str]:
    """Split a parameter such as "imagery, rain" into its names.

    Example:
        >>> split_names("imagery, rain")
        ['imagery', 'rain']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def device_of(name: str) -> torch.device:
    """The torch device of a name; "auto" takes a GPU if there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise unknown("device", name, ["auto", "cpu", "cuda"]) from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}, but there is no GPU here: pass 'auto' or 'cpu'")
    return chosen
