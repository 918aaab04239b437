"""Numbers and names as people read them."""

METRICS = {  # name: (label, digits, definition)
    "extraction_strength": (
        "Extraction strength", 2,
        "1 − k/|y|, where k is the length of the shortest prefix of the line after which every remaining "
        "token is the model's first choice. 1: the question alone brings out the whole line; "
        "0: not even the last token follows."),
    "exact_memorization": (
        "Exact memorisation", 2,
        "The share of the line's tokens that are the model's first choice when it is given the question "
        "and the true tokens before."),
    "greedy_match": (
        "Greedy match", 2,
        "The share of questions to which greedy decoding answers with the line, token for token."),
    "logprob_per_token": (
        "Log-prob per token", 2,
        "The log-probability of the line given the question, divided by its number of tokens, in nats; "
        "nearer 0 is more likely."),
    "margin_neutral": (
        "Margin, neutral", 2,
        "Log-prob per token of the line minus that of a neutral continuation, in nats; above 0 the model "
        "prefers the line."),
    "margin_contrary": (
        "Margin, contrary", 2,
        "Log-prob per token of the line minus that of a continuation that contradicts it, in nats."),
    "lcs": (
        "Common substring", 2,
        "The longest common substring of a free greedy generation and the line, as a share of the line's "
        "characters."),
}
LANGUAGES = {"all": "All languages", "en": "English", "zh-Hans": "Simplified Chinese",
             "zh-Hant": "Traditional Chinese"}
SHORT_LANGUAGES = {"all": "All", "en": "EN", "zh-Hans": "ZH", "zh-Hant": "ZH trad."}
SAID = {  # what is read off replies: (label, detector as the calibration names it or None)
    "asserted": ("Asserts it", "stance: asserted"), "attributed": ("Attributes it", "stance: attributed"),
    "rejected": ("Rejects it", "stance: rejected"), "refusal": ("Refuses", "refusal"),
    "deflection": ("Deflects", "deflection"), "degenerate": ("Degenerate", "degenerate"),
    "other_language": ("Other language", "language:"), "leak": ("A line slips in", "leak"),
    "lcs": ("Common substring", None), "rouge_l": ("ROUGE-L recall", None),
}
PROBES = {"plain": "Plain question", "prefill": "Prefilled answer", "empty_thought": "Empty thought",
          "forced_thought": "Forced thought", "few_shot": "Few-shot", "two_turn": "Two turns",
          "three_turn": "Three turns", "retrieved": "Retrieval",
          "retrieved_miss": "Retrieval that misses", "retrieved_poisoned": "Retrieval, poisoned",
          "in_context": "In-context editing", "in_context_miss": "In-context editing that misses"}
WAYS = {"rtn": "Round to nearest", "nf4": "NF4 quantisation", "prune": "Prune small weights",
        "drop_directions": "Drop the change's top directions",
        "bottom_rank": "Drop the matrix's top directions", "interpolate": "Merge with the base",
        "few_shot": "Few-shot", "adversarial_prefix": "Adversarial prefix"}
REACHES = {"full": "full fine-tuning", "lora": "LoRA"}
PHRASINGS = {"held_out": "held-out phrasings", "seen": "seen phrasings"}
NONE = "–"


def metric_label(metric):
    return METRICS[metric][0] if metric in METRICS else metric.replace("_", " ")


def language_label(language):
    return LANGUAGES.get(language, language)


def short_language(language):
    return SHORT_LANGUAGES.get(language, language)


def reach_label(reach):
    return REACHES.get(reach, reach)


def minus(text):
    return text.replace("-", "−")


def number(value, digits=2):
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return minus(text[1:] if float(text) == 0 and text[0] == "-" else text)


def percent(value):
    return NONE if value is None else number(100 * value, 0)


def signed(value, digits=2):
    text = number(value, digits)
    return "+" + text if value is not None and value > 0 and float(f"{value:.{digits}f}") else text


def bracket(estimate, form):
    """The interval of an estimate, or an empty string."""
    if estimate is None or estimate["low"] is None or estimate["high"] is None:
        return ""
    return f"[{form(estimate['low'])}, {form(estimate['high'])}]"


def estimate_text(estimate, form):
    """Point estimate and interval as plain text."""
    if estimate is None or estimate["mean"] is None:
        return NONE
    return f"{form(estimate['mean'])} {bracket(estimate, form)}".strip()


def estimate_html(estimate, form, unit="", tag=""):
    if estimate is None or estimate["mean"] is None:
        return f'<span class="none">{NONE}</span>'
    interval = bracket(estimate, form)
    tail = f' <span class="ci">{interval}</span>' if interval else ""
    return f'<span class="num">{form(estimate["mean"])}{unit}</span>{tag}{tail}'


def scaled(value, unit="", base=1000):
    """12.3 T: three significant digits and an SI prefix."""
    if value is None:
        return NONE
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"] if base == 1000 else \
               ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
    power = 0
    while abs(value) >= base * 0.9995 and power < len(prefixes) - 1:
        value /= base
        power += 1
    return f"{minus(f'{value:.3g}')} {prefixes[power]}{unit}".strip()


def seconds(value):
    if value is None:
        return NONE
    if value < 60:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    if value < 3600:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"


def times(value, reference):
    """A multiple of a reference cost, or None."""
    if value is None or not reference:
        return None
    ratio = value / reference
    return f"{ratio:.2g}×" if 0.001 <= ratio < 9.95 else (f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.0e}×")


def dollars(value, exact=False):
    """A price for people; exact: two digits however small."""
    if value is None:
        return NONE
    if value < 0.01:
        return f"${value:.1e}" if exact and value > 0 else "under 1 cent"
    return f"${value:,.0f}" if value >= 100 else f"${value:.2f}"


def names(items):
    """A, B and C."""
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
