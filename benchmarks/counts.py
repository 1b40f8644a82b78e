"""Count the floating-point operations of matrix products and the bytes moved in a step."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Step = Callable[[], object]


class Counts(NamedTuple):
    """What one step does.

    Attributes:
        flops: floating-point operations of its matrix products, by dtype.
        moved: bytes that its operations read and write.
        operations: number of operations that move bytes.
    """

    flops: dict[str, int]
    moved: int
    operations: int


class _Counter(TorchDispatchMode):
    """Counts as operations run. Views and allocations move no bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.moved = self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if (formula := flop_registry.get(function._overloadpacket)) is not None:
            kind = str(given[0].dtype).removeprefix("torch.")
            self.flops[kind] += formula(*args, **(kwargs or {}), out_val=result)
        owned = {x.untyped_storage().data_ptr() for x in given}
        mutates = any(a.alias_info and a.alias_info.is_write for a in function._schema.arguments)
        is_view = (
            made and not mutates and all(x.untyped_storage().data_ptr() in owned for x in made)
        )
        if made and not is_view and "empty" not in function.__name__:
            self.moved += sum(x.numel() * x.element_size() for x in given + made)
            self.operations += 1
        return result


def count(step: Step) -> Counts:
    """Count one call of `step`, on whichever device it runs."""
    with _Counter() as counter:
        step()
    return Counts(dict(counter.flops), counter.moved, counter.operations)
