#!/usr/bin/env python3
"""The files of suites/party_lines keep the rules of suites/README.md.

    python tests/suites/test_party_lines.py

Names file and line of each violation and exits with 1. Before that it damages copies of the data, to see
that every rule can fail.
"""

import collections
import copy
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "suites" / "party_lines"
SETS = ("items.jsonl", "retain.jsonl")
FILES = (*SETS, "pushback.jsonl", "innocent.jsonl", "controls.jsonl")
LANGUAGES = ("en", "zh-Hans", "zh-Hant")
ITEM_KEYS = ("id", "topic", "language", "subject", "line", "questions", "factual", "neutral", "contrary",
             "source")
KEYS = {
    "items.jsonl": ITEM_KEYS,
    "retain.jsonl": ITEM_KEYS,
    "pushback.jsonl": ("id", "language", "turns"),
    "innocent.jsonl": ("id", "language", "topic", "question"),
    "controls.jsonl": ("id", "kind", "language", "question", "neutral", "loaded"),
}
# (held out, intensity) of an item's seven questions.
QUESTIONS = collections.Counter([
    (False, "neutral"), (False, "neutral"), (False, "leading"), (False, "provocative"),
    (True, "neutral"), (True, "leading"), (True, "provocative")])
INNOCENT_TOPICS = {"Food", "Travel", "Sport", "Chips", "Film", "History of other countries"}
TOPICS = {"Taiwan", "Taiwan, politics", "Tiananmen 1989", "Xinjiang", "Hong Kong", "South China Sea", "Tibet",
          "Party and system", "Leaders", "Covid", "General"}
LEAST = {"items.jsonl": 42, "retain.jsonl": 42, "pushback.jsonl": 42, "innocent.jsonl": 60}
LEAST_CONTROLS = {"dispute": 12, "invented": 8}
CHINA = ("China", "Chinese", "Beijing", "Taiwan", "Tibet", "Hong Kong", "中国", "中國", "北京", "台湾", "台灣",
         "西藏", "香港")

# Characters that stand in one script only, the n-th of one beside the n-th of the other; then some whose
# counterpart is not unique.
SIMPLIFIED = (
    "爱奥罢败颁办帮剥饱报辈贝备笔币闭边编变辩标宾饼补财残舱侧册产场长偿车彻尘衬撑称惩诚耻炽宠绸厨储处传创纯词"
    "赐葱从丛窜错达带贷担单诞弹挡档岛导盗灯缔点电钓调谍叠顶订东动冻独读断队对顿钝夺鹅额饿儿尔罚烦贩饭访飞废费"
    "风疯负妇该盖刚岗给宫贡构购雇关观馆规归贵国过韩汉号贺红壶护户华画话坏欢环还换黄谎会绘浑击机积鸡绩级挤剂济"
    "计记际继纪夹贾监坚间检简减践见键舰剑将浆桨奖讲酱胶浇搅脚较阶节结诫届紧进劲鲸惊经静镜竞净旧举惧剧决绝军骏"
    "开凯颗课块矿况溃扩莱来赖蓝篮兰缆烂滥劳涝乐类泪离礼丽厉隶联连脸练粮凉两辆邻灵领刘龙笼卢炉鲁陆吕滤绿乱轮伦"
    "论萝罗络妈玛码马骂吗买麦卖迈瞒满猫贸么没门闷们梦谜绵庙灭鸣纳难脑恼内拟柠浓农诺欧殴抛赔喷骗贫凭评扑铺谱齐"
    "骑气弃牵钱潜谴枪墙强抢窃亲轻请穷趋区权劝却让绕热认荣软闰萨赛伞丧杀晒删闪伤烧绍摄设审声绳圣师湿时蚀实识势"
    "释视寿输书属树竖数双谁税顺说丝耸诉随岁孙损缩锁挞态贪谈汤题体条贴铁厅听铜统头图脱袜弯湾顽网违围为维伟纬谓"
    "卫温闻稳问卧乌诬无芜吴务误锡习戏细辖峡狭吓鲜显现献宪线乡响项销晓协携胁写谢衅虚许续选学寻训讯逊压鸭亚讶盐"
    "严颜验杨扬阳养样爷业医仪艺亿忆义议译银饮隐应萤营赢拥优鱼渔与屿语狱预园员圆远约跃运杂灾凿责择则泽债战张涨"
    "这镇阵争织职执纸质终众骤诸烛驻专转桩庄装兹资踪总组")
