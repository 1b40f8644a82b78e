"""Write a module as an ONNX graph."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from locties._util.extras import require
from locties._util.files import written_aside


def export(module: nn.Module, example: Tensor, path: Path, names: tuple[str, str]) -> None:
    """Write `module` to `path`: from rows like those of `example`, any number of them, to rows.

    Args:
        names: of the module's argument, which is also the graph's input, and of its output.

    Raises:
        ValueError: torch has no ONNX operator for a step of the module.
    """
    require("onnx", "an ONNX graph", "onnx", "onnxscript")
    rows = torch.export.Dim("rows")
    try:
        with torch.no_grad(), _without_remarks():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes={names[0]: {0: rows}},
                input_names=names[:1],
                output_names=names[1:],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(
            f"{type(module).__name__} cannot be written as ONNX ({reason}): use the features and "
            "networks of locties, or torch.export.export"
        ) from error
    if program is None:  # torch's type says that it may be
        raise ValueError(f"torch made no ONNX graph of {type(module).__name__}")
    with written_aside(path) as aside:
        program.save(aside)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """In the block, torch does not list the packages that it can do without."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
