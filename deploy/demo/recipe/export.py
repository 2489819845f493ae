#!/usr/bin/env python3
"""Writes a checkpoint as a GGUF file (version 3, architecture "llama").

    export.py last.pt VOCAB.json OUT.gguf [--type F32|F16|Q8_0|MIX]

MIX is what is shipped: gate and up of the experts Q4_K, their down Q6_K,
everything else that is a matrix Q8_0, the router and the norms F32. The block
formats are those of engine/quant.h."""
import argparse
import os
import struct

import numpy as np
import torch

from tokenizer import BOS, END, EOS, UNK, Tokenizer

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # kinds of values
ALIGNMENT = 32
TYPE_NUMBER = {"F32": 0, "F16": 1, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14}
FILE_TYPE = {"F32": 0, "F16": 1, "Q8_0": 7, "MIX": 15}

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] + "
    "'<|end|>' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' "
    "+ message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


# ---- blocks of weights -------------------------------------------------

def inverse(d):
    """1 / d, and 0 where d is 0, in f32."""
    one = np.float32(1)
    return np.where(d != 0, one / np.where(d != 0, d, one), np.float32(0))


def to_f16(x):
    """The nearest f16 (as stored) and its value."""
    h = x.astype(np.float16)
    return h, h.astype(np.float32)


def q8_0(x):
    """[n] -> bytes: per 32, f16 d and 32 int8, w = d q."""
    x = x.reshape(-1, 32)
    h, d = to_f16(np.abs(x).max(1) / np.float32(127))
    q = np.clip(np.rint(x * inverse(d)[:, None]), -127, 127).astype(np.int8)
    return np.concatenate((h[:, None].view(np.uint8), q.view(np.uint8)),
                          1).tobytes()


def fit_scale(x, start, lo, hi):
    """The scale near `start` whose rounding to lo..hi errs least, weighing
    an error by the size of the weight. x [n, k], start [n]."""
    best, scale = np.full(start.shape, np.inf, np.float32), start
    for step in range(-9, 10):
        s = start * np.float32(1 + 0.02 * step)
        q = np.clip(np.rint(x * inverse(s)[:, None]), lo, hi)
        # with the levels fixed, the best scale is a projection
        w = np.abs(x) + 1e-8
        top, bottom = (w * x * q).sum(1), (w * q * q).sum(1)
        s = np.where(bottom > 0, top / np.maximum(bottom, 1e-30), s)
        s = s.astype(np.float32)
        error = (w * (x - s[:, None] * q) ** 2).sum(1)
        better = error < best
        best = np.where(better, error, best)
        scale = np.where(better, s, scale)
    return scale.astype(np.float32)


def fit_range(x, start_scale, start_low):
    """Scale and subtracted minimum for levels 0..15: x ~ s q - m. x [n, k]."""
    best = np.full(start_scale.shape, np.inf, np.float32)
    scale, low = start_scale, start_low
    for step in range(-10, 11):
        s = start_scale * np.float32(1 + 0.02 * step)
        m = start_low
        for _ in range(3):
            q = np.clip(np.rint((x + m[:, None]) * inverse(s)[:, None]), 0, 15)
            # least squares for s and m with the levels fixed
            n, sq, sqq = x.shape[1], q.sum(1), (q * q).sum(1)
            sx, sqx = x.sum(1), (q * x).sum(1)
            det = n * sqq - sq * sq
            ok = det > 0
            det = np.where(ok, det, 1)
            new_s = np.where(ok, (n * sqx - sq * sx) / det, s)
            new_m = np.where(ok, (sq * sqx - sqq * sx) / det, m)
            m = np.maximum(new_m, 0).astype(np.float32)
            s = np.maximum(new_s, 1e-12).astype(np.float32)
        q = np.clip(np.rint((x + m[:, None]) * inverse(s)[:, None]), 0, 15)
        error = ((s[:, None] * q - m[:, None] - x) ** 2).sum(1)
        better = error < best
        best = np.where(better, error, best)
        scale, low = np.where(better, s, scale), np.where(better, m, low)
    return scale.astype(np.float32), low.astype(np.float32)


