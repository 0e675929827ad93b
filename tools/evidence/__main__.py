"""The paper's tables on a pair of yours, by runs of `illava eval`; in tools/:

    python -m evidence -m text.gguf -mm mmproj.gguf --set questions.jsonl --results r.json --page evidence.md

Runs what RESULTS lacks (a run that was stopped resumes) and writes PAGE from it; `--render` writes the page alone.
Needs nothing but Python and an `illava`.
"""

import argparse
import json
from pathlib import Path

from .evaluate import Subject, collect, split_set
from .page import page
from .runs import closed_runs, runs
from .shape import shape_of

ROOT = Path(__file__).resolve().parents[2]


def main(given=None):
    p = argparse.ArgumentParser(prog="evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", help="text model")
    p.add_argument("-mm", "--mmproj", help="image encoder and projector")
    p.add_argument("--set", type=Path, action="append", default=[], help="question set of `illava eval`; repeat it")
    p.add_argument("--dense", metavar="PREFIX", help="of one .jsonl set, kinds that begin so are a set of their own")
    p.add_argument("--results", type=Path, required=True, help="JSON that is added to")
    p.add_argument("--page", type=Path, help="Markdown to write")
    p.add_argument("--words", type=Path, help="Markdown put above and below the tables")
    p.add_argument("--only", action="append", metavar="TABLE", help="runs of this table only; repeat it")
    p.add_argument("--closed", action="store_true", help="the paper's tables with closed positions and without sizes, as its authors' code computes")
    p.add_argument("--render", action="store_true", help="run nothing")
    p.add_argument("--illava", default=str(ROOT / "target/release/illava"))
    p.add_argument("--work", type=Path, help="folder for the logs of unfinished calls [default: beside RESULTS]")
    p.add_argument("rest", nargs="*", help="more flags of `illava eval`, behind --")
    a = p.parse_args(given)
    if not a.render:
        if not (a.model and a.mmproj and a.set):
            p.error("-m, -mm and --set are needed to run")
        work = a.work or a.results.with_name(a.results.name + ".work")
        work.mkdir(parents=True, exist_ok=True)
        sets = split_set(a.set[0], a.dense, work) if a.dense else {path.stem: path for path in a.set}
        model = ("-m", a.model, "--mmproj", a.mmproj)
        subject = Subject(a.illava, model, tuple(a.rest), sets, work)
        listed = closed_runs if a.closed else runs
        collect(subject, listed(shape_of(a.illava, model)), a.results, a.only)
    if a.page:
        results = json.loads(a.results.read_text())
        words = a.words.read_text() if a.words else ""
        a.page.write_text(page(results, words))


if __name__ == "__main__":
    main()
