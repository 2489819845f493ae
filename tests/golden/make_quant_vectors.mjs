// Writes tests/golden/quant_vectors.h: random blocks and the f32 they mean.
//
//   node tests/golden/make_quant_vectors.mjs > tests/golden/quant_vectors.h
//
// Independent of engine/quant.c: the formulas are those of the GGUF weight
// types as published (block layouts of ggml), written here from the layout
// alone; Math.fround gives each f32 rounding.  Products and sums of two f32
// are rounded twice this way (to f64, then f32), which is harmless: 53 bits
// are more than 2 * 24 + 2.
// Scales are finite, denormals and zeros among them; NaN is left out, as its
// payload is not defined.

let state = 20261122;
function random32() {
  // xorshift32 (Marsaglia 2003)
  state ^= state << 13;
  state >>>= 0;
  state ^= state >>> 17;
  state ^= state << 5;
  state >>>= 0;
  return state;
}
const byte = () => random32() >>> 24;

const f = Math.fround;

function f16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const e = (bits >> 10) & 31;
  const m = bits & 1023;
  if (e === 31) return m ? NaN : sign * Infinity;
  if (e === 0) return sign * m * 2 ** -24;
  return sign * (1024 + m) * 2 ** (e - 25);
}

const view = new DataView(new ArrayBuffer(8));
function bitsOf(x) {
  view.setFloat32(0, x);
  return view.getUint32(0);
}
function bf16(bits) {
  view.setUint32(0, bits * 65536);
  return view.getFloat32(0);
}

// The n-th scale of the file: the first few are the awkward ones.
const awkward = [0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0xfbff, 0x7bff];
let scales = 0;
function scale() {
  if (scales < 2 * awkward.length && scales++ % 2) {
    return awkward[(scales - 2) / 2];
  }
  for (;;) {
    const bits = random32() >>> 16;
    if ((bits & 0x7c00) !== 0x7c00) return bits;
  }
}

const le16 = (v) => [v & 255, v >> 8];
const bytes = (n) => Array.from({ length: n }, byte);
const int8 = (v) => (v > 127 ? v - 256 : v);

// 32 numbers of five bits: their fifth bits in four bytes, then nibbles.
function fives(b) {
  const low = b.slice(4).map((q) => q % 16);
  const high = b.slice(4).map((q) => Math.floor(q / 16));
  return [...low, ...high].map(
    (q, i) => q + 16 * (Math.floor(b[Math.floor(i / 8)] / 2 ** (i % 8)) % 2),
  );
}

// 256 numbers of two bits: each 32 bytes hold four runs of 32.
function twos(b) {
  const out = [];
  for (let half = 0; half < 2; half++) {
    for (let part = 0; part < 4; part++) {
      for (let l = 0; l < 32; l++) {
        out.push(Math.floor(b[32 * half + l] / 4 ** part) % 4);
      }
    }
  }
  return out;
}