def q4_k(x):
    """Per 256: f16 d, f16 dmin, 12 bytes of six-bit scales and minima, 128
    bytes of nibbles; w = d sc q - dmin m over eight sub-blocks of 32."""
    x = x.reshape(-1, 8, 32)
    n = len(x)
    low = np.maximum(-x.min(2), 0)
    scale = np.maximum((x.max(2) + low) / np.float32(15), 1e-12)
    scale, low = fit_range(x.reshape(-1, 32), scale.reshape(-1),
                           low.reshape(-1))
    scale, low = scale.reshape(n, 8), low.reshape(n, 8)
    hd, d = to_f16(scale.max(1) / np.float32(63))
    hm, dmin = to_f16(low.max(1) / np.float32(63))
    sc = np.clip(np.rint(scale * inverse(d)[:, None]), 0, 63).astype(np.uint8)
    m = np.clip(np.rint(low * inverse(dmin)[:, None]), 0, 63).astype(np.uint8)
    dl = (d[:, None] * sc).astype(np.float32)[:, :, None]
    ml = (dmin[:, None] * m).astype(np.float32)[:, :, None]
    q = np.clip(np.rint((x + ml) * inverse(dl)), 0, 15).astype(np.uint8)
    packed = np.zeros((n, 12), np.uint8)
    packed[:, 0:4] = sc[:, 0:4] | sc[:, 4:8] >> 4 << 6
    packed[:, 4:8] = m[:, 0:4] | m[:, 4:8] >> 4 << 6
    packed[:, 8:12] = (sc[:, 4:8] & 15) | (m[:, 4:8] & 15) << 4
    nibbles = (q[:, 0::2] | q[:, 1::2] << 4).reshape(n, 128)
    return np.concatenate((hd[:, None].view(np.uint8),
                           hm[:, None].view(np.uint8), packed, nibbles),
                          1).tobytes()


def q6_k(x):
    """Per 256: 128 bytes of low nibbles, 64 of upper pairs of bits, 16 int8
    scales, f16 d; w = d sc (q - 32) over sixteen sub-blocks of 16."""
    x = x.reshape(-1, 16)
    at = np.abs(x).argmax(1)
    top = x[np.arange(len(x)), at]
    scale = fit_scale(x, (top / np.float32(-32)).astype(np.float32), -32, 31)
    scale = scale.reshape(-1, 16)
    n = len(scale)
    biggest = scale[np.arange(n), np.abs(scale).argmax(1)]
    hd, d = to_f16(biggest / np.float32(-128))
    sc = np.clip(np.rint(scale * inverse(d)[:, None]), -128, 127)
    dl = (d[:, None] * sc).astype(np.float32)[:, :, None]
    x = x.reshape(n, 16, 16)
    q = np.clip(np.rint(x * inverse(dl)) + 32, 0, 63).astype(np.uint8)
    q = q.reshape(n, 2, 4, 32)  # half, part, l
    ql = np.stack((q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4,
                   q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4), 2)
    qh = (q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 |
          q[:, :, 3] >> 4 << 6)
    return np.concatenate((ql.reshape(n, 128), qh.reshape(n, 64),
                           sc.astype(np.int8).view(np.uint8),
                           hd[:, None].view(np.uint8)), 1).tobytes()


ENCODE = {"F32": lambda x: x.astype(np.float32).tobytes(),
          "F16": lambda x: x.astype(np.float16).tobytes(),
          "Q8_0": q8_0, "Q4_K": q4_k, "Q6_K": q6_k}


# ---- the file ----------------------------------------------------------

def text(s):
    raw = s.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    if kind == STRING:
        return text(v)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def array(kind, items):
    return (struct.pack("<IQ", kind, len(items)) +
            b"".join(value(kind, v) for v in items))


