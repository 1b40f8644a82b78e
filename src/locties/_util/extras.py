"""Packages that only a part of locties needs, and the one error where one of them is missing."""

from importlib import import_module
from typing import Any


def need(module: str, what: str, extra: str) -> Any:
    """Import a module of an optional extra.

    Args:
        module: to import.
        what: needs it; begins the message.
        extra: that brings it.

    Raises:
        ImportError: it is not there; the message says what to install.

    Example:
        >>> need("no_such_module", "a map of the moon", "moon")
        Traceback (most recent call last):
        ImportError: a map of the moon needs no_such_module: pip install "locties[moon]"
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'{what} needs {module}: pip install "locties[{extra}]"') from error
