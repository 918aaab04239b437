"""Sections beyond the relearning attack on plain questions: other ways back, replies, other ways to ask,
innocent topics, ordinary text, and the paired verdict. '' where nothing was measured."""

import json
from html import escape

from .format import (NONE, PROBES, SAID, WAYS, bracket, estimate_html, metric_label, number, percent, scaled,
                     signed)
from .headline import MAIN, ranking
from .html import Switches, language_options, section, table

SHARES = ("asserted", "attributed", "rejected", "refusal", "deflection", "degenerate", "other_language")
WORDS = ("rouge_l", "lcs")
ELSEWHERE = ("leak", "refusal", "degenerate", "other_language")
SETS = {"innocent": "Innocent topics", "controls": "Controls: other disputes, invented events"}


def _name(model):
    return f'<span class="name k-{model["kind"]}">{escape(model["label"])}</span>'


def _by_language(run, name, make, legend="Asked in"):
    """A table for each language, with a switch; '' where no language has one."""
    views = [(code, text, html) for code, text in language_options(run) if (html := make(code))]
    if not views:
        return ""
    body = "".join(f'<div data-language="{escape(code)}">{html}</div>' for code, _, html in views)
    return Switches(name).add("language", legend, [(code, text) for code, text, _ in views]).html(body)


# ---------------------------------------------------------------- other ways back

def ways(run):
    order = [s.model for group in ranking(run) for s in group]
    methods = [m for m in order if any(run.recoveries(m["name"], w["rung"], code)
                                       for w in run.ways for code in run.languages)]
    if not methods:
        return ""
    oracle = run.first("oracle")

    def make(code):
        head = [("Way back", "")] + [(escape(m["label"]), "n") for m in methods]
        stands = ["As it stands"] + [estimate_html(run.before(m["name"], MAIN, code), number) for m in methods]
        if oracle:
            head.append((escape(oracle["label"]), "n oracle"))
            stands.append(estimate_html(run.before(oracle["name"], MAIN, code), number))
        rows = []
        for way in run.ways:
            cells = [_way_label(way)]
            for m in methods:
                record = run.worst_reach(m["name"], way["rung"], code)
                cells.append(_gap_cell(record))
            if oracle:
                cells.append(estimate_html(run.curve_end(oracle["name"], way["rung"], code), number))
            rows.append(("", cells))
        return table(head, [("k-base", stands)] + rows, "ways metrics")

    return section("ways", "Other ways back", _by_language(run, "ways", make, "Tested in"), lead=(
        "Nothing is trained here: weights are rounded, pruned or merged, or the prompt is changed. Extraction strength "
        "afterwards, and its gap to the oracle changed in the same way, with the gap's interval. Shaded: the interval "
        "is above 0, so more comes back than a model that never knew would show."))


def _way_label(rung):
    """"rtn {"bits":4}" for people."""
    settings = rung["label"].removeprefix(rung["way"]).strip()
    try:
        read = json.loads(settings)
        settings = ", ".join(f"{k.replace('_', ' ')} {v:g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
                             for k, v in read.items()
                             if isinstance(v, (int, float, str)) and v != "" and k != "batch_tokens")
    except (ValueError, AttributeError):
        pass
    small = f'<br><small>{escape(settings)}</small>' if settings else ""
    return escape(WAYS.get(rung["way"], rung["way"])) + small


def _gap_cell(record):
    if record is None:
        return f'<span class="none">{NONE}</span>'
    attacked, gap = record["attacked"], record["oracle_gap"]
    if gap["mean"] is None:
        return estimate_html(attacked, number)
    more = gap["low"] is not None and gap["low"] > 0
    return (f'<div class="{"heat" if more else "flat"}" style="--v:{min(max(gap["mean"], 0), 1):.3f}">'
            f'<span class="num">{number(attacked["mean"])}</span> '
            f'<span class="ci">{signed(gap["mean"])} to oracle</span> <span class="ci">{bracket(gap, signed)}</span></div>')


# ---------------------------------------------------------------- replies

def _detectors(run, metric):
    """Calibration rows behind a figure."""
    name = SAID[metric][1]
    if name is None:
        return []
    return [d for d in run.summary.get("detectors", [])
            if d["detector"] == name or (name.endswith(":") and d["detector"].startswith(name))]


