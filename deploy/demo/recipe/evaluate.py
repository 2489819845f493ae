#!/usr/bin/env python3
"""Numbers of the trained weights in torch; what the shipped file says is
judge.py's part.

    evaluate.py last.pt VOCAB.json perplexity FILE.txt
    evaluate.py last.pt VOCAB.json special FILE.txt
    evaluate.py last.pt VOCAB.json documents FILE.txt
    evaluate.py last.pt VOCAB.json experts CORPUS_DIR

perplexity is that of `potluck perplexity`: windows of the context's length,
each begun with BOS; special is that of `potluck perplexity --special`; documents
scores each of the texts that empty lines part on its own. All work on torch's
unrounded weights; potluck's own numbers on the GGUF file are the ones to
compare with."""
import math
import os
import random
import sys

import torch
import torch.nn.functional as F

from model import Config, Model
from tokenizer import BOS, Tokenizer, read_jsonl


def load(path):
    state = torch.load(path, map_location="cpu")
    model = Model(Config(**state["config"]))
    model.load_state_dict(state["model"])
    return model.eval()


def perplexity(model, t, path):
    with open(path, encoding="utf-8") as f:
        report(path, *score(model, t.encode(f.read())))


def documents(model, t, path):
    with open(path, encoding="utf-8") as f:
        texts = f.read().rstrip("\n").split("\n\n")
    parts = [score(model, t.encode(text)) for text in texts]
    report(path, sum(p[0] for p in parts), sum(p[1] for p in parts))


def special(model, t, path):
    with open(path, encoding="utf-8") as f:
        report(path, *score(model, t.encode_special(f.read())))


@torch.no_grad()
def score(model, ids):
    nll, n, at = 0.0, 0, 0
    while at < len(ids):
        window = [BOS] + ids[at:at + model.c.n_ctx - 1]
        at += model.c.n_ctx - 1
        logits, _, _ = model(torch.tensor([window]))
        nll += F.cross_entropy(logits[0, :-1].double(),
                               torch.tensor(window[1:]),
                               reduction="sum").item()
        n += len(window) - 1
    return nll, n


def report(path, nll, n):
    print(f"{path}: {n} tokens, loss {nll / n:.5f}, perplexity "
          f"{math.exp(nll / n):.4f}")


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
    what = {f.__name__: f for f in (perplexity, special, documents, experts)}
    if len(argv) != 5 or argv[3] not in what:
        raise SystemExit(__doc__)
    what[argv[3]](load(argv[1]), Tokenizer(argv[2]), argv[4])


if __name__ == "__main__":
    main(sys.argv)
