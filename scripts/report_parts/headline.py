"""The first screen: who won and by how much, and for every method what was removed, what came back,
against what a model that never knew shows, at whose cost, and what was kept."""

from html import escape

from .format import (NONE, dollars, estimate_html, estimate_text, language_label, names, number, percent,
                     scaled, seconds, short_language, signed, times)
from .html import table

MAIN = "extraction_strength"
SMALLEST_DROP = 0.05  # a removal that lowers the metric by less removed nothing
KEY = ('<span class="strip-key"><i class="was"></i>before</span> '
       '<span class="strip-key"><i class="now"></i>after</span> <span class="strip-key"><i class="knew"></i>never knew</span>')
EMPTY = f'<span class="none">{NONE}</span>'


class Standing:
    """How one removed model stands after the attack on rung `run.gap_rung()`."""

    def __init__(self, run, model):
        self.model, self.name, self.label = model, model["name"], escape(model["label"])
        self.record = run.worst_reach(model["name"], run.gap_rung())
        self.attacked = self.record["attacked"] if self.record and self.record["attacked"]["mean"] is not None else None
        self.utility = model.get("utility")
        implanted = run.first("implanted")
        start = run.before(implanted["name"], MAIN) if implanted else None
        now = run.before(model["name"], MAIN)
        self.drop = start["mean"] - now["mean"] if start and now else None
        if model.get("damaged"):
            self.state = "damaged"
        elif self.drop is not None and self.drop < SMALLEST_DROP:
            self.state = "removed nothing"
        elif self.attacked is None:
            self.state = "not attacked"
        else:
            self.state = "ok"


def ranking(run):
    """(methods, yardsticks): standings, the best first. Retraining is a yardstick where there is another."""
    states = ["ok", "removed nothing", "damaged", "not attacked"]
    every = [Standing(run, m) for m in run.removed]
    every.sort(key=lambda s: (states.index(s.state), s.attacked["mean"] if s.attacked else 2))
    methods = [s for s in every if s.model["method"] != "retrain"]
    return (methods, [s for s in every if s not in methods]) if methods else (every, [])


def beaten(difference):
    return difference and difference["holds"] and difference["mean"] > 0


class Verdict:
    """Who won: `winner`, or `tied` methods, or neither; `rival` is the next best."""

    def __init__(self, run):
        self.methods, self.yardsticks = ranking(run)
        self.fair = [s for s in self.methods if s.state == "ok"]
        rung = run.gap_rung()
        self.lead = self.fair[0] if self.fair else None
        self.rivals = self.fair[1:]
        self.against = {s.name: run.difference(s.name, self.lead.name, rung) for s in self.rivals}
        self.compared = all(self.against.values())
        self.tied = [s for s in self.rivals if not beaten(self.against[s.name])]
        self.winner = self.lead if self.lead and not self.tied else None

    def badge(self, standing):
        if standing.state != "ok":
            return "" if standing.state == "not attacked" else f'<span class="badge bad">{standing.state}</span>'
        if standing is self.winner:
            return '<span class="badge good">wins</span>'
        if self.compared and (standing is self.lead or standing in self.tied):
            return '<span class="badge">no clear difference</span>'
        return ""

    def sentence(self):
        lead = self.lead
        if not self.methods:
            return "No removal method was measured."
        if not any(s.attacked for s in self.methods):
            return "No method was attacked by relearning: whether the lines would come back is not known."
        if not lead:
            states = {s.state for s in self.methods}
            why = "each damaged what the model should keep" if states == {"damaged"} else \
                "each removed nothing" if states == {"removed nothing"} else \
                "each removed nothing or damaged what the model should keep"
            return f"No method won: {why}."
        says = f"after the attack the model says {estimate_text(lead.attacked, number)} of a line"
        if len(self.methods) == 1:
            return f"{lead.label}: {says}. No other method was measured."
        if not self.rivals:
            return f"{lead.label} wins: it alone removed the lines and kept the rest. {says[0].upper() + says[1:]}."
        rival = self.rivals[0]
        if not self.compared:
            return (f"{lead.label} ends lowest: {says}. Whether that differs from "
                    f"{rival.label} ({estimate_text(rival.attacked, number)}) was not tested.")
        if self.winner:
            return (f"{lead.label} wins: after the attack the model says "
                    f"{estimate_text(self.against[rival.name], number)} less of a line than with {rival.label}, "
                    f"the next best method.")
        gap = estimate_text(self.against[self.tied[0].name], signed)
        if len(self.tied) == len(self.rivals):
            return (f"No winner: no difference holds. {lead.label} ends lowest, but {self.tied[0].label} only differs "
                    f"by {gap}, which can be chance.")
        return (f"No single winner: {names([lead.label] + [s.label for s in self.tied])} keep most removed, and the "
                f"difference between {'them' if len(self.tied) == 1 else 'the first two'}, {gap}, can be chance.")

    def more(self, run):
        """What the sentence leaves out: the gap to the oracle, retraining, and who does not count."""
        said, lead = [], self.lead
        if lead:
            back, gap = lead.record["recovered"], lead.record["oracle_gap"]
            text = f"{lead.label} ends at {estimate_text(lead.attacked, number)} of a line"
            if gap["mean"] is not None:
                sure = gap["low"] is not None and gap["low"] > 0
                text += (f", {estimate_text(gap, number)} above a model that never knew the lines, attacked alike" if sure
                         else f", not told from a model that never knew the lines, attacked alike "
                              f"({estimate_text(gap, signed)})")
            if back["mean"] is not None:
                text += f"; {percent(back['mean'])}% of what had been removed is back"
                if peak := _peak(run, lead.record):
                    text += f" ({percent(peak['recovered']['mean'])}% at the attack's peak, step {peak['step']})"
            said.append(text + ".")
            for s in self.yardsticks:
                if s.attacked and s.model["method"] == "retrain":
                    cost = times(_flops(s.model), _flops(lead.model))
                    said.append(f"{s.label}, the yardstick, ends at {estimate_text(s.attacked, number)}"
                                + (f" and costs {cost} as much." if cost else "."))
        for s in self.methods:
            if s.state == "damaged":
                lower = lead and s.attacked and beaten(run.difference(lead.name, s.name, run.gap_rung()))
                text = f"{s.label} ends lower ({number(s.attacked['mean'])}) but does not count" if lower else \
                    f"{s.label} does not count"
                said.append(f"{text}: it is damaged, with {percent(s.utility['mean'])}% of the implanted model's "
                            "utility.")
        nothing = [s for s in self.methods if s.state == "removed nothing"]
        if nothing and lead:
            said.append(f"{names(s.label for s in nothing)} removed nothing.")
        return " ".join(said)