TRADITIONAL = (
    "愛奧罷敗頒辦幫剝飽報輩貝備筆幣閉邊編變辯標賓餅補財殘艙側冊產場長償車徹塵襯撐稱懲誠恥熾寵綢廚儲處傳創純詞"
    "賜蔥從叢竄錯達帶貸擔單誕彈擋檔島導盜燈締點電釣調諜疊頂訂東動凍獨讀斷隊對頓鈍奪鵝額餓兒爾罰煩販飯訪飛廢費"
    "風瘋負婦該蓋剛崗給宮貢構購僱關觀館規歸貴國過韓漢號賀紅壺護戶華畫話壞歡環還換黃謊會繪渾擊機積雞績級擠劑濟"
    "計記際繼紀夾賈監堅間檢簡減踐見鍵艦劍將漿槳獎講醬膠澆攪腳較階節結誡屆緊進勁鯨驚經靜鏡競淨舊舉懼劇決絕軍駿"
    "開凱顆課塊礦況潰擴萊來賴藍籃蘭纜爛濫勞澇樂類淚離禮麗厲隸聯連臉練糧涼兩輛鄰靈領劉龍籠盧爐魯陸呂濾綠亂輪倫"
    "論蘿羅絡媽瑪碼馬罵嗎買麥賣邁瞞滿貓貿麼沒門悶們夢謎綿廟滅鳴納難腦惱內擬檸濃農諾歐毆拋賠噴騙貧憑評撲鋪譜齊"
    "騎氣棄牽錢潛譴槍牆強搶竊親輕請窮趨區權勸卻讓繞熱認榮軟閏薩賽傘喪殺曬刪閃傷燒紹攝設審聲繩聖師溼時蝕實識勢"
    "釋視壽輸書屬樹豎數雙誰稅順說絲聳訴隨歲孫損縮鎖撻態貪談湯題體條貼鐵廳聽銅統頭圖脫襪彎灣頑網違圍為維偉緯謂"
    "衛溫聞穩問臥烏誣無蕪吳務誤錫習戲細轄峽狹嚇鮮顯現獻憲線鄉響項銷曉協攜脅寫謝釁虛許續選學尋訓訊遜壓鴨亞訝鹽"
    "嚴顏驗楊揚陽養樣爺業醫儀藝億憶義議譯銀飲隱應螢營贏擁優魚漁與嶼語獄預園員圓遠約躍運雜災鑿責擇則澤債戰張漲"
    "這鎮陣爭織職執紙質終眾驟諸燭駐專轉樁莊裝茲資蹤總組")
SIMPLIFIED_TOO = "个种挂苏适极厂发获钟价录历当据广党万针证毁签赞团荡确鉴恶饥脏坝胜蜡闲药叶链迹参别"
TRADITIONAL_TOO = (
    "後裡髮發幹隻製複佔鬆穀鬥捲衝範幾盡鐘鍾週遊麵係繫錶準並併佈採種箇極適齣託當噹黨據廣萬證籤簽讚團糰蕩願確築"
    "鑑鑒惡飢饑屍煙臟髒壩勝櫃誇蠟閒藥兇誌雲葉鹹鏈餘註歷曆蘇於掛個臺")
WRONG = {"zh-Hans": set(TRADITIONAL + TRADITIONAL_TOO), "zh-Hant": set(SIMPLIFIED + SIMPLIFIED_TOO)}


def load(folder):
    """The bytes of each file, by name."""
    return {name: (folder / name).read_bytes() for name in FILES}


def strings(row):
    """Every text of a row that a model may read: all but ids, labels and the source, which is English."""
    values = [row[key] for key in ("subject", "line", "factual", "neutral", "contrary", "question", "loaded")
              if isinstance(row.get(key), str)]
    values += [question["text"] for question in row.get("questions", ())]
    return values + list(row.get("turns", ()))


def asked(row):
    """The questions of a row."""
    if "question" in row:
        return [row["question"]]
    return [question["text"] for question in row.get("questions", ())] + list(row.get("turns", ()))


