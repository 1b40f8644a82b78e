"""The command line, and the commands that messages propose, as tests run them."""

import shlex
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from locties.cli import app


def run(*arguments: str | Path, **options: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def run_here(command: str) -> None:
    """Run a message's `python -c` command in this process: a new one takes half a second."""
    *python, code = shlex.split(command)
    assert python == ["python", "-c"]
    exec(code, {})


def start(*arguments: str | Path) -> subprocess.Popen:
    """The real thing, in a process of its own."""
    code = "import sys; from locties.cli import app; sys.argv[0] = 'locties'; app()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, **pipes)