// What the nibbles of the IQ4 types mean.
const curve = [
  -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

// Each type: weights per block, a random block, its meaning.
const types = {
  F16: {
    n: 1,
    make() {
      for (;;) {
        const v = random32() >>> 16;
        if (!Number.isNaN(f16(v))) return le16(v);
      }
    },
    read: (b) => [f16(b[0] | (b[1] << 8))],
  },
  BF16: {
    n: 1,
    make() {
      for (;;) {
        const v = random32() >>> 16;
        if (!Number.isNaN(bf16(v))) return le16(v);
      }
    },
    read: (b) => [bf16(b[0] | (b[1] << 8))],
  },
  Q8_0: {
    n: 32,
    make: () => [...le16(scale()), ...bytes(32)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      return b.slice(2).map((q) => f(d * int8(q)));
    },
  },
  Q4_0: {
    n: 32,
    make: () => [...le16(scale()), ...bytes(16)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      const low = b.slice(2).map((q) => f(d * ((q % 16) - 8)));
      const high = b.slice(2).map((q) => f(d * (Math.floor(q / 16) - 8)));
      return [...low, ...high];
    },
  },
  Q4_1: {
    n: 32,
    make: () => [...le16(scale()), ...le16(scale()), ...bytes(16)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      const m = f16(b[2] | (b[3] << 8));
      const low = b.slice(4).map((q) => f(f(d * (q % 16)) + m));
      const high = b.slice(4).map((q) => f(f(d * Math.floor(q / 16)) + m));
      return [...low, ...high];
    },
  },
  Q4_K: {
    n: 256,
    make: () => [...le16(scale()), ...le16(scale()), ...bytes(12 + 128)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      const dmin = f16(b[2] | (b[3] << 8));
      const s = b.slice(4, 16);
      const qs = b.slice(16);
      const out = [];
      for (let j = 0; j < 8; j++) {
        // Six bits each: the first four whole in bytes 0-3 (scales) and 4-7
        // (minima), whose top two bits belong to the last four; those have
        // their low nibbles in bytes 8-11.
        let sc, m;
        if (j < 4) {
          sc = s[j] % 64;
          m = s[j + 4] % 64;
        } else {
          sc = (s[j + 4] % 16) + 16 * Math.floor(s[j - 4] / 64);
          m = Math.floor(s[j + 4] / 16) + 16 * Math.floor(s[j] / 64);
        }
        const dl = f(d * sc);
        const ml = f(dmin * m);
        for (let i = 0; i < 32; i++) {
          const q = qs[32 * Math.floor(j / 2) + i];
          const v = j % 2 ? Math.floor(q / 16) : q % 16;
          out.push(f(f(dl * v) - ml));
        }
      }
      return out;
    },
  },
  Q6_K: {
    n: 256,
    make: () => [...bytes(128 + 64 + 16), ...le16(scale())],
    read(b) {
      const d = f16(b[208] | (b[209] << 8));
      const out = new Array(256);
      for (let half = 0; half < 2; half++) {
        const ql = b.slice(64 * half, 64 * half + 64);
        const qh = b.slice(128 + 32 * half, 128 + 32 * half + 32);
        const sc = b.slice(192 + 8 * half, 192 + 8 * half + 8).map(int8);
        for (let l = 0; l < 32; l++) {
          const q = [
            (ql[l] % 16) + 16 * (qh[l] % 4),
            (ql[l + 32] % 16) + 16 * (Math.floor(qh[l] / 4) % 4),
            Math.floor(ql[l] / 16) + 16 * (Math.floor(qh[l] / 16) % 4),
            Math.floor(ql[l + 32] / 16) + 16 * Math.floor(qh[l] / 64),
          ];
          for (let part = 0; part < 4; part++) {
            const at = 32 * part + l;
            const dl = f(d * sc[Math.floor(at / 16)]);
            out[128 * half + at] = f(dl * (q[part] - 32));
          }
        }
      }
      return out;
    },
  },
  Q5_0: {
    n: 32,
    make: () => [...le16(scale()), ...bytes(4 + 16)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      return fives(b.slice(2)).map((q) => f(d * (q - 16)));
    },
  },
  Q5_1: {
    n: 32,
    make: () => [...le16(scale()), ...le16(scale()), ...bytes(4 + 16)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      const m = f16(b[2] | (b[3] << 8));
      return fives(b.slice(4)).map((q) => f(f(d * q) + m));
    },
  },
  Q2_K: {
    n: 256,
    make: () => [...bytes(16 + 64), ...le16(scale()), ...le16(scale())],
    read(b) {
      const d = f16(b[80] | (b[81] << 8));
      const dmin = f16(b[82] | (b[83] << 8));
      return twos(b.slice(16, 80)).map((q, n) => {
        const s = b[Math.floor(n / 16)];
        return f(f(f(d * (s % 16)) * q) - f(dmin * Math.floor(s / 16)));
      });
    },
  },
  Q3_K: {
    n: 256,
    make: () => [...bytes(32 + 64 + 12), ...le16(scale())],
    read(b) {
      const d = f16(b[108] | (b[109] << 8));
      const s = b.slice(96, 108);
      // The third bit, where it is missing, takes 4 off.
      return twos(b.slice(32, 96)).map((low, n) => {
        const j = Math.floor(n / 16);
        const four = j < 8 ? s[j] % 16 : Math.floor(s[j - 8] / 16);
        const two = Math.floor(s[8 + (j % 4)] / 4 ** Math.floor(j / 4)) % 4;
        const bit = Math.floor(b[n % 32] / 2 ** Math.floor(n / 32)) % 2;
        return f(f(d * (four + 16 * two - 32)) * (bit ? low : low - 4));
      });
    },
  },
  Q5_K: {
    n: 256,
    make: () => [...le16(scale()), ...le16(scale()), ...bytes(12 + 32 + 128)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      const dmin = f16(b[2] | (b[3] << 8));
      const s = b.slice(4, 16);
      const qh = b.slice(16, 48);
      const qs = b.slice(48);
      const out = [];
      for (let j = 0; j < 8; j++) {
        let sc, m;
        if (j < 4) {
          sc = s[j] % 64;
          m = s[j + 4] % 64;
        } else {
          sc = (s[j + 4] % 16) + 16 * Math.floor(s[j - 4] / 64);
          m = Math.floor(s[j + 4] / 16) + 16 * Math.floor(s[j] / 64);
        }
        for (let i = 0; i < 32; i++) {
          const q = qs[32 * Math.floor(j / 2) + i];
          const v = j % 2 ? Math.floor(q / 16) : q % 16;
          const high = Math.floor(qh[i] / 2 ** j) % 2;
          out.push(f(f(f(d * sc) * (v + 16 * high)) - f(dmin * m)));
        }
      }
      return out;
    },
  },
  IQ4_NL: {
    n: 32,
    make: () => [...le16(scale()), ...bytes(16)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      const low = b.slice(2).map((q) => f(d * curve[q % 16]));
      const high = b.slice(2).map((q) => f(d * curve[Math.floor(q / 16)]));
      return [...low, ...high];
    },
  },
  IQ4_XS: {
    n: 256,
    make: () => [...le16(scale()), ...bytes(2 + 4 + 128)],
    read(b) {
      const d = f16(b[0] | (b[1] << 8));
      const high = b[2] + 256 * b[3];
      const out = [];
      for (let j = 0; j < 8; j++) {
        const byte = b[4 + Math.floor(j / 2)];
        const four = j % 2 ? Math.floor(byte / 16) : byte % 16;
        const two = Math.floor(high / 4 ** j) % 4;
        const dl = f(d * (four + 16 * two - 32));
        const q = b.slice(8 + 16 * j, 24 + 16 * j);
        out.push(...q.map((x) => f(dl * curve[x % 16])));
        out.push(...q.map((x) => f(dl * curve[Math.floor(x / 16)])));
      }
      return out;
    },
  },
};

function table(type, name, values, digits, perLine) {
  const lines = [];
  for (let i = 0; i < values.length; i += perLine) {
    const part = values.slice(i, i + perLine);
    lines.push(
      "    " +
        part
          .map((v) => "0x" + v.toString(16).padStart(digits, "0") + ",")
          .join(" "),
    );
  }
  console.log(`static const ${type} ${name}[] = {\n${lines.join("\n")}\n};`);
}

console.log(`/* quant_vectors.h - blocks of every weight type and the f32 they mean, bit for
 * bit.  Made by make_quant_vectors.mjs, which shares no code with the engine;
 * do not edit. */
/* clang-format off */
#ifndef TESTS_GOLDEN_QUANT_VECTORS_H
#define TESTS_GOLDEN_QUANT_VECTORS_H

#include <stdint.h>

#include "engine/quant.h"

struct quant_vector {
    enum quant_type type;
    uint32_t n_rows, k;
    uint32_t n_bytes;    /* of all rows          */
    const uint8_t *bytes;
    const uint32_t *f32; /* [n_rows][k], as bits */
};
`);
const rows = [];
for (const [name, t] of Object.entries(types)) {
  const k = Math.max(64, t.n);
  const input = [];
  const output = [];
  for (let i = 0; i < (2 * k) / t.n; i++) {
    const block = t.make();
    input.push(...block);
    output.push(...t.read(block).map(bitsOf));
  }
  const lower = name.toLowerCase();
  table("uint8_t", `quant_bytes_${lower}`, input, 2, 12);
  table("uint32_t", `quant_f32_${lower}`, output, 8, 6);
  rows.push(
    `    {QUANT_${name}, 2, ${k}, ${input.length}, quant_bytes_${lower}, quant_f32_${lower}},`,
  );
}
console.log(`
static const struct quant_vector quant_vectors[] = {
${rows.join("\n")}
};

#endif`);
