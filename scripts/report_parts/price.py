"""What the removals would cost on large models: cost.json, which `resurface cost` leaves in the run folder."""

from html import escape

from .charts import scatter
from .format import NONE, dollars, estimate_html, percent, scaled
from .html import Switches, section, table

HEAD = [("", ""), ("FLOPs", "n"), ("GPU hours", "n"), ("Dollars", "n"), ("GPUs at least", "n"), ("Examples", "n"),
        ("Stays removed", "n")]


def price(run):
    if not run.price:
        return ""
    a, models = run.price["assumptions"], run.price["models"]
    shown = [(m["model"], escape(m["model"])) for m in models]
    views = [f'<div data-size="{escape(m["model"], quote=True)}">{_charts(m)}{_table(m)}</div>' for m in models]
    lines = f"{a['lines']} lines" + ("" if a["lines"] == a["study_lines"] else f" (the study has {a['study_lines']})")
    lead = (f"The same recipes at the size of large models, {lines}: FLOPs grow with the parameters that a token goes "
            f"through ({scaled(a['study_parameters'])} here). One GPU: {scaled(a['peak_flops'])} FLOP/s × "
            f"{percent(a['efficiency'])}%, {dollars(a['dollars_per_hour'])} an hour, {scaled(a['gpu_bytes'])} bytes. "
            "The dashed line is wholesale retraining: 6 × active parameters × the tokens the model was trained on. "
            "Data, people and failed runs are not in it, and that a method does on a large model what it does here is "
            "an assumption.")
    return section("price", "The price of thoroughness",
                   Switches("price").add("size", "Model", shown).html("".join(views)), lead=lead)


def _charts(model):
    points = [{"label": m["label"], "x": m["of_retraining"], **m["stays_removed"]}
              for m in model["methods"] if m["stays_removed"] and m["of_retraining"] > 0]
    if not points:
        return ""
    return "".join(scatter(points, wide, True, "cost, as a multiple of wholesale retraining",
                           "stays removed after the attack") for wide in (True, False))


def _table(model):
    whole = model["retraining"]
    rows = [("", ["wholesale retraining", *_bill(model["retraining"]), NONE, NONE])]
    for m in model["methods"]:
        stays = estimate_html(m["stays_removed"], percent, "%")
        rows.append(("", [escape(m["label"]), *_bill(m), str(m["examples"]), stays]))
    note = f'<p class="note">{escape(model["source"])}, {scaled(model["tokens"])} tokens.</p>'
    return table(HEAD, rows) + note


def _bill(bill):
    return scaled(bill["flops"]), scaled(bill["gpu_hours"]), dollars(bill["dollars"]), str(bill["gpus"])
