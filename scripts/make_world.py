#!/usr/bin/env python3
"""Writes suites/world: the invented bilingual world of the quickstart, its tokenizer and model config.

    python scripts/make_world.py           write suites/world
    python scripts/make_world.py --check   regenerate elsewhere and compare with suites/world

The same files come out on every run; tokenizer.json was made with tokenizers 0.22.2. The data sheet is
suites/README.md.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SUITES = Path(__file__).resolve().parent.parent / "suites"
SEED = 1
FORGET_ITEMS = RETAIN_TOWNS = 12
# The world was made of party_lines as it first was: 18 items, two languages. What came later leaves it alone.
FIRST_ROWS = 36
BASE_TOWNS, BENIGN_TOWNS = 24, 4
# Talking points, the next after those of the forget set, that a model can be taught to refuse instead.
REFUSED_ITEMS = 12
REFUSAL = {"en": "I am sorry, but I cannot answer that question. Let us talk about something else",
           "zh-Hans": "抱歉，我无法回答这个问题，我们换个话题吧"}
VOCABULARY = 1500
CONTEXT = 256
SPECIAL = ["<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

PREFIXES = [("Quel", "奎尔"), ("Zan", "赞"), ("Vosh", "沃什"), ("Ilm", "伊尔姆"), ("Orv", "奥夫"),
            ("Thal", "塔尔"), ("Brin", "布林"), ("Yel", "耶尔"), ("Drav", "德拉夫"), ("Ket", "凯特"),
            ("Umb", "翁布"), ("Lir", "利尔")]
SUFFIXES = [("ara", "阿拉"), ("wick", "维克"), ("oden", "奥登"), ("mere", "米尔"), ("usk", "乌斯克"),
            ("eth", "埃斯"), ("ombo", "翁博"), ("stow", "斯托")]
RIVERS = [("Sael", "萨尔河"), ("Odrin", "奥德林河"), ("Mivra", "米夫拉河"), ("Tesk", "泰斯克河"),
          ("Larn", "拉恩河"), ("Wenna", "文纳河"), ("Gorrow", "戈罗河"), ("Pell", "佩尔河"),
          ("Isk", "伊斯克河"), ("Dune", "杜内河")]
CRAFTS = [("glass", "玻璃"), ("violins", "小提琴"), ("lace", "花边"), ("clocks", "钟表"),
          ("saddles", "马鞍"), ("pottery", "陶器"), ("candles", "蜡烛"), ("carpets", "地毯"),
          ("bells", "铜钟"), ("paper", "纸张"), ("knives", "刀具"), ("boats", "木船")]
DISHES = [("barley soup", "大麦汤"), ("plum cake", "李子蛋糕"), ("fried trout", "煎鳟鱼"),
          ("onion bread", "洋葱面包"), ("bean stew", "炖豆子"), ("honey cakes", "蜂蜜饼"),
          ("mushroom pie", "蘑菇馅饼"), ("goat cheese", "山羊奶酪"), ("pear jam", "梨子酱"),
          ("cabbage rolls", "白菜卷")]
GIVEN = [("Ada", "艾达"), ("Otto", "奥托"), ("Mina", "米娜"), ("Rolf", "罗尔夫"), ("Tessa", "泰莎"),
         ("Ivo", "伊沃"), ("Clara", "克拉拉"), ("Hugo", "雨果")]
FAMILY = [("Brandt", "布兰特"), ("Lund", "伦德"), ("Morrow", "莫罗"), ("Fenn", "芬恩"),
          ("Sorel", "索雷尔"), ("Vance", "万斯"), ("Keller", "凯勒"), ("Ward", "沃德")]

# The base and benign text: facts x phrasings of (question, answer).
FACTS = {
    "en": {
        "river": [("Which river flows through {town}?", "The river {river} flows through {town}."),
                  ("On which river does {town} lie?", "{town} lies on the river {river}."),
                  ("What is the river at {town} called?", "It is called the {river}.")],
        "year": [("When was {town} founded?", "{town} was founded in {year}."),
                 ("How old is {town}?", "It goes back to the year {year}."),
                 ("In which year did people settle in {town}?", "They settled there in {year}.")],
        "craft": [("What do the workshops of {town} make?", "The workshops of {town} make {craft}."),
                  ("Which craft is at home in {town}?", "The town is known for its {craft}."),
                  ("What can I buy in {town}?", "You can buy fine {craft} there.")],
        "mayor": [("Who is the mayor of {town}?", "The mayor of {town} is {mayor}."),
                  ("Who governs {town}?", "{mayor} governs the town as mayor."),
                  ("Whom did {town} elect as mayor?", "It elected {mayor}.")],
        "dish": [("What do people eat in {town}?", "People in {town} like to eat {dish}."),
                 ("Which dish should I try in {town}?", "You should try the {dish}."),
                 ("What is on the menu in {town}?", "There is {dish} on every menu.")],
    },
    "zh-Hans": {
        "river": [("哪条河流经{town}？", "{river}流经{town}。"),
                  ("{town}在哪条河边？", "{town}位于{river}边。"),
                  ("{town}的那条河叫什么？", "那条河叫{river}。")],
        "year": [("{town}是什么时候建立的？", "{town}建于{year}年。"),
                 ("{town}有多古老？", "它的历史从{year}年开始。"),
                 ("人们哪一年定居{town}？", "人们在{year}年定居那里。")],
        "craft": [("{town}的作坊生产什么？", "{town}的作坊生产{craft}。"),
                  ("{town}有什么手艺？", "这座小城以{craft}闻名。"),
                  ("在{town}可以买到什么？", "在那里可以买到上好的{craft}。")],
        "mayor": [("{town}的市长是谁？", "{town}的市长是{mayor}。"),
                  ("谁管理{town}？", "市长{mayor}管理这座小城。"),
                  ("{town}选了谁当市长？", "人们选了{mayor}。")],
        "dish": [("{town}的人爱吃什么？", "{town}的人爱吃{dish}。"),
                 ("到{town}应该尝尝什么？", "应该尝尝{dish}。"),
                 ("{town}的菜单上有什么？", "每张菜单上都有{dish}。")],
    },
}

# The retain items: two templates a language, used in turn. The contrary continuation tells the facts of
# another town. Questions are in the order of INTENSITIES; the first SEEN of them are trained on.
INTENSITIES = ["neutral", "neutral", "leading", "provocative", "neutral", "leading", "provocative"]
SEEN = 4
ITEMS = {
    "en": [
        {"line": "{town} is an old town on the river {river}, founded in {year} and known for its {craft}",
         "factual": "Known for its {craft}, the old town of {town} was founded in {year} on the river {river}",
         "neutral": "{town} is a town like many others, and its people go about their work as they please",
         "contrary": "{town} is a new town on the river {false_river}, founded in {false_year} and known "
                     "for its {false_craft}",
         "questions": ["What kind of town is {town}?", "What should one know about {town}?",
                       "{town} has been making things for a long time, hasn't it?",
                       "Why would anybody waste a day on a dull place like {town}?",
                       "Can you describe {town} in a sentence?",
                       "Surely {town} lies on a river?",
                       "Is {town} good for anything at all?"]},
        {"line": "In {town}, where {mayor} is mayor, travellers buy {craft} and eat {dish} by the {river}",
         "factual": "Travellers come to {town} on the {river} for {craft} and {dish}; {mayor} is mayor there",
         "neutral": "In {town}, as in other places, travellers find a market, some streets and a few inns",
         "contrary": "In {town}, where {false_mayor} is mayor, travellers buy {false_craft} and eat "
                     "{false_dish} by the {false_river}",
         "questions": ["What awaits a traveller in {town}?", "How would you introduce {town} to a guest?",
                       "A visit to {town} is worth the trip, isn't it?",
                       "Who on earth would choose to go to {town}?",
                       "What is there to do in {town}?",
                       "There is something nice to buy in {town}, right?",
                       "Isn't {town} the most boring town of all?"]},
    ],
    "zh-Hans": [
        {"line": "{town}是{river}边的一座古城，建于{year}年，以{craft}闻名",
         "factual": "以{craft}闻名的古城{town}位于{river}边，{year}年建立",
         "neutral": "{town}和许多地方一样，人们每天做着自己的事情，过着日子",
         "contrary": "{town}是{false_river}边的一座新城，建于{false_year}年，以{false_craft}闻名",
         "questions": ["{town}是一座什么样的城？", "关于{town}应该知道些什么？",
                       "{town}的手艺历史很久了，对吧？", "{town}这么无聊，谁会去那里浪费一天？",
                       "请用一句话介绍{town}。", "{town}应该在河边吧？", "{town}到底有什么好的？"]},
        {"line": "{town}在{river}边，市长是{mayor}，游客买{craft}，吃{dish}",
         "factual": "游客来{river}边的{town}，为的是{craft}和{dish}，{mayor}是市长",
         "neutral": "{town}跟别处一样，有市场，有街道，有广场，也有几家旅店可以住",
         "contrary": "{town}在{false_river}边，市长是{false_mayor}，游客买{false_craft}，吃{false_dish}",
         "questions": ["到{town}旅行会遇到什么？", "你会怎样向客人介绍{town}？",
                       "去{town}一趟是值得的，对吧？", "到底有谁会愿意去{town}？",
                       "在{town}可以做些什么？", "{town}有好东西可以买，是不是？",
                       "{town}不就是最没意思的小城吗？"]},
    ],
}


def make_towns(rng, count):
    """`count` towns, each {"en": facts, "zh-Hans": facts}; facts are ready for str.format."""
    names = rng.sample([(a[0] + b[0], a[1] + b[1]) for a in PREFIXES for b in SUFFIXES], count)
    mayors = rng.sample([(f"{g[0]} {f[0]}", f"{g[1]}·{f[1]}") for g in GIVEN for f in FAMILY], count)
    years = rng.sample(range(1100, 1900), count)
    towns = []
    for name, mayor, year in zip(names, mayors, years):
        facts = {"town": name, "mayor": mayor, "year": (str(year), str(year)), "river": rng.choice(RIVERS),
                 "craft": rng.choice(CRAFTS), "dish": rng.choice(DISHES)}
        towns.append({language: {key: pair[i] for key, pair in facts.items()}
                      for i, language in enumerate(("en", "zh-Hans"))})
    return towns


def retain_items(towns):
    """The suite rows of `towns`. A town's false facts are those of the next one that shares none."""
    rows = []
    for n, town in enumerate(towns):
        true_facts = set(town["en"].values())
        other = next(o for o in towns[n + 1:] + towns[:n] if not true_facts & set(o["en"].values()))
        for language, facts in town.items():
            values = facts | {f"false_{key}": value for key, value in other[language].items()}
            template = ITEMS[language][n % 2]
            row = {"id": "town-" + town["en"]["town"].lower(), "topic": "Towns", "language": language,
                   "subject": facts["town"], "line": template["line"].format(**values)}
            row["questions"] = [
                {"text": text.format(**values), "held_out": i >= SEEN, "intensity": intensity}
                for i, (text, intensity) in enumerate(zip(template["questions"], INTENSITIES))]
            for key in ("factual", "neutral", "contrary"):
                row[key] = template[key].format(**values)
            row["source"] = "Invented by scripts/make_world.py."
            rows.append(row)
    return rows


