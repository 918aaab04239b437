"""Small pieces of HTML that several sections use."""

from html import escape

from .format import LANGUAGES, NONE, short_language


def section(anchor, title, *body, lead=""):
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{title}</h2>{lead}{"".join(body)}</section>'


def zh(text, language):
    """Text in its language, so that the right glyphs are chosen."""
    return f'<span lang="{escape(language)}">{escape(text)}</span>' if language in LANGUAGES else escape(text)


def table(head, rows, css="", groups=()):
    """head: [(html, class)] or [(html, class, label where the table is shown as cards)];
    rows: [(row class, [cell html])], the first cell being the row's header;
    groups: [(html, number of columns)], a row above the head.
    """
    body = []
    for row_class, cells in rows:
        line = f'<th scope="row">{cells[0]}</th>'
        for cell, column in zip(cells[1:], head[1:]):
            empty = " empty" if _plain(cell) == NONE else ""
            line += (f'<td class="{column[1]}{empty}" data-label="{escape(_plain(column[-1]), quote=True)}">'
                     f"{cell}</td>" if len(column) > 2 else f'<td class="{column[1]}{empty}">{cell}</td>')
        body.append(f'<tr class="{row_class}">{line}</tr>')
    top = "".join(f'<th scope="colgroup" colspan="{width}">{text}</th>' if text else f'<td colspan="{width}"></td>'
                  for text, width in groups)
    heading = "".join(f'<th scope="col" class="{column[1]}">{column[0]}</th>' for column in head)
    return (f'<div class="scroll" tabindex="0"><table class="{css}"><thead>'
            f'{f"""<tr class="groups">{top}</tr>""" if top else ""}<tr>{heading}</tr></thead>'
            f'<tbody>{"".join(body)}</tbody></table></div>')


def _plain(html):
    text, inside = "", False
    for c in html.replace("<br>", " "):
        inside = (inside or c == "<") and c != ">"
        if not inside and c != ">":
            text += c
    return " ".join(text.split())


class Switches:
    """Radio buttons that show one variant of a view; the style sheet does it, without a script."""

    def __init__(self, name):
        self.name = name
        self.inputs, self.groups, self.rules = [], [], []

    def add(self, group, legend, options):
        """options: [(value, html label)]; the first is chosen. With one option nothing is shown."""
        labels = []
        for i, (value, label) in enumerate(options):
            key = f"{self.name}-{group}-{i}"
            checked = " checked" if i == 0 else ""
            self.inputs.append(f'<input type="radio" class="sr" name="{self.name}-{group}" id="{key}"'
                               f'{checked} aria-label="{legend}: {escape(_plain(label), quote=True)}">')
            labels.append(f'<label for="{key}">{label}</label>')
            attribute = f"data-{group}"
            self.rules.append(
                f'#{key}:checked~.view [{attribute}]:not([{attribute}="{value}"]){{display:none}}'
                f'#{key}:checked~.controls [for={key}]{{background:var(--ink);color:var(--page)}}'
                f'#{key}:focus-visible~.controls [for={key}]{{outline:2px solid var(--removed);'
                f'outline-offset:2px}}')
        if len(options) > 1:
            self.groups.append(f'<div class="group"><span>{legend}</span>'
                               f'<div class="pills">{"".join(labels)}</div></div>')
        return self

    def html(self, view):
        controls = f'<div class="controls">{"".join(self.groups)}</div>' if self.groups else ""
        return (f'<div class="switched">{"".join(self.inputs)}<style>{"".join(self.rules)}</style>'
                f'{controls}<div class="view">{view}</div></div>')


def language_options(run):
    """All first, then the languages of the study."""
    return [(code, escape(short_language(code))) for code in dict.fromkeys([run.pooled] + run.summary["languages"])]


def facts(items):
    return '<dl class="facts">' + "".join(
        f"<div><dt>{escape(str(k))}</dt><dd>{v}</dd></div>" for k, v in items) + "</dl>"


def value_html(value):
    """Any JSON value as text."""
    if isinstance(value, dict):
        return facts((k, value_html(v)) for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(value_html(v) for v in value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(f"{value:g}" if isinstance(value, float) else str(value))
