// peer.mjs - llama.cpp's speed, measured as `potluck bench` measures ours.
//
//   node peer.mjs --modules DIR --model FILE.gguf [--threads 1] [--prompt 512]
//       [--tokens 32] [--depth 0,4096] [--streams 1] [--runs 2]
//       [--variant haswell] [--batch 512] [--no-flash] [--cache DIR]
//
// DIR is a node_modules directory with the npm package node-llama-cpp and its
// prebuilt binaries. One JSON object to standard output: prefill and decode as
// in `potluck bench --json`, the library that the arithmetic runs in (read
// from /proc/self/maps) and versions.
//
// llama.cpp is called a batch at a time, without a sampler and without the
// package's queue: a step costs what llama_decode costs. Settings: model
// mapped, no GPU, KV cache f16, flash attention (its default, and the faster
// one here), whole batches of 512, all of which are what llama-bench does. The
// cache of a depth is computed once and kept as a file in --cache, from which
// llama.cpp reads it.
import {createRequire} from "node:module";
import {existsSync, mkdirSync, readFileSync, statSync} from "node:fs";
import {basename, join, resolve} from "node:path";
import {pathToFileURL} from "node:url";
import {parseArgs} from "node:util";

const {values: args} = parseArgs({options: {
    modules: {type: "string"}, model: {type: "string"},
    threads: {type: "string", default: "1"},
    prompt: {type: "string", default: "512"},
    tokens: {type: "string", default: "32"},
    depth: {type: "string", default: "0"},
    streams: {type: "string", default: "1"},
    runs: {type: "string", default: "2"},
    batch: {type: "string", default: "512"},
    variant: {type: "string"}, cache: {type: "string"},
    "no-flash": {type: "boolean", default: false}}});

const numbers = (text) => text.split(",").map((word) => {
    if (!/^[0-9]+$/.test(word)) throw new Error(`${text}: not numbers`);
    return Number(word);
});

const modules = resolve(args.modules);
const packageDir = join(modules, "node-llama-cpp");
const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

// A build of its own would be used instead of the prebuilt libraries, for
// every level alike.
function checkInstall() {
    for (const name of ["localBuilds", "lastBuild.json"]) {
        if (!existsSync(join(packageDir, "llama", name))) continue;
        throw new Error(`${packageDir}/llama/${name}: this package built ` +
            "llama.cpp itself; install it with npm's --ignore-scripts");
    }
}

// The ggml-cpu libraries in this process.
function mappedLibraries() {
    const found = new Set();
    for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
        const name = basename(line.split(/\s+/)[5] ?? "");
        if (name.startsWith("libggml-cpu")) found.add(name);
    }
    return [...found];
}

function checkVariant() {
    const libraries = mappedLibraries();
    const wanted = args.variant && `libggml-cpu-${args.variant}.so`;
    if (libraries.length !== 1 || (wanted && libraries[0] !== wanted)) {
        throw new Error(`mapped: ${libraries.join(", ") || "no ggml-cpu"}` +
            (wanted ? `; wanted ${wanted}` : ""));
    }
    return libraries[0].replace(/^libggml-cpu-|\.so$/g, "");
}

// Ids that every generated vocabulary has, no control tokens among them.
const ids = (n, seed) => Uint32Array.from({length: n},
    (_, i) => 300 + ((i + 1) * 7919 + seed * 104729) % 3000);

const NONE = new Uint32Array(0);
const seconds = () => performance.now() / 1000;

function rate(values) {
    const v = values.toSorted((a, b) => a - b), n = v.length;
    return {tokens_per_s: n % 2 ? v[n >> 1] : (v[n / 2 - 1] + v[n / 2]) / 2,
        tokens_per_s_min: v[0], tokens_per_s_max: v[n - 1], values};
}

// Append tokens to a sequence; logits of the last one only.
async function feed(ctx, seq, at, tokens, batch, logits) {
    for (let i = 0; i < tokens.length; i += batch) {
        const part = tokens.slice(i, i + batch);
        const last = logits && i + batch >= tokens.length;
        ctx.initBatch(part.length);
        ctx.addToBatch(seq, at + i, part,
            last ? Uint32Array.of(part.length - 1) : NONE);
        await ctx.decodeBatch();
    }
}

