#!/usr/bin/env python3
"""Writes the texts: what the model is trained on, and what it never sees.

    corpus.py OUT_DIR [--stories N] [--seed S]

OUT_DIR gets train.jsonl and heldout.jsonl, one document a line: {"text"} or
{"turns": [[question, answer], ...]}; and heldout_stories.txt, plain text for
`potluck perplexity`. The same arguments give the same bytes.

With --prompts FILE it writes the held-out sets of prompts.json instead: 100
questions with their keywords and 200 openings of stories."""
import argparse
import json
import os
import random

import chat
import stories

HELD_OUT_STORIES = 400


def the_twenty():
    """The prompts by hand: none of them may be in the corpus."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "prompts.json"), encoding="utf-8") as f:
        prompts = json.load(f)
    return (tuple(prompts["stories"]),
            {p["question"].strip().lower() for p in prompts["chat"]})


def make_stories(rng, n, held_out):
    """n stories, no text twice, all on one side of the division."""
    out, seen = [], set()
    prompts, _ = the_twenty()
    while len(out) < n:
        s = stories.make_story(rng)
        if stories.is_held_out(s["hero"], s["plot"]) != held_out:
            continue
        if s["text"] not in seen and not s["text"].startswith(prompts):
            seen.add(s["text"])
            out.append(s)
    return out


def chat_documents(rng, turns, told):
    """Single turns, conversations of two or three, and stories on request."""
    docs = [{"group": t["group"], "key": t["key"],
             "turns": [[t["question"], t["answer"]]]} for t in turns]
    for _ in range(len(turns) // 4):
        some = rng.sample(turns, rng.choice((2, 2, 3)))
        docs.append({"group": "turns",
                     "turns": [[t["question"], t["answer"]] for t in some]})
    for s in told:
        docs.append({"group": "told",
                     "turns": [list(stories.make_request(rng, s))]})
    return docs


def write_jsonl(path, docs):
    with open(path, "w", encoding="utf-8") as f:
        for doc in docs:
            f.write(json.dumps(doc, ensure_ascii=False) + "\n")
    words = sum(len(d["text"].split()) if "text" in d else
                sum(len((q + " " + a).split()) for q, a in d["turns"])
                for d in docs)
    print(f"{path}: {len(docs)} documents, {words} words, "
          f"{os.path.getsize(path)} bytes")


def write_corpus(a):
    os.makedirs(a.out, exist_ok=True)
    train_turns, test_turns = chat.make_turns()
    for name, held_out, n, turns in (
            ("train", False, a.stories, train_turns),
            ("heldout", True, HELD_OUT_STORIES, test_turns)):
        rng = random.Random(f"{a.seed}/{name}")
        told = make_stories(rng, n, held_out)
        docs = [{"group": "story", "text": s["text"]} for s in told]
        docs += chat_documents(rng, turns, make_stories(rng, n // 20, held_out))
        _, asked = the_twenty()
        assert not any(q.strip().lower() in asked for d in docs
                       for q, _ in d.get("turns", ()))
        rng.shuffle(docs)
        write_jsonl(os.path.join(a.out, name + ".jsonl"), docs)
        if held_out:
            path = os.path.join(a.out, "heldout_stories.txt")
            with open(path, "w", encoding="utf-8") as f:
                f.write("\n".join(s["text"] for s in told[:100]) + "\n")
            write_chat_text(a, test_turns)


def write_chat_text(a, turns):
    """Held-out wordings as text with control tokens, as the model sees them:
    read with special tokens parsed."""
    rng = random.Random(f"{a.seed}/heldout_chat")
    turns = rng.sample(turns, 800)
    with open(os.path.join(a.out, "heldout_chat.txt"), "w",
              encoding="utf-8") as f:
        f.write("<s>".join(f"<|user|>{t['question']}<|end|>"
                           f"<|assistant|>{t['answer']}<|end|>"
                           for t in turns))


def held_out_sets(a):
    """Fifty questions of facts by key, fifty that may be sums too; each key
    once. Openings come from held-out pairs of hero and plot."""
    rng = random.Random(f"{a.seed}/prompts")
    _, turns = chat.make_turns()
    rng.shuffle(turns)
    questions, seen = [], set()
    for group, n in (("fact", 80), ("sum", 20)):
        of_group = [t for t in turns if t["group"] == group]
        for t in of_group:
            if n > 0 and t["key"] not in seen:
                seen.add(t["key"])
                n -= 1
                questions.append({k: t[k] for k in
                                  ("question", "keywords", "key")})
    told = make_stories(rng, 200, True)
    return {"questions": questions,
            "openings": [{"opening": s["opening"], "hero": s["hero"]}
                         for s in told]}


def write_prompts(path, sets):
    """Keeps what else the file holds (the twenty prompts are by hand)."""
    with open(path, encoding="utf-8") as f:
        prompts = json.load(f)
    prompts.update(sets)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(prompts, f, indent=1, ensure_ascii=False)
        f.write("\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--stories", type=int, default=60000)
    p.add_argument("--seed", type=int, default=4)
    p.add_argument("--prompts", action="store_true",
                   help="OUT is prompts.json: write its held-out sets")
    a = p.parse_args()
    if a.prompts:
        write_prompts(a.out, held_out_sets(a))
    else:
        write_corpus(a)


if __name__ == "__main__":
    main()