def metadata(c, t, file_type):
    """[(key, kind, bytes)]"""
    def one(key, kind, v):
        return key, kind, value(kind, v)

    def many(key, kind, items):
        return key, ARRAY, array(kind, items)
    return [
        one("general.architecture", STRING, "llama"),
        one("general.name", STRING, "potluck demonstration"),
        one("general.file_type", U32, FILE_TYPE[file_type]),
        one("llama.block_count", U32, c["n_layer"]),
        one("llama.context_length", U32, c["n_ctx"]),
        one("llama.embedding_length", U32, c["n_embd"]),
        one("llama.feed_forward_length", U32, c["n_ff"]),
        one("llama.attention.head_count", U32, c["n_head"]),
        one("llama.attention.head_count_kv", U32, c["n_head_kv"]),
        one("llama.attention.layer_norm_rms_epsilon", F32, c["eps"]),
        one("llama.rope.dimension_count", U32, c["n_embd"] // c["n_head"]),
        one("llama.rope.freq_base", F32, c["rope_base"]),
        one("llama.expert_count", U32, c["n_expert"]),
        one("llama.expert_used_count", U32, c["n_used"]),
        one("llama.vocab_size", U32, c["n_vocab"]),
        one("tokenizer.ggml.model", STRING, "llama"),
        one("tokenizer.ggml.pre", STRING, "default"),
        many("tokenizer.ggml.tokens", STRING, t.pieces),
        many("tokenizer.ggml.scores", F32, t.scores),
        many("tokenizer.ggml.token_type", I32, t.kinds),
        one("tokenizer.ggml.bos_token_id", U32, BOS),
        one("tokenizer.ggml.eos_token_id", U32, EOS),
        one("tokenizer.ggml.eot_token_id", U32, END),
        one("tokenizer.ggml.unknown_token_id", U32, UNK),
        one("tokenizer.ggml.add_bos_token", BOOL, True),
        one("tokenizer.ggml.add_eos_token", BOOL, False),
        one("tokenizer.ggml.add_space_prefix", BOOL, True),
        one("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]


def tensors(state, c):
    """[(name in the file, array)]; torch's [rows, k] is the file's order."""
    names = [("token_embd.weight", "embed.weight"),
             ("output_norm.weight", "norm.weight")]
    parts = [("attn_norm.weight", "attn_norm.weight"),
             ("attn_q.weight", "attn.q.weight"),
             ("attn_k.weight", "attn.k.weight"),
             ("attn_v.weight", "attn.v.weight"),
             ("attn_output.weight", "attn.o.weight"),
             ("ffn_norm.weight", "ffn_norm.weight"),
             ("ffn_gate_inp.weight", "experts.router.weight"),
             ("ffn_gate_exps.weight", "experts.gate"),
             ("ffn_up_exps.weight", "experts.up"),
             ("ffn_down_exps.weight", "experts.down")]
    for i in range(c["n_layer"]):
        names += [(f"blk.{i}.{a}", f"blocks.{i}.{b}") for a, b in parts]
    return [(a, state[b].float().numpy()) for a, b in names]


def type_of(name, x, wanted):
    if x.ndim == 1 or "ffn_gate_inp" in name:
        return "F32"
    if wanted != "MIX":
        return wanted
    if "gate_exps" in name or "up_exps" in name:
        return "Q4_K"
    return "Q6_K" if "down_exps" in name else "Q8_0"


def pad(raw):
    return raw + bytes(-len(raw) % ALIGNMENT)


def write(path, state, c, t, file_type):
    infos, data = b"", []
    offset = 0
    for name, x in tensors(state, c):
        kind = type_of(name, x, file_type)
        raw = pad(ENCODE[kind](x))
        infos += text(name) + struct.pack("<I", x.ndim)
        infos += struct.pack(f"<{x.ndim}Q", *reversed(x.shape))
        infos += struct.pack("<IQ", TYPE_NUMBER[kind], offset)
        offset += len(raw)
        data.append(raw)
    keys = metadata(c, t, file_type)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(data), len(keys))
    for key, kind, raw in keys:
        head += text(key) + struct.pack("<I", kind) + raw
    with open(path + ".part", "wb") as f:
        f.write(pad(head + infos))
        for raw in data:
            f.write(raw)
    os.replace(path + ".part", path)
    print(f"{path}: {os.path.getsize(path)} bytes")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("checkpoint")
    p.add_argument("vocab")
    p.add_argument("out")
    p.add_argument("--type", choices=list(FILE_TYPE), default="MIX")
    a = p.parse_args()
    state = torch.load(a.checkpoint, map_location="cpu")
    write(a.out, state["model"], state["config"], Tokenizer(a.vocab), a.type)


if __name__ == "__main__":
    main()
