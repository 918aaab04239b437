"""Reads a run folder and checks it against docs/output.md, so that the page can rely on it."""

import json
from pathlib import Path

SCHEMA = "resurface.summary/1"


class ReportError(Exception):
    """Something the user can act on: names the file and the key."""


class Maybe:
    """A value or null."""

    def __init__(self, spec):
        self.spec = spec


NUMBER = (int, float)
ESTIMATE = {"mean": Maybe(NUMBER), "low": Maybe(NUMBER), "high": Maybe(NUMBER)}
PEAK = {"step": int, "attacked": ESTIMATE, "recovered": ESTIMATE, "oracle_gap": ESTIMATE}
STRICT = {"attacked": ESTIMATE, "recovered": ESTIMATE, "oracle_gap": ESTIMATE, "peak": PEAK}
EFFORT = {"steps": Maybe(int), **{k: Maybe(NUMBER) for k in ("examples", "tokens", "flops", "dollars")}}
COST = {k: Maybe(NUMBER) for k in ("flops", "tokens", "seconds", "peak_bytes", "examples")}
NAMES = {int: "an integer", str: "a string", bool: "true or false", dict: "an object",
         NUMBER: "a finite number"}

# A key that ends in * is optional. A list holds the spec of its elements.
SUMMARY = {
    "schema": str, "study": str, "description": str, "fixture*": bool, "created*": Maybe(str),
    "complete*": bool, "languages": [str], "lines*": int, "interval": NUMBER, "resamples*": int,
    "seeds*": [int],
    "models": [{"name": str, "method": str, "label": str, "kind": str, "treated*": [str],
                "cost": Maybe(COST), "utility*": ESTIMATE, "damaged*": Maybe(bool)}],
    "rungs": [{"rung": str, "label": str, "trained_on": str, "tested_on": str, "way*": str}],
    "attack*": dict, "utility_bound*": Maybe(NUMBER), "damaged_below*": NUMBER,
    "before_attack": [{"model": str, "language": str, "phrasing": str, "set": str, "items*": int,
                       "metrics": dict}],
    "curves": [{"model": str, "rung": str, "reach": str, "language": str, "metric": str,
                "steps": [int], "tokens": [NUMBER], "mean": [Maybe(NUMBER)], "low": [Maybe(NUMBER)],
                "high": [Maybe(NUMBER)], "utility*": [Maybe(NUMBER)]}],
    "recovery": [{"model": str, "rung": str, "reach": str, "language": str, "metric": str,
                  "at_step": int, "attacked": ESTIMATE, "recovered": ESTIMATE,
                  "recovered_net": ESTIMATE, "oracle_gap": ESTIMATE, "injection": ESTIMATE,
                  "peak*": PEAK, "strict*": Maybe(STRICT),
                  "steps_to_50": Maybe(int), "tokens_to_50": Maybe(NUMBER), "effort_50*": Maybe(EFFORT),
                  "effort_90*": Maybe(EFFORT), "auc": Maybe(NUMBER), "reason": Maybe(str)}],
    "axes*": [{"model": str, "set": str, "probe": str, "language": str, "replies": int, "metrics": dict}],
    "fit*": [{"model": str, "perplexity": Maybe(NUMBER), "kl": Maybe(NUMBER), "tokens": int}],
    "detectors*": [{"detector": str, "n": int, "precision": ESTIMATE, "recall": ESTIMATE}],
    "field*": {"benchmarks": [{"benchmark": str, "paper": str, "main": [str]}],
               "results": [{"model": str, "benchmark": str, "metrics": dict}]},
    "verdict*": [{"a": str, "b": str, "rung": str, "reach": str, "language": str, "metric": str,
                  "removed": ESTIMATE, "attacked": ESTIMATE, "oracle_gap_auc": ESTIMATE, "holds": bool,
                  "peak*": ESTIMATE, "wins*": Maybe(str), "reason*": Maybe(str)}],
    "cross": [{"model": str, "treated": [str], "attack_language": Maybe(str), "rung": Maybe(str),
               "reach": Maybe(str), "tested": str, "metric": str, "value": ESTIMATE}],
    "thinning": str, "notes": [str],
}
BILL = {"flops": NUMBER, "gpu_hours": NUMBER, "dollars": NUMBER, "bytes": NUMBER, "gpus": int}
PRICE = {
    "assumptions": {"study_parameters": NUMBER, "study_lines": int, "lines": int, "dollars_per_hour": NUMBER,
                    "peak_flops": NUMBER, "efficiency": NUMBER, "gpu_bytes": NUMBER, "rung": str},
    "models": [{"model": str, "source": str, "tokens": NUMBER, "retraining": BILL,
                "methods": [{"label": str, "of_retraining": NUMBER, "examples": int,
                             "stays_removed": Maybe(ESTIMATE), **BILL}]}],
}
KINDS = ("base", "implanted", "oracle", "removed")


