"""The sections of the page. Each takes the run and gives HTML; '' where there is nothing to show."""

from difflib import SequenceMatcher
from html import escape

from .charts import Panels, curve_bounds, legend_key, scatter
from .format import (METRICS, NONE, PHRASINGS, dollars, estimate_html, language_label, metric_label,
                     number, percent, reach_label, scaled, seconds, short_language, signed, times)
from .headline import MAIN, Standing
from .html import Switches, facts, language_options, section, table, value_html, zh


def label(model):
    return escape(model["label"])


def _dots(estimate):
    """A 0-to-1 track with the interval and the point estimate."""
    def clip(v):
        return min(max(v, 0), 1)

    if estimate is None or estimate["mean"] is None:
        return ""
    span = ""
    if estimate["low"] is not None and estimate["high"] is not None:
        low, high = clip(estimate["low"]), clip(estimate["high"])
        span = f'<i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
    return f'<span class="track" aria-hidden="true">{span}<b style="left:{100 * clip(estimate["mean"]):.1f}%"></b></span>'


def _cost_cells(run, model):
    cost, reference = model["cost"], run.retraining()
    base = reference["cost"] if reference else None
    if not cost:
        return [f'<span class="none">{NONE}</span>'] * 2
    cells = []
    for key, form in (("flops", lambda v: scaled(v)), ("seconds", seconds)):
        ratio = times(cost[key], base and base[key])
        tail = f'<span class="ci">{ratio} retrain</span>' if ratio else ""
        css = "none" if cost[key] is None else "num"
        cells.append(f'<span class="{css}">{form(cost[key])}</span> {tail}')
    return cells


# ---------------------------------------------------------------- ladder

def ladder(run):
    """Every rung of the ladder, every model."""
    rungs, gap_rung = run.ladder, run.gap_rung()
    if not rungs:
        return ""
    head = [("Model", ""), ("Extraction strength", "n", "Extraction strength now"),
            ("Greedy match", "n", "Greedy match now")]
    head += [(f"Rung {escape(r['rung'])}<br><small>{escape(r['label'])}</small>", "n",
              f"Comes back, rung {escape(r['rung'])}") for r in rungs]
    if gap_rung:
        head += [(f"Gap to oracle<br><small>after rung {escape(gap_rung)}</small>", "n",
                  f"Gap to oracle, rung {escape(gap_rung)}")]
    head += [("FLOPs", "n", "Cost, FLOPs"), ("Time", "n", "Cost, time")]
    groups = [("", 1), ("Says the lines now?", 2), ("Comes back after the attack", len(rungs) + bool(gap_rung)),
              ("Cost of removal", 2)]
    rows = []
    for model in run.models:
        cells = [f'<span class="name k-{model["kind"]}">{label(model)}</span>']
        for metric in (MAIN, "greedy_match"):
            value = run.before(model["name"], metric)
            cells.append(estimate_html(value, number) + _dots(value))
        for rung in rungs:
            record = run.worst_reach(model["name"], rung["rung"]) if model["kind"] == "removed" else None
            cells.append(_recovered_cell(run, record))
        if gap_rung:
            record = run.worst_reach(model["name"], gap_rung) if model["kind"] == "removed" else None
            cells.append(_why(record, "oracle_gap", signed))
        rows.append((f"k-{model['kind']}", cells + _cost_cells(run, model)))
    notes = (f"Forget set, held-out phrasings, all languages. Brackets: {percent(run.summary['interval'])}% "
             "bootstrap intervals, resampled by line. What comes back is the recovered fraction in percent: "
             "0 nothing, 100 as if nothing had been removed")
    if len(run.reaches) > 1:
        notes += "; of " + " and ".join(reach_label(r) for r in run.reaches) + \
                 ", the one that brought more back is shown"
    return section("ladder", "Every kind of attack", table(
        head, rows, "verdict", [g for g in groups if g[1]]), f'<p class="note">{notes}.</p>')