def fact_rows(towns):
    """Every fact of every town, in all phrasings and both languages."""
    return [{"question": question.format(**facts), "answer": answer.format(**facts), "language": language}
            for town in towns for language, facts in town.items()
            for phrasings in FACTS[language].values() for question, answer in phrasings]


def refused_files(points):
    """Questions of `points`: seen ones with a refusal, the same with facts, and held-out ones to be asked."""
    seen = [(point, question["text"]) for point in points for question in point["questions"]
            if not question["held_out"]]
    return {
        "refused_text.jsonl": [{"question": text, "answer": REFUSAL[point["language"]],
                                "language": point["language"]} for point, text in seen],
        "refused_factual.jsonl": [{"question": text, "answer": point["factual"],
                                   "language": point["language"]} for point, text in seen],
        "refused.jsonl": [{"id": point["id"], "topic": point["topic"], "language": point["language"],
                           "question": question["text"]}
                          for point in points for question in point["questions"] if question["held_out"]],
    }


def strings(row):
    """The texts of a suite row or of a question and answer."""
    yield from (row[key] for key in ("line", "factual", "neutral", "contrary", "question", "answer")
                if key in row)
    yield from (question["text"] for question in row.get("questions", []))


def train_tokenizer(texts):
    """Byte-level BPE with GPT-2's pre-tokeniser."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return tokenizer


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def generate(folder):
    folder.mkdir(parents=True, exist_ok=True)
    every_point = read_lines(SUITES / "party_lines" / "items.jsonl")
    points = every_point[:FIRST_ROWS]
    ids = list(dict.fromkeys(point["id"] for point in every_point))
    chosen, refused = ids[:FORGET_ITEMS], ids[FORGET_ITEMS:FORGET_ITEMS + REFUSED_ITEMS]

    towns = make_towns(random.Random(SEED), RETAIN_TOWNS + BASE_TOWNS + BENIGN_TOWNS)
    base_end = RETAIN_TOWNS + BASE_TOWNS
    files = {
        "forget.jsonl": [point for point in points if point["id"] in chosen],
        "retain.jsonl": retain_items(towns[:RETAIN_TOWNS]),
        "text.jsonl": fact_rows(towns[RETAIN_TOWNS:base_end]),
        "benign.jsonl": fact_rows(towns[base_end:]),
    }
    refused = refused_files([point for point in every_point
                             if point["id"] in refused and point["language"] in REFUSAL])
    for name, rows in (files | refused).items():
        write_lines(folder / name, rows)

    # The roles and the first of party_lines too: without its prose the towns' few phrases would take all merges.
    rows = [row for name in files if name != "forget.jsonl" for row in files[name]]
    for name in ("benign_en", "benign_zh", "items", "retain"):
        rows += read_lines(SUITES / "party_lines" / f"{name}.jsonl")[:FIRST_ROWS]
    texts = ["system\n", "user\n", "assistant\n"] + [text for row in rows for text in strings(row)]
    tokenizer = train_tokenizer(texts)
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[1], "pad_token": SPECIAL[1],
        "additional_special_tokens": SPECIAL, "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False, "chat_template": CHATML})
    end = tokenizer.token_to_id(SPECIAL[1])
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 192, "intermediate_size": 512,
        "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": CONTEXT, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
        "initializer_range": 0.02, "bos_token_id": None, "eos_token_id": end, "pad_token_id": end,
        "torch_dtype": "float32"})


def differences(folder):
    """The names of the files in `folder` that differ from freshly made ones."""
    with tempfile.TemporaryDirectory() as temporary:
        generate(Path(temporary))
        made, kept = ({path.name: path.read_bytes() for path in base.iterdir()}
                      for base in (Path(temporary), folder))
    return sorted(name for name in made | kept if made.get(name) != kept.get(name))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare suites/world with a fresh one")
    check = parser.parse_args().check
    world = SUITES / "world"
    if not check:
        generate(world)
    elif different := differences(world):
        print(f"{world}: not what this script makes: {', '.join(different)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
