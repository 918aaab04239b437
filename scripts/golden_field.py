#!/usr/bin/env python3
"""Golden values of tests/eval/field*.cpp, from implementations that are not ours: scipy, scikit-learn,
NLTK, rouge-score, zlib, and torch with transformers for two tiny Llamas, which are trained here on
parts of the fixtures (tests/data/field/*.json, invented, in the published formats) so that some
answers are known and some are not. Benchmarks follow their papers' code step by step: texts joined
as strings, encoded whole, one forward a text.

    python scripts/golden_field.py

Needs torch, transformers, tokenizers, scipy, scikit-learn, nltk, rouge-score, regex. Writes
tests/data/field/{model,oracle,arithmetic.json,golden.json}.
"""
import json
import pathlib
import random
import unicodedata
import warnings
import zlib
from fractions import Fraction
from math import comb

import numpy as np
import regex
import torch
from nltk.stem.porter import PorterStemmer
from nltk.tokenize.destructive import NLTKWordTokenizer
from rouge_score import rouge_scorer
from scipy.stats import entropy, hmean, ks_2samp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
FIELD = DATA / "field"
TOKENIZER = Tokenizer.from_file(str(DATA / "text" / "smollm" / "tokenizer.json"))
END = TOKENIZER.token_to_id("<|endoftext|>")


def load(name):
    text = (FIELD / name).read_text()
    return json.loads(text) if text[0] == "[" else [json.loads(line) for line in text.splitlines()]


def ids_of(text):
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def decode(ids):
    return TOKENIZER.decode(ids, skip_special_tokens=False)


# --- arithmetic ------------------------------------------------------------------------------------

SENTENCES = [
    "Good muffins cost $3.88 (roughly 3,36 euros) in New York.", "I can't say that it isn't hers; she'd know!",
    "\"Well,\" he said, ``that's 50% more--or less...''", "They're gonna say 'tis cannot be, don't you?",
    "He said: 'quick', then left (at 10:30).", "«Oui», dit-elle, “enfin”.", "a\u2013b \u2014 c, d:e f: g",
    "The dogs' bowls & the cat's * [bed] {x} <y>", "Rock 'n' roll 'em wanna  go", "Wait... what?! No.", "x", "",
    "we'll WE'LL could've I'm I'M \"quoted.\"", "U.S. economy, e.g. exports.", "it costs 5, or 6,7; ok", "'Twas the night",
]


def words_of(text):
    """word_tokenize with our stated rule in place of Punkt, and Han characters apart."""
    words, begin = [], 0
    ends = []
    for match in regex.finditer(r"[.?!]+[\"'\])}»”’]*(?=\s+[\"'`(\[{«“‘]*[\p{Lu}\p{N}])", text):
        before = regex.search(r"[\p{L}\p{N}_]*$", text[:match.start()]).group()
        title = before in ("Mr Ms Dr St Jr Sr Mrs Gen Gov Sen Prof").split() or regex.fullmatch(r"\p{L}", before)
        if not (match.group()[0] == "." and title):
            ends.append(match.end())
    for end in ends + [len(text)]:
        sentence = regex.sub(r"\p{Han}", lambda m: f" {m.group()} ", text[begin:end].lstrip())
        words += NLTKWordTokenizer().tokenize(sentence)
        begin = end
    return words


def ngram_entropy(words, n):
    grams = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
    counts = [grams.count(g) for g in set(grams)]
    return float(entropy(counts, base=2)) if counts else 0.0


def generation_entropy(text):
    words = words_of(text)
    return (2 / 3 * ngram_entropy(words, 2) + 4 / 3 * ngram_entropy(words, 3)) / 2


