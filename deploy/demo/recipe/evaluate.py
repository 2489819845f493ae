#!/usr/bin/env python3
"""What the trained model can do, by script.

    evaluate.py last.pt VOCAB.json perplexity FILE.txt
    evaluate.py last.pt VOCAB.json questions PROMPTS.json
    evaluate.py last.pt VOCAB.json stories PROMPTS.json
    evaluate.py last.pt VOCAB.json twenty PROMPTS.json
    evaluate.py last.pt VOCAB.json experts CORPUS_DIR

perplexity is that of `potluck perplexity`: windows of the context's length,
each begun with BOS. It works on torch's unrounded weights; potluck's own
numbers on the GGUF file are the ones to compare with."""
import json
import math
import os
import random
import sys

import torch
import torch.nn.functional as F

import chat
from model import Config, Model, generate
from tokenizer import ASSISTANT, BOS, END, EOS, USER, Tokenizer, read_jsonl


def load(path):
    state = torch.load(path, map_location="cpu")
    model = Model(Config(**state["config"]))
    model.load_state_dict(state["model"])
    return model.eval()


@torch.no_grad()
def perplexity(model, t, path):
    with open(path, encoding="utf-8") as f:
        ids = t.encode(f.read())
    nll, n, at = 0.0, 0, 0
    while at < len(ids):
        window = [BOS] + ids[at:at + model.c.n_ctx - 1]
        at += model.c.n_ctx - 1
        logits, _, _ = model(torch.tensor([window]))
        nll += F.cross_entropy(logits[0, :-1].double(),
                               torch.tensor(window[1:]),
                               reduction="sum").item()
        n += len(window) - 1
    print(f"{path}: {n} tokens, loss {nll / n:.5f}, perplexity "
          f"{math.exp(nll / n):.4f}")


def ask(t, question):
    return [BOS, USER] + t.encode(question) + [END, ASSISTANT]


def complete(model, t, prompts, n_max, temperature=0.0, rows=25):
    """[(text, whether it ended)] for lists of ids."""
    out = []
    for i in range(0, len(prompts), rows):
        for ids in generate(model, prompts[i:i + rows], (EOS, END), n_max,
                            temperature, seed=i):
            out.append((t.decode(ids), ids[-1] in (EOS, END)))
    return out


def questions(model, t, path):
    with open(path, encoding="utf-8") as f:
        asked = json.load(f)["questions"]
    got = complete(model, t, [ask(t, q["question"]) for q in asked], 80)
    right = 0
    for q, (answer, _) in zip(asked, got):
        good = chat.has_keyword(answer, q["keywords"])
        right += good
        if not good:
            print(f"wanted {q['keywords']}: {q['question']}\n    {answer}")
    print(f"{right} of {len(asked)} answers hold their keyword")


def stories(model, t, path):
    """A story keeps its hero's name if the name stands in the second half of
    what was written."""
    with open(path, encoding="utf-8") as f:
        told = json.load(f)["openings"]
    got = complete(model, t, [[BOS] + t.encode(s["opening"]) for s in told],
                   450)
    good = 0
    for s, (text, ended) in zip(told, got):
        keeps = s["hero"] in text[len(text) // 2:]
        good += keeps and ended
        if not (keeps and ended):
            print(f"{'' if keeps else 'no ' + s['hero']} "
                  f"{'' if ended else 'no end'}: {s['opening']}{text}\n")
    print(f"{good} of {len(told)} stories keep the hero and end")


def twenty(model, t, path):
    with open(path, encoding="utf-8") as f:
        p = json.load(f)
    prompts = [([BOS] + t.encode(s), s) for s in p["stories"]]
    prompts += [(ask(t, q["question"]), q["question"] + " ->")
                for q in p["chat"]]
    for temperature in (0.0, 0.7):
        print(f"## temperature {temperature}\n")
        got = complete(model, t, [i for i, _ in prompts], 450, temperature)
        for (_, shown), (text, ended) in zip(prompts, got):
            print(f"**{shown}** {text}{'' if ended else ' [no end]'}\n")


@torch.no_grad()
def experts(model, t, corpus):
    """Share of the tokens' expert places, per layer."""
    docs = read_jsonl(os.path.join(corpus, "heldout.jsonl"))
    random.Random(1).shuffle(docs)
    used = 0
    for doc in docs[:400]:
        ids, _ = t.encode_document(doc)
        used = used + model(torch.tensor([ids[:model.c.n_ctx]]))[2]
    share = 100 * used / used.sum(-1, keepdim=True)
    for i, row in enumerate(share.tolist()):
        print(f"layer {i}: " + " ".join(f"{x:5.1f} %" for x in row))


def main(argv):
    what = {f.__name__: f for f in
            (perplexity, questions, stories, twenty, experts)}
    if len(argv) != 5 or argv[3] not in what:
        raise SystemExit(__doc__)
    what[argv[3]](load(argv[1]), Tokenizer(argv[2]), argv[4])


if __name__ == "__main__":
    main(sys.argv)