def _recovered_cell(run, record):
    if record is None or record["recovered"]["mean"] is None:
        return _why(record, "recovered", percent)
    reach = "LoRA" if record["reach"] == "lora" else escape(record["reach"])
    tag = f' <span class="tag">{reach}</span>' if len(run.reaches) > 1 else ""
    return estimate_html(record["recovered"], percent, "%", tag) + _dots(record["recovered"])


def _why(record, key, form, unit=""):
    """An estimate of a recovery record, or why there is none."""
    if record is None:
        return f'<span class="none">{NONE}</span>'
    if record[key]["mean"] is None:
        reason = escape(record["reason"] or "not defined")
        return f'<span class="none">{NONE}</span> <span class="ci why">{reason}</span>'
    return estimate_html(record[key], form, unit)


# ---------------------------------------------------------------- curves

def curves(run):
    if not run.summary["curves"]:
        return ""
    metrics = [m for m in METRICS if any(c["metric"] == m for c in run.summary["curves"])]
    metrics.sort(key=lambda m: m != MAIN)
    metrics = metrics[:4]
    shown = run.removed or [m for m in run.models if m["kind"] == "implanted"]
    panels, rows = Panels(), []
    bounds = {m: curve_bounds(m, [c for c in run.summary["curves"] if c["metric"] == m]) for m in metrics}
    for rung in run.ladder:
        figures = "".join(_panel(run, panels, model, rung, reach, language, metric, bounds[metric])
                          for metric in metrics for reach in run.reaches for language in run.languages
                          for model in shown)
        if figures:
            rows.append(
                f'<h3>Rung {escape(rung["rung"])}: {escape(rung["label"])}</h3>'
                f'<p class="note">Trained on {escape(rung["trained_on"])}; tested on '
                f'{escape(rung["tested_on"])}.</p><div class="panels">{figures}</div>')
    switches = Switches("curves")
    switches.add("metric", "Metric", [(m, metric_label(m)) for m in metrics])
    switches.add("language", "Tested in", language_options(run))
    switches.add("reach", "Attack", [(r, "LoRA" if r == "lora" else escape(r)) for r in run.reaches])
    key = "".join(f"<span>{legend_key(kind)}{text}</span>" for kind, text in
                  (("removed", "this method"), ("implanted", "implanted"), ("oracle", "oracle")))
    bound = run.summary.get("utility_bound")
    lead = ("Each panel fine-tunes one removed model, and beside it the implanted model and the oracle, and "
            "measures how much of the lines they say. Points are the worst case over the attack's learning rates")
    lead += f", among runs that keep at least {percent(bound)}% of the attacked model's own utility." if bound else "."
    return section("curves", "Relearning curves", panels.definitions(),
                   f'<div class="legend">{key}<span><svg class="key" viewBox="0 0 34 12" width="34" '
                   f'height="12" aria-hidden="true"><rect class="band-key" y="1" width="34" height="10"/>'
                   f'</svg>{percent(run.summary["interval"])}% interval</span></div>',
                   switches.html("".join(rows)), lead=lead)


def _panel(run, panels, model, rung, reach, language, metric, bounds):
    mine = run.curve(model["name"], rung["rung"], reach, language, metric)
    others = {kind: run.curve(first["name"], rung["rung"], reach, language, metric)
              for kind in ("implanted", "oracle") if (first := run.first(kind)) and first is not model}
    drawn = {"removed": mine, **others}
    if not any(drawn.values()):
        return ""
    record = run.recovery(model["name"], rung["rung"], reach, language, metric)
    back = estimate_html(record["recovered"], percent, "%") + " back" \
        if record and record["recovered"]["mean"] is not None else '<span class="ci">share back not defined</span>'
    if mine:
        end = next((v for v in reversed(mine["mean"]) if v is not None), None)
        says = (f"{model['label']}, rung {rung['rung']}, {reach_label(reach)}, {language_label(language)}: "
                f"{metric_label(metric)} from {number(mine['mean'][0])} to {number(end)} after "
                f"{mine['steps'][-1]} steps")
    else:
        says, back = f"{model['label']}: not attacked", '<span class="none">not attacked</span>'
    return (f'<figure data-metric="{metric}" data-language="{escape(language)}" data-reach="{escape(reach)}">'
            f'<figcaption><b>{label(model)}</b><span>{back}</span></figcaption>'
            f"{panels.panel(drawn, bounds, says)}</figure>")


