// compare_records.mjs - how far two recordings of one case are apart.
//
//   node compare_records.mjs DIR_A DIR_B NAME...
//
// Prints the mean KL divergence of DIR_B/NAME.json from DIR_A/NAME.json: the
// tokens that both have one by one, all others as one.  To see what llama.cpp
// differs by from itself on another processor, record with a copy of the npm
// package whose bins/ has only that libggml-cpu-*.so (docs/CONFORMANCE.md).
import {readFileSync} from "node:fs";
import {join} from "node:path";

const rowOf = (flat) => {
    const row = new Map();
    for (let i = 0; i < flat.length; i += 2) row.set(flat[i], flat[i + 1]);
    return row;
};
const term = (lnP, lnQ) =>
    Math.exp(lnP) * (Math.expm1(lnQ - lnP) - (lnQ - lnP));

function divergence(p, q) {
    let kl = 0, restP = 1, restQ = 1;
    for (const [id, lnP] of p) {
        const lnQ = q.get(id);
        if (lnQ === undefined) continue;
        kl += term(lnP, lnQ);
        restP -= Math.exp(lnP);
        restQ -= Math.exp(lnQ);
    }
    return kl + term(Math.log(restP), Math.log(restQ));
}

const [a, b, ...names] = process.argv.slice(2);
for (const name of names) {
    const [x, y] = [a, b].map((dir) =>
        JSON.parse(readFileSync(join(dir, `${name}.json`), "utf8")));
    if (JSON.stringify(x.tokens) !== JSON.stringify(y.tokens)) {
        throw new Error(`${name}: other tokens`);
    }
    const kl = x.top.map((r, i) => divergence(rowOf(r), rowOf(y.top[i])));
    const mean = kl.reduce((s, v) => s + v, 0) / kl.length;
    console.log(`${name} ${mean.toExponential(1)}`);
}
