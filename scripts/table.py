"""Prints a run's methods as a Markdown table, in the report's order: python scripts/table.py RUNDIR

The best first: of the methods that removed something and kept the rest, the one after whose attack least of a
line is said; then those that removed nothing or are damaged. Needs nothing but Python's standard library.
"""

import argparse
import sys
from pathlib import Path

from report_parts.format import estimate_text, number, percent, times
from report_parts.headline import MAIN, ranking
from report_parts.load import ReportError, Run

FATES = {"ok": "", "damaged": "damaged", "removed nothing": "removed nothing", "not attacked": "not attacked"}


def estimate(value, form):
    return estimate_text(value, form) if value and value["mean"] is not None else ""


def rows(run):
    """Header and rows, cells as text."""
    rungs = [rung["rung"] for rung in run.ladder]
    rung = run.gap_rung()
    header = ["Model", "ES before", "match"]
    header += [f"ES after {rung}", f"gap to oracle, {rung}"] if rung else []
    header += [f"{r}: % back" for r in rungs]
    header += ["utility", "of retraining", "s", ""]
    yield header
    retraining = (run.retraining() or {}).get("cost")
    methods, yardsticks = ranking(run)
    for state, model in ([("", m) for m in run.summary["models"] if m["kind"] != "removed"]
                         + [(FATES[s.state], s.model) for s in yardsticks + methods]):
        name = model["name"]
        cells = [model["label"], estimate(run.before(name, MAIN), number),
                 estimate(run.before(name, "greedy_match"), number)]
        worst = {r: run.worst_reach(name, r) for r in rungs}
        if rung:
            at = worst[rung]
            cells += [estimate(at["attacked"], number) if at else "", estimate(at["oracle_gap"], number) if at else ""]
        cells += [estimate(worst[r]["recovered"], percent) if worst[r] else "" for r in rungs]
        cost = model.get("cost")
        share = times(cost["flops"], retraining["flops"]) if cost and retraining else None
        cells += [estimate(model.get("utility"), number), share or "", f"{cost['seconds']:.0f}" if cost and cost["seconds"] else "", state]
        yield cells


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Print a run's methods as a Markdown table, the best first.")
    parser.add_argument("rundir", type=Path, help="the run folder, with summary.json")
    try:
        table = list(rows(Run(parser.parse_args(arguments).rundir)))
    except (ReportError, OSError) as error:
        print(f"table: {error}", file=sys.stderr)
        return 1
    print("| " + " | ".join(table[0]) + " |\n" + "|---" * len(table[0]) + "|")
    for cells in table[1:]:
        print("| " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