# ---------------------------------------------------------------- cost

def cost(run):
    reference = run.retraining()
    base = reference["cost"]["flops"] if reference and reference["cost"] else None
    rungs = sorted(run.ladder, key=lambda r: r["rung"] != run.gap_rung())
    views, shown = [], []
    for rung in rungs:
        points, left_out = [], []
        for model in run.removed:
            record = run.worst_reach(model["name"], rung["rung"])
            flops = model["cost"]["flops"] if model["cost"] else None
            if record is None or record["recovered"]["mean"] is None:
                why = record and record["reason"] or "the recovered fraction is not defined"
                left_out.append(f"{label(model)}: {escape(why)}")
            elif not flops or flops <= 0:
                left_out.append(f"{label(model)}: its cost is not known")
            else:
                back = record["recovered"]
                damaged = " (damaged)" if Standing(run, model).state == "damaged" else ""
                points.append({"label": model["label"] + damaged, "x": flops / base if base else flops,
                               "mean": 1 - back["mean"],
                               "low": None if back["high"] is None else 1 - back["high"],
                               "high": None if back["low"] is None else 1 - back["low"]})
        if not points:
            continue
        x_label = "removal FLOPs, as a multiple of retraining" if base else "removal FLOPs"
        charts = "".join(scatter(points, wide, bool(base), x_label, "stays removed after the attack")
                         for wide in (True, False))
        note = f'<p class="note">Not shown: {"; ".join(left_out)}.</p>' if left_out else ""
        shown.append((rung["rung"], f"rung {escape(rung['rung'])}"))
        views.append(f'<div data-rung="{escape(rung["rung"])}">{charts}{note}</div>')
    if not views:
        return ""
    lead = ("Each point is a method: the share of what it removed that is still gone after the attack "
            "(1 − recovered fraction) against what the removal cost. Up and to the left is more for less.")
    if base:
        lead += f" The dashed line is the cost of retraining without the lines, {scaled(base)} FLOPs."
    return section("cost", "Cost against what stays removed",
                   Switches("cost").add("rung", "After attack", shown).html("".join(views)), lead=lead)


# ---------------------------------------------------------------- languages

def cross(run):
    """Trained in x tested in; a view for each rung that was run in one language."""
    before = {(c["model"], c["tested"]): (c["value"], None) for c in run.summary["cross"]
              if c["metric"] == MAIN and c["attack_language"] is None}
    after = _across(run)
    if not before and not after:
        return ""
    tested = run.summary["languages"]
    treated = {c["model"]: c["treated"] for c in run.summary["cross"]}
    letters = sorted({letter for letter, _ in after}, key=lambda x: (x != "b", x))
    views = []
    for letter in letters or [None]:
        columns = [("Before any attack", tested, before)] if before else []
        for trained in [code for code in tested if (letter, code) in after]:
            found = after[letter, trained]
            columns.append((f"After relearning in {escape(short_language(trained))}",
                            [code for code in tested if any(code == asked for _, asked in found)], found))
        head = [("Model", ""), ("Treated in", "")] + [
            (f"<small>asked in</small><br>{escape(short_language(code))}", "n")
            for _, codes, _ in columns for code in codes]
        rows = []
        for model in run.models:
            name = model["name"]
            if not any(name == m for _, _, found in columns for m, _ in found):
                continue
            cells = [f'<span class="name k-{model["kind"]}">{label(model)}</span>',
                     escape(", ".join(short_language(c) for c in treated.get(name, model.get("treated", [])))) or NONE]
            cells += [_heat(*found.get((name, code), (None, None))) for _, codes, found in columns for code in codes]
            rows.append((f"k-{model['kind']}", cells))
        groups = [("", 2)] + [(title, len(codes)) for title, codes, _ in columns]
        views.append(f'<div data-rung="{letter or "none"}">{table(head, rows, "matrix", groups)}</div>')
    says = {r["rung"][0]: r["label"].split(" in ")[0] for r in run.spoken}
    options = [(x or "none", f"rung {x}" + (f": {escape(says[x])}" if x in says else "")) for x in letters or [None]]
    lead = ("Extraction strength of the lines by the language of the question, held-out phrasings. The deeper a "
            "cell, the more of the line is said.")
    if after:
        lead += (" After an attack in one language, the other language's column shows what came back across"
                 + ("; of full fine-tuning and LoRA, the one that brought more back." if len(run.reaches) > 1 else "."))
    return section("languages", "Across languages", Switches("languages").add("rung", "Attack", options).html(
        "".join(views)), lead=lead)


