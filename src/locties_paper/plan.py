"""List what `make book` would do, and what it takes: `make plan`.

python -m locties_paper.plan CORES --config profile=laptop
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Job(NamedTuple):
    """A job to do: its notebook or rule, and the seconds of one core that it took before, or 0."""

    name: str
    seconds: float


class _Jobs(logging.Handler):
    """Collects the jobs of a dry run from snakemake's log records."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Job] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) == "job_info":
            job = record.__dict__
            name = (job["wildcards"] or {}).get("name", job["rule_name"])
            self.found.append(Job(name, dict(job["resources"]).get("seconds", 0)))


def jobs(config: Mapping[str, str], target: str = "book") -> list[Job]:
    """The jobs that snakemake would run for a target (a rule or file) in this folder. Runs nothing.

    `config` is what the Snakefile reads, such as ``{"profile": "smoke"}``. A fault in the Snakefile
    or its configuration is printed and ends the program.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.logging import logger
    from snakemake.settings import types

    collected = _Jobs()
    with SnakemakeApi() as api:
        for handler in logger.handlers:
            handler.setLevel(logging.ERROR)
        logger.addHandler(collected)
        try:
            workflow = api.workflow(
                types.ResourceSettings(cores=1),
                types.ConfigSettings(config=dict(config)),
            )
            dag = workflow.dag(types.DAGSettings(targets={target}, force_incomplete=True))
            dag.execute_workflow(
                executor="dryrun", execution_settings=types.ExecutionSettings(lock=False)
            )
        except Exception as error:
            api.print_exception(error)
            sys.exit(1)
        finally:
            logger.removeHandler(collected)
    return collected.found


def describe(planned: Sequence[Job], cores: int) -> str:
    """The jobs and their seconds, the longest first, as text.

    Example:
        >>> print(describe([Job("data", 0), Job("maps", 45), Job("pretrain", 75)], 2))
        pretrain 75 s, maps 45 s, data
        about 2.0 minutes of one core, 1.0 on 2
    """
    if not planned:
        return "nothing is left to do"
    jobs = sorted(planned, key=lambda job: -job.seconds)
    minutes = sum(job.seconds for job in jobs) / 60
    each = [f"{job.name} {job.seconds:.0f} s" if job.seconds else job.name for job in jobs]
    total = (
        f"about {minutes:.1f} minutes of one core, {minutes / cores:.1f} on {cores}"
        if minutes
        else "nobody measured what this profile takes"
    )
    return f"{', '.join(each)}\n{total}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("cores", type=int)
    parser.add_argument("--config", nargs="*", default=[])
    asked = parser.parse_args()
    print(describe(jobs(dict(pair.split("=", 1) for pair in asked.config)), asked.cores))
