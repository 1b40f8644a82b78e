"""List what the pipeline would do, and its cost: `make plan`.

python -m locties_paper.plan CORES --config profile=laptop sweep=claims
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from locties_paper.cost import Cost


class Job(NamedTuple):
    """A job to do: its rule, and its cost from the Snakefile."""

    rule: str
    cost: Cost


class _Jobs(logging.Handler):
    """Collects the jobs of a dry run from snakemake's log records."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Job] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) == "job_info":
            resources = dict(record.__dict__["resources"])
            named = {name: resources[name] for name in Cost._fields if name in resources}
            self.found.append(Job(record.__dict__["rule_name"], Cost(**{"seconds": 0, **named})))


def jobs(config: Mapping[str, str], target: str = "results") -> list[Job]:
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
    """Jobs, pairs, steps, floating-point operations and hours, as text.

    Example:
        >>> print(describe([Job("pretrain", Cost(5400, 1000, 10, 2000)), Job("data", Cost(0))], 2))
        2 jobs: pretrain 1, data 1
        1,000 pairs in 10 steps, 2.0 TFLOP
        about 1.5 hours of one core, 0.8 on 2
    """
    if not planned:
        return "nothing is left to do"
    rules = pd.Series([job.rule for job in planned]).value_counts(sort=False)
    total = Cost(*(sum(values) for values in zip(*(job.cost for job in planned), strict=True)))
    hours = total.seconds / 3600
    return "\n".join(
        [
            f"{len(planned)} jobs: " + ", ".join(f"{rule} {n}" for rule, n in rules.items()),
            f"{total.pairs:,} pairs in {total.steps:,} steps, {total.gigaflops / 1000:,.1f} TFLOP",
            f"about {hours:.1f} hours of one core, {hours / cores:.1f} on {cores}",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("cores", type=int)
    parser.add_argument("--config", nargs="*", default=[])
    asked = parser.parse_args()
    print(describe(jobs(dict(pair.split("=", 1) for pair in asked.config)), asked.cores))
