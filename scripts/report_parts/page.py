"""The page: header, sections, style."""

from html import escape
from pathlib import Path

from . import axes, field, headline, price, sections
from .format import language_label

SECTIONS = [("verdict", "Verdict", headline.verdict), ("ladder", "Attacks", sections.ladder),
            ("curves", "Curves", sections.curves), ("cost", "Cost", sections.cost), ("price", "Price", price.price),
            ("languages", "Languages", sections.cross), ("ways", "Other ways", axes.ways),
            ("replies", "Replies", axes.replies), ("probes", "Probes", axes.probes),
            ("innocent", "Innocent", axes.innocent), ("retain", "Kept", sections.retain),
            ("fit", "Fit", axes.fit), ("field", "Benchmarks", field.field), ("pairs", "Pairs", axes.pairs), ("samples", "Samples", sections.samples),
            ("before", "Before", sections.before_attack), ("recovery", "Recovery", sections.recovery),
            ("run", "Run", sections.the_run), ("definitions", "Definitions", sections.definitions)]


def page(run):
    s = run.summary
    made = [(anchor, name, html) for anchor, name, make in SECTIONS if (html := make(run))]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name, _ in made)
    chips = [", ".join(language_label(code) for code in s["languages"])]
    if s.get("lines"):
        chips.append(f"{s['lines']} talking points")
    chips.append(f"{len(run.removed)} removal methods")
    if s.get("seeds"):
        chips.append(f"{len(s['seeds'])} attack seeds")
    if s.get("created"):
        chips.append(s["created"].replace("T", " ").replace("Z", " UTC"))
    banners = ""
    if s.get("fixture"):
        banners += '<p class="banner">Made-up figures for testing this page: no model was measured.</p>'
    if s.get("complete") is False:
        banners += '<p class="banner">The study is not finished: these are its results so far.</p>'
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(s["study"])} · Resurface</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1><span class="brand">Resurface</span> {escape(s["study"])}</h1>
<p class="chips">{"".join(f"<span>{escape(c)}</span>" for c in chips)}</p>
{f'<p class="lead">{escape(s["description"])}</p>' if s["description"] else ""}
{banners}
</header>
<nav aria-label="Sections">{links}</nav>
<main>
{chr(10).join(html for _, _, html in made)}
</main>
</body>
</html>
"""