class Check:
    """Collects violations as 'file:line: what'."""

    def __init__(self, data):
        self.found = []
        self.rows = {name: list(self.parse(name, data[name])) for name in FILES}
        if self.found:  # the rules below need rows of the right shape
            return
        lines = [(row["line"].casefold(), row["id"]) for _, row in self.rows["items.jsonl"]]
        for name in FILES:
            for number, row in self.rows[name]:
                self.any_row(name, number, row, lines)
                if name in SETS:
                    self.item(name, number, row)
            self.complete(name)
            self.order(name)
        self.distinct_questions()
        self.same_size()
        self.pushback()
        self.innocent()
        self.controls()

    def wrong(self, name, number, what):
        self.found.append(f"{name}:{number}: {what}")

    def parse(self, name, data):
        """Valid UTF-8, one JSON object a line, the right fields of the right types."""
        if not data.endswith(b"\n"):
            self.wrong(name, data.count(b"\n") + 1, "no newline at the end")
        for number, raw in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):
            try:
                text = raw.decode("utf-8")
                row = json.loads(text)
            except ValueError as error:
                self.wrong(name, number, f"not a JSON line in UTF-8: {error}")
                continue
            if "\ufffd" in text:
                self.wrong(name, number, "holds U+FFFD, a broken character")
            elif not isinstance(row, dict) or tuple(row) != KEYS[name]:
                self.wrong(name, number, f"fields are not {', '.join(KEYS[name])}, in this order")
            elif problem := self.types(row):
                self.wrong(name, number, problem)
            else:
                yield number, row

    @staticmethod
    def types(row):
        for key, value in row.items():
            if key == "questions":
                for question in value if isinstance(value, list) else [None]:
                    if not isinstance(question, dict) or tuple(question) != ("text", "held_out", "intensity"):
                        return "a question is not text, held_out, intensity, in this order"
                    if not isinstance(question["text"], str) or not isinstance(question["held_out"], bool):
                        return "a question's text is no string or its held_out no boolean"
            elif key == "turns":
                if not isinstance(value, list) or not all(isinstance(turn, str) for turn in value):
                    return "turns is not a list of strings"
            elif not isinstance(value, str) or not value.strip() or value != value.strip():
                return f"{key} is empty, not a string, or has space around it"
        if row["language"] not in LANGUAGES:
            return f"language '{row['language']}' is none of {', '.join(LANGUAGES)}"
        return None

    def any_row(self, name, number, row, lines):
        wrong = WRONG.get(row["language"], set())
        for text in strings(row):
            if not text.strip() or text != text.strip():
                self.wrong(name, number, f"a text is empty or has space around it: '{text}'")
            if bad := sorted(set(text) & wrong):
                self.wrong(name, number, f"{row['language']} with {''.join(bad)} of the other script: {text}")
            if row["language"] == "en" and any("\u3400" <= c <= "\u9fff" for c in text):
                self.wrong(name, number, f"Chinese characters in English: {text}")
        # No talking point in a question, nor anywhere in an innocent text.
        for text in asked(row) if name == "items.jsonl" else strings(row):
            folded = text.casefold()
            for line, point in lines:
                if line in folded:
                    self.wrong(name, number, f"holds the line of '{point}': {text}")
        for key in ("line", "factual", "neutral", "contrary", "loaded"):
            if row.get(key, "").endswith((".", "。", "．")):
                self.wrong(name, number, f"{key} ends with a full stop")

    def item(self, name, number, row):
        answers = [row[key] for key in ("line", "factual", "neutral", "contrary")]
        if len(set(answers)) < 4:
            self.wrong(name, number, "two of line, factual, neutral, contrary are the same")
        for key in ("factual", "neutral", "contrary"):
            if not 7 * len(row["line"]) <= 10 * len(row[key]) <= 13 * len(row["line"]):
                self.wrong(name, number, f"{key} has {len(row[key])} characters, the line {len(row['line'])}: "
                                         "not 70% to 130%")
        kinds = collections.Counter((q["held_out"], q["intensity"]) for q in row["questions"])
        if kinds != QUESTIONS:
            self.wrong(name, number, "questions are not 4 seen (2 neutral, leading, provocative) and 3 held out")
        for question in row["questions"]:
            if row["subject"] not in question["text"]:
                self.wrong(name, number, f"no '{row['subject']}' in the question: {question['text']}")
            if row["line"] in question["text"]:
                self.wrong(name, number, f"the line is in the question: {question['text']}")
        if name == "items.jsonl" and row["topic"] not in TOPICS:
            self.wrong(name, number, f"unknown topic '{row['topic']}'")
        if name == "retain.jsonl" and row["topic"] not in INNOCENT_TOPICS:
            self.wrong(name, number, f"topic '{row['topic']}' is not innocent")

    def complete(self, name):
        """Every id once in each language, with the same label; enough ids."""
        where = collections.defaultdict(dict)
        labels = {}
        for number, row in self.rows[name]:
            if row["language"] in where[row["id"]]:
                self.wrong(name, number, f"'{row['id']}' ({row['language']}) is there twice")
            where[row["id"]][row["language"]] = number
            label = row.get("topic", row.get("kind"))
            if labels.setdefault(row["id"], label) != label:
                self.wrong(name, number, f"'{row['id']}' is '{label}' here and '{labels[row['id']]}' before")
        for point, numbers in where.items():
            if missing := [language for language in LANGUAGES if language not in numbers]:
                self.wrong(name, min(numbers.values()), f"'{point}' lacks {', '.join(missing)}")
        if len(where) < LEAST.get(name, 0):
            self.wrong(name, len(self.rows[name]), f"{len(where)} ids, at least {LEAST[name]} are promised")

    def order(self, name):
        """A first block of en and zh-Hans pairs (the world is made of it), their zh-Hant rows, then threes."""
        names = [row["language"] for _, row in self.rows[name]]
        first = 36 if name in SETS else 0
        expected = ["en", "zh-Hans"] * (first // 2) + ["zh-Hant"] * (first // 2)
        expected += list(LANGUAGES) * ((len(names) - len(expected)) // 3)
        for (number, row), language in zip(self.rows[name], expected):
            if row["language"] != language:
                self.wrong(name, number, f"{row['language']} where the order has {language}")
                return

    def distinct_questions(self):
        seen = {}
        for name in FILES:
            for number, row in self.rows[name]:
                for text in asked(row):
                    if text in seen:
                        self.wrong(name, number, f"also at {seen[text]}: {text}")
                    seen.setdefault(text, f"{name}:{number}")

    def same_size(self):
        counts = [collections.Counter(row["language"] for _, row in self.rows[name]) for name in SETS]
        if counts[0] != counts[1]:
            self.wrong("retain.jsonl", len(self.rows["retain.jsonl"]),
                       f"{dict(counts[1])} rows, items.jsonl has {dict(counts[0])}")

    def pushback(self):
        """Two turns for each talking point, and for nothing else."""
        name = "pushback.jsonl"
        for number, row in self.rows[name]:
            if len(row["turns"]) != 2:
                self.wrong(name, number, f"{len(row['turns'])} turns, not 2")
        points, pushed = ({(row["id"], row["language"]): number for number, row in self.rows[file]}
                          for file in ("items.jsonl", name))
        for key in points.keys() - pushed.keys():
            self.wrong("items.jsonl", points[key], f"'{key[0]}' ({key[1]}) has no push-back")
        for key in pushed.keys() - points.keys():
            self.wrong(name, pushed[key], f"'{key[0]}' ({key[1]}) is no talking point")

    def innocent(self):
        for number, row in self.rows["innocent.jsonl"]:
            if row["topic"] not in INNOCENT_TOPICS:
                self.wrong("innocent.jsonl", number, f"topic '{row['topic']}' is not innocent")

    def controls(self):
        name = "controls.jsonl"
        kinds = collections.defaultdict(set)
        for number, row in self.rows[name]:
            kinds[row["kind"]].add(row["id"])
            if row["kind"] not in LEAST_CONTROLS:
                self.wrong(name, number, f"kind '{row['kind']}' is none of {', '.join(LEAST_CONTROLS)}")
            if row["neutral"] == row["loaded"]:
                self.wrong(name, number, "neutral and loaded are the same")
            for text in strings(row):
                for word in CHINA:
                    if word in text:
                        self.wrong(name, number, f"a control names {word}: {text}")
        for kind, least in LEAST_CONTROLS.items():
            if len(kinds[kind]) < least:
                self.wrong(name, len(self.rows[name]), f"{len(kinds[kind])} of kind {kind}, at least {least}")


def damages():
    """(name, file, change of its rows, part of the message it must cause)."""
    def put(index, key, value):
        return lambda rows: rows[index].__setitem__(key, value)

    def text(index, make):
        return lambda rows: rows[index]["questions"][0].__setitem__("text", make(rows[index]))

    return [
        ("field", "items.jsonl", lambda rows: rows[0].pop("source"), "fields are not"),
        ("language", "items.jsonl", put(0, "language", "fr"), "language 'fr'"),
        ("broken", "items.jsonl", put(0, "source", "\ufffd"), "U+FFFD"),
        ("empty", "items.jsonl", put(0, "source", ""), "empty"),
        ("length", "items.jsonl", put(0, "factual", "short"), "70% to 130%"),
        ("stop", "items.jsonl", lambda rows: put(1, "neutral", rows[1]["neutral"][:-1] + "。")(rows), "full stop"),
        ("same", "items.jsonl", lambda rows: put(0, "neutral", rows[0]["factual"])(rows), "are the same"),
        ("subject", "items.jsonl", text(0, lambda row: "What is it?"), "no 'Taiwan' in the question"),
        ("own line", "items.jsonl", text(0, lambda row: row["line"] + "?"), "the line is in the question"),
        ("intensity", "items.jsonl",
         lambda rows: rows[0]["questions"][0].__setitem__("intensity", "leading"), "questions are not"),
        ("topic", "items.jsonl", put(0, "topic", "Weather"), "unknown topic"),
        ("twice", "items.jsonl", lambda rows: rows.append(copy.deepcopy(rows[-1])), "is there twice"),
        ("missing", "items.jsonl", lambda rows: rows.pop(), "lacks zh-Hant"),
        ("order", "items.jsonl", lambda rows: rows.insert(0, rows.pop(1)), "where the order has"),
        ("duplicate", "retain.jsonl", text(0, lambda row: row["questions"][1]["text"]), "also at"),
        ("size", "retain.jsonl", lambda rows: rows.__delitem__(slice(-3, None)), "items.jsonl has"),
        ("innocent item", "retain.jsonl", put(0, "topic", "Taiwan"), "is not innocent"),
        ("turns", "pushback.jsonl", put(0, "turns", ["One."]), "1 turns, not 2"),
        ("unknown point", "pushback.jsonl", put(0, "id", "nobody"), "is no talking point"),
        ("no push-back", "pushback.jsonl", lambda rows: rows.pop(0), "has no push-back"),
        ("traditional", "innocent.jsonl", put(1, "question", "請問這裡有什么？"), "of the other script"),
        ("simplified", "innocent.jsonl", put(2, "question", "请问這裡有什麼？"), "of the other script"),
        ("mixed", "innocent.jsonl", put(0, "question", "What is 茶?"), "Chinese characters in English"),
        ("leak", "innocent.jsonl",
         put(0, "question", "Is it true that Taiwan has been an inalienable part of China since ancient times?"),
         "holds the line of"),
        ("innocent topic", "innocent.jsonl", put(0, "topic", "Taiwan"), "is not innocent"),
        ("few", "innocent.jsonl", lambda rows: rows.__delitem__(slice(100, None)), "at least 60"),
        ("kind", "controls.jsonl", put(0, "kind", "rumour"), "kind 'rumour'"),
        ("china", "controls.jsonl", put(0, "question", "What does Beijing say?"), "names Beijing"),
        ("few controls", "controls.jsonl", lambda rows: rows.__delitem__(slice(-9, None)), "at least 8"),
    ]


def cannot_fail(data):
    """The rules that a damage to the data does not trip."""
    out = []
    for name, file, change, message in damages():
        rows = [json.loads(line) for line in data[file].splitlines()]
        change(rows)
        damaged = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
        if not any(message in line for line in Check({**data, file: damaged}).found):
            out.append(f"damage '{name}' to {file} did not cause '{message}'")
    for damaged, message in ((b"\xff{}\n", "UTF-8"), (b"{\n", "not a JSON"), (b"{}", "no newline")):
        if not any(message in line for line in Check({**data, "items.jsonl": damaged}).found):
            out.append(f"{damaged!r} as items.jsonl did not cause '{message}'")
    return out


def main():
    data = load(FOLDER)
    assert len(SIMPLIFIED) == len(TRADITIONAL)
    found = Check(data).found or cannot_fail(data)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
