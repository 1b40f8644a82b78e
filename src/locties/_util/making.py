"""New tensors and random numbers that do not depend on the state of the process."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MAKERS = {
    getattr(torch, name)
    for name in (
        *("empty", "zeros", "ones", "full", "eye", "tensor", "as_tensor", "scalar_tensor"),
        *("arange", "linspace", "logspace", "rand", "randn", "randint", "randperm"),
    )
}
# They draw from torch's own random state if no generator is passed.
_DRAWING = (
    *("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"),
    *("uniform_", "normal_", "bernoulli_", "random_", "exponential_", "cauchy_", "log_normal_"),
    "geometric_",
)


class Making(TorchFunctionMode):
    """In the block, new tensors are float32 on one device and random numbers come from a seed.

    torch's own random state, default dtype and default device belong to the whole process, so
    other threads use them too. They are neither read nor changed here.

    Args:
        seed: gives the same random numbers as ``torch.manual_seed(seed)`` would.
        device: where new tensors lie if a call names no device. On "meta" they take no memory.
        most: raise ValueError when more tensors than this are made.

    Example:
        >>> with Making(seed=0):
        ...     made = torch.rand(2)
        >>> torch.equal(made, torch.rand(2, generator=torch.Generator().manual_seed(0)))
        True
    """

    def __init__(self, seed: int, device: str = "cpu", most: int | None = None) -> None:
        super().__init__()
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.device, self.most, self.made = device, most, 0

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if function in _MAKERS:
            self.made += 1
            if self.most is not None and self.made > self.most:
                raise ValueError(f"they make more than {self.most} tensors")
            if options.get("device") is None:
                options["device"] = self.device
            if options.get("dtype") is None and _takes_default_dtype(function, args, options):
                options["dtype"] = torch.float32
        name = getattr(function, "__name__", "")
        if name in _DRAWING or "generator" in options:
            if self.device == "meta" and name.endswith("_"):
                # There is nothing to fill. torch 2.10 would import for two seconds to do so.
                return args[0] if args else options["tensor"]
            if options.get("generator") is None and self.device == "cpu":
                options["generator"] = self.generator
        return function(*args, **options)


def _takes_default_dtype(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> bool:
    """Whether `function` would make real numbers of torch's default dtype."""
    if any(hasattr(value, "dtype") for value in (*args, *options.values())):
        return False
    options = {name: value for name, value in options.items() if name != "generator"}
    return bool(function(*args, **options | {"device": "meta"}).is_floating_point())
