#!/usr/bin/env python3
"""What the shipped model says, asked through a running pool.

    judge.py URL questions      the 100 held-out questions
    judge.py URL stories        the 200 openings
    judge.py URL twenty         the twenty prompts, in Markdown

URL is that of `potluck serve`, http://127.0.0.1:7421. All prompts are those of
prompts.json beside this file; needs nothing but Python."""
import concurrent.futures
import json
import os
import sys
import urllib.request

import chat

AT_ONCE = 8  # requests that the pool computes together


def post(url, path, body):
    request = urllib.request.Request(
        url + path, json.dumps(body).encode("utf-8"),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as reply:
        return json.load(reply)["choices"][0]


def answer(url, question, temperature=0.0):
    got = post(url, "/v1/chat/completions",
               {"messages": [{"role": "user", "content": question}],
                "temperature": temperature, "seed": 1, "top_p": 1,
                "max_tokens": 400})
    return got["message"]["content"], got["finish_reason"] == "stop"


def go_on(url, text, temperature=0.0):
    got = post(url, "/v1/completions",
               {"prompt": text, "temperature": temperature, "seed": 1,
                "top_p": 1, "max_tokens": 450})
    return got["text"], got["finish_reason"] == "stop"


def all_of(ask, items):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, items))


def questions(url, prompts):
    asked = prompts["questions"]
    right = 0
    for q, (text, _) in zip(asked, all_of(
            lambda q: answer(url, q["question"]), asked)):
        good = chat.has_keyword(text, q["keywords"])
        right += good
        if not good:
            print(f"wanted {q['keywords']}: {q['question']}\n    {text}")
    print(f"{right} of {len(asked)} answers hold their keyword")


def stories(url, prompts):
    """A story keeps its hero's name if the name stands in the second half of
    what was written."""
    told = prompts["openings"]
    good = 0
    for s, (text, ended) in zip(told, all_of(
            lambda s: go_on(url, s["opening"]), told)):
        keeps = s["hero"] in text[len(text) // 2:]
        good += keeps and ended
        if not (keeps and ended):
            print(f"{'' if keeps else 'no ' + s['hero']} "
                  f"{'' if ended else 'no end'}: {s['opening']}{text}\n")
    print(f"{good} of {len(told)} stories keep the hero and end")


def twenty(url, prompts):
    for temperature in (0.0, 0.7):
        print(f"### {'Greedy' if temperature == 0 else 'Temperature 0.7'}\n")
        told = all_of(lambda s: go_on(url, s, temperature),
                      prompts["stories"])
        asked = all_of(lambda q: answer(url, q["question"], temperature),
                       prompts["chat"])
        shown = prompts["stories"] + [q["question"] for q in prompts["chat"]]
        for i, (prompt, (text, ended)) in enumerate(zip(shown, told + asked)):
            said = text.strip().replace("\n", "\n   ")
            print(f"{i + 1}. **{prompt}** {said}"
                  f"{'' if ended else ' [no end]'}")
        print()


def main(argv):
    what = {f.__name__: f for f in (questions, stories, twenty)}
    if len(argv) != 3 or argv[2] not in what:
        raise SystemExit(__doc__)
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "prompts.json"), encoding="utf-8") as f:
        what[argv[2]](argv[1].rstrip("/"), json.load(f))


if __name__ == "__main__":
    main(sys.argv)
