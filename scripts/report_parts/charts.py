"""Charts as inline SVG. Colours come from the page's style sheet, by class."""

import math
from html import escape

from .format import estimate_text, number, percent

SERIES = ("implanted", "oracle", "removed")  # drawn in this order, the removed model on top


def _xy(points):
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def marker(kind, x, y, size=3.2, title=""):
    """A dot, square or diamond: the shape says the series where colour does not."""
    title = f"<title>{escape(title)}</title>" if title else ""
    if kind == "implanted":
        shape = f'rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:.1f}" height="{2 * size:.1f}"'
    elif kind == "oracle":
        s = size * 1.35
        shape = f'path d="M{x:.1f} {y - s:.1f}l{s:.1f} {s:.1f}l-{s:.1f} {s:.1f}l-{s:.1f}-{s:.1f}z"'
    else:
        shape = f'circle cx="{x:.1f}" cy="{y:.1f}" r="{size * 1.05:.1f}"'
    return f'<{shape}>{title}</{shape.split()[0]}>' if title else f"<{shape}/>"


def legend_key(kind):
    return (f'<svg class="key s-{kind}" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true">'
            f'<path class="line" d="M1 6H33"/>{marker(kind, 17, 6, 3.4)}</svg>')


def nice_ticks(low, high, count=4):
    """Round numbers within [low, high]."""
    span = high - low or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step = next(step * m for m in (1, 2, 5, 10) if span / (step * m) <= count + 0.5)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


class Panels:
    """Small multiples of relearning curves. Axes and reference curves are drawn once and reused."""

    WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 240, 168, 34, 8, 8, 34

    def __init__(self):
        self.shared = {}  # svg content -> id

    def use(self, content):
        key = self.shared.setdefault(content, f"g{len(self.shared)}")
        return f'<use href="#{key}"/>'

    def definitions(self):
        body = "".join(f'<g id="{key}">{content}</g>' for content, key in self.shared.items())
        return f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>{body}</defs></svg>'

    def x(self, step, last):
        at = 0 if step <= 0 else 1 + math.log2(step)
        span = 1 + math.log2(last) if last >= 1 else 1
        return self.LEFT + at / span * (self.WIDTH - self.LEFT - self.RIGHT)

    def y(self, value, bounds):
        low, high = bounds
        value = min(max(value, low), high)
        return self.TOP + (high - value) / (high - low) * (self.HEIGHT - self.TOP - self.BOTTOM)

    def axes(self, steps, bounds):
        ticks = [0, 0.5, 1] if bounds == (0, 1) else nice_ticks(*bounds)
        parts, right, bottom = [], self.WIDTH - self.RIGHT, self.HEIGHT - self.BOTTOM
        for tick in ticks:
            y = self.y(tick, bounds)
            parts.append(f'<path class="grid" d="M{self.LEFT} {y:.1f}H{right}"/>'
                         f'<text class="tick" x="{self.LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">'
                         f"{number(tick, 1 if tick % 1 else 0)}</text>")
        every = math.ceil(len(steps) / 8)
        for i, step in enumerate(steps):
            x = self.x(step, steps[-1])
            parts.append(f'<path class="grid" d="M{x:.1f} {bottom}v3"/>')
            if i % every == 0:
                parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">'
                             f"{step}</text>")
        parts.append(f'<text class="tick axis" x="{(self.LEFT + right) / 2:.0f}" y="{self.HEIGHT - 4}" '
                     f'text-anchor="middle">attack steps</text>')
        return "".join(parts)

    def series(self, kind, curve, bounds):
        last, parts, run, runs = curve["steps"][-1], [], [], []
        for i, mean in enumerate(curve["mean"]):  # a null breaks the line
            if mean is None:
                runs.append(run)
                run = []
            else:
                run.append(i)
        for run in filter(None, runs + [run]):
            band = [i for i in run if curve["low"][i] is not None and curve["high"][i] is not None]
            at = {i: self.x(curve["steps"][i], last) for i in run}
            if len(band) > 1:
                upper = [(at[i], self.y(curve["high"][i], bounds)) for i in band]
                lower = [(at[i], self.y(curve["low"][i], bounds)) for i in reversed(band)]
                parts.append(f'<polygon class="band" points="{_xy(upper + lower)}"/>')
            points = [(at[i], self.y(curve["mean"][i], bounds)) for i in run]
            if len(points) > 1:
                parts.append(f'<polyline class="line" points="{_xy(points)}"/>')
            for i, (x, y) in zip(run, points):
                title = ""
                if kind == "removed":
                    value = {"mean": curve["mean"][i], "low": curve["low"][i], "high": curve["high"][i]}
                    title = f"step {curve['steps'][i]}: {estimate_text(value, number)}"
                parts.append(marker(kind, x, y, 2.6, title))
        return f'<g class="s-{kind}">{"".join(parts)}</g>'

    def panel(self, curves, bounds, label):
        """One panel. curves: {series: curve or None}; label says it to a screen reader."""
        drawn = [c for c in curves.values() if c]
        steps = max((c["steps"] for c in drawn), key=len)
        body = self.use(self.axes(steps, bounds))
        for kind in SERIES:
            if curves.get(kind):
                series = self.series(kind, curves[kind], bounds)
                body += series if kind == "removed" else self.use(series)
        return (f'<svg class="panel" viewBox="0 0 {self.WIDTH} {self.HEIGHT}" role="img" '
                f'aria-label="{escape(label)}">{body}</svg>')


