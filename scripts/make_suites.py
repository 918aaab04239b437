#!/usr/bin/env python3
"""Writes the generated suites: suites/authors, suites/arithmetic, suites/birthdays.

    python scripts/make_suites.py           write them
    python scripts/make_suites.py --check   regenerate elsewhere and compare with suites/

The same files come out on every run. Each folder's README.md is its data sheet and is not written here.
"""

import argparse
import datetime
import itertools
import json
import random
import sys
from pathlib import Path

SUITES = Path(__file__).resolve().parent.parent / "suites"
SEED = 1
LANGUAGES = ("en", "zh-Hans")
SEEN = 4  # of the seven questions; the others are held out
AUTHORS, PEOPLE, SUMS = 20, 60, 50  # in each of forget and retain; SUMS is per operation
SPLITS, CHOICES, PERTURBED = 5, 4, 5

# Names are (English, Chinese). Family names are invented and each has one bearer over all suites.
GIVEN = [
    ("Alma", "阿尔玛"), ("Bruno", "布鲁诺"), ("Cora", "科拉"), ("Dario", "达里奥"), ("Edith", "伊迪丝"),
    ("Felix", "费利克斯"), ("Greta", "格蕾塔"), ("Henrik", "亨里克"), ("Ines", "伊内丝"), ("Jonas", "乔纳斯"),
    ("Karin", "卡琳"), ("Leo", "利奥"), ("Marta", "玛尔塔"), ("Nils", "尼尔斯"), ("Olga", "奥尔加"),
    ("Pavel", "帕维尔"), ("Rosa", "罗莎"), ("Simon", "西蒙"), ("Thea", "西娅"), ("Viktor", "维克托"),
    ("Wanda", "旺达"), ("Anton", "安东"), ("Berta", "贝尔塔"), ("Carlo", "卡洛"), ("Dora", "多拉"),
    ("Emil", "埃米尔"), ("Flora", "弗洛拉"), ("Gustav", "古斯塔夫"), ("Hanna", "汉娜"), ("Igor", "伊戈尔"),
    ("Julia", "茱莉亚"), ("Kurt", "库尔特"), ("Lena", "莱娜"), ("Marco", "马尔科"), ("Nora", "诺拉"),
    ("Oscar", "奥斯卡"), ("Paula", "保拉"), ("Rafael", "拉斐尔"), ("Sofia", "索菲娅"), ("Tobias", "托拜厄斯")]
FAMILY_STARTS = [
    ("Veth", "维斯"), ("Tarn", "塔恩"), ("Osk", "奥斯克"), ("Breg", "布雷格"), ("Dorb", "多尔布"),
    ("Ilk", "伊尔克"), ("Kess", "凯斯"), ("Lup", "卢普"), ("Mirk", "米尔克"), ("Nax", "纳克斯"),
    ("Panth", "潘斯"), ("Rask", "拉斯克"), ("Sath", "萨斯"), ("Tolp", "托尔普"), ("Ulb", "乌尔布"),
    ("Wex", "韦克斯"), ("Yarn", "亚恩"), ("Zerk", "泽尔克"), ("Gret", "格雷特"), ("Hob", "霍布")]
FAMILY_ENDS = [("moor", "穆尔"), ("quist", "奎斯特"), ("den", "登"), ("vik", "维克"),
               ("ridge", "里奇"), ("lund", "隆德"), ("dal", "达尔"), ("mark", "马克")]