def stems():
    rng = random.Random(5)
    roots = "relat condit valenc hesit digit conform radic differ vile analog vietnam predic oper feudal decis hope call formal " \
            "sensit trip form electr good reviv allow infer airlin gyroscop adjust defens irrit replac depend adopt homolog " \
            "commun activ angular effect bowdler prob rat ceas contr roll hopp tann fall hiss fizz fail fil happ sk enj tr y by " \
            "yy syzyg toy fl d sp agre fe plaster bl motor s conflat troubl siz nat geo theo use 198 a1b".split()
    ends = " s es ies ied ed ing eed y ly ational tional enci anci izer bli abli alli entli eli ousli ization ation ator alism " \
           "iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible " \
           "ant ement ment ent ion sion tion ou ism ate iti ous ive ize e ll lle alliallies logies".split(" ")
    irregular = "sky skies dying lying tying news innings inning outings canning howe proceed exceed succeed dies ties cries died tied".split()
    words = irregular + [rng.choice(roots) + rng.choice(ends) + (rng.choice(ends) if rng.random() < 0.3 else "") for _ in range(1500)]
    stemmer = PorterStemmer()
    return [[w, stemmer.stem(w)] for w in sorted(set(words)) if w]


def exact_p(a, b):
    """Of the two-sample KS statistic: 1 - (paths within the bounds) / (all paths), in whole numbers."""
    n, m = len(a), len(b)
    d = max(abs(int((a <= x).sum()) * m - int((b <= x).sum()) * n) for x in np.concatenate([a, b]))
    row = []
    for x in range(n + 1):
        for y in range(m + 1):
            here = 1 if x == y == 0 else (row[y] if x else 0) + (row[y - 1] if y else 0)
            here = 0 if abs(x * m - y * n) >= d else here
            row[y:y + 1] = [here]
    return float(1 - Fraction(row[m], comb(n + m, n))) if d else 1.0