def _check(value, spec, file, where):
    if isinstance(spec, Maybe):
        if value is not None:
            _check(value, spec.spec, file, where)
    elif isinstance(spec, list):
        if not isinstance(value, list):
            raise ReportError(f"{file}: '{where}' should be a list, but is {_show(value)}")
        for i, element in enumerate(value):
            _check(element, spec[0], file, f"{where}[{i}]")
    elif isinstance(spec, dict):
        _check(value, dict, file, where or "the whole file")
        for name, inner in spec.items():
            key = name.rstrip("*")
            path = f"{where}.{key}" if where else key
            if key in value:
                _check(value[key], inner, file, path)
            elif not name.endswith("*"):
                raise ReportError(f"{file}: missing key '{path}' (see docs/output.md)")
    elif not isinstance(value, spec) or (isinstance(value, bool) and spec is not bool):
        raise ReportError(f"{file}: '{where}' should be {NAMES[spec]}, but is {_show(value)}")


def _show(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _parse(text, file):
    def refuse(constant):
        raise ReportError(f"{file}: {constant} is not allowed; use null for what is not defined")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ReportError(f"{file}: not JSON: {error}") from None


def read_text(path):
    """The text of a file, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from None


def load_summary(path):
    text = read_text(path)
    if text is None:
        raise ReportError(f"{path}: no such file; `resurface study` writes it")
    summary = _parse(text, path)
    schema = summary.get("schema") if isinstance(summary, dict) else None
    if schema is not None and schema != SCHEMA:
        raise ReportError(f"{path}: 'schema' is {_show(schema)}, this report reads \"{SCHEMA}\"")
    _check(summary, SUMMARY, path, "")

    names = [m["name"] for m in summary["models"]]
    if len(set(names)) != len(names):
        raise ReportError(f"{path}: 'models' has two of the same name: {', '.join(names)}")
    for i, model in enumerate(summary["models"]):
        if model["kind"] not in KINDS:
            raise ReportError(f"{path}: 'models[{i}].kind' should be one of {', '.join(KINDS)}, "
                              f"but is {_show(model['kind'])}")
    rungs = [r["rung"] for r in summary["rungs"]]
    for key in ("before_attack", "curves", "recovery", "cross", "axes", "fit", "verdict"):
        for i, record in enumerate(summary.get(key, [])):
            where = f"{key}[{i}]"
            for name in ("model",) if "model" in record else ("a", "b"):
                if record[name] not in names:
                    raise ReportError(f"{path}: '{where}.{name}' is {_show(record[name])}, "
                                      f"which is not among models: {', '.join(names)}")
            if record.get("rung") is not None and record["rung"] not in rungs:
                raise ReportError(f"{path}: '{where}.rung' is {_show(record['rung'])}, "
                                  f"which is not among rungs: {', '.join(rungs)}")
    for i, record in enumerate(summary.get("field", {}).get("results", [])):
        if record["model"] not in names:
            raise ReportError(f"{path}: 'field.results[{i}].model' is {_show(record['model'])}, "
                              f"which is not among models: {', '.join(names)}")
        for metric, value in record["metrics"].items():
            _check(value, NUMBER, path, f"field.results[{i}].metrics.{metric}")
    for key in ("before_attack", "axes"):
        for i, record in enumerate(summary.get(key, [])):
            for metric, value in record["metrics"].items():
                _check(value, Maybe(ESTIMATE), path, f"{key}[{i}].metrics.{metric}")
    for i, curve in enumerate(summary["curves"]):
        for key in ("tokens", "mean", "low", "high", "utility"):
            if key in curve and len(curve[key]) != len(curve["steps"]):
                raise ReportError(f"{path}: 'curves[{i}].{key}' has {len(curve[key])} values, "
                                  f"'steps' has {len(curve['steps'])}")
    return summary


def load_lines(path, only=""):
    """The objects of a JSON-lines file whose line contains `only`; [] where there is no file."""
    found = []
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and only in line:
                    record = _parse(line, f"{path}:{number}")
                    _check(record, dict, f"{path}:{number}", "the line")
                    found.append(record)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from None
    return found


def load_samples(path):
    """Rows of results.jsonl with a free answer to a plain question, made before any attack."""
    need = {"model": str, "set": str, "item": str, "topic*": str, "language": str, "phrasing": str,
            "question*": Maybe(int), "prompt": str, "line*": Maybe(str), "lcs*": Maybe(NUMBER), "probe*": str,
            "stance*": str, **{f"{flag}*": Maybe(int) for flag in ("refusal", "deflection", "degenerate")}}
    rows = []
    for row in load_lines(path, only='"generated"'):
        if row.get("generated") is not None and row.get("phase") == "before" \
                and row.get("probe", "plain") == "plain":
            _check(row, {**need, "generated": str}, path, f"a row with \"generated\" of {row.get('model')}")
            rows.append(row)
    return rows


class Run:
    """A run folder as the page needs it."""

    def __init__(self, folder):
        folder = Path(folder)
        if not folder.is_dir():
            raise ReportError(f"{folder}: no such folder; give the run folder of a study")
        self.folder = folder
        self.summary = load_summary(folder / "summary.json")
        self.samples = load_samples(folder / "results.jsonl")
        self.ledger = load_lines(folder / "ledger.jsonl")
        for i, stage in enumerate(self.ledger):
            _check(stage, {"stage": str, "reused*": bool, **COST}, folder / "ledger.jsonl", f"[{i}]")
        environment = read_text(folder / "environment.json")
        self.environment = _parse(environment, folder / "environment.json") if environment else {}
        _check(self.environment, dict, folder / "environment.json", "the whole file")
        self.config = read_text(folder / "config.resolved.yaml")
        price = read_text(folder / "cost.json")
        self.price = _parse(price, folder / "cost.json") if price else None
        if self.price:
            _check(self.price, PRICE, folder / "cost.json", "")

        s = self.summary
        self.models = s["models"]
        self.removed = [m for m in self.models if m["kind"] == "removed"]
        self.by_name = {m["name"]: m for m in self.models}
        self._before = {(b["model"], b["language"], b["phrasing"], b["set"]): b["metrics"]
                        for b in s["before_attack"]}
        self._curves = {(c["model"], c["rung"], c["reach"], c["language"], c["metric"]): c
                        for c in s["curves"]}
        self._recovery = {(r["model"], r["rung"], r["reach"], r["language"], r["metric"]): r
                          for r in s["recovery"]}
        self._axes = {(a["model"], a["set"], a["probe"], a["language"]): a["metrics"] for a in s.get("axes", [])}
        # A study of one language has nothing to pool.
        one = len(s["languages"]) == 1 and not any(b["language"] == "all" for b in s["before_attack"])
        self.pooled = s["languages"][0] if one else "all"
        self.languages = list(dict.fromkeys(s["languages"] + [self.pooled]))
        # The ladder: rungs of one letter. Attacks in one language and ways back have sections of their own.
        self.ladder = [r for r in s["rungs"] if "way" not in r and len(r["rung"]) == 1]
        self.spoken = [r for r in s["rungs"] if "way" not in r and len(r["rung"]) > 1]
        self.ways = [r for r in s["rungs"] if "way" in r]
        trained = {r["rung"] for r in self.ladder + self.spoken}
        self.reaches = list(dict.fromkeys(c["reach"] for c in s["curves"] if c["rung"] in trained))

    def first(self, kind):
        return next((m for m in self.models if m["kind"] == kind), None)

    def before(self, model, metric, language=None, phrasing="held_out", which="forget"):
        """An estimate, or None. No language: all together."""
        found = self._before.get((model, language or self.pooled, phrasing, which), {}).get(metric)
        return found if found and found["mean"] is not None else None

    def axis(self, model, metric, which="forget", probe="plain", language=None):
        """An estimate read off probes and replies, or None."""
        found = self._axes.get((model, which, probe, language or self.pooled), {}).get(metric)
        return found if found and found["mean"] is not None else None

    def curve(self, model, rung, reach, language, metric):
        return self._curves.get((model, rung, reach, language, metric))

    def curve_end(self, model, rung, language=None, metric="extraction_strength"):
        """The last point of the reach that ends highest, as an estimate; or None."""
        ends = [{k: c[k][-1] for k in ("mean", "low", "high")}
                for (name, r, _, spoken, m), c in self._curves.items()
                if (name, r, spoken, m) == (model, rung, language or self.pooled, metric)
                and c["mean"] and c["mean"][-1] is not None]
        return max(ends, key=lambda e: e["mean"], default=None)

    def recovery(self, model, rung, reach, language=None, metric="extraction_strength"):
        return self._recovery.get((model, rung, reach, language or self.pooled, metric))

    def recoveries(self, model, rung, language=None, metric="extraction_strength"):
        """The records of every reach."""
        return [r for (name, on, _, spoken, m), r in self._recovery.items()
                if (name, on, spoken, m) == (model, rung, language or self.pooled, metric)]

    def worst_reach(self, model, rung, language=None, metric="extraction_strength"):
        """The recovery record of the reach that brought most back; any record where none is defined."""
        records = self.recoveries(model, rung, language, metric)
        for key in ("recovered", "attacked"):
            defined = [r for r in records if r[key]["mean"] is not None]
            if defined:
                return max(defined, key=lambda r: r[key]["mean"])
        return next(iter(records), None)

    def peak_reach(self, model, rung):
        """The recovery record of the reach that brought most back at its peak; None where none is defined."""
        return max((r for r in self.recoveries(model, rung)
                    if r.get("peak") and r["peak"]["recovered"]["mean"] is not None),
                   key=lambda r: r["peak"]["recovered"]["mean"], default=None)

    def retraining(self):
        """The model whose cost is the cost of retraining, or None."""
        return next((m for m in self.removed if m["method"] == "retrain"), self.first("oracle"))

    def gap_rung(self):
        """The rung of the headline: b; where it was not run, the last of the ladder."""
        rungs = [r["rung"] for r in self.ladder or self.spoken]
        return "b" if "b" in rungs else (rungs[-1] if rungs else None)

    def difference(self, a, b, rung):
        """The paired difference a - b after the attack, an estimate with "holds"; None: not made."""
        for v in self.summary.get("verdict", []):
            if v["rung"] == rung and {v["a"], v["b"]} == {a, b} and v["metric"] == "extraction_strength" \
                    and v["language"] == self.pooled and v["attacked"]["mean"] is not None:
                d = v["attacked"]
                if v["a"] == a:
                    return {**d, "holds": v["holds"]}
                turned = {k: None if d[o] is None else -d[o]
                          for k, o in (("mean", "mean"), ("low", "high"), ("high", "low"))}
                return {**turned, "holds": v["holds"]}
        return None
