#!/usr/bin/env python3
"""Golden values of tests/retrieval/index.cpp: BM25 by its formula, over terms that were cut by hand.

    python scripts/golden_bm25.py > tests/data/retrieval/bm25.json

    score(q, d) = sum over terms t of q:  idf(t) * f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|))
    idf(t) = log((N - n + 1/2) / (n + 1/2)), at least 1e-6        (k1 = 1.2, b = 0.75)

with f the times that t stands in d and n the passages that have it (Robertson et al. 1994; the constants
and the floor are SQLite's, www.sqlite.org/fts5.html). English terms count by their stems, given by hand.
"""
import json
import math
import sys

K1, B = 1.2, 0.75
STEMS = {"protests": "protest", "mosques": "mosqu", "mosque": "mosqu", "harvests": "harvest"}

# (id, language, title, text, terms of the title and the text)
PASSAGES = [
    ("cotton", "en", "Cotton", "Cotton harvests, and cotton protests",
     "cotton cotton harvests and cotton protests"),
    ("harvest", "en", "Harvest", "The harvest of 2019", "harvest the harvest of 2019"),
    ("island", "zh-Hans", "台湾", "台湾2300万人。", "台 湾 台湾 台 湾 台湾 2300 万 人 万人"),
    ("people", "zh-Hans", "人口", "台湾人口与cotton",
     "人 口 人口 台 湾 人 口 与 台湾 湾人 人口 口与 cotton"),
    ("rare", "zh-Hans", "𠮷野", "𠮷野家在台湾，２０１９",
     "𠮷 野 𠮷野 𠮷 野 家 在 台 湾 𠮷野 野家 家在 在台 台湾 2019"),
    ("folded", "zh-Hant", "臺灣", "臺灣的棉花", "台 湾 台湾 台 湾 的 棉 花 台湾 湾的 的棉 棉花"),
    ("mosque", "en", "Mosques", "A mosque", "mosques a mosque"),
]
# (query, language or "", its terms)
QUERIES = [
    ("cotton protest", "", "cotton protest"),
    ("Protests at a mosque? Protests!", "en", "protests at a mosque"),
    ("台湾人口", "", "台湾 湾人 人口"),
    ("台湾人口", "zh-Hant", "台湾 湾人 人口"),
    ("2019年", "", "2019 年"),
    ("𠮷野的棉花", "", "𠮷野 野的 的棉 棉花"),
    ("harvest 台灣", "zh-Hans", "harvest 台湾"),
]


def stems(terms):
    return [STEMS.get(term, term) for term in terms.split()]


def main():
    documents = {row[0]: stems(row[4]) for row in PASSAGES}
    mean = sum(map(len, documents.values())) / len(documents)

    def score(query, document):
        total = 0
        for term in query:
            n = sum(term in other for other in documents.values())
            idf = max(math.log((len(documents) - n + 0.5) / (n + 0.5)), 1e-6)
            f = document.count(term)
            total += idf * f * (K1 + 1) / (f + K1 * (1 - B + B * len(document) / mean))
        return total

    searches = []
    for text, language, terms in QUERIES:
        query = stems(terms)
        ranked = [{"id": row[0], "score": score(query, documents[row[0]])} for row in PASSAGES
                  if language in ("", row[1]) and set(query) & set(documents[row[0]])]
        ranked.sort(key=lambda hit: -hit["score"])
        searches.append({"query": text, "language": language, "terms": terms.split(), "ranked": ranked})
    passages = [{"id": id, "language": language, "title": title, "text": text, "terms": terms.split()}
                for id, language, title, text, terms in PASSAGES]
    json.dump({"passages": passages, "searches": searches}, sys.stdout, ensure_ascii=False, indent=1)
    print()


if __name__ == "__main__":
    main()