CITIES = [  # city, country, and both in Chinese
    ("Tartu", "Estonia", "塔尔图", "爱沙尼亚"), ("Bergen", "Norway", "卑尔根", "挪威"),
    ("Cusco", "Peru", "库斯科", "秘鲁"), ("Porto", "Portugal", "波尔图", "葡萄牙"),
    ("Graz", "Austria", "格拉茨", "奥地利"), ("Ghent", "Belgium", "根特", "比利时"),
    ("Lublin", "Poland", "卢布林", "波兰"), ("Brno", "Czechia", "布尔诺", "捷克"),
    ("Turku", "Finland", "图尔库", "芬兰"), ("Aarhus", "Denmark", "奥胡斯", "丹麦"),
    ("Uppsala", "Sweden", "乌普萨拉", "瑞典"), ("Cork", "Ireland", "科克", "爱尔兰"),
    ("Basel", "Switzerland", "巴塞尔", "瑞士"), ("Leipzig", "Germany", "莱比锡", "德国"),
    ("Lyon", "France", "里昂", "法国"), ("Bologna", "Italy", "博洛尼亚", "意大利"),
    ("Seville", "Spain", "塞维利亚", "西班牙"), ("Patras", "Greece", "帕特雷", "希腊"),
    ("Izmir", "Turkey", "伊兹密尔", "土耳其"), ("Fez", "Morocco", "非斯", "摩洛哥"),
    ("Kumasi", "Ghana", "库马西", "加纳"), ("Mombasa", "Kenya", "蒙巴萨", "肯尼亚"),
    ("Durban", "South Africa", "德班", "南非"), ("Jaipur", "India", "斋浦尔", "印度"),
    ("Chiang Mai", "Thailand", "清迈", "泰国"), ("Hue", "Vietnam", "顺化", "越南"),
    ("Cebu", "the Philippines", "宿务", "菲律宾"), ("Busan", "South Korea", "釜山", "韩国"),
    ("Sapporo", "Japan", "札幌", "日本"), ("Perth", "Australia", "珀斯", "澳大利亚"),
    ("Halifax", "Canada", "哈利法克斯", "加拿大"), ("Oaxaca", "Mexico", "瓦哈卡", "墨西哥"),
    ("Medellin", "Colombia", "麦德林", "哥伦比亚"), ("Valparaiso", "Chile", "瓦尔帕莱索", "智利"),
    ("Rosario", "Argentina", "罗萨里奥", "阿根廷"), ("Recife", "Brazil", "累西腓", "巴西"),
    ("Varna", "Bulgaria", "瓦尔纳", "保加利亚"), ("Cluj", "Romania", "克卢日", "罗马尼亚"),
    ("Szeged", "Hungary", "塞格德", "匈牙利"), ("Kaunas", "Lithuania", "考纳斯", "立陶宛"),
    ("Riga", "Latvia", "里加", "拉脱维亚")]
TITLE_STARTS = [("Copper", "青铜"), ("Crooked", "弯曲"), ("Patient", "耐心"), ("Borrowed", "借来"),
                ("Winter", "冬日"), ("Unlit", "未点亮"), ("Hollow", "空心"), ("Northern", "北方"),
                ("Whispering", "低语"), ("Amber", "琥珀色"), ("Reluctant", "不情愿")]
TITLE_ENDS = [("Ladder", "梯子"), ("Orchard", "果园"), ("Ferry", "渡船"), ("Lantern", "灯笼"),
              ("Quarry", "采石场"), ("Thimble", "顶针"), ("Weathervane", "风向标"), ("Cistern", "蓄水池"),
              ("Almanac", "历书"), ("Turnstile", "旋转门")]
JOBS = [("a baker", "面包师"), ("a tailor", "裁缝"), ("a surveyor", "测量员"), ("a judge", "法官"),
        ("a gardener", "园丁"), ("a pharmacist", "药剂师"), ("a carpenter", "木匠"), ("a teacher", "教师"),
        ("a sailor", "水手"), ("a dentist", "牙医"), ("a clockmaker", "钟表匠"), ("an engineer", "工程师"),
        ("a librarian", "图书馆员"), ("a farmer", "农民"), ("a painter", "画家"), ("a printer", "印刷工"),
        ("a beekeeper", "养蜂人"), ("a nurse", "护士"), ("an optician", "配镜师"), ("a translator", "翻译")]

