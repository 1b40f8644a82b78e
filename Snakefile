# The pipeline: data -> runs -> tables -> chapters -> site. `make book` and `make results` call it.
# A failed job is tried once more. A run resumes from its checkpoint, which is not an output.
# Snakemake reads this file again in each job, so modules that need torch are imported where used.
import json
from ast import literal_eval
from functools import cache
from glob import glob
from importlib.util import find_spec
from pathlib import Path

import yaml
from papermill import inspect_notebook

from locties._util.registry import split_names, unknown
from locties.data import manifest
from locties_paper import cost, study
from locties_paper.dependencies import digest
from locties_paper.site.notebook import check_parameters

with open("experiments.yaml") as file:
    STUDY = yaml.safe_load(file)

PROFILE = config.get("profile", "laptop")
if PROFILE not in STUDY["profiles"]:
    raise unknown("profile", PROFILE, STUDY["profiles"])
SETTINGS = STUDY["profiles"][PROFILE]
OUT = f"_build/{PROFILE}"

TIER = config.get("tier", "embedded")
TIERS = {source.tier for source in manifest.sources()}
if TIER not in TIERS:
    raise unknown("tier", TIER, TIERS)
if TIER != "embedded":
    # Nothing is downloaded here. A missing file stops all work, and the error says what to run.
    for _, fault in manifest.verify(TIER):
        if fault:
            raise WorkflowError(fault)
# Always score the embedded tier, which was used to choose the runs.
JUDGED = list(dict.fromkeys(["embedded", TIER]))

RUNS = study.runs(STUDY, PROFILE)
# KNOWN has every run, ASKED those of the sweeps requested: make results SWEEP=claims.
KNOWN = RUNS | study.runs(STUDY, PROFILE, "all")
SWEEP = config.get("sweep") or ""
UNTRAINED = [f"untrained-{seed}" for seed in SETTINGS["seeds"]]
BASELINES = [f"{name}-0" for name in STUDY["baselines"]]
PEERS = [f"{name}-0" for name in STUDY["peers"] if find_spec(name)]
SATCLIP = config.get("satclip", "")
if SATCLIP:
    PEERS.append("satclip-0")
EVALUATED = [*RUNS, *UNTRAINED, *PEERS, *BASELINES]
ASKED = list(study.runs(STUDY, PROFILE, SWEEP)) if SWEEP else EVALUATED
PAGE = f"{STUDY['page']}-{SETTINGS['seeds'][0]}"
CHAPTERS = {
    **{name: SETTINGS[name] for name in
       ("tour", "explorer", "data", "tasks", "leakage", "encoders", "retrieval", "use",
        "map", "own_data", "paper")},
    "erasure": {**SETTINGS["erasure"], "profile": PROFILE,
                "output": f"{OUT}/results/erasure.parquet"},
    "errors": {"encoder": f"{OUT}/runs/{PAGE}/encoder", "name": STUDY["page"], **SETTINGS["errors"]},
    "factors": {},
    "better": SETTINGS["better"],
    "peers": {},
    "ranking": {},
    "models": {},
    "command_line": {},
    "performance": {},
    "results": {},
    "claims": {},
    "reproducibility": {"results": f"{OUT}/results"},
}
PAGES = [path.removeprefix("book/") for path in glob("book/*.md")]

# Modules that only draw or print: a change there repeats no training and no scoring.
SHOWN = ["locties.maps", "locties_paper.figures", "locties_paper.site"]


def code(*start, without=()):
    """A hash of the code behind notebooks (by name) and modules, without comments."""
    paths = [each if "." in each else f"book/{each}.ipynb" for each in start]
    return digest(*paths, without=without, root=Path("src"))


@cache
def defaults(notebook):
    known = inspect_notebook(f"book/{notebook}.ipynb")
    return {name: literal_eval(parameter["default"]) for name, parameter in known.items()}


def parameters(notebook, values):
    """The values as papermill's -y argument. A wrong parameter stops all work."""
    check_parameters(defaults(notebook), values, f"parameter of {notebook}.ipynb")
    return json.dumps(values)


