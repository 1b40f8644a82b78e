"""Packages that only a part of locties needs, and the one error where one of them is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Name the extra to install where an import inside fails.

    Args:
        extra: brings what is imported; several are joined by commas.
        what: needs it; begins the message.

    Example:
        >>> with needs("moon", "a map of the moon"):
        ...     import no_such_module
        Traceback (most recent call last):
        ModuleNotFoundError: a map of the moon needs no_such_module: pip install "locties[moon]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f'{what} needs {error.name}: pip install "locties[{extra}]"'
        raise ModuleNotFoundError(message, name=error.name) from error


def need(module: str, what: str, extra: str) -> Any:
    """Import a module of an optional extra, as `needs` does."""
    with needs(extra, what):
        return import_module(module)