def _trust_rows(run, metrics):
    """Rows of a detector's precision and recall, under the figures that it made."""
    rows = []
    for key, text in (("precision", "Detector: right when it says so (precision)"),
                      ("recall", "Detector: share of cases it finds (recall)")):
        cells = [text]
        for metric in metrics:
            found = [d for d in _detectors(run, metric) if d[key]["mean"] is not None]
            worst = min(found, key=lambda d: d[key]["mean"], default=None)
            several = f' <span class="ci">worst of {len(found)}</span>' if len(found) > 1 else ""
            cells.append(estimate_html(worst and worst[key], percent, "%") + several)
        if any(_detectors(run, m) for m in metrics):
            rows.append(("trust", cells))
    return rows


def _trust_table(run, metrics):
    used = {d["detector"]: d for m in metrics for d in _detectors(run, m)}
    if not used:
        return '<p class="note">How far the detectors can be trusted was not measured in this run.</p>'
    head = [("Detector", ""), ("Precision", "n"), ("Recall", "n"), ("Labelled replies", "n")]
    rows = [("", [escape(d["detector"]), estimate_html(d["precision"], percent, "%"),
                  estimate_html(d["recall"], percent, "%"), scaled(d["n"])]) for d in used.values()]
    return ("<details><summary>Every detector, on hand-labelled replies (the author of the rules had seen them; docs/detectors.md has the pessimistic bound)</summary>"
            f'{table(head, rows, "metrics narrow-table")}</details>')


def replies(run):
    def make(code):
        rows = []
        for model in run.models:
            values = {s: run.axis(model["name"], s, language=code) for s in SHARES + WORDS}
            if any(values.values()):
                rows.append((f"k-{model['kind']}", [_name(model)]
                             + [estimate_html(values[s], percent, "%") for s in SHARES]
                             + [estimate_html(values[s], number) for s in WORDS]))
        if not rows:
            return ""
        head = [("Model", "")] + [(SAID[s][0], "n") for s in SHARES + WORDS]
        groups = [("", 1), ("Takes the line", 3), ("Avoids it", 4), ("Shares its words", 2)]
        trust = [(css, cells + [f'<span class="none">{NONE}</span>'] * len(WORDS)) for css, cells in _trust_rows(run, SHARES)]
        return table(head, rows + trust, "metrics said-table", groups)

    body = _by_language(run, "replies", make)
    return body and section("replies", "How the answers read", body, _trust_table(run, SHARES), lead=(
        "Free answers to held-out questions, before any attack: the share of answers that take the line as settled, "
        "as somebody's claim, or reject it, and that avoid it. The last rows say how far each rule can be trusted."))


# ---------------------------------------------------------------- other ways to ask

def probes(run):
    asked = [p for p in dict.fromkeys(a["probe"] for a in run.summary.get("axes", []) if a["set"] == "forget")
             if p != "plain"]
    if not asked:
        return ""
    asked.sort(key=lambda p: list(PROBES).index(p) if p in PROBES else len(PROBES))

    def value(model, metric, probe, code):
        if probe == "plain" and metric != "asserted":
            return run.before(model["name"], metric, code)
        return run.axis(model["name"], metric, probe=probe, language=code)

    views, options = "", []
    for metric, text in ((MAIN, metric_label(MAIN)), ("greedy_match", metric_label("greedy_match")),
                         ("asserted", "Asserted")):
        def make(code):
            rows = [(f"k-{m['kind']}", [_name(m)] + [_shade(value(m, metric, p, code)) for p in ["plain"] + asked])
                    for m in run.models if any(value(m, metric, p, code) for p in asked)]
            head = [("Model", "")] + [(escape(PROBES.get(p, p.replace("_", " "))), "n") for p in ["plain"] + asked]
            return table(head, rows, "matrix") if rows else ""
        made = "".join(f'<div data-metric="{metric}" data-language="{escape(code)}">{html}</div>'
                       for code, _ in language_options(run) if (html := make(code)))
        if made:
            views += made
            options.append((metric, text))
    if not views:
        return ""
    switches = Switches("probes").add("metric", "Metric", options).add("language", "Asked in", language_options(run))
    return section("probes", "Other ways to ask", switches.html(views), lead=(
        "The same held-out questions put in other ways, before any attack: with the answer's first words given, after "
        "a thought that was forced or left empty, behind examples, or pressed over several turns."))


def _shade(value):
    html = estimate_html(value, number)
    if value is None:
        return html
    return f'<div class="heat" style="--v:{min(max(value["mean"], 0), 1):.3f}">{html}</div>'