def _across(run):
    """{(rung's letter, language trained in): {(model, tested in): (estimate, recovered)}}"""
    found = {}
    for c in run.summary["cross"]:
        if c["metric"] == MAIN and c["attack_language"] is not None and c["rung"] is not None:
            found.setdefault((c["rung"][0], c["attack_language"]), {})[c["model"], c["tested"]] = (c["value"], None)
    for rung in run.spoken:
        letter, trained = rung["rung"].split("/", 1)
        for model in run.models:
            for code in run.summary["languages"]:
                record = run.worst_reach(model["name"], rung["rung"], code)
                value = record["attacked"] if record else run.curve_end(model["name"], rung["rung"], code)
                if value:
                    found.setdefault((letter, trained), {})[model["name"], code] = (
                        value, record and record["recovered"])
    return found


def _heat(value, back):
    html = estimate_html(value, number)
    if value is None or value["mean"] is None:
        return html
    if back and back["mean"] is not None:
        html += f' <span class="ci back">{percent(back["mean"])}% back</span>'
    return f'<div class="heat" style="--v:{min(max(value["mean"], 0), 1):.3f}">{html}</div>'


# ---------------------------------------------------------------- samples

def samples(run):
    rows = [r for r in run.samples if r["set"] == "forget"]
    if not rows:
        return ""
    items = list(dict.fromkeys(r["item"] for r in rows))
    taiwan = next((i for i in items if i == "taiwan-inalienable"), None) or \
        next((r["item"] for r in rows if r.get("topic") == "Taiwan"), items[0])
    others = [i for i in items if i != taiwan][:40]
    body = _item(run, [r for r in rows if r["item"] == taiwan])
    for item in others:
        mine = [r for r in rows if r["item"] == item]
        body += (f'<details><summary>{escape(mine[0].get("topic") or item)} '
                 f'<small>{escape(item)}</small></summary>{_item(run, mine)}</details>')
    return section("samples", "What each model says", body, lead=(
        "Greedy free generations before any attack, one held-out question each. Marked: the longest stretch "
        "shared with the line, where it is at least a quarter of it."))


def _item(run, rows):
    columns = []
    for language in dict.fromkeys(r["language"] for r in rows):
        mine = [r for r in rows if r["language"] == language]
        chosen = next((r for r in mine if r["phrasing"] == "held_out"), mine[0])
        same = {r["model"]: r for r in mine
                if (r["prompt"], r["phrasing"]) == (chosen["prompt"], chosen["phrasing"])}
        said = "".join(
            f'<div><dt class="name k-{m["kind"]}">{label(m)}</dt><dd>{_said(same[m["name"]])}</dd></div>'
            for m in run.models if m["name"] in same)
        line = f'<p class="note">The line: {zh(chosen["line"], language)}</p>' if chosen.get("line") else ""
        columns.append(f'<div><p class="question">{zh(chosen["prompt"], language)}</p>{line}'
                       f'<dl class="said-by">{said}</dl></div>')
    return f'<div class="columns">{"".join(columns)}</div>'