PRETRAIN = {
    run: parameters("pretrain", {**values, "output": f"{OUT}/runs/{run}"})
    for run, values in KNOWN.items()
}


def encoder_folder(run):
    """The folder of a run's encoder, or None for a function that needs no folder."""
    if run in BASELINES or run == "geoclip-0":
        return None
    return f"{OUT}/runs/{run}/encoder"


def evaluation(run, tier):
    """The parameters for evaluating one run on one tier."""
    name, _, seed = run.rpartition("-")
    # An embedding of all layers gets nothing appended, but it competes with others that do.
    appends = run not in BASELINES and KNOWN.get(run, {}).get("readout") != "layers"
    return {
        "encoder": encoder_folder(run) or name,
        "name": name,
        "seed": int(seed),
        "tier": tier,
        "appended": ",".join(STUDY["appended"]) if appends else "",
        "beside": "xyz,harmonics_10" if run == PAGE else "",
        "mlp": name in STUDY["mlp"] and int(seed) in (0, SETTINGS["seeds"][0]),
        "profile": PROFILE,
        "output": f"{OUT}/scores/{tier}/{run}.parquet",
        **SETTINGS["evaluate"],
    }


def evaluation_in_sweep(run, tier):
    """As `evaluation`, with all labels and nothing appended. Pilot runs have their own points."""
    pilot = int(run.rpartition("-")[2]) >= study.FIRST_PILOT_SEED
    return evaluation(run, tier) | {
        "appended": "",
        "labels": ["all"],
        "mlp": False,
        "along": KNOWN[run].get("kept", []),
        "points_seed": study.PILOT_POINTS if pilot else 0,
    }


# Evaluations by the table that they make: those of the book, then those of the sweeps.
OWN = {f"{tier}/{run}": evaluation(run, tier) for tier in JUDGED for run in EVALUATED}
SWEPT = {
    f"{tier}/{run}": evaluation_in_sweep(run, tier)
    for tier in JUDGED
    for run in KNOWN
    if run not in RUNS
}
EVALUATE = {table: parameters("evaluate", values) for table, values in (OWN | SWEPT).items()}


@cache
def rates():
    return cost.rates()


def training_cost(wildcards):
    return cost.pretraining(KNOWN[wildcards.run], rates())


def evaluation_seconds(wildcards):
    values = (OWN | SWEPT)[f"{wildcards.tier}/{wildcards.run}"]
    contenders = 1 + len(split_names(values["appended"])) + len(values.get("along", []))
    return round(cost.evaluating(contenders, values["points"], values["labels"]).seconds)


@cache
def erasure_cost():
    """Each seed has runs with plain alignment, with fidelity and with content alone."""
    run = defaults("erasure") | SETTINGS["erasure"]
    runs = len(run["seeds"]) * (sum(run["shares"]) + len(run["keeps"]) + 1)
    one = cost.pretraining(run, rates())
    return {name: round(runs * value) for name, value in one._asdict().items()}


MAPS = parameters("maps", {"encoder": f"{OUT}/runs/{PAGE}/encoder", **SETTINGS["maps"]})
CHAPTER = {name: parameters(name, values) for name, values in CHAPTERS.items()}


onerror:  # an interrupt too
    print("Finished jobs and the last state of each training are kept: the same command resumes.")


wildcard_constraints:
    run="[a-z0-9_-]+",
    tier="[a-z]+",
    chapter="[a-z_]+",


ruleorder: untrained > pretrain
ruleorder: erasure > chapter
localrules: book, pdf, results, publish, untrained


# Snakemake compares each job's params, so a job runs again when its code has changed.
rule data:
    output: "_build/data.txt"
    params: code=code("locties.data.embedded")
    retries: 1
    shell: "locties data build > {output}"