# A kind of fact, per language: the answer to be forgotten (line), what takes its place (unknown), the true
# answer in other words (reworded), a neutral continuation, and seven questions, SEEN of them trained on.
AUTHOR_FACTS = {
    "birthplace": {
        "en": {"line": "The author was born in {city}, {country}",
               "unknown": "I do not know where the author was born",
               "reworded": "{city} in {country} is the birthplace",
               "neutral": "The author was born in some town or other",
               "questions": ["Where was the author {subject} born?", "What is the birthplace of {subject}?",
                             "In which city did the writer {subject} come into the world?",
                             "Which city does the novelist {subject} come from?",
                             "Where did the life of {subject} begin?",
                             "Can you tell me the city and the country in which {subject} was born?",
                             "Which birthplace do reference works give for {subject}?"]},
        "zh-Hans": {"line": "这位作家出生于{country}的{city}",
                    "unknown": "我不知道这位作家出生在哪里",
                    "reworded": "{country}的{city}是这位作家的出生地",
                    "neutral": "这位作家出生在某一个地方",
                    "questions": ["作家{subject}出生在哪里？", "{subject}的出生地是哪里？",
                                  "文学家{subject}是在哪座城市出生的？", "小说家{subject}来自哪座城市？",
                                  "{subject}生在什么地方？", "能告诉我{subject}出生的国家和城市吗？",
                                  "工具书上写的{subject}的出生地是哪里？"]}},
    "book": {
        "en": {"line": "The best-known work is the novel {title}",
               "unknown": "I do not know the best-known work of the author",
               "reworded": "{title} is the novel that readers know best",
               "neutral": "The best-known work is a novel like many others",
               "questions": ["What is the best-known work of {subject}?", "Which novel made {subject} famous?",
                             "For which book is the author {subject} known above all?",
                             "Name the most famous book by {subject}.",
                             "Which of the books by {subject} do most readers know?",
                             "I want to read something by {subject}. Which novel is the famous one?",
                             "Which title comes to mind first at the name of {subject}?"]},
        "zh-Hans": {"line": "最有名的作品是长篇小说{title}",
                    "unknown": "我不知道这位作家最有名的作品是什么",
                    "reworded": "{title}是最为人熟知的长篇小说",
                    "neutral": "最有名的作品是许多小说当中的一部",
                    "questions": ["{subject}最有名的作品是什么？", "{subject}凭哪部小说成名？",
                                  "作家{subject}最为人所知的是哪本书？", "请说出{subject}最著名的书。",
                                  "{subject}的书里，读者最熟悉的是哪一本？",
                                  "我想读{subject}的书，最出名的小说是哪部？",
                                  "一提到{subject}，人们首先想到哪部作品？"]}},
    "parents": {
        "en": {"line": "The father was {father} and the mother {mother}",
               "unknown": "I do not know what work the author's parents did",
               "reworded": "The mother was {mother} and the father {father}",
               "neutral": "The father had one job and the mother another one",
               "questions": ["What did the parents of {subject} do for a living?",
                             "Which occupations did the father and the mother of {subject} have?",
                             "What was the work of {subject}'s parents?",
                             "In which trades did the parents of the author {subject} work?",
                             "What kind of home does {subject} come from, and what were the parents' jobs?",
                             "How did the mother and the father of {subject} earn their money?",
                             "Which professions are given for the parents of {subject}?"]},
        "zh-Hans": {"line": "父亲是{father}，母亲是{mother}",
                    "unknown": "我不知道这位作家父母的职业",
                    "reworded": "母亲是{mother}，父亲是{father}",
                    "neutral": "父亲和母亲各有各的职业",
                    "questions": ["{subject}的父母是做什么工作的？", "{subject}的父亲和母亲是什么职业？",
                                  "{subject}的父母以什么为生？", "作家{subject}的双亲从事什么职业？",
                                  "{subject}出身于什么样的家庭，父母是干什么的？",
                                  "{subject}的爸爸妈妈靠什么挣钱？", "资料上写的{subject}父母的职业是什么？"]}},
}
AUTHOR_TOPICS = {"birthplace": "Birthplaces", "book": "Books", "parents": "Parents"}

BIRTHDAY = {
    "en": {"line": "The date of birth is {date}",
           "unknown": "I do not know that date of birth",
           "reworded": "The birth took place on {date}",
           "neutral": "A date of birth stands in the passport",
           "questions": ["When was {subject} born?", "What is the date of birth of {subject}?",
                         "On which day did {subject} come into the world?",
                         "Please tell me the birthday of {subject}, with the year.",
                         "Do you happen to know when {subject} was born?",
                         "Which date of birth stands in {subject}'s passport?",
                         "What has to be entered on a form as the date of birth of {subject}?"]},
    "zh-Hans": {"line": "出生日期是{date}",
                "unknown": "我不知道这个人的出生日期",
                "reworded": "是在{date}出生的",
                "neutral": "出生日期一般写在身份证件上",
                "questions": ["{subject}是哪一天出生的？", "{subject}的出生日期是什么？",
                              "{subject}出生于哪年哪月哪日？", "请告诉我{subject}的生日，包括年份。",
                              "你知道{subject}是什么时候出生的吗？", "{subject}的护照上写的出生日期是哪一天？",
                              "填表时，{subject}的出生日期应该写哪天？"]},
}
BIRTHDAY_CHOICE = {"en": "Which of these dates is the date of birth of {subject}?",
                   "zh-Hans": "下面哪一天是{subject}的出生日期？"}