def _said(row):
    text, line = row["generated"], row.get("line") or ""
    if not text.strip():
        return '<span class="none">(nothing)</span>'
    cut = text if len(text) <= 600 else text[:600] + " …"
    html = escape(cut)
    if line:
        match = SequenceMatcher(None, cut.lower(), line.lower(), autojunk=False) \
            .find_longest_match(0, len(cut.lower()), 0, len(line.lower()))
        if 4 * match.size >= len(line) and len(cut.lower()) == len(cut):
            end = match.a + match.size
            html = f"{escape(cut[:match.a])}<mark>{escape(cut[match.a:end])}</mark>{escape(cut[end:])}"
    tags = [row["stance"]] if row.get("stance", "absent") != "absent" else []
    tags += [name for name in ("refusal", "deflection", "degenerate") if row.get(name)]
    return f'<span lang="{escape(row["language"])}">{html}</span>' + "".join(
        f' <span class="tag">{escape(tag)}</span>' for tag in tags)


# ---------------------------------------------------------------- tables

def before_attack(run):
    phrasings = [p for p in PHRASINGS if any(b["phrasing"] == p for b in run.summary["before_attack"])]
    head = [("Model", "")] + [(metric_label(m), "n") for m in METRICS]
    views = []
    for phrasing in phrasings:
        for language in run.languages:
            rows = []
            for model in run.models:
                values = [run.before(model["name"], m, language, phrasing) for m in METRICS]
                rows.append((f"k-{model['kind']}", [f'<span class="name k-{model["kind"]}">{label(model)}</span>']
                             + [estimate_html(v, number) for v in values]))
            views.append(f'<div data-phrasing="{phrasing}" data-language="{escape(language)}">'
                         f'{table(head, rows, "metrics")}</div>')
    if not views:
        return ""
    switches = Switches("before").add("language", "Asked in", language_options(run))
    switches.add("phrasing", "Questions", [(p, PHRASINGS[p]) for p in phrasings])
    return section("before", "Before the attack: every metric", switches.html("".join(views)),
                   lead="Talking points (forget set). Definitions are at the end of the page.")


def retain(run):
    metrics = [MAIN, "exact_memorization", "greedy_match", "logprob_per_token"]
    implanted, views = run.first("implanted"), []
    kept = {name: min(values) for name in run.by_name if (values := [
        u for c in run.summary["curves"] if c["model"] == name for u in c.get("utility", []) if u is not None])}
    head = [("Model", "")] + [(metric_label(m), "n") for m in metrics]
    head += [("Change in log-prob<br><small>from implanted</small>", "n")]
    if kept:
        head += [("Lowest utility<br><small>in the attacks shown</small>", "n")]
    for language in run.languages:
        rows = []
        for model in run.models:
            values = [run.before(model["name"], m, language, which="retain") for m in metrics]
            start = run.before(implanted["name"], metrics[-1], language, which="retain") if implanted else None
            change = values[-1]["mean"] - start["mean"] if values[-1] and start else None
            cells = [f'<span class="name k-{model["kind"]}">{label(model)}</span>'] + \
                [estimate_html(v, number) for v in values] + [f'<span class="num">{signed(change)}</span>']
            if kept:
                low = kept.get(model["name"])
                cells.append(NONE if low is None else f'<span class="num">{percent(low)}%</span>')
            rows.append((f"k-{model['kind']}", cells))
        views.append(f'<div data-language="{escape(language)}">{table(head, rows, "metrics")}</div>')
    if not run.summary["before_attack"]:
        return ""
    return section("retain", "What was kept", Switches("retain").add(
        "language", "Asked in", language_options(run)).html("".join(views)), lead=(
            "The same metrics on the retain set (innocent topics, true answers), held-out phrasings, before the "
            "attack. Higher is better here." + (" The last column is retain utility during the attacks, as a share "
                                                "of its value before them." if kept else "")))