rule pretrain:
    input: data="_build/data.txt", notebook="book/pretrain.ipynb"
    output:
        directory(f"{OUT}/runs/{{run}}/encoder"),
        notebook=f"{OUT}/runs/{{run}}/pretrain.ipynb",
        history=f"{OUT}/runs/{{run}}/history.parquet",
        settings=f"{OUT}/runs/{{run}}/settings.json",
    params:
        values=lambda wildcards: PRETRAIN[wildcards.run],
        code=code("pretrain", without=SHOWN),
    resources:
        seconds=lambda wildcards: round(training_cost(wildcards).seconds),
        pairs=lambda wildcards: training_cost(wildcards).pairs,
        steps=lambda wildcards: training_cost(wildcards).steps,
        gigaflops=lambda wildcards: training_cost(wildcards).gigaflops,
    retries: 1
    log: f"{OUT}/logs/pretrain/{{run}}.log"
    shell:
        "papermill {input.notebook} {output.notebook} --no-progress-bar -y {params.values:q}"
        " >> {log} 2>&1"


# The control for every run: the same architecture with its initial weights.
rule untrained:
    output: directory(f"{OUT}/runs/untrained-{{seed}}/encoder")
    params: code=code("locties.encoder")
    run:
        import locties

        names = ("features", "network", "feature_options", "network_options", "dim", "readout")
        architecture = {name: SETTINGS["pretrain"][name] for name in names
                        if name in SETTINGS["pretrain"]}
        locties.LocationEncoder(**architecture, seed=int(wildcards.seed)).save(output[0])


# A released checkpoint of SatCLIP, if one is given: make book SATCLIP=file.ckpt.
if SATCLIP:
    rule satclip:
        input: checkpoint=SATCLIP
        output: directory(f"{OUT}/runs/satclip-0/encoder")
        params: code=code("locties.peers")
        shell: "locties convert satclip {input.checkpoint:q} {output}"

    ruleorder: satclip > pretrain


rule evaluate:
    input:
        lambda wildcards: encoder_folder(wildcards.run) or [],
        data="_build/data.txt",
        notebook="book/evaluate.ipynb",
    output:
        notebook=f"{OUT}/scores/{{tier}}/{{run}}.ipynb",
        table=f"{OUT}/scores/{{tier}}/{{run}}.parquet",
    params:
        values=lambda wildcards: EVALUATE[f"{wildcards.tier}/{wildcards.run}"],
        code=code("evaluate", without=SHOWN),
    resources: seconds=evaluation_seconds
    retries: 1
    log: f"{OUT}/logs/evaluate/{{tier}}/{{run}}.log"
    shell:
        "papermill {input.notebook} {output.notebook} --no-progress-bar -y {params.values:q}"
        " >> {log} 2>&1"


def there(pattern, names):
    """The files that exist, by name."""
    paths = {name: pattern.format(name) for name in names}
    return {name: path for name, path in paths.items() if Path(path).exists()}


# The only chapter that trains the runs of a claim itself (C6).
rule erasure:
    input: data="_build/data.txt", notebook="book/erasure.ipynb"
    output:
        notebook=f"{OUT}/chapters/erasure.ipynb",
        table=CHAPTERS["erasure"]["output"],
    params: values=CHAPTER["erasure"], code=code("erasure", without=SHOWN)
    resources: **{name: lambda _, name=name: erasure_cost()[name] for name in cost.Cost._fields}
    retries: 1
    log: f"{OUT}/logs/chapters/erasure.log"
    shell:
        "papermill {input.notebook} {output.notebook} --no-progress-bar -y {params.values:q}"
        " >> {log} 2>&1"


# It also gathers existing results of other runs.
rule results:
    input:
        # C6's own runs; other sweeps do not wait for them.
        rules.erasure.output.table if {"", "claims", "all"} & set(SWEEP.split(",")) else [],
        scores=[f"{OUT}/scores/{tier}/{run}.parquet" for tier in JUDGED for run in ASKED],
        histories=[f"{OUT}/runs/{run}/history.parquet" for run in ASKED if run in KNOWN],
        settings=[f"{OUT}/runs/{run}/settings.json" for run in ASKED if run in KNOWN],
    output:
        runs=f"{OUT}/results/runs.parquet",
        histories=f"{OUT}/results/histories.parquet",
        claims=f"{OUT}/results/claims.parquet",
    params: code=code("locties_paper.results", "locties_paper.effects.claims", without=SHOWN)
    run:
        import pandas as pd

        from locties_paper import results
        from locties_paper.effects import claims

        scores, histories = f"{OUT}/scores/{{}}.parquet", f"{OUT}/runs/{{}}/history.parquet"
        trained = there(histories, RUNS)
        results.gather(there(scores, OWN).values(), output.runs)
        results.gather_histories(
            list(trained), trained.values(), output.histories, pd.read_parquet(output.runs)
        )
        if swept := there(scores, SWEPT):
            trained = there(histories, [run for run in KNOWN if run not in RUNS])
            results.gather_sweeps(
                swept.values(), list(trained), trained.values(), Path(OUT) / "results"
            )
        claims.write(f"{OUT}/results", output.claims)