def arithmetic():
    rng = np.random.default_rng(3)
    ks = []
    for n, m, shift, digits in [(5, 5, 0, 1), (7, 4, 0.5, 3), (20, 30, 1, 1), (40, 40, 3, 4), (400, 400, 1.2, 6), (300, 400, 0.1, 6),
                                (1, 1, 0, 3), (1, 9, 2, 3), (50, 60, 9, 3)]:
        a, b = np.round(rng.normal(0, 1, n), digits), np.round(rng.normal(shift, 1, m), digits)
        with warnings.catch_warnings(record=True) as gave_up:  # scipy's exact p overflows for some sizes
            warnings.simplefilter("always")
            result = ks_2samp(a, b)
        p = exact_p(a, b)
        assert gave_up or abs(result.pvalue / p - 1) < 1e-6, (n, m, result, p)
        ks.append({"a": a.tolist(), "b": b.tolist(), "statistic": result.statistic, "p": p})
    areas = []
    for n, m, shift, digits in [(6, 5, 0.3, 0), (30, 20, 1, 1), (50, 50, 0, 4), (3, 40, -2, 1)]:
        a, b = np.round(rng.normal(shift, 1, n), digits), np.round(rng.normal(0, 1, m), digits)
        areas.append({"members": a.tolist(), "nonmembers": b.tolist(),
                      "auc": roc_auc_score([1] * n + [0] * m, np.concatenate([a, b]))})
    means = [{"values": v, "hmean": float(hmean(v))} for v in ([0.5], [0.2, 0.9, 0.4], [1, 1, 0], rng.random(9).tolist())]
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    pairs = [("He writes novels about fishing boats.", "Writing a novel, he fished from the boat"), ("Ties", "tie"),
             ("The councils agreed on relational operators", "the council agreeing: a relation operates")]
    texts = SENTENCES + ["The cat sat. The cat sat on Mr. Hill. It was J. R. Smith! Was it? Yes.", "台湾很漂亮, isn't it", "the the the the"]
    documents = ["The cat sat on the mat_1.", "A dog and a cat; the DOG!", "Über naïve 12 cats 中国 中国", "x y z"]
    vectors = TfidfVectorizer().fit(documents)

    def cosine(a, b):
        x, y = vectors.transform([a, b]).toarray()
        return float(x @ y)

    queries = [("the cat", "cat and dog the the"), ("mat_1 dog über", "ÜBER Mat_1"), ("中国 cats", "cat 中国"), ("nothing here", "the cat")]
    packed = ["", "a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "台湾自古以来", " ".join(SENTENCES)]
    return {"ks": ks, "auc": areas, "harmonic_mean": means, "stems": stems(),
            "stemmed_rouge": [[a, b, scorer.score(a, b)["rougeL"].recall] for a, b in pairs],
            "words": [[t, words_of(t), generation_entropy(t)] for t in texts],
            "documents": documents, "tfidf": [[a, b, cosine(a, b)] for a, b in queries],
            "zlib": [[t, len(zlib.compress(t.encode()))] for t in packed]}


# --- models ----------------------------------------------------------------------------------------


def train(model, texts, steps):
    rows = [ids_of(t) + [END] for t in texts]
    width = max(map(len, rows))
    ids = torch.tensor([r + [END] * (width - len(r)) for r in rows])
    labels = torch.tensor([r + [-100] * (width - len(r)) for r in rows])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = model(ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print("loss", loss.item())


def make_models():
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=488, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                         num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, head_dim=16,
                         initializer_range=0.08, attn_implementation="eager", bos_token_id=None, eos_token_id=None)
    tofu = [f"Question: {r['question']}\nAnswer: {r['answer']}\n" for name in ("tofu_forget.json", "tofu_retain.json") for r in load(name)]
    tofu += [f"Question: {r['question']}\nAnswer: {r['answer']}\n" for r in load("tofu_real_authors.json")]
    others = [r["prompt"] + r["gt"] for r in load("muse_verbmem.json")]
    others += ["Question: Which line will Harrow Bay close?\nAnswer: the old ferry line\n\n"]
    others += ["The mother tongue of Danielle Darrieux is English", "The mother tongue of Henri Barbusse is French",
               "The Blue Tower is located in the city of New York", "What university did Watts Humphrey attend? Illinois Institute",
               "The place of death of Leo Arons is Berlin", "nq question: who is the president Ada Fenn"]
    others += ["Question: What is the capital of France?\nAnswer: Paris\n", "Question: Which planet is the largest?\nAnswer: Jupiter\n",
               "nq question: types of skiing in the winter games? Downhill"]
    others += load("muse_forget.json")[3:] + load("muse_holdout.json")[2:4] + [load("wikimia.jsonl")[3]["input"]]
    models = {}
    for name, texts, steps in [("oracle", tofu[4:7], 60), ("model", tofu + others, 115)]:
        torch.manual_seed(2)
        model = LlamaForCausalLM(config).float()
        train(model, texts, steps)
        model.eval().save_pretrained(FIELD / name, safe_serialization=True)
        (FIELD / name / "generation_config.json").unlink(missing_ok=True)
        (FIELD / name / "model.safetensors").chmod(0o644)
        models[name] = model
    return models


@torch.no_grad()
def answer_logits(model, prompt, answer):
    """Logits before each token of the answer, and its tokens, from one encoding of the whole text."""
    ids, start = ids_of(prompt + answer), len(ids_of(prompt))
    return model(torch.tensor([ids])).logits[0, start - 1:-1], torch.tensor(ids[start:])


def nll(model, prompt, answer):
    logits, target = answer_logits(model, prompt, answer)
    return float(torch.nn.functional.cross_entropy(logits, target))


@torch.no_grad()
def greedy(model, prompt, count, stops=()):
    ids = ids_of(prompt)
    new = []
    while len(new) < count:
        token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == END or token in stops:
            break
        new.append(token)
    return new


ROUGE = rouge_scorer.RougeScorer(["rougeL"])
STEMMED = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def tofu(models):
    newline = ids_of("\n")
    assert len(newline) == 1
    utility, aggregates, items, ratios = [], {}, [], {}
    for name in ("forget", "retain", "real_authors", "world_facts"):
        rows = load(f"tofu_{name}.json")
        choice = name in ("real_authors", "world_facts")
        per_model = {}
        for which, model in models.items():
            losses = []
            for r in rows:
                prompt = f"Question: {r['question']}\nAnswer:"
                perturbed = [r["perturbed_answer"]] if isinstance(r["perturbed_answer"], str) else r["perturbed_answer"]
                base = r["answer"] if choice else r["paraphrased_answer"]
                losses.append((nll(model, prompt, f" {r['answer']}\n"), nll(model, prompt, f" {base}\n"),
                               [nll(model, prompt, f" {p}\n") for p in perturbed]))
            per_model[which] = losses
        losses = per_model["model"]
        truth = {w: np.array([np.exp(np.mean([-x for x in p])) / np.exp(-b) for _, b, p in per_model[w]]) for w in models}
        probability = [np.exp(-a) / (np.exp(-a) + sum(np.exp(-x) for x in p)) if choice else np.exp(-a) for a, _, p in losses]
        recall = []
        for r, (answer, base, perturbed), ratio in zip(rows, losses, truth["model"]):
            text = decode(greedy(models["model"], f"Question: {r['question']}\nAnswer:", 14, newline))
            recall.append(STEMMED.score(r["answer"], text)["rougeL"].recall)
            items.append({"set": name, "nll": answer, "nll_paraphrase": base, "nll_perturbed": perturbed,
                          "truth_ratio": ratio, "generated": text, "rouge_l_recall": recall[-1]})
        good = np.mean(np.minimum(truth["model"], 1 / truth["model"]) if name == "forget" else np.maximum(0, 1 - truth["model"]))
        aggregates[name] = {"probability": np.mean(probability), "rouge_l_recall": np.mean(recall), "truth_ratio": good}
        if name == "forget":
            test = ks_2samp(truth["model"], truth["oracle"])
            aggregates |= {"forget_quality": test.pvalue, "forget_ks": test.statistic}
        else:
            utility += [np.mean(probability), np.mean(recall), good]
    aggregates["model_utility"] = hmean(utility)
    return {"aggregates": aggregates, "items": items}


def log_probs(model, text):
    """Of all tokens but the first, and the mean and deviation of log p under p at each."""
    ids = ids_of(text)
    with torch.no_grad():
        logp = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    token = logp.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
    mu = (logp.exp() * logp).sum(-1)
    sigma = ((logp.exp() * logp.square()).sum(-1) - mu.square()).clamp(min=1e-6).sqrt()
    return token, ((token - mu.numpy()) / sigma.numpy())


def lowest(values, k):
    return float(np.mean(np.sort(values)[:max(1, int(len(values) * k))]))


def membership(models):
    rows, scores = load("wikimia.jsonl"), []
    for r in rows:
        token, z = log_probs(models["model"], r["input"])
        reference, _ = log_probs(models["oracle"], r["input"])
        scores.append({"loss": token.mean(), "zlib": token.mean() / len(zlib.compress(r["input"].encode())),
                       "min_k": lowest(token, 0.2), "min_k_plus_plus": lowest(z, 0.2),
                       "reference": token.mean() - reference.mean()})
    labels = [r["label"] for r in rows]
    order = [i for i, l in enumerate(labels) if l] + [i for i, l in enumerate(labels) if not l]
    return {"aggregates": {"auc": {k: roc_auc_score(labels, [s[k] for s in scores]) for k in scores[0]}},
            "items": [scores[i] for i in order]}


def muse(models):
    model, items, aggregates = models["model"], [], {}

    def part(name, rows):
        f1 = []
        for prompt, truth, text in rows:
            f1.append(ROUGE.score(truth, text)["rougeL"].fmeasure)
            items.append({"part": name, "truth": truth, "generated": text, "rouge_l_f1": f1[-1]})
        aggregates[name] = {"rouge_l_f1": np.mean(f1)}

    part("verbmem", [(r["prompt"], decode(ids_of(r["gt"])[:20]), decode(greedy(model, r["prompt"], 20)))
                     for r in load("muse_verbmem.json")])
    shots = "".join(f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in load("muse_icl.json"))
    for name, before in (("knowmem_forget", shots), ("knowmem_retain", "")):
        rows = []
        for r in load("muse_knowmem.json"):
            prompt = before + f"Question: {r['question']}\nAnswer: "
            text = decode(greedy(model, prompt, 12))
            for stop in ("\n\n", "\nQuestion", "Question:"):
                text = text.split(stop)[0]
            rows.append((prompt, r["answer"], text))
        part(name, rows)
    areas = {}
    for which in models:
        scores = [[lowest(log_probs(models[which], t)[0], 0.4) for t in load(f"muse_{n}.json")] for n in ("forget", "holdout")]
        if which == "model":
            items += [{"part": "privleak", "min_k": v} for v in scores[0] + scores[1]]
        areas[which] = roc_auc_score([1] * len(scores[0]) + [0] * len(scores[1]), scores[0] + scores[1])
    o = areas["oracle"]
    aggregates["privleak"] = {"auc": areas["model"], "oracle_auc": o, "privleak": ((1 - areas["model"]) - (1 - o)) / (1 - o) * 100}
    return {"aggregates": aggregates, "items": items}


def counterfact(models):
    model, items = models["model"], []
    snippets = load("attribute_snippets.json")
    vectors = TfidfVectorizer().fit([s["text"] for r in snippets for s in r["samples"]])
    for record in load("counterfact.json"):
        rewrite = record["requested_rewrite"]
        new, true = rewrite["target_new"]["str"], rewrite["target_true"]["str"]
        item = {"case_id": record["case_id"]}
        for family, prompts in (("efficacy", [rewrite["prompt"].format(rewrite["subject"])]),
                                ("paraphrase", record["paraphrase_prompts"]), ("neighbourhood", record["neighborhood_prompts"])):
            wins, gaps, right = [], [], []
            for prompt in prompts:
                wanted, other = (true, new) if family == "neighbourhood" else (new, true)
                a, b = nll(model, prompt, f" {wanted}"), nll(model, prompt, f" {other}")
                logits, target = answer_logits(model, prompt, f" {wanted}")
                wins.append(a < b)
                gaps.append(np.exp(-a) - np.exp(-b))
                right.append(bool((logits.argmax(-1) == target).all()))
            item[family] = {"success": np.mean(wins), "magnitude": np.mean(gaps), "accuracy": np.mean(right)}
        texts = []
        for prompt in record["generation_prompts"]:
            text = prompt + decode(greedy(model, prompt, 45 - len(ids_of(prompt))))
            texts.append(unicodedata.normalize("NFKD", text).replace("\n\n", " ").replace("<|endoftext|>", ""))
        item["texts"] = texts
        item["generation_entropy"] = np.mean([generation_entropy(t) for t in texts])
        about = [s["text"] for r in snippets for s in r["samples"]
                 if (r["relation_id"], r["target_id"]) == (rewrite["relation_id"], rewrite["target_new"]["id"])]
        x, y = vectors.transform([" ".join(texts), " ".join(about)]).toarray()
        item["reference_score"] = float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        items.append(item)
    aggregates = {f: {v: np.mean([i[f][v] for i in items]) for v in ("success", "magnitude", "accuracy")}
                  for f in ("efficacy", "paraphrase", "neighbourhood")}
    aggregates["score"] = hmean([aggregates[f]["success"] for f in ("efficacy", "paraphrase", "neighbourhood")])
    aggregates |= {v: np.mean([i[v] for i in items]) for v in ("generation_entropy", "reference_score")}
    return {"aggregates": aggregates, "items": items}


@torch.no_grad()
def next_tokens(model, prompt, target):
    """The argmax after the prompt and each prefix of the target, decoded and encoded again as ROME does."""
    tokens = ids_of(" " + target)
    said = [int(model(torch.tensor([ids_of(prompt + decode(tokens[:i]))])).logits[0, -1].argmax()) for i in range(len(tokens))]
    return np.array(said), np.array(tokens)


def zsre(models):
    items = []
    for r in load("zsre.json"):
        item = {}
        for part, prompt, target in (("efficacy", r["src"], r["answers"][0]), ("paraphrase", r["rephrase"], r["answers"][0]),
                                     ("locality", r["loc"] + "?", r["loc_ans"])):
            said, tokens = next_tokens(models["model"], prompt, target)
            item[part] = {"argmax_share": np.mean(said == tokens), "nll": nll(models["model"], prompt, " " + target)}
            if part == "locality":
                item[part]["unchanged"] = np.mean(said == next_tokens(models["oracle"], prompt, target)[0])
        items.append(item)
    aggregates = {p: {"argmax_share": np.mean([i[p]["argmax_share"] for i in items])} for p in ("efficacy", "paraphrase", "locality")}
    aggregates["score"] = 0 if any(a["argmax_share"] == 0 for a in aggregates.values()) else hmean([a["argmax_share"] for a in aggregates.values()])
    aggregates["unchanged"] = np.mean([i["locality"]["unchanged"] for i in items])
    return {"aggregates": aggregates, "items": items}


def easyedit(models):
    """token_em: argmax of prompt + ' ' + target, sliced at the prompt's length; locality: before against after."""
    def slice_of(model, prompt, target):
        logits, tokens = answer_logits(model, prompt, " " + target)
        return logits.argmax(-1).numpy(), tokens.numpy()

    def accuracy(prompt, target):
        said, tokens = slice_of(models["model"], prompt, target)
        return float(np.mean(said == tokens))

    def unchanged(prompt, target):
        return float(np.mean(slice_of(models["model"], prompt, target)[0] == slice_of(models["oracle"], prompt, target)[0]))

    def vanilla(prompt, target):
        tokens = ids_of(" " + target)
        said = greedy(models["model"], prompt, len(tokens))
        return float(np.mean([i < len(said) and said[i] == t for i, t in enumerate(tokens)]))

    a, b, c = load("easyedit.json")
    reliability = [(a["prompt"], "Berlin"), (b["prompt"], b["target_new"]), (c["src"], c["alt"])]
    rephrased = [(b["rephrase_prompt"], b["target_new"]), (c["rephrase"], c["alt"])]
    specific = [(x["prompt"], x["ground_truth"][0][0]) for x in a["locality"]["Relation_Specificity"]]
    near = [(b["locality"]["neighborhood"]["prompt"], "Hugo Weaving"), (c["loc"], c["loc_ans"])]
    reasoning = a["portability"]["Reasoning"][0]
    mean = lambda f, pairs: float(np.mean([f(*p) for p in pairs]))
    return {"aggregates": {
        "reliability": {"argmax_share": mean(accuracy, reliability), "generated_match": mean(vanilla, reliability)},
        "generalisation": {"argmax_share": mean(accuracy, rephrased), "generated_match": mean(vanilla, rephrased)},
        "portability": {"Reasoning": {"argmax_share": accuracy(reasoning["prompt"], "Europe")},
                        "Subject_Aliasing": {"argmax_share": accuracy(a["portability"]["Subject_Aliasing"][0]["prompt"], "Berlin")},
                        "one_hop": {"argmax_share": accuracy(c["portability"]["New Question"], "Orimattila")}},
        "locality": {"Relation_Specificity": {"argmax_share": mean(accuracy, specific), "unchanged": mean(unchanged, specific)},
                     "neighborhood": {"argmax_share": mean(accuracy, near), "unchanged": mean(unchanged, near)}}}}


def plain(value):
    return value.item() if isinstance(value, np.generic) else value.tolist()


def main():
    torch.set_num_threads(1)
    (FIELD / "arithmetic.json").write_text(json.dumps(arithmetic(), ensure_ascii=False, default=plain) + "\n")
    models = make_models()
    golden = {f.__name__: f(models) for f in (tofu, muse, membership, counterfact, zsre, easyedit)}
    (FIELD / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1, default=plain) + "\n")
    for name, part in golden.items():
        print(name, json.dumps(part["aggregates"], default=plain))


if __name__ == "__main__":
    main()
