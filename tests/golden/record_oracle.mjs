// record_oracle.mjs - record what llama.cpp answers, for tests/golden.
//
//   node record_oracle.mjs --modules DIR --model FILE.gguf --tokens IDS
//       [--top 16] [--conform] [--info JSON] [--out FILE.json]
//
// DIR is a node_modules directory that holds the npm package node-llama-cpp
// (3.22.1 was used) and its binary package for this machine; without --modules
// it is looked for in NODE_PATH.  IDS is a file with token ids separated by
// white space, or the ids themselves separated by commas.  Every id is
// evaluated in turn (teacher-forced); the answer after id i is position i.
//
// Settings: one thread, KV cache F32, no flash attention, no GPU, no
// truncation of the distribution; probabilities are renormalised in double.
//
// Written: {engine, settings, info..., tokens, top: [[id, ln p, id, ln p, ...] per position]},
// most probable first.  ln p has seven significant digits, as many as an f32.
//
// --conform adds "rest": ln of the mass of all other tokens, per position,
// and "own_kl": the mean KL divergence of llama.cpp's answers with a batch of
// one from those with the whole text in one batch, over all tokens; ln p then
// has six digits.  The answers written are those of the whole batch.
import {createRequire} from "node:module";
import {existsSync, readFileSync, writeFileSync} from "node:fs";
import {join, resolve} from "node:path";
import {pathToFileURL} from "node:url";
import {parseArgs} from "node:util";

const usage = "record_oracle.mjs --modules DIR --model FILE.gguf --tokens IDS" +
    " [--top 16] [--conform] [--info JSON] [--out FILE.json]";

function modulesDir(option) {
    const places = option ? [option] : (process.env.NODE_PATH ?? "").split(":");
    for (const dir of places) {
        if (dir && existsSync(join(dir, "node-llama-cpp", "package.json"))) {
            return resolve(dir);
        }
    }
    throw new Error("node-llama-cpp not found; give --modules DIR or NODE_PATH");
}

async function load(dir) {
    const require = createRequire(join(dir, "x.js"));
    const lib = await import(pathToFileURL(require.resolve("node-llama-cpp")));
    const {version} = JSON.parse(
        readFileSync(join(dir, "node-llama-cpp", "package.json"), "utf8"));
    return {lib, version};
}

function readTokens(text) {
    const source = existsSync(text) ? readFileSync(text, "utf8") : text;
    const ids = source.split(/[\s,]+/).filter((s) => s !== "").map(Number);
    if (ids.length === 0 || !ids.every((n) => Number.isInteger(n) && n >= 0)) {
        throw new Error(`--tokens ${text}: not a list of token ids`);
    }
    return ids;
}

// The distribution after each of ids, as Maps of id to probability.
async function evaluateIn(lib, model, ids, batchSize) {
    const context = await model.createContext({
        contextSize: Math.max(64, ids.length + 8), sequences: 1, threads: 1,
        batchSize, flashAttention: false, experimentalKvCacheKeyType: "F32",
        experimentalKvCacheValueType: "F32"});
    const sequence = context.getSequence();
    const options = {generateNext: {probabilities: true,
        options: {temperature: 1, topK: 0, topP: 1, minP: 0}}};
    const out = await sequence.controlledEvaluate(
        ids.map((id) => [id, options]));
    const rows = out.map((o) => o.next.probabilities);
    await context.dispose();
    return rows;
}

// The answers for each batch size.
async function evaluate(lib, path, ids, batches) {
    const llama = await lib.getLlama({gpu: false, build: "never",
        logLevel: lib.LlamaLogLevel.error});
    const model = await llama.loadModel({modelPath: path, gpuLayers: 0});
    const runs = [];
    for (const batch of batches) {
        runs.push(await evaluateIn(lib, model, ids, batch));
    }
    await model.dispose();
    await llama.dispose();
    return runs;
}

// What f32 softmax lost is made good by the sum over all of them.
function sumOf(probabilities) {
    let sum = 0;
    for (const p of probabilities.values()) sum += p;
    return sum;
}

// [id, ln p, ...] of the n most probable, and ln of what the others have.
function topOf(probabilities, n, digits) {
    const sum = sumOf(probabilities);
    const pairs = [...probabilities.entries()]
        .filter(([, p]) => p > 0)
        .sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const others = pairs.slice(n).reduce((s, [, p]) => s + p, 0);
    return {
        top: pairs.slice(0, n).flatMap(([id, p]) =>
            [id, Number(Math.log(p / sum).toPrecision(digits))]),
        rest: Number(Math.log(others / sum).toPrecision(digits)),
    };
}

// KL divergence of q from p, in the form whose terms are all positive:
// nothing cancels.
function divergence(p, q) {
    const sumP = sumOf(p), sumQ = sumOf(q);
    let kl = 0;
    for (const [id, value] of p) {
        if (value <= 0) continue;
        const d = Math.log(q.get(id) / sumQ) - Math.log(value / sumP);
        kl += value / sumP * (Math.expm1(d) - d);
    }
    return kl;
}

function toText(record) {
    const {top, ...rest} = record;
    const lines = Object.entries(rest)
        .map(([key, v]) => `${JSON.stringify(key)}:${JSON.stringify(v)}`);
    const rows = top.map((r) => JSON.stringify(r)).join(",\n");
    return `{${lines.join(",\n")},\n"top":[\n${rows}\n]}\n`;
}

const mean = (list) => list.reduce((s, x) => s + x, 0) / list.length;

async function main() {
    const {values: o} = parseArgs({options: {
        modules: {type: "string"}, model: {type: "string"},
        tokens: {type: "string"}, top: {type: "string", default: "16"},
        conform: {type: "boolean", default: false},
        info: {type: "string", default: "{}"}, out: {type: "string"}}});
    if (!o.model || !o.tokens) throw new Error(`usage: ${usage}`);
    const tokens = readTokens(o.tokens);
    const {lib, version} = await load(modulesDir(o.modules));
    const [rows, single] = await evaluate(lib, resolve(o.model), tokens,
        o.conform ? [512, 1] : [512]);
    const parts = rows.map((p) => topOf(p, Number(o.top), o.conform ? 6 : 7));
    const top = parts.map((part) => part.top);
    const first = mean(top.map((r) => Math.exp(r[1])));
    const own = o.conform ? {
        own_kl: Number(mean(rows.map((p, i) => divergence(p, single[i])))
            .toPrecision(4)),
        rest: parts.map((part) => part.rest)} : {};
    const text = toText({
        engine: `llama.cpp in node-llama-cpp ${version}`,
        settings: "KV F32, no flash attention, 1 thread, teacher-forced",
        ...JSON.parse(o.info),
        mean_top1: Number(first.toPrecision(4)), ...own, tokens, top});
    if (o.out) writeFileSync(o.out, text);
    else process.stdout.write(text);
    console.error(`${o.model}: ${rows.length} positions, ` +
        `mean first probability ${first.toFixed(3)}` +
        (o.conform ? `, own KL ${own.own_kl}` : ""));
}

await main();