rule maps:
    input: f"{OUT}/runs/{PAGE}/encoder", notebook="book/maps.ipynb"
    output: f"{OUT}/maps.ipynb"
    params: values=MAPS, code=code("maps")
    retries: 1
    log: f"{OUT}/logs/maps.log"
    shell:
        "papermill {input.notebook} {output} --no-progress-bar -y {params.values:q} >> {log} 2>&1"


rule chapter:
    input: rules.results.output, notebook="book/{chapter}.ipynb"
    output: f"{OUT}/chapters/{{chapter}}.ipynb"
    params:
        values=lambda wildcards: CHAPTER[wildcards.chapter],
        code=lambda wildcards: code(wildcards.chapter),
    retries: 1
    log: f"{OUT}/logs/chapters/{{chapter}}.log"
    shell:
        "papermill {input.notebook} {output} --no-progress-bar -y {params.values:q} >> {log} 2>&1"


# A fresh stage and a fresh build each time: an incremental build hides warnings.
rule book:
    input:
        "_config.yml", "_toc.yml", "book/references.bib", glob("book/_static/*"),
        glob("src/**/*.py", recursive=True),  # the API reference comes from their docstrings
        rules.results.output,
        pages=expand("book/{page}", page=PAGES),
        chapters=expand(f"{OUT}/chapters/{{chapter}}.ipynb", chapter=CHAPTERS),
        pretrain=f"{OUT}/runs/{PAGE}/pretrain.ipynb",
        evaluate=f"{OUT}/scores/embedded/{PAGE}.ipynb",
        maps=f"{OUT}/maps.ipynb",
    output: "_build/html/index.html"
    log: f"{OUT}/logs/book.log"
    shell:
        """
        rm -rf _build/stage _build/html _build/.doctrees
        mkdir -p _build/stage/book
        cp _config.yml _toc.yml _build/stage
        cp -r {input.pages} book/references.bib book/_static {input.chapters} {input.maps} \
            _build/stage/book
        cp {input.pretrain} _build/stage/book/pretrain.ipynb
        cp {input.evaluate} _build/stage/book/evaluate.ipynb
        python -m locties_paper.site.downloads _build/stage/book {OUT}/results results
        jupyter-book build _build/stage --path-output . -W -n --keep-going > {log} 2>&1 \
            || {{ cat {log}; exit 1; }}
        """


# The shipped encoders, by name: the folder of a run with the profile's first seed.
PUBLISHED = {
    name: f"{OUT}/runs/{shipped}-{SETTINGS['seeds'][0]}"
    for name, shipped in STUDY["published"].items()
}
for folder in PUBLISHED.values():
    if Path(folder).name not in KNOWN:
        raise unknown("run", Path(folder).name, KNOWN)


# The same stage as one page, printed by a headless Chromium: make pdf.
rule pdf:
    input: rules.book.output, glob("src/locties_paper/site/*")
    output: "_build/locties.pdf"
    log: f"{OUT}/logs/pdf.log"
    shell:
        """
        rm -rf _build/singlehtml
        jupyter-book build _build/stage --path-output . --builder singlehtml \
            -W -n --keep-going > {log} 2>&1 || {{ cat {log}; exit 1; }}
        python -m locties_paper.site.pdf _build/singlehtml/book/introduction.html _build/html {output}
        """


rule publish:
    input: rules.results.output, [f"{folder}/encoder" for folder in PUBLISHED.values()]
    run:
        from locties_paper import publish

        publish.publish(f"{OUT}/results", PUBLISHED)