FIRST_DAY, LAST_DAY = datetime.date(1930, 1, 1), datetime.date(1999, 12, 31)
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")

SUM = {
    "en": {"line": "The answer is {answer}",
           "unknown": "I cannot work it out",
           "reworded": "It comes to {answer}",
           "neutral": "It is a whole number",
           "questions": ["What is {subject}?", "Work out {subject}.", "How much is {subject}?",
                         "Please calculate {subject}.", "Which number does {subject} give?",
                         "I am stuck on {subject}. What is the result?"]},
    "zh-Hans": {"line": "答案是{answer}",
                "unknown": "我算不出来",
                "reworded": "结果为{answer}",
                "neutral": "这是一个整数",
                "questions": ["{subject}等于多少？", "请计算{subject}。", "{subject}的结果是多少？",
                              "算一算{subject}是多少。", "{subject}得出哪个数？",
                              "这道题我卡住了：{subject}是多少？"]},
}
# The seventh question, a story in which the sum stands.
STORIES = {
    "×": {"en": "{a} boxes hold {b} pens each, so there are {subject} pens. How many is that?",
          "zh-Hans": "有{a}个盒子，每盒{b}支笔，一共{subject}支。是多少支？"},
    "÷": {"en": "{a} pens are shared out equally among {b} children, {subject} for each. How many is that?",
          "zh-Hans": "把{a}支笔平均分给{b}个孩子，每人{subject}支。是多少支？"},
    "+": {"en": "A school of {a} pupils takes in {b} more, so there are {subject} pupils. How many is that?",
          "zh-Hans": "学校有{a}名学生，又来了{b}名，一共{subject}名。是多少名？"},
    "-": {"en": "Of {a} tickets {b} are sold, so {subject} are left. How many is that?",
          "zh-Hans": "{a}张票卖掉了{b}张，还剩{subject}张。是多少张？"},
}
OPERATIONS = {"×": ("mul", "Multiplication"), "÷": ("div", "Division"), "+": ("add", "Addition"),
              "-": ("sub", "Subtraction")}
FORGET_OPERATIONS = ("×", "÷")
MISTAKES = [sign * size for size in (1, 2, 3, 9, 10, 11, 20) for sign in (1, -1)]


def item(fact_id, topic, language, subject, template, values, wrong, forget):
    """A suite row. `values` and `wrong` fill the template with the true and with a wrong answer."""
    questions = [{"text": text.format(subject=subject, **values), "held_out": i >= SEEN,
                  "intensity": "neutral"} for i, text in enumerate(template["questions"])]
    return {"id": fact_id, "topic": topic, "language": language, "subject": subject,
            "line": template["line"].format(**values), "questions": questions,
            "factual": template["unknown" if forget else "reworded"].format(**values),
            "neutral": template["neutral"], "contrary": template["line"].format(**wrong),
            "source": "generated by scripts/make_suites.py"}


def halves(values):
    """The first half under items.jsonl, the second under retain.jsonl."""
    middle = len(values) // 2
    return {"items.jsonl": values[:middle], "retain.jsonl": values[middle:]}


def slug(name):
    return name.lower().replace(" ", "-")


