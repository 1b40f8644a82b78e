"""What several test files share."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Several test processes share the machine's cores; one thread each is faster for all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import locties
from locties.data import embedded

torch.set_num_threads(1)


class _Sizes(TorchDispatchMode):
    """Within it, `bytes` gathers the sizes in memory of what operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.bytes.add(leaf.untyped_storage().nbytes())
        return result


@pytest.fixture
def tensor_sizes() -> type[_Sizes]:
    return _Sizes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that gives a folder so many bytes in all; called again, it changes how many."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def room(size: int) -> Path:
        options = f"size={size}" + (",remount" if folder.is_mount() else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            pytest.skip(f"no folder of limited size can be mounted here: {said.strip()}")
        return folder

    yield room
    if folder.is_mount():
        # Lazily: a file of it that is still mapped into memory would be in the way.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def signals() -> Iterator[None]:
    """SIGINT and SIGHUP act as in a terminal.

    What a shell starts in the background ignores the one, and what nohup starts the other. So would
    the processes that a test starts.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def interrupted(signals: None) -> Callable[..., str]:
    """A function that has work done in another process, and sends that a SIGINT once it has begun.

    It returns what the KeyboardInterrupt said, or the text that the work made of it.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork")
    processes = multiprocessing.get_context("fork")  # imports take longer than the work

    def interrupt(work: Callable[[], object], begun: Callable[[], bool]) -> str:
        here, there = processes.Pipe(duplex=False)

        def child() -> None:
            try:
                done = work()
                text = isinstance(done, str)
                there.send(done if text else "nothing: it was done before the interrupt")
            except KeyboardInterrupt as said:
                there.send(str(said))

        process = processes.Process(target=child, daemon=True)
        process.start()
        there.close()  # so that its end is seen here
        end = time.monotonic() + 60
        while not begun():
            assert process.is_alive(), "it ended before it had begun"
            assert time.monotonic() < end, "it did not begin within a minute"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        assert here.poll(60), "it went on after the interrupt"
        process.join()
        return here.recv()

    return interrupt


def _no_kriging() -> Iterator[None]:
    """`fit_map` leaves out kriging, which takes most of its time."""
    from locties.mapping import fit

    tried = fit.candidates
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "candidates", lambda *e: [c for c in tried(*e) if c.probe != "kriging"])
        yield


no_kriging = pytest.fixture(_no_kriging)
no_kriging_in_module = pytest.fixture(scope="module")(_no_kriging)


@pytest.fixture(scope="session")
def earth() -> embedded.Earth:
    """The embedded tier from the normal cache, which is built if it is not there yet."""
    return embedded.load()


@pytest.fixture
def registries() -> Iterator[list[dict]]:
    """The five registries; what a test adds to them is gone after it."""
    names = ("FEATURES", "NETWORKS", "OBJECTIVES", "MODALITIES", "TASKS")
    found = [getattr(locties, name) for name in names]
    before = [dict(registry) for registry in found]
    yield found
    for registry, old in zip(found, before, strict=True):
        registry.clear()
        registry.update(old)