def curve_bounds(metric, curves):
    """The y range shared by all panels of a metric."""
    if metric in ("extraction_strength", "exact_memorization", "greedy_match", "lcs"):
        return (0, 1)
    values = [v for c in curves for key in ("mean", "low", "high") for v in c[key] if v is not None]
    low, high = min(values, default=-1), max(values, default=0)
    pad = 0.04 * ((high - low) or 1)
    return (low - pad, 0 if metric == "logprob_per_token" else high + pad)


def scatter(points, wide, reference, x_label, y_label):
    """Cost (log axis) against the share that stays removed.

    points: [{label, x, mean, low, high}], shares of 1. reference: draw the line at x = 1.
    """
    width, height, left, right, top, bottom = (760, 400, 62, 26, 18, 56) if wide else \
                                              (360, 380, 58, 12, 18, 54)
    font = 13
    xs = [p["x"] for p in points] + ([1.0] if reference else [])
    low_x, high_x = math.log10(min(xs)), math.log10(max(xs))
    pad = max(0.12 * (high_x - low_x), 0.25)
    low_x, high_x = low_x - pad, high_x + pad
    ys = [p[k] for p in points for k in ("mean", "low", "high") if p[k] is not None]
    low_y, high_y = max(min(ys + [0]), -0.5), min(max(ys + [1]), 1.5)
    low_y, high_y = low_y - 0.04, high_y + 0.04

    def px(value):
        return left + (math.log10(value) - low_x) / (high_x - low_x) * (width - left - right)

    def py(value):
        value = min(max(value, low_y), high_y)
        return top + (high_y - value) / (high_y - low_y) * (height - top - bottom)

    parts = []
    for tick in (t for t in nice_ticks(low_y, high_y, 6) if low_y <= t <= high_y):
        parts.append(f'<path class="grid{" zero" if tick in (0, 1) else ""}" '
                     f'd="M{left} {py(tick):.1f}H{width - right}"/>'
                     f'<text class="tick" x="{left - 8}" y="{py(tick) + 4.5:.1f}" text-anchor="end">'
                     f"{percent(tick)}%</text>")
    decades = range(math.ceil(low_x), math.floor(high_x) + 1)
    ticks = [(10.0 ** d) * m for d in range(math.floor(low_x), math.ceil(high_x) + 1)
             for m in ((1,) if len(decades) >= 3 else (1, 3) if len(decades) == 2 else (1, 2, 5))]
    for tick in (t for t in ticks if low_x <= math.log10(t) <= high_x):
        x = px(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {height - bottom}v5"/>'
                     f'<text class="tick" x="{x:.1f}" y="{height - bottom + 19}" text-anchor="middle">'
                     f"{_log_tick(tick, reference)}</text>")
    boxes = []
    if reference:
        parts.append(f'<path class="ref" d="M{px(1):.1f} {top}V{height - bottom}"/>')
        boxes.append((px(1) - 2, top, px(1) + 2, height - bottom))
    parts.append(f'<text class="tick axis" x="{(left + width - right) / 2:.0f}" y="{height - 10}" '
                 f'text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text class="tick axis" transform="translate({13 if wide else 10} '
                 f'{(top + height - bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
                 f"{escape(y_label)}</text>")
    at = [(px(p["x"]), py(p["mean"]), p) for p in points]
    for x, y, p in at:
        boxes.append((x - 6, y - 6, x + 6, y + 6))
        if p["low"] is not None and p["high"] is not None:
            boxes.append((x - 2, py(p["high"]), x + 2, py(p["low"])))
            parts.append(f'<path class="whisker" d="M{x:.1f} {py(p["low"]):.1f}V{py(p["high"]):.1f}'
                         f'M{x - 4:.1f} {py(p["low"]):.1f}h8M{x - 4:.1f} {py(p["high"]):.1f}h8"/>')
    for x, y, p in at:
        title = f"{p['label']}: {estimate_text(p, lambda v: percent(v) + '%')} stays removed"
        parts.append(marker("removed", x, y, 5.5, title))
        box = _place(x, y, len(p["label"]) * font * 0.56, font, boxes,
                     (left + 2, top, width - 2, height - bottom))
        boxes.append(box)
        parts.append(f'<text class="label" x="{box[0]:.1f}" y="{box[3] - 3:.1f}">{escape(p["label"])}</text>')
    return (f'<svg class="scatter {"wide" if wide else "narrow"}" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{escape(y_label)} against {escape(x_label)}">'
            f'<g class="s-removed">{"".join(parts)}</g></svg>')


def _log_tick(value, multiple):
    if multiple:
        return f"{value:.10g}×" if 1e-3 <= value <= 1e3 else f"10{_superscript(round(math.log10(value)))}×"
    exponent = math.floor(math.log10(value) + 1e-9)
    lead = round(value / 10.0 ** exponent)
    return ("" if lead == 1 else f"{lead}·") + f"10{_superscript(exponent)}"


def _superscript(exponent):
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _place(x, y, width, height, boxes, area):
    """A box for a label near (x, y) that overlaps as little as can be."""
    best = None
    for radius in (10, 20, 32):
        for dx, dy in ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1)):
            left = x + dx * radius - (width if dx < 0 else width / 2 if dx == 0 else 0)
            top = y + dy * (radius + 2) - height / 2
            box = (left, top, left + width, top + height + 3)
            outside = max(0, area[0] - box[0]) + max(0, box[2] - area[2]) + \
                max(0, area[1] - box[1]) + max(0, box[3] - area[3])
            overlap = sum(max(0, min(box[2], b[2]) - max(box[0], b[0])) *
                          max(0, min(box[3], b[3]) - max(box[1], b[1])) for b in boxes)
            cost = overlap + 100 * outside + radius
            if best is None or cost < best[0]:
                best = (cost, box)
    return best[1]