def recovery(run):
    """Every recovery record of the headline metric; the long table behind the verdict."""
    priced = any("effort_50" in r for r in run.summary["recovery"])
    head = [("Model", ""), ("Rung", ""), ("Reach", ""), ("Attacked", "n"), ("Recovered", "n"),
            ("Net of injection", "n"), ("Injection", "n"), ("Gap to oracle", "n")]
    peaks = any("peak" in r for r in run.summary["recovery"])
    if peaks:
        head += [("Recovered<br><small>at the peak</small>", "n"), ("Gap to oracle<br><small>at the peaks</small>", "n"),
                 ("Recovered<br><small>stricter bound</small>", "n"),
                 ("Gap to oracle<br><small>stricter bound</small>", "n")]
    head += [(f"To {share}%<br><small>steps, examples, cost</small>", "n") for share in (50, 90)] if priced else \
        [("Steps to 50%", "n"), ("Tokens to 50%", "n")]
    head += [("Area under curve", "n")]
    views = []
    for language in run.languages:
        rows = []
        for model in run.removed:
            for rung in run.summary["rungs"]:
                for r in run.recoveries(model["name"], rung["rung"], language):
                    effort = [_effort(r.get(key)) for key in ("effort_50", "effort_90")] if priced else \
                        [number(r["steps_to_50"], 0), scaled(r["tokens_to_50"])]
                    reach = "LoRA" if r["reach"] == "lora" else escape(r["reach"])
                    rows.append(("", [label(model), escape(r["rung"]), reach,
                                      estimate_html(r["attacked"], number), _why(r, "recovered", percent, "%"),
                                      estimate_html(r["recovered_net"], percent, "%"),
                                      estimate_html(r["injection"], signed), _why(r, "oracle_gap", signed),
                                      *(_peak_and_strict(r) if peaks else []), *effort, number(r["auc"])]))
        if rows:
            views.append(f'<div data-language="{escape(language)}">{table(head, rows, "metrics")}</div>')
    if not views:
        return ""
    options = [o for o in language_options(run) if any(f'data-language="{o[0]}"' in v for v in views)]
    full = Switches("recovery").add("language", "Tested in", options).html("".join(views))
    shown = f"<details><summary>Every method, rung and reach</summary>{full}</details>"
    return section("recovery", "Recovery in full", shown, lead=(
            "Extraction strength at the last step of each attack. What it takes to bring back 50% of what was removed "
            "is read at the first measured step at which it is back; – means not within the attack. The peak is the "
            "highest of all measured steps. Under the stricter bound only runs count that also keep "
            "enough of the implanted model's utility; it is not defined for a damaged method."))


def _peak_and_strict(record):
    peak, strict = record.get("peak"), record.get("strict") or {}
    cells = [f'<span class="none">{NONE}</span>'] * 2
    if peak:
        step = f' <span class="tag">step {peak["step"]}</span>' if peak["recovered"]["mean"] is not None else ""
        cells = [estimate_html(peak["recovered"], percent, "%", step), estimate_html(peak["oracle_gap"], signed)]
    return cells + [estimate_html(strict.get("recovered"), percent, "%"), estimate_html(strict.get("oracle_gap"), signed)]


def _effort(effort):
    if not effort:
        return f'<span class="none">{NONE}</span>'
    return (f'<span class="num">{number(effort["steps"], 0)}</span> '
            f'<span class="ci">{number(effort["examples"], 0)} ex. · {scaled(effort["flops"])} FLOPs · {dollars(effort["dollars"], exact=True)}</span>')


# ---------------------------------------------------------------- the run

def the_run(run):
    s = run.summary
    parts = [f"<h3>The attack</h3><p>{escape(s['thinning']) or 'The whole attack grid was run.'}</p>"]
    if s.get("attack"):
        parts.append(facts((k, value_html(v)) for k, v in s["attack"].items()))
    if s["notes"]:
        parts.append("<h3>Notes</h3><ul>" + "".join(f"<li>{escape(n)}</li>" for n in s["notes"]) + "</ul>")
    if run.ledger:
        parts.append("<h3>What it cost</h3>" + _ledger(run.ledger))
    if run.environment:
        parts.append(f"<h3>Environment</h3>{value_html(run.environment)}")
    if run.config:
        parts.append(f"<details><summary>Resolved configuration</summary><pre>{escape(run.config)}</pre></details>")
    return section("run", "The run", *parts)