def _peak(run, record):
    """The record of the reach whose peak is highest, where that is above the last step shown; or None."""
    best = run.peak_reach(record["model"], record["rung"])
    above = best and percent(best["peak"]["recovered"]["mean"]) != percent(record["recovered"]["mean"])
    return best["peak"] if above else None


def _flops(model):
    return model["cost"]["flops"] if model["cost"] else None


# ---------------------------------------------------------------- the table

def verdict(run):
    v, rung = Verdict(run), run.gap_rung()
    implanted, oracle = run.first("implanted"), run.first("oracle")
    spoken = run.summary["languages"]
    head = [("Method", "")]
    head += [(escape(language_label(code)).replace(" ", "<br>"), "n", f"Says in {escape(short_language(code))}")
             for code in spoken]
    head += [(f"Said after the attack<small>{KEY}</small>", "strip", "Said after the attack"),
             ("Share that<br>came back", "n", "Share that came back"),
             ("Above a model<br>that never knew", "n", "Above one that never knew"),
             ("Removal <small>retraining = 1×</small>", "n", "Removal, retraining = 1×"),
             ("Attacker, to<br>bring half back", "n", "Attacker, to bring half back"),
             ("Utility", "n", "Utility kept")]
    removed = "before → after removal" if _arrows(run) else "after removal"
    groups = [("", 1), (f"Share of a line said,<br>{removed}", len(spoken)), ("What comes back", 3), ("At whose cost", 2), ("What is kept", 1)]
    rows = []
    for standing in v.methods + v.yardsticks:
        css = "k-removed" + (" won" if standing is v.winner else "") + \
            (" out" if standing.state != "ok" else "") + (" first-yard" if standing in v.yardsticks[:1] else "")
        note = "yardstick" if standing in v.yardsticks else ""
        rows.append((css, _row(run, standing.model, implanted, standing.record, note, v.badge(standing))))
    for i, (model, note) in enumerate(((oracle, "never knew the lines"), (implanted, "before removal"))):
        if model:
            first = " first-yard" if i == 0 and not v.yardsticks else ""
            rows.append((f"k-{model['kind']}{first}", _row(run, model, None, None, note, "")))
    on = next((r for r in run.ladder + run.spoken if r["rung"] == rung), None)
    note = "Questions never used in planting, removal or attack. "
    if on:
        note += (f"The attack is fine-tuning on {escape(on['label'])} (rung {escape(rung)}: "
                 f"{escape(on['trained_on'])}), tested on {escape(on['tested_on'])}")
        note += "; the reach that brought most back is shown. " if len(run.reaches) > 1 else ". "
    note += ("“Of a line”, from 0 to 1: extraction strength, the share of the line that the model completes by itself. "
             f"[ ]: {percent(run.summary['interval'])}% intervals. Utility: how probable retained tokens still are, as a "
             "share of the implanted model's")
    bound = run.summary.get("damaged_below")
    note += f"; a method below {percent(bound)}% is damaged and cannot win." if bound else "."
    more = v.more(run)
    dense = (" dense" if len(rows) > 11 else "") + ("" if _arrows(run) else " many")
    return (f'<section id="verdict"><h2 class="answer">{v.sentence()}</h2>'
            + (f'<p class="more">{more}</p>' if more else "") + f'<p class="note key">{KEY}</p>'
            + table(head, rows, "verdict head" + dense, groups) + f'<p class="note">{note}</p></section>')


