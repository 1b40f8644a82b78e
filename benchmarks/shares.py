"""Divide the time of a step among its parts, by torch's profiler."""

from collections import Counter
from collections.abc import Callable

import pandas as pd
import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.profiler import ProfilerActivity, profile, record_function

from locties.features import SphericalHarmonics

PRODUCTS = {"aten::mm", "aten::addmm"}
STEP, HARMONICS = "a step", "its harmonics"
WITHIN = {HARMONICS: "harmonics", "_NTXent": "loss", "Optimizer.step#AdamW.step": "optimiser"}


def part_of(event: FunctionEvent) -> str:
    """The part an event belongs to: the innermost range of `WITHIN` around it, else encoders."""
    name, around = event.name, event
    while around is not None and around.name not in WITHIN:
        around = around.cpu_parent
    part = WITHIN[around.name] if around is not None else "encoders"
    if part in ("loss", "encoders"):
        part += ", products" if name in PRODUCTS else ", the rest"
    return part


def milliseconds(step: Callable[[], object], steps: int = 10) -> pd.Series:
    """Milliseconds of one step by part, largest first. The profiler slows small operations.

    "Between operations" is the time outside operations: Python, and the profiler.
    """
    ranges = []

    def begin(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, SphericalHarmonics):
            ranges.append(record_function(HARMONICS))
            ranges[-1].__enter__()

    def end(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, SphericalHarmonics):
            ranges.pop().__exit__(None, None, None)

    hooks = [register_module_forward_pre_hook(begin), register_module_forward_hook(end)]
    try:
        for _ in range(3):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(steps):
                with record_function(STEP):
                    step()
    finally:
        for hook in hooks:
            hook.remove()
    parts: Counter[str] = Counter()
    for event in seen.events():
        part = "between operations" if event.name == STEP else part_of(event)
        parts[part] += event.self_cpu_time_total / 1000 / steps
    return pd.Series(parts).sort_values(ascending=False)