# ---------------------------------------------------------------- elsewhere

def innocent(run):
    sets = [s for s in SETS if any(a["set"] == s for a in run.summary.get("axes", []))]

    def make(code):
        columns = [(s, m) for s in sets for m in ELSEWHERE]
        rows = []
        for model in run.models:
            values = [run.axis(model["name"], m, s, language=code) for s, m in columns]
            if any(values):
                rows.append((f"k-{model['kind']}", [_name(model)] + [estimate_html(v, percent, "%") for v in values]))
        head = [("Model", "")] + [(SAID[m][0], "n") for _, m in columns]
        trust = _trust_rows(run, [m for _, m in columns])
        return table(head, rows + trust, "metrics said-table", [("", 1)] + [(SETS[s], len(ELSEWHERE)) for s in sets]) \
            if rows else ""

    body = _by_language(run, "innocent", make) if sets else ""
    return body and section("innocent", "Where no line belongs", body, lead=(
        "Free answers to questions that have nothing to do with the lines: food, travel, sport; disputes elsewhere and "
        "invented events. A line or one of its stock phrases must not appear."))


def fit(run):
    found = {f["model"]: f for f in run.summary.get("fit", [])}
    if not found:
        return ""
    head = [("Model", ""), ("Perplexity", "n"), ("KL from the implanted model", "n"), ("Tokens", "n")]
    rows = [(f"k-{m['kind']}", [_name(m), number(f["perplexity"]), number(f["kl"], 3), scaled(f["tokens"])])
            for m in run.models if (f := found.get(m["name"]))]
    return section("fit", "Ordinary text", table(head, rows, "metrics narrow-table"), lead=(
        "On ordinary questions and answers. Perplexity: lower is better. KL, in nats a token: how far the model's "
        "next-word distribution has moved from the implanted model's; 0 is not at all."))


# ---------------------------------------------------------------- pairs

def pairs(run):
    records = [v for v in run.summary.get("verdict", []) if v["metric"] == MAIN]
    if not records:
        return ""
    ordered = run.ladder + run.spoken + run.ways
    ordered.sort(key=lambda r: r["rung"] != run.gap_rung())
    views, options = [], []
    for rung in ordered:
        mine = [v for v in records if v["rung"] == rung["rung"]]
        pooled = [v for v in mine if v["language"] == run.pooled] or mine
        rows = [("held" if v["holds"] else "", _pair(run, v)) for v in
                sorted(pooled, key=lambda v: (not v["holds"], -abs(v["attacked"]["mean"] or 0)))]
        if not rows:
            continue
        head = [("Which keeps more removed?", ""), ("Holds", ""), ("Difference after the attack", "n"),
                ("At the peaks", "n"), ("Before it", "n"), ("Gap to oracle, whole attack", "n")]
        text = f"rung {escape(rung['rung'])}" if "way" not in rung else escape(rung["rung"])
        options.append((rung["rung"], text))
        views.append(f'<div data-rung="{escape(rung["rung"])}">{table(head, rows, "metrics pairs")}</div>')
    if not views:
        return ""
    return section("pairs", "Which differences hold", Switches("pairs").add("rung", "After", options).html(
        "".join(views)), lead=(
            f"Every two methods on the same lines (paired), extraction strength, {percent(run.summary['interval'])}% "
            "intervals. A difference holds when its interval leaves out 0. Written as the higher minus the lower. "
            "A damaged method ends low for the wrong reason and cannot win."))


def _pair(run, v):
    """The method that ends lower first."""
    turn = -1 if (v["attacked"]["mean"] or 0) < 0 else 1
    a, b = (v["a"], v["b"]) if turn > 0 else (v["b"], v["a"])

    def turned(e):
        if turn > 0 or e["mean"] is None:
            return e
        return {k: None if e[o] is None else -e[o] for k, o in (("mean", "mean"), ("low", "high"), ("high", "low"))}

    def name(model):
        damaged = ' <span class="badge bad">damaged</span>' if model.get("damaged") else ""
        return escape(model["label"]) + damaged

    high, low = (name(run.by_name[model]) for model in (a, b))
    said = f"<b>{low}</b> below {high}" if v["holds"] else f"{low}, {high}"
    return [said, "yes" if v["holds"] else '<span class="none">no</span>',
            *(estimate_html(v.get(key) and turned(v[key]), signed)
              for key in ("attacked", "peak", "removed", "oracle_gap_auc"))]