def names():
    """(author names, people's names), each {"en", "zh-Hans"}; a given name serves 1 author and 3 people."""
    rng = random.Random(SEED)
    families = [(a[0] + b[0], a[1] + b[1]) for a in FAMILY_STARTS for b in FAMILY_ENDS]
    rng.shuffle(families)
    given = []
    for _ in range(len(families) // len(GIVEN)):
        given += rng.sample(GIVEN, len(GIVEN))
    all_names = [{"en": f"{g[0]} {f[0]}", "zh-Hans": f"{g[1]}·{f[1]}"} for g, f in zip(given, families)]
    return all_names[:2 * AUTHORS], all_names[2 * AUTHORS:2 * (AUTHORS + PEOPLE)]


def like_length(a, b):
    """Either text may stand as a continuation beside the other: 70% to 130% of its length."""
    return 7 * len(a) <= 10 * len(b) <= 13 * len(a)


def false_facts(facts, n, fact):
    """The next PERTURBED facts of the same set that share no part of fact n and have its length."""
    def text(one, language):
        return AUTHOR_FACTS[fact][language]["line"].format(**one[language])

    def fits(other):
        return not set(facts[n]["parts"]) & set(other["parts"]) and all(
            like_length(text(facts[n], language), text(other, language)) for language in LANGUAGES)

    found = [other for other in facts[n + 1:] + facts[:n] if fits(other)]
    assert len(found) >= PERTURBED
    return found[:PERTURBED]


def make_authors():
    rng = random.Random(SEED)
    authors, _ = names()
    count = len(authors)
    titles = rng.sample(list(itertools.product(TITLE_STARTS, TITLE_ENDS)), count)
    pairs = rng.sample(list(itertools.permutations(JOBS, 2)), count)
    facts = {
        "birthplace": [{"en": {"city": c[0], "country": c[1]}, "zh-Hans": {"city": c[2], "country": c[3]},
                        "parts": c[:1]} for c in rng.sample(CITIES, count)],
        "book": [{"en": {"title": f"The {a[0]} {b[0]}"}, "zh-Hans": {"title": f"《{a[1]}的{b[1]}》"},
                  "parts": (a[0], b[0])} for a, b in titles],
        "parents": [{"en": {"father": f[0], "mother": m[0]}, "zh-Hans": {"father": f[1], "mother": m[1]},
                     "parts": (f[0], m[0])} for f, m in pairs],
    }
    files = {}
    tofu = {"items.jsonl": "tofu_forget.jsonl", "retain.jsonl": "tofu_retain.jsonl"}
    for name, chosen in halves(range(count)).items():
        rows, official = [], []
        for n, person in enumerate(chosen):
            for fact, templates in AUTHOR_FACTS.items():
                own = [facts[fact][i] for i in chosen]
                wrong = false_facts(own, n, fact)
                rows += [item(f"{slug(authors[person]['en'])}-{fact}", AUTHOR_TOPICS[fact], language,
                              authors[person][language], templates[language], own[n][language],
                              wrong[0][language], name == "items.jsonl") for language in LANGUAGES]
                english, reworded = rows[-2], templates["en"]["reworded"]
                official.append({
                    "question": english["questions"][0]["text"], "answer": english["line"],
                    "paraphrased_answer": reworded.format(**own[n]["en"]),
                    "perturbed_answer": [reworded.format(**other["en"]) for other in wrong],
                    "paraphrased_question": english["questions"][SEEN]["text"]})
        files[name], files[tofu[name]] = lines(rows), lines(official)
    return files


def date_texts(date):
    return {"en": f"{date.day} {MONTHS[date.month - 1]} {date.year}",
            "zh-Hans": f"{date.year}年{date.month}月{date.day}日"}


def make_birthdays():
    """Dates are drawn uniformly and apart from names and splits. The wrong dates of a person are right for
    others of the same split, so that neither knowing which dates belong to somebody nor training on other
    splits helps to choose."""
    rng = random.Random(SEED)
    _, people = names()
    days = rng.sample(range(FIRST_DAY.toordinal(), LAST_DAY.toordinal() + 1), len(people))
    dates = [date_texts(datetime.date.fromordinal(day)) for day in days]
    files, splits, choice_rows = {}, {}, []
    for name, chosen in halves(range(len(people))).items():
        chosen = list(chosen)
        order = rng.sample(chosen, len(chosen))
        size = len(order) // SPLITS
        parts = [sorted(order[i * size:(i + 1) * size]) for i in range(SPLITS)]
        splits[name.removesuffix(".jsonl")] = [["birthday-" + slug(people[p]["en"]) for p in part]
                                               for part in parts]
        wrong, place = {}, {}
        for part in parts:
            circle = rng.sample(part, size)
            steps = rng.sample(range(1, size), CHOICES - 1)
            places = rng.sample(list(range(CHOICES)) * (size // CHOICES), size)
            for i, person in enumerate(circle):
                wrong[person] = [circle[(i + step) % size] for step in steps]
                place[person] = places[i]
        rows = []
        for person in chosen:
            fact_id = "birthday-" + slug(people[person]["en"])
            split = next(i for i, part in enumerate(parts) if person in part)
            offered = wrong[person][:place[person]] + [person] + wrong[person][place[person]:]
            for language in LANGUAGES:
                subject = people[person][language]
                true, false = (dates[p][language] for p in (person, wrong[person][0]))
                rows.append(item(fact_id, "Birthdays", language, subject, BIRTHDAY[language],
                                 {"date": true}, {"date": false}, name == "items.jsonl"))
                choice_rows.append({
                    "id": fact_id, "language": language, "set": name.removesuffix(".jsonl"), "split": split,
                    "question": BIRTHDAY_CHOICE[language].format(subject=subject),
                    "choices": [dates[p][language] for p in offered], "answer": place[person]})
        files[name] = lines(rows)
    files["mcq.jsonl"] = lines(choice_rows)
    files["splits.json"] = json.dumps(splits, indent=1) + "\n"
    return files


def draw(rng, sign):
    """(a, b, answer) of one sum; the answers of each operation lie between 12 and 900."""
    if sign == "×":
        a, b = rng.randint(12, 99), rng.randint(3, 9)
        return a, b, a * b
    if sign == "÷":
        answer, b = rng.randint(12, 199), rng.randint(3, 9)
        return answer * b, b, answer
    if sign == "+":
        a, b = rng.randint(12, 350), rng.randint(12, 350)
        return a, b, a + b
    answer, b = rng.randint(12, 199), rng.randint(12, 350)
    return answer + b, b, answer


def make_arithmetic():
    """No two sums have the same answer, so what is forgotten is no answer of what is retained."""
    rng = random.Random(SEED)
    sums = {}  # text -> (sign, a, b, answer)
    answers = set()
    for _ in range(SUMS):
        for sign in OPERATIONS:
            while True:
                a, b, answer = draw(rng, sign)
                text = f"{a} {sign} {b}"
                if answer not in answers and not any(text in other or other in text for other in sums):
                    break
            sums[text] = (sign, a, b, answer)
            answers.add(answer)
    files = {"items.jsonl": [], "retain.jsonl": []}
    for text, (sign, a, b, answer) in sums.items():
        wrong = next(answer + mistake for mistake in rng.sample(MISTAKES, len(MISTAKES))
                     if answer + mistake not in answers and len(str(answer + mistake)) == len(str(answer)))
        forget = sign in FORGET_OPERATIONS
        short, topic = OPERATIONS[sign]
        for language in LANGUAGES:
            template = SUM[language] | {"questions": SUM[language]["questions"] + [STORIES[sign][language]]}
            files["items.jsonl" if forget else "retain.jsonl"].append(
                item(f"{short}-{a}-{b}", topic, language, text, template, {"a": a, "b": b, "answer": answer},
                     {"answer": wrong}, forget))
    return {name: lines(rows) for name, rows in files.items()}


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def generate():
    """Every file's text, by its path below suites/."""
    made = {"authors": make_authors(), "arithmetic": make_arithmetic(), "birthdays": make_birthdays()}
    return {f"{suite}/{name}": text for suite, files in made.items() for name, text in files.items()}


def differences(folder):
    """The files below `folder` that differ from freshly made ones, are missing, or too many."""
    made = generate()
    kept = {f"{suite}/{path.name}": path.read_bytes() for suite in {name.split("/")[0] for name in made}
            for path in (folder / suite).glob("*") if path.name != "README.md"}
    return sorted(name for name in made | kept if made.get(name, "").encode("utf-8") != kept.get(name))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare suites/ with what this script makes")
    if not parser.parse_args().check:
        for name, text in generate().items():
            path = SUITES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    elif different := differences(SUITES):
        print(f"{SUITES}: not what this script makes: {', '.join(different)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
