"""The field's benchmarks: for each a short table, and all its figures folded away."""

from html import escape

from .format import NONE, minus, number
from .html import Switches, section, table


def field(run):
    record = run.summary.get("field") or {"benchmarks": [], "results": []}
    found = {(r["benchmark"], r["model"]): r["metrics"] for r in record["results"]}
    views = []
    for benchmark in record["benchmarks"]:
        measured = [(m, found[benchmark["benchmark"], m["name"]]) for m in run.models
                    if (benchmark["benchmark"], m["name"]) in found]
        if measured:
            views.append((benchmark["benchmark"], _tables(benchmark, measured)))
    if not views:
        return ""
    switches = Switches("field").add("benchmark", "Benchmark", [(name, escape(name)) for name, _ in views])
    return section("field", "The field's benchmarks", switches.html("".join(
        f'<div data-benchmark="{escape(name)}">{html}</div>' for name, html in views)), lead=(
            "Published benchmarks, from their own files, before any attack. docs/field_metrics.md defines every "
            "figure and says where it differs from the published code."))


def _tables(benchmark, measured):
    names = [f'<span class="name k-{m["kind"]}">{escape(m["label"])}</span>' for m, _ in measured]
    head = [("Model", "")] + [(_heading(metric), "n") for metric in benchmark["main"]]
    rows = [(f"k-{m['kind']}", [name] + [_figure(metrics.get(metric)) for metric in benchmark["main"]])
            for name, (m, metrics) in zip(names, measured)]
    every = dict.fromkeys(metric for _, metrics in measured for metric in metrics)
    all_rows = [("", [escape(metric)] + [_figure(metrics.get(metric)) for _, metrics in measured]) for metric in every]
    return (f'<p class="note">{escape(benchmark["paper"])}</p>{table(head, rows, "metrics")}'
            f'<details><summary>All {len(every)} figures</summary>'
            f'{table([("Figure", "")] + [(name, "n") for name in names], all_rows, "metrics")}</details>')


def _heading(metric):
    group, _, name = metric.rpartition(".")
    text = escape(name.replace("_", " "))
    return f'<small>{escape(group.replace("_", " "))}</small><br>{text}' if group else text


def _figure(value):
    if value is None:
        return f'<span class="none">{NONE}</span>'
    if abs(value) > 1 and float(value).is_integer():
        text = minus(f"{value:.0f}")
    elif 0 < abs(value) < 0.001:
        text = minus(f"{value:.1e}")
    else:
        text = number(value, 3)
    return f'<span class="num">{text}</span>'
