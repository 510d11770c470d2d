"""Rewrite the figures and tables of README and docs that come from somewhere else: `python docs/generate.py`.

- A notebook cell with the tag `figure-NAME` gives `docs/NAME.png`.
- The recorded evidence gives `docs/evidence_NAME.png`. A picture depends on the version of matplotlib, so
  what is compared is a checksum of the tables that it was drawn from, which the file holds.
- In a Markdown file, the text between `<!-- generated: NAME -->` and `<!-- end -->` is what `BLOCKS[NAME]`
  returns. Verdicts come from the outputs of the executed notebooks, which judge the recorded results, too.

A test fails if a file differs from what this script would write.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from fl_meta import experiments, plots
from fl_meta.data.catalogue import CATALOGUE, DataSet
from fl_meta.evidence import crossed_page, crossed_words, table_one_page
from fl_meta.evidence.crossed_results import recorded_designs, recorded_tuning
from fl_meta.evidence.crossed_tables import arm_table, cause_table, evidence_table
from fl_meta.evidence.result_types import CrossedResult, CrossedTableOneResult, TuningResult
from fl_meta.evidence.results import file_name, read_result
from fl_meta.evidence.table_one_evidence import STATEMENTS, TableOneFinding, table_one_findings
from fl_meta.evidence.table_one_runs import recorded_tables
from fl_meta.evidence.verdicts import MARKS, Verdict, collect
from fl_meta.experiments.crossed_settings import DESIGNS
from fl_meta.support.text_table import markdown_table as table
from fl_meta.support.text_table import signed as points

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
RESULTS = ROOT / "data" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
WRITERS = "writers (synthetic)"
DATA_SETS = (WRITERS, "shakespeare", "mnist_by_writer", "unipen62", "shakespeare_tff")
SOURCES = {
    "writers": "generated",
    "synthetic": "generated",
    "shakespeare": "installed by `make`",
    "femnist_leaf": "run LEAF's scripts",
    "shakespeare_leaf": "run LEAF's scripts",
}

NOTHING = "(Nothing is recorded yet.)"


@cache
def notebooks() -> dict[str, nbformat.NotebookNode]:
    """The executed notebooks by name."""
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return {path.stem: nbformat.read(path, as_version=4) for path in paths}


@cache
def shown() -> list[Verdict]:
    """The verdicts that the notebooks show."""
    return [one for name, notebook in notebooks().items() for one in collect(notebook.cells, name)]


def first_claim_verdicts() -> dict[tuple[str, str], Verdict]:
    """Those on claim 1, by its part and data set."""
    return {(one.claim, one.dataset): one for one in shown() if one.claim.startswith("1")}


def scientific(number: float) -> str:
    """A number with one digit and a power of ten."""
    digit, exponent = f"{number:.0e}".split("e")
    return f"{digit} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def first_claim(dataset: str) -> str:
    """The marks of the four parts of claim 1, each once."""
    found = first_claim_verdicts().items()
    return " ".join(dict.fromkeys(MARKS[one.verdict] for (_, name), one in found if name == dataset))


def claims() -> str:
    """Claim 1 and Table 1, at equal rounds, on the five data sets."""
    gains = {
        dataset: f"{MARKS[one.verdict]}\N{NO-BREAK SPACE}{points(one.effect.estimate)}"
        for dataset, one in smallest_gains().items()
    }
    rows = [
        ["**1.** FedAvg is a meta-learning algorithm", *map(first_claim, DATA_SETS)],
        [
            "**Table 1.** Personalization helps, for every E (equal rounds)",
            *(gains.get(name, "") for name in DATA_SETS),
        ],
    ]
    return table(["claim", *(f"*{name.removesuffix(' (synthetic)')}*" for name in DATA_SETS)], rows)


def first_claim_parts() -> str:
    """The four parts of claim 1: the value that is furthest off, and the limit."""
    rows = []
    for part in ("1a", "1b-order", "1b-coefficient", "1c"):
        found = {dataset: first_claim_verdicts()[part, dataset] for dataset in (WRITERS, "shakespeare")}
        limit = re.findall(r"accepted: (.*)\)", found[WRITERS].unit)[0]
        values = [f"{MARKS[one.verdict]} {one.effect:.3g}" for one in found.values()]
        rows.append([f"`{part}`", found[WRITERS].statement, limit, *values])
    return table(["part", "statement", "limit", "*writers*", "*shakespeare*"], rows)


def table_one_answer() -> str:
    """For each statement on Table 1, how many tests gave which verdict."""
    parts = []
    for claim, statement in STATEMENTS.items():
        found = [one.verdict for one in findings() if one.claim == claim]
        counts = ", ".join(f"{verdict} {found.count(verdict)}" for verdict in dict.fromkeys(found))
        parts.append(f"{statement} ({counts})")
    return f"Table 1, at equal rounds and at equal work: {'; '.join(parts)}."


def answer() -> str:
    """The results in a sentence for each claim."""
    error = max(first_claim_verdicts()["1a", dataset].effect for dataset in (WRITERS, "shakespeare"))
    lines = [
        "Claim 1 holds exactly: with the same client weights, FedAvg(K) is FedSGD plus FOMAML(1) … "
        f"FOMAML(K − 1). The largest relative error in float64 is {scientific(error)}.",
    ]
    if findings():
        lines.append(table_one_answer())
    if designs():
        lines += [
            *crossed_words.answers(judged()),
            crossed_words.cause_answer(cause_table(designs().values())),
        ]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


@cache
def designs() -> dict[str, list[CrossedResult]]:
    """The recorded cells of the crossed designs."""
    return recorded_designs(RESULTS)


@cache
def tables_one() -> dict[str, list[CrossedTableOneResult]]:
    """The recorded results of Table 1."""
    return recorded_tables(RESULTS)


@cache
def findings() -> list[TableOneFinding]:
    """What they say about its four statements."""
    return table_one_findings(tables_one().values())


def smallest_gains() -> dict[str, TableOneFinding]:
    """By data set, what is found about the smallest gain from personalization at equal rounds."""
    return {one.dataset: one for one in findings() if (one.claim, one.reading) == ("T1-gain", "equal_rounds")}


@cache
def judged() -> pd.DataFrame:
    """The verdicts on claims 2 and 3."""
    return evidence_table(designs().values())


def tuning() -> dict[str, list[TuningResult]]:
    """The recorded tuning of the same designs."""
    return {name: recorded_tuning(DESIGNS[name], RESULTS) for name in designs()}


def evidence(part: Callable[[], str]) -> Callable[[], str]:
    """A block that is empty as long as nothing is recorded."""
    return lambda: part() if designs() else NOTHING


def sentences() -> str:
    """A sentence for each test of claims 2 and 3."""
    found = crossed_words.sentences(judged())
    return "\n".join(f"- `{claim}`: {sentence}" for claim, sentence in found.items())


def lessons() -> str:
    """The notebooks: title, claims that they judge, cost."""
    rows = []
    for name, notebook in notebooks().items():
        text = " ".join(notebook.cells[0].source.split())
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        cost = re.search(r"\*\*What it costs:\*\* (?:about )?(.*?),? with ", text)
        assert cost, f"{name}: the first cell says no cost"
        judged = dict.fromkeys(one.claim for one in collect(notebook.cells, name))
        groups = dict.fromkeys("Table 1" if claim.startswith("T1") else claim for claim in judged)
        short = dict.fromkeys(re.sub(r"^(2[ab]|1|3).*", r"\1", group) for group in groups)
        rows.append([f"[{title}](notebooks/{name}.ipynb)", ", ".join(short), cost[1]])
    return table(["notebook", "claims", "time on two cores"], rows)


def published() -> str:
    """Every recorded row of the benchmark beside the published scores, and what differs."""
    parts = []
    for name, methods in experiments.BENCHMARKS["laptop"].items():
        paths = [
            RESULTS / file_name(config, seed) for config in methods.values() for seed in range(config.folds)
        ]
        results = [read_result(path) for path in paths if path.exists()]
        if not results:
            continue
        config = methods["FedAvg"]
        scores = experiments.beside_published(config.setting.dataset, results)
        rows = [
            [
                str(method),
                _number(row.seeds, 0),
                _interval(row.seen, row.low, row.high),
            ]
            + [_number(row[column]) for column in ("spread", "decile", "unseen", "published")]
            for method, row in scores.iterrows()
        ]
        head = ["method", "seeds", "seen [interval]", "spread", "decile", "unseen", "published"]
        title = f"### {name}: {config.setting.model}, {config.rounds} rounds"
        differs = f"*Differs:* {experiments.protocol_differences(config)}."
        parts.append(f"{title}\n\n{table(head, rows)}\n\n{differs}")
    return "\n\n".join(parts)


def _interval(value: float, low: float, high: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _number(value: float, digits: int = 1) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def files() -> str:
    """What lies in data/results."""
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        kind, dataset, model, _, seed = path.stem.split("-")
        seeds.setdefault((kind, dataset, model), []).append(seed.removeprefix("seed"))
    rows = [[f"`{a}`", f"`{b}`", f"`{c}`", str(len(numbers))] for (a, b, c), numbers in seeds.items()]
    return table(["experiment", "data set", "model", "files"], rows)


def _size(entry: DataSet) -> str:
    # The form that `fl-meta data fetch` takes.
    sizes = [download.bytes for download in entry.forms[0].downloads] if entry.forms else []
    return f"{sum(sizes) / 1e6:,.1f} MB" if sizes and all(sizes) else ""


def data_sets() -> str:
    """The catalogue: a table of what can be had, and a list of sources and licences."""
    rows, credits = [], []
    for name, entry in CATALOGUE.items():
        fetched = any(form.downloads for form in entry.forms)
        source = SOURCES.get(name) or (f"`fl-meta data fetch {name}`" if fetched else "no public address")
        counts = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in entry.counts.items())
        rows.append([f"`{name}`", counts, _size(entry), source])
        credits.append(f"- `{name}`: {entry.source}. Licence: {entry.licence}.")
    return table(["name", "holds", "download", "how to get it"], rows) + "\n\n" + "\n".join(credits)


def own_algorithm() -> str:
    """The rules in examples/own_algorithm.py, without the training that tries them."""
    code = (ROOT / "examples" / "own_algorithm.py").read_text(encoding="utf-8")
    rules = code[code.index("from collections.abc") : code.index("def main")].strip()
    return f"```python no-run\n{rules}\n```"


BLOCKS: dict[str, Callable[[], str]] = {
    "claims": claims,
    "first claim": first_claim_parts,
    "answer": answer,
    "lessons": lessons,
    "published": published,
    "files": files,
    "data sets": data_sets,
    "own algorithm": own_algorithm,
    "evidence legend": lambda: f"{crossed_words.LEGEND}.",
    "evidence summary": evidence(lambda: crossed_words.summary_table(judged())),
    "evidence sentences": evidence(sentences),
    "evidence design": crossed_page.design_rules,
    "evidence rules": crossed_page.verdict_rules,
    "evidence designs": evidence(lambda: crossed_page.designs_table(designs())),
    "evidence claims": evidence(lambda: crossed_page.claim_tables(judged())),
    "evidence causes": evidence(lambda: crossed_page.cause_tables(cause_table(designs().values()))),
    "evidence tuning": evidence(lambda: crossed_page.tuning_tables(tuning())),
    "evidence spread": evidence(lambda: crossed_page.spread_table(designs())),
    "table one rules": table_one_page.table_one_rules,
    "table one verdicts": lambda: table_one_page.findings_tables(findings()) if findings() else NOTHING,
    "table one spreads": lambda: table_one_page.spread_tables(tables_one()) or NOTHING,
    "evidence costs": evidence(lambda: crossed_page.costs(designs(), tuning())),
}


def filled(text: str) -> str:
    """A document with its generated blocks renewed."""
    pattern = re.compile(r"(<!-- generated: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{BLOCKS[match[2]]()}\n\n{match[3]}", text)


def figures() -> dict[str, bytes]:
    """The PNG files of the tagged cells that a document shows, by file name."""
    shown = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    images = {}
    for notebook in notebooks().values():
        for source in notebook.cells:
            for tag in source.metadata.get("tags", []):
                name = f"{tag.removeprefix('figure-')}.png"
                if tag.startswith("figure-") and name in shown:
                    image = next(
                        o.data["image/png"] for o in source.outputs if "image/png" in o.get("data", {})
                    )
                    images[name] = base64.b64decode(image)
    return images


def evidence_figures() -> dict[str, tuple[Callable[..., Figure], tuple[pd.DataFrame, ...]]]:
    """The figures of the recorded evidence by file name: how each is drawn, and from which tables."""
    cells = list(designs().values())
    second_stage = (arm_table(cells), cause_table(cells))
    return {
        "evidence_forest.png": (plots.forest_plot, (judged(),)),
        "evidence_second_stage.png": (plots.second_stage_figure, second_stage),
    }


def checksum(tables: Iterable[pd.DataFrame]) -> str:
    """A checksum of tables whose numbers are rounded, as last digits differ between machines."""
    text = "".join(table.to_csv(float_format="%.4f") for table in tables)
    return hashlib.sha256(text.encode()).hexdigest()


def drawn_from(path: Path) -> str:
    """The checksum that a figure's file holds; empty if there is no such file."""
    if not path.exists():
        return ""
    with Image.open(path) as image:
        return str(image.info.get("Description", ""))


if __name__ == "__main__":
    for name, image in figures().items():
        (DOCS / name).write_bytes(image)
    for name, (draw, tables) in evidence_figures().items():
        if drawn_from(DOCS / name) != (digest := checksum(tables)):
            draw(*tables).savefig(DOCS / name, dpi=150, metadata={"Description": digest})
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