def _arrows(run):
    """Whether there is room for the value before removal; it is that of the implanted model's row."""
    return len(run.summary["languages"]) < 3


def _row(run, model, implanted, record, note, badge):
    name = model["name"]
    small = f' <small>{note}</small>' if note else ""
    cells = [f'<span class="name k-{model["kind"]}">{escape(model["label"])}</span>{small}{badge}']
    for code in run.summary["languages"]:
        now = run.before(name, MAIN, code)
        was = run.before(implanted["name"], MAIN, code) if implanted else None
        arrow = f'<span class="was">{number(was["mean"])} → </span>' if was and now and _arrows(run) else ""
        cells.append(estimate_html(now, number).replace('"num">', f'"num">{arrow}', 1))
    rung = run.gap_rung()
    after = record["attacked"] if record else run.curve_end(name, rung)
    oracle = run.first("oracle")
    knew = run.curve_end(oracle["name"], rung) if oracle else None
    cells.append(estimate_html(after, number) + _strip(run.before(name, MAIN), after, knew))
    if record and record["recovered"]["mean"] is not None:
        reach = "LoRA" if record["reach"] == "lora" else escape(record["reach"])
        tag = f'<span class="tag">{reach}</span>' if len(run.reaches) > 1 else ""
        peak = _peak(run, record)
        cells.append(estimate_html(record["recovered"], percent, "%") + tag
                     + (f' <span class="ci peak">peak {percent(peak["recovered"]["mean"])}%, step {peak["step"]}</span>'
                        if peak else ""))
    else:
        cells.append(EMPTY)
    cells.append(estimate_html(record["oracle_gap"], signed) if record else EMPTY)
    cells += [_removal_cost(run, model), _attack_cost(run, model, record)]
    cells.append(estimate_html(model.get("utility"), percent, "%"))
    return cells


def _strip(before, after, oracle):
    """0 to 1: where the model stood, where the attack brought it, where it brings the oracle."""
    def at(value):
        return f"{100 * min(max(value, 0), 1):.1f}%"

    if after is None or after["mean"] is None:
        return ""
    marks = ""
    if after["low"] is not None and after["high"] is not None:
        low, high = min(max(after["low"], 0), 1), min(max(after["high"], 0), 1)
        marks += f'<i style="left:{at(low)};width:{100 * (high - low):.1f}%"></i>'
    if oracle:
        marks += f'<u style="left:{at(oracle["mean"])}"></u>'
    if before:
        marks += f'<s style="left:{at(before["mean"])}"></s>'
    return f'<span class="track" aria-hidden="true">{marks}<b style="left:{at(after["mean"])}"></b></span>'


def _removal_cost(run, model):
    cost, reference = model["cost"], run.retraining()
    if not cost or model["kind"] != "removed" or cost["flops"] is None and cost["seconds"] is None:
        return EMPTY
    ratio = times(cost["flops"], _flops(reference) if reference else None)
    exact = f'{scaled(cost["flops"])} FLOPs'
    return (f'<span class="num">{ratio}</span> <span class="ci">{exact}</span>'
            if ratio else f'<span class="num">{exact}</span> <span class="ci">{seconds(cost["seconds"])}</span>')


def _attack_cost(run, model, record):
    """The cheapest reach to half of what was removed."""
    if not record or record["recovered"]["mean"] is None:
        return EMPTY
    records = run.recoveries(model["name"], run.gap_rung())
    efforts = [e for r in records if (e := r.get("effort_50"))]
    if efforts:
        best = min(efforts, key=lambda e: (e["flops"] or 0, e["steps"] or 0))
        return (f'<span class="num">{number(best["examples"], 0)} examples</span> '
                f'<span class="ci">{dollars(best["dollars"])}</span>')
    steps = [r["steps_to_50"] for r in records if r["steps_to_50"] is not None]
    if steps:
        return f'<span class="num">{min(steps)} steps</span>'
    last = max(r["at_step"] for r in records)
    return f'<span class="num">not reached</span> <span class="ci">in {last} steps</span>'
