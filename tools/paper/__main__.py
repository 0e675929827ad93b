"""The paper's Tables 1 to 10 and Figures 1, 4 and 5 on models of yours, by one command; in tools/:

    python3 -m paper -m text.gguf -mm mmproj.gguf --sets FOLDER --out FOLDER

FOLDER of --sets holds public sets as they are published (docs/evaluation.md lists them); one that is missing is told in
its cells.  Each result is kept in OUT/runs, and a command that was stopped goes on from there.  OUT gets table-N.md and
.csv, figure-N.svg, and paper.md with all of them.  Needs nothing but Python and an `illava`.
"""

import argparse
import shutil
from pathlib import Path

from .plan import EVERYTHING, Plan
from .runs import Pair, Program

ROOT = Path(__file__).resolve().parents[2]


def pair(text):
    name, _, files = text.partition("=")
    model, _, projector = files.partition(",")
    if not (name and model and projector):
        raise argparse.ArgumentTypeError(f"{text}: give NAME=TEXT,MMPROJ")
    return Pair(name, model, projector)


def main(given=None):
    built = ROOT / "target/release/illava"
    p = argparse.ArgumentParser(prog="paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True, help="text model of the pair that all tables are about")
    p.add_argument("-mm", "--mmproj", required=True, help="its image encoder and projector")
    p.add_argument("--name", help="its name in tables [default: the text model's file]")
    p.add_argument("--pair", type=pair, action="append", default=[], metavar="NAME=TEXT,MMPROJ", help="another model for Tables 1, 2 and Figure 4; repeat it")
    p.add_argument("--small", type=pair, metavar="NAME=TEXT,MMPROJ", help="the smaller model of Figure 5")
    p.add_argument("--sets", type=Path, required=True, help="folder of public sets")
    p.add_argument("--out", type=Path, required=True, help="folder for tables, figures and results")
    p.add_argument("--merge", default="paper", help="schedule that stands for the paper's [default: paper]")
    p.add_argument("--also", action="append", default=[], metavar="PRESET", help="a schedule beside it, as in `illava eval --against`; repeat it")
    p.add_argument("--closed", action="store_true", help="closed positions and no sizes, as the paper's authors compute")
    p.add_argument("--limit", metavar="N", help="the first N questions of each set only")
    p.add_argument("--judge", metavar="URL", help="judge of MMVet, ActivityNet-QA, VideoChatGPT and VideoDC; ILLAVA_JUDGE_KEY holds its key")
    p.add_argument("--judge-model", metavar="NAME", help="model of the judge")
    p.add_argument("--only", action="append", choices=EVERYTHING, metavar="NAME", help=f"of {', '.join(EVERYTHING)}; repeat it")
    p.add_argument("--illava", default=str(built) if built.exists() else shutil.which("illava"))
    p.add_argument("rest", nargs="*", help="more flags of `illava eval`, behind --")
    a = p.parse_args(given)
    if not a.sets.is_dir():
        p.error(f"--sets {a.sets}: no such folder")
    if a.illava is None:
        p.error("no illava; build it, or name it with --illava")
    rest = list(a.rest)
    for flag, given_value in (("--limit", a.limit), ("--judge", a.judge), ("--judge-model", a.judge_model)):
        rest += [flag, given_value] if given_value else []
    base = Pair(a.name or Path(a.model).stem, a.model, a.mmproj)
    program = Program(a.illava, a.sets, a.out, rest)
    extra = ("--positions", "closed", "--vit-sizes", "off") if a.closed else ()
    plan = Plan(program, [base, *a.pair], a.small, a.merge, a.also, extra)
    lines = [f"# The paper's tables and figures on {', '.join(pair.name for pair in plan.pairs)}", "",
             f"Made by {program.version()}, schedule `{a.merge}`{', positions closed, sizes not counted' if a.closed else ''}"
             f"{f', the first {a.limit} questions of each set' if a.limit else ''}. Intervals are of 95 %.", ""]
    for name in EVERYTHING:
        if a.only and name not in a.only:
            continue
        kind, number = name.split("-")
        made = getattr(plan, f"{kind}_{number}")()
        if kind == "table":
            (a.out / f"{name}.md").write_text(made.markdown())
            (a.out / f"{name}.csv").write_text(made.csv())
            lines.append(made.markdown())
        else:
            title, file, missing = made
            lines += [f"## {title}", "", f"![{title}]({file})" if file else "Nothing to draw.", "", *(f"- {why}" for why in missing), ""]
    (a.out / "paper.md").write_text("\n".join(lines))
    program.say(f"wrote {a.out / 'paper.md'}")


if __name__ == "__main__":
    main()
