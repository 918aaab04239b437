"""Makes RUNDIR/report.html from what a study wrote: python scripts/report.py RUNDIR

One self-contained page: no script, no request to anywhere. Needs nothing but Python's standard library.
The files it reads are described in docs/output.md.
"""

import argparse
import sys
from pathlib import Path

from report_parts.files import write_atomically
from report_parts.load import ReportError, Run
from report_parts.page import page


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Write RUNDIR/report.html from what a study left there.")
    parser.add_argument("rundir", type=Path, help="the run folder, with summary.json")
    parser.add_argument("--out", type=Path, help="another place for the page")
    options = parser.parse_args(arguments)
    out = options.out or options.rundir / "report.html"
    try:
        write_atomically(out, page(Run(options.rundir)))
    except (ReportError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
