# The pipeline of the book: data -> notebooks -> site. `make book` calls it.
# A failed job is tried once more. A run resumes from its checkpoint, which is not an output.
# Snakemake reads this file again in each job, so modules that need torch are imported where used.
import csv
import json
from ast import literal_eval
from glob import glob
from pathlib import Path

import yaml
from papermill import inspect_notebook

from locties._util.registry import unknown
from locties_paper.dependencies import code_cells, digest
from locties_paper.site.notebook import check_parameters

with open("experiments.yaml") as file:
    PROFILES = yaml.safe_load(file)

PROFILE = config.get("profile", "laptop")
if PROFILE not in PROFILES:
    raise unknown("profile", PROFILE, PROFILES)
OUT = f"_build/{PROFILE}"
RUN, ENCODER, SCORES = f"{OUT}/run", f"{OUT}/run/encoder", f"{OUT}/scores.parquet"
NOTEBOOKS = sorted(Path(path).stem for path in glob("book/*.ipynb"))

# The run of the page on pretraining is the one that these pages score and show.
GIVEN = {
    "pretrain": {"output": RUN},
    "evaluate": {"encoder": ENCODER, "name": "melt", "output": SCORES},
    "maps": {"encoder": ENCODER},
    "errors": {"encoder": ENCODER},
}
# Modules that only draw or print: a change there repeats no training and no scoring. Nor does a
# change of scores repeat a training.
SHOWN = ["locties.maps", "locties_paper.figures", "locties_paper.site"]
SCORED = [*SHOWN, "locties.evaluation"]

# What each notebook took, by profile: `python -m locties_paper.times` keeps it.
with open("results/book_times.csv") as file:
    SECONDS = {
        row["notebook"]: round(float(row["cpu_seconds"]))
        for row in csv.DictReader(file)
        if row["profile"] == PROFILE
    }


def code(name, without=()):
    """A hash of the code behind a notebook or module, without comments."""
    path = name if "." in name else f"book/{name}.ipynb"
    return digest(path, without=without, root=Path("src"))


def parameters(name):
    """The values as papermill's -y argument. A wrong parameter stops all work."""
    known = inspect_notebook(f"book/{name}.ipynb")
    defaults = {key: literal_eval(parameter["default"]) for key, parameter in known.items()}
    values = PROFILES[PROFILE].get(name, {}) | GIVEN.get(name, {})
    check_parameters(defaults, values, f"parameter of {name}.ipynb")
    return json.dumps(values)


def reads(name):
    """The run of `pretrain`, if a notebook is given it, and the published tables that it reads."""
    source = "\n".join(code_cells(f"book/{name}.ipynb"))
    tables = sorted(glob("results/*"))
    named = [path for path in tables if Path(path).name in source]
    if "PUBLISHED_ROWS" in source and ("PUBLISHED_ROWS.glob" in source or not named):
        named = tables  # it reads whatever there is
    return [ENCODER] * ("encoder" in GIVEN.get(name, {})) + named


PARAMETERS = {name: parameters(name) for name in NOTEBOOKS}
# It keeps its time in seconds, of the clock and of a processor.
PAPERMILL = """
TIMEFORMAT='%R,%U'
{{ time papermill {input.notebook} {output.notebook} --no-progress-bar -y {params.values:q} \
    >> {log} 2>&1; }} 2> {output.time}
"""


onerror:  # an interrupt too
    print("Finished jobs and the last state of each training are kept: the same command resumes.")


wildcard_constraints:
    name="[a-z_]+",


ruleorder: pretrain > evaluate > notebook
localrules: book, pdf


# Snakemake compares each job's params, so a job runs again when its code has changed. Notebooks are
# `ancient`: a newer one with the same code does not run again.
rule datasets:
    output: "_build/data.txt"
    params: code=code("locties.data.embedded")
    retries: 1
    shell: "locties data build > {output}"


rule pretrain:
    input: data="_build/data.txt", notebook=ancient("book/pretrain.ipynb")
    output:
        directory(ENCODER),
        notebook=f"{OUT}/book/pretrain.ipynb",
        history=f"{RUN}/history.parquet",
        settings=f"{RUN}/settings.json",
        time=f"{OUT}/times/pretrain.csv",
    params: values=PARAMETERS["pretrain"], code=code("pretrain", without=SCORED)
    resources: seconds=SECONDS.get("pretrain", 0)
    priority: 1  # others wait for it
    retries: 1
    log: f"{OUT}/logs/pretrain.log"
    shell: PAPERMILL


rule evaluate:
    input: ENCODER, data="_build/data.txt", notebook=ancient("book/evaluate.ipynb")
    output:
        notebook=f"{OUT}/book/evaluate.ipynb",
        table=SCORES,
        time=f"{OUT}/times/evaluate.csv",
    params: values=PARAMETERS["evaluate"], code=code("evaluate", without=SHOWN)
    resources: seconds=SECONDS.get("evaluate", 0)
    retries: 1
    log: f"{OUT}/logs/evaluate.log"
    shell: PAPERMILL


rule notebook:
    input:
        lambda wildcards: reads(wildcards.name),
        data="_build/data.txt",
        notebook=ancient("book/{name}.ipynb"),
    output: notebook=f"{OUT}/book/{{name}}.ipynb", time=f"{OUT}/times/{{name}}.csv"
    params:
        values=lambda wildcards: PARAMETERS[wildcards.name],
        code=lambda wildcards: code(wildcards.name),
    resources: seconds=lambda wildcards: SECONDS.get(wildcards.name, 0)
    retries: 1
    log: f"{OUT}/logs/{{name}}.log"
    shell: PAPERMILL


# Text and captions come from book/, outputs from the executed notebooks.
rule book:
    input:
        "_config.yml", "_toc.yml", "book/references.bib", glob("book/_static/*"), glob("results/*"),
        glob("src/**/*.py", recursive=True),  # the API reference comes from their docstrings
        glob("book/*.md"), glob("book/*.ipynb"),
        expand(f"{OUT}/book/{{name}}.ipynb", name=NOTEBOOKS),
    output: "_build/html/index.html", time=f"{OUT}/times/site.csv"
    resources: seconds=SECONDS.get("site", 0)
    log: f"{OUT}/logs/site.log"
    shell:
        """
        TIMEFORMAT='%R,%U'
        {{ time python -m locties_paper.site.build {OUT}/book _build/html > {log} 2>&1; }} \
            2> {output.time} || {{ cat {log}; exit 1; }}
        """


# The same stage as one page, printed by a headless Chromium: make pdf.
rule pdf:
    input: rules.book.output, glob("src/locties_paper/site/*")
    output: "_build/locties.pdf"
    log: f"{OUT}/logs/pdf.log"
    shell:
        """
        rm -rf _build/stage/_build/singlehtml
        jupyter-book build _build/stage --builder singlehtml \
            -W -n --keep-going > {log} 2>&1 || {{ cat {log}; exit 1; }}
        python -m locties_paper.site.pdf \
            _build/stage/_build/singlehtml/book/introduction.html _build/html {output}
        """
