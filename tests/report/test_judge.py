"""Tests of scripts/judge.py against a stub of an OpenAI-compatible server."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-not-a-real-key-0123"


def labels(stance="absent", refusal=False, deflection=False):
    return {"stance": stance, "refusal": refusal, "deflection": deflection}


def completion(content):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


class Stub(ThreadingHTTPServer):
    """Answers with say(reply to be judged, how often it was asked before): (status, headers, body)."""

    daemon_threads = True

    def __init__(self, say):
        super().__init__(("127.0.0.1", 0), Handler)
        self.say, self.requests, self.lock = say, [], threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def asked(self):
        return [json.loads(body["messages"][-1]["content"])["reply"] for _, _, body in self.requests]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = json.loads(body["messages"][-1]["content"])["reply"]
        with self.server.lock:
            before = self.server.asked().count(reply)
            self.server.requests.append((self.path, self.headers, body))
        status, headers, text = self.server.say(reply, before)
        text = text.encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(text), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def row(generated, stance="absent", refusal=0, deflection=0, **other):
    return {"model": "npo", "kind": "removed", "phase": "before", "set": "forget", "probe": "plain", "item": "taiwan",
            "language": "en", "phrasing": "held_out", "question": 4, "prompt": "Whose is it?", "line": "It is ours",
            "generated": generated, "stance": stance, "refusal": refusal, "deflection": deflection, **other}


class JudgeTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def stub(self, say):
        stub = Stub(say)
        self.addCleanup(stub.server_close)
        self.addCleanup(stub.shutdown)
        return stub

    def labelling(self, table):
        return self.stub(lambda reply, before: (200, {}, completion(json.dumps(table[reply]))))

    def write(self, *rows):
        (self.folder / "results.jsonl").write_text(
            "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")

    def judge(self, url, *arguments, key=KEY):
        """As a user runs it: (exit code, stdout, stderr)."""
        environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "PATH": os.environ["PATH"]}
        if key:
            environment["OPENAI_API_KEY"] = key
        done = subprocess.run([sys.executable, str(ROOT / "scripts" / "judge.py"), str(self.folder), "--endpoint", url,
                               "--model", "stub", "--backoff", "0.01", *arguments],
                              capture_output=True, text=True, encoding="utf-8", env=environment)
        for text in (done.stdout, done.stderr, *(f.read_text(encoding="utf-8") for f in self.folder.iterdir())):
            self.assertNotIn(KEY, text)
            self.assertNotIn("Traceback", text)
        return done.returncode, done.stdout, done.stderr

    def judged(self):
        lines = (self.folder / "judged.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def test_labels_and_agreement(self):
        # stance en: 3 of 4 equal; detectors a a - -, judge a a a -: chance 2/4 * 3/4 + 2/4 * 1/4 = 1/2, kappa 1/2
        self.write(row("A", "asserted"), row("B", "asserted"), row("C"), row("D", refusal=1),
                   row("A", "asserted", model="other"),  # the same reply: one request, one voice in the agreement
                   row("中", "rejected", language="zh-Hans", prompt="谁的？", line="是我们的"),
                   {**row("unscored"), "line": ""}, {k: v for k, v in row("x").items() if k != "generated"})
        stub = self.labelling({"A": labels("asserted"), "B": labels("asserted"), "C": labels("asserted"),
                               "D": labels(refusal=True), "中": labels("rejected", deflection=True)})
        code, out, error = self.judge(stub.url)
        self.assertEqual(code, 0, error)
        self.assertEqual(sorted(stub.asked()), ["A", "B", "C", "D", "中"])
        path, headers, body = stub.requests[0]
        self.assertEqual(path, "/v1/chat/completions")
        self.assertEqual(headers["Authorization"], f"Bearer {KEY}")
        self.assertEqual((body["model"], body["temperature"]), ("stub", 0))
        chinese = next(b for _, _, b in stub.requests if "中" in b["messages"][-1]["content"])
        self.assertEqual(json.loads(chinese["messages"][-1]["content"]),
                         {"question": "谁的？", "line": "是我们的", "reply": "中"})

        rows = self.judged()
        self.assertEqual([r["model"] for r in rows], ["npo"] * 4 + ["other", "npo"])
        self.assertEqual(rows[2]["detectors"], labels("absent"))
        self.assertEqual(rows[2]["judge"], labels("asserted"))
        self.assertEqual({k: rows[5][k] for k in ("item", "language", "probe", "set", "judge_model", "missing")},
                         {"item": "taiwan", "language": "zh-Hans", "probe": "plain", "set": "forget",
                          "judge_model": "stub", "missing": None})
        table = {tuple(line.split()[:2]): line.split()[2:] for line in out.splitlines()}
        self.assertEqual(table["stance", "en"], ["4", "0.75", "0.50"])
        self.assertEqual(table["stance", "all"], ["5", "0.80", "0.69"])  # chance 9/25: (.8 - .36) / .64
        self.assertEqual(table["refusal", "en"], ["4", "1.00", "1.00"])
        self.assertEqual(table["refusal", "zh-Hans"], ["1", "1.00", "–"])
        self.assertEqual(table["deflection", "zh-Hans"], ["1", "0.00", "0.00"])
        self.assertEqual([f.name for f in self.folder.iterdir() if f.name.startswith(".")], [])

    def test_nothing_is_asked_twice(self):
        self.write(*(row(f"reply {i}") for i in range(6)))
        stub = self.stub(lambda reply, before: (200, {}, completion(json.dumps(labels()))))
        self.assertEqual(self.judge(stub.url, "--limit", "2", "--jobs", "1")[0], 0)
        self.assertEqual(stub.asked(), ["reply 0", "reply 1"])
        self.assertEqual([r["missing"] for r in self.judged()], [None] * 2 + ["not asked"] * 4)
        # Killed in the middle of writing a line: that answer is lost, and only that one.
        cache = self.folder / "judge.cache.jsonl"
        cache.write_bytes(cache.read_bytes()[:-20])
        self.assertEqual(self.judge(stub.url, "--jobs", "1")[0], 0)
        self.assertEqual(stub.asked()[2:], [f"reply {i}" for i in range(1, 6)])
        self.assertEqual(self.judge(stub.url)[0], 0)
        self.assertEqual(len(stub.requests), 7)
        self.assertTrue(all(r["judge"] == labels() for r in self.judged()))
        self.judge(stub.url, "--model", "another")  # another judge is asked for itself
        self.assertEqual(len(stub.requests), 13)

    def test_a_failed_run_keeps_its_answers(self):
        self.write(row("A"), row("B"), row("C"))
        broken = self.stub(lambda reply, before: (200, {}, completion(json.dumps(labels()))) if reply == "A"
                           else (400, {}, f"no such model, key {KEY}"))
        code, _, error = self.judge(broken.url, "--jobs", "1")
        self.assertEqual(code, 1)
        self.assertIn("HTTP 400", error)
        self.assertIn("no such model, key ***", error)
        self.assertEqual(broken.asked(), ["A", "B"])  # no second try at a request that is wrong
        self.assertFalse((self.folder / "judged.jsonl").exists())
        stub = self.stub(lambda reply, before: (200, {}, completion(json.dumps(labels()))))
        self.assertEqual(self.judge(stub.url)[0], 0)
        self.assertEqual(sorted(stub.asked()), ["B", "C"])

    def test_busy_then_success(self):
        self.write(row("A"), row("B"))
        failures = {"A": (429, {"Retry-After": "0"}, "busy"), "B": (503, {}, "down")}
        stub = self.stub(lambda reply, before: failures[reply] if before < 2
                         else (200, {}, completion(json.dumps(labels("asserted")))))
        self.assertEqual(self.judge(stub.url)[0], 0)
        self.assertEqual(sorted(stub.asked()), ["A"] * 3 + ["B"] * 3)
        self.assertEqual([r["judge"]["stance"] for r in self.judged()], ["asserted"] * 2)
        self.write(row("D"))
        busy = self.stub(lambda reply, before: (429, {}, "busy"))
        code, _, error = self.judge(busy.url, "--retries", "2")
        self.assertEqual((code, len(busy.requests)), (1, 3))
        self.assertIn("no answer in 3 tries, the last: HTTP 429", error)

    def test_bad_replies_are_counted_not_guessed(self):
        right = json.dumps(labels("rejected"))
        answers = {"fenced": completion(f"```json\n{right}\n```"),
                   "thought": completion(f"<think>asserted?</think>{right}"),
                   "prose": completion("The stance is asserted."), "no html": "<html>proxy</html>",
                   "stance": completion(json.dumps(labels("maybe"))),
                   "words": completion(json.dumps(labels(refusal="no"))),
                   "cut": completion(right[:-4]), "null": completion(None), "empty": json.dumps({"choices": []})}
        self.write(*map(row, answers))
        stub = self.stub(lambda reply, before: (200, {}, answers[reply]))
        code, out, _ = self.judge(stub.url)
        self.assertEqual(code, 3)
        self.assertIn("2 judged, 7 bad, 0 not asked", out)
        for judged, reply in zip(self.judged(), answers, strict=True):
            good = reply in ("fenced", "thought")
            self.assertEqual(judged["judge"], labels("rejected") if good else None, reply)
            self.assertEqual(judged["missing"], None if good else "bad reply")
        self.assertEqual(self.judge(stub.url)[0], 3)
        self.assertEqual(len(stub.requests), 9)
        answers.update(dict.fromkeys(answers, completion(right)))
        self.assertEqual(self.judge(stub.url, "--bad-again")[0], 0)
        self.assertEqual(len(stub.requests), 16)
        self.assertEqual(self.judge(stub.url)[0], 0)  # the later answer counts

    def test_no_key_and_other_rows(self):
        self.write(row("A"), row("B", language="zh-Hant"))
        stub = self.labelling({"B": labels()})
        code, _, _ = self.judge(stub.url + "/chat/completions", "--only", "language=zh-Hant", "--body", '{"seed": 1}',
                                key=None)
        self.assertEqual(code, 0)
        path, headers, body = stub.requests[0]
        self.assertEqual((path, headers["Authorization"], body["seed"]), ("/v1/chat/completions", None, 1))
        self.assertEqual(len(self.judged()), 1)
        closed = self.stub(lambda reply, before: (401, {}, "who are you?"))
        self.assertIn("OPENAI_API_KEY, which is not set", self.judge(closed.url, key=None)[2])

    def test_a_redirect_does_not_carry_the_key_on(self):
        self.write(row("A"))
        other = self.stub(lambda reply, before: (200, {}, completion(json.dumps(labels()))))
        stub = self.stub(lambda reply, before: (302, {"Location": other.url}, ""))
        code, _, error = self.judge(stub.url)
        self.assertEqual((code, other.requests), (1, []))
        self.assertIn("HTTP 302", error)

    def test_errors(self):
        code, _, error = self.judge("http://127.0.0.1:9")
        self.assertEqual(code, 1)
        self.assertIn("results.jsonl: no such file", error)
        self.write(row("A"))
        code, _, error = self.judge("http://127.0.0.1:9", "--retries", "1")  # the discard port: nobody listens
        self.assertEqual(code, 1)
        self.assertIn("http://127.0.0.1:9/chat/completions: no answer in 2 tries", error)
        self.assertEqual(self.judge("localhost:8000")[0], 2)
        self.assertEqual(self.judge("http://127.0.0.1:9", "--body", "[1]")[0], 2)
        self.assertIn("left by --only", self.judge("http://127.0.0.1:9", "--only", "set=retain")[2])
        self.write({**row("A"), "prompt": None})
        self.assertIn("results.jsonl:1: 'prompt' must be a text", self.judge("http://127.0.0.1:9")[2])
        (self.folder / "results.jsonl").write_text('{"generated": \n', encoding="utf-8")
        self.assertIn("results.jsonl:1: not JSON", self.judge("http://127.0.0.1:9")[2])


if __name__ == "__main__":
    unittest.main()