async function step(ctx, streams, pos, n) {
    ctx.initBatch(streams);
    for (let s = 0; s < streams; s++) {
        ctx.addToBatch(s, pos, ids(1, n + s), Uint32Array.of(0));
    }
    await ctx.decodeBatch();
}

async function withContext(model, size, sequences, fn) {
    const context = await model.createContext({
        contextSize: size, sequences, threads: Number(args.threads),
        batchSize: Number(args.batch), flashAttention: !args["no-flash"]});
    try {
        return await fn(context._ctx);
    } finally {
        await context.dispose();
    }
}

const round = (n) => Math.ceil(n / 256) * 256;

function prefill(model, n) {
    const runs = Number(args.runs), batch = Number(args.batch);
    return withContext(model, round(n), 1, async (ctx) => {
        const rates = [];
        for (let run = 0; run <= runs; run++) {
            const tokens = ids(run === 0 ? Math.min(n, 128) : n, run);
            const start = seconds();
            await feed(ctx, 0, 0, tokens, batch, true);
            if (run > 0) rates.push(n / (seconds() - start));
            ctx.disposeSequence(0);
        }
        return {n_prompt: n, ...rate(rates)};
    });
}

// depth positions into a sequence: from the file of a lesser depth, the rest
// computed, and kept in a file of its own.
async function fill(ctx, seq, depth) {
    const size = statSync(args.model).size;
    const file = (n) => args.cache && join(args.cache,
        `${basename(args.model)}-${size}-${n}.state`);
    let at = args.cache ? depth : 0;
    while (at > 0 && !existsSync(file(at))) at--;
    if (at > 0) await ctx.loadSequenceStateFromFile(file(at), seq, at + 64);
    if (at === depth) return;
    await feed(ctx, seq, at, ids(depth, seq).slice(at), Number(args.batch),
        false);
    if (args.cache && depth >= 256) {
        mkdirSync(args.cache, {recursive: true});
        await ctx.saveSequenceStateToFile(file(depth), seq, ids(depth, seq));
    }
}

function decode(model, depth, streams) {
    const runs = Number(args.runs), n = Number(args.tokens);
    const size = round(depth + n + 8);
    return withContext(model, size, streams, async (ctx) => {
        const rates = [];
        for (let s = 0; depth > 0 && s < streams; s++) {
            await fill(ctx, s, depth);
        }
        for (let run = 0; run <= runs; run++) {
            const steps = run === 0 ? Math.min(n, 4) : n;
            const start = seconds();
            for (let i = 0; i < steps; i++) {
                await step(ctx, streams, depth + i, i);
            }
            if (run > 0) rates.push(steps * streams / (seconds() - start));
            for (let s = 0; s < streams; s++) {
                ctx.removeTokenCellsFromSequence(s, depth, -1);
            }
        }
        return {depth, streams, n_decode: n, ...rate(rates)};
    });
}

checkInstall();
const require = createRequire(join(modules, "x.js"));
const lib = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const llama = await lib.getLlama({gpu: false, build: "never",
    usePrebuiltBinaries: true, skipDownload: true,
    maxThreads: Number(args.threads), logLevel: lib.LlamaLogLevel.error});
const start = seconds();
const model = await llama.loadModel({modelPath: args.model, gpuLayers: 0,
    useMmap: true});
const out = {engine: "llama.cpp",
    package: readJson(join(packageDir, "package.json")).version,
    release: readJson(join(packageDir, "llama",
        "binariesGithubRelease.json")).release,
    variant: checkVariant(), threads: Number(args.threads),
    load_s: seconds() - start, prefill: [], decode: []};
for (const n of numbers(args.prompt)) {
    if (n > 0) out.prefill.push(await prefill(model, n));
}
for (const depth of numbers(args.depth)) {
    for (const streams of numbers(args.streams)) {
        out.decode.push(await decode(model, depth, streams));
    }
}
console.log(JSON.stringify(out));
process.exit(0);
