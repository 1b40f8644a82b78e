"""Import optional packages, or name the extra to install."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """If an import inside the block fails, name the extra to install.

    Args:
        extra: the extra that installs the package; commas join several.
        what: what needs the package; the message begins with it.

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


def require(extra: str, what: str, *modules: str) -> None:
    """Raise the error of `needs` now if a module that is imported later is missing."""
    with needs(extra, what):
        for module in modules:
            if find_spec(module) is None:
                raise ModuleNotFoundError(name=module)


def need(module: str, what: str, extra: str) -> Any:
    """Import a module of an optional extra, or raise the error of `needs`."""
    with needs(extra, what):
        return import_module(module)