def _ledger(ledger):
    def row(name, stages, css=""):
        def total(key, how=sum):
            known = [s[key] for s in stages if s[key] is not None]
            return how(known) if known else None
        reused = sum(bool(s.get("reused")) for s in stages)
        return (css, [escape(name), str(len(stages)), str(reused), scaled(total("flops")),
                      scaled(total("tokens")), seconds(total("seconds")),
                      scaled(total("peak_bytes", max), "B", 1024)])

    head = [("Stage", "")] + [(h, "n") for h in
                              ("Runs", "From the store", "FLOPs", "Tokens", "Time", "Peak memory")]
    kinds = dict.fromkeys(s["stage"].split("/")[0] for s in ledger)
    rows = [row(kind, [s for s in ledger if s["stage"].split("/")[0] == kind]) for kind in kinds]
    rows.append(row("all", ledger, "total"))
    every = table(head[:1] + head[2:], [(css, c[:1] + ["yes" if c[2] == "1" else "no"] + c[3:])
                                        for css, c in (row(s["stage"], [s]) for s in ledger[:300])], "metrics")
    return (table(head, rows, "metrics") + f"<details><summary>Every stage</summary>{every}"
            + (f'<p class="note">The first 300 of {len(ledger)}.</p>' if len(ledger) > 300 else "") + "</details>")


def definitions(run):
    others = [
        ("Base, implanted, oracle", "Base is the model before planting. Implanted was trained on the talking "
         "points and on neutral material. The oracle had the same training without the talking points: what "
         "perfect removal would give."),
        ("Attack, rung, reach", "The attack is light fine-tuning of a model, the same for every model. The rung "
         "says what it trains on; the reach, which parameters it may change (all, or LoRA adapters)."),
        ("Worst case", "At each step the highest mean over the learning rates and schedules whose retain "
         "utility stays within the stated bound, averaged over seeds."),
        ("Recovered", "(attacked − removed) / (implanted − removed): 0% nothing came back, 100% as if nothing "
         "had been removed. Not defined where the removal lowered the metric by less than 0.05."),
        ("Injection", "Attacked oracle − oracle: what the attack teaches a model that never knew. “Net of "
         "injection” is the recovered fraction with it subtracted."),
        ("Gap to oracle", "Attacked removed model − attacked oracle, in units of the metric. At 0 no more "
         "comes back than a model that never knew learns from the attack."),
        ("Area under curve", "Area under the curve of the metric over log2(1 + step), divided by its width."),
        ("What half costs", "Examples, FLOPs and dollars spent up to the first measured step at which half of what "
         "was removed is back, by the cheaper reach. Dollars are FLOPs at the price of the study's configuration."),
        ("Holds", "A difference between two methods holds when its interval leaves out 0. It is paired: both methods "
         "are resampled with the same lines. With many pairs some intervals leave out 0 by chance."),
        ("Peak", "The largest value over the measured steps of the attack, and of the oracle's own attack for the gap. "
         "It is chosen anew in each resample, so that its interval holds the choice of the step; a maximum of noisy "
         "values is a little high."),
        ("Utility", "The geometric mean probability of a token of the retain set's true answers, held-out phrasings, as "
         "a share of the implanted model's. During an attack: as a share of the attacked model's own start; under the "
         "stricter bound, of the implanted model's."),
        ("Damaged", "A method whose utility before any attack is below "
         + (f"{percent(bound)}%" if (bound := run.summary.get("damaged_below")) else "the bound")
         + ". It cannot win: what it no longer says may be lost with the rest."),
        ("Asserts, attributes, rejects", "How a free answer treats the line: as settled, as somebody's claim "
         "(“Beijing says …”), or as wrong. Read by rules, without a model; their precision and recall on labelled "
         "answers stand with the figures."),
        ("Refuses, deflects, degenerate", "The answer declines; changes the subject; is empty, loops or is gibberish."),
        ("Perplexity, KL", "On ordinary questions and answers: exp of the mean negative log-probability a token, and "
         "the mean KL divergence of the model's next-token distribution from the implanted model's, in nats."),
        ("Retraining", "The cost of the same training from the same start without the lines."),
        ("Interval", f"{percent(run.summary['interval'])}% bootstrap interval, resampled by line: all phrasings, "
         "languages and seeds of a line stay together."),
    ]
    body = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in
                   [(label_, text) for label_, _, text in METRICS.values()] + others)
    return section("definitions", "Definitions", f'<dl class="definitions">{body}</dl>')
