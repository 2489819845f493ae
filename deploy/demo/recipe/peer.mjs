// peer.mjs - perplexity of a GGUF file by llama.cpp, to compare with
// `potluck perplexity` on the same file and text.
//
//   node peer.mjs --modules DIR --model FILE.gguf --text FILE [--special]
//       [--tokens N]
//
// DIR is a node_modules directory that holds the npm package node-llama-cpp
// (3.22.1 was used). Windows of the context's length, each begun with BOS, as
// potluck cuts them; its own tokenizer; KV cache F32, no flash attention, one
// thread. --tokens: the first N only.
import {createRequire} from "node:module";
import {readFileSync} from "node:fs";
import {join, resolve} from "node:path";
import {pathToFileURL} from "node:url";
import {parseArgs} from "node:util";

const {values: a} = parseArgs({options: {modules: {type: "string"},
    model: {type: "string"}, text: {type: "string"},
    special: {type: "boolean", default: false},
    tokens: {type: "string", default: "1000000000"}}});
if (!a.modules || !a.model || !a.text) {
    console.error("usage: peer.mjs --modules DIR --model FILE.gguf" +
        " --text FILE [--special] [--tokens N]");
    process.exit(2);
}

const require = createRequire(join(resolve(a.modules), "x.js"));
const lib = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const llama = await lib.getLlama({gpu: false, build: "never",
    logLevel: lib.LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: a.model, gpuLayers: 0});
const size = model.trainContextSize;
const context = await model.createContext({contextSize: size, sequences: 1,
    threads: 1, flashAttention: false, experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32"});
const ids = model.tokenize(readFileSync(a.text, "utf8"), a.special)
    .slice(0, Number(a.tokens));
const options = {generateNext: {probabilities: true,
    options: {temperature: 1, topK: 0, topP: 1, minP: 0}}};

let nll = 0, scored = 0;
for (let at = 0; at < ids.length; at += size - 1) {
    const window = [model.tokens.bos, ...ids.slice(at, at + size - 1)];
    const sequence = context.getSequence();
    const out = await sequence.controlledEvaluate(
        window.slice(0, -1).map((id) => [id, options]));
    out.forEach((o, i) => {
        let sum = 0;
        for (const p of o.next.probabilities.values()) sum += p;
        nll -= Math.log(o.next.probabilities.get(window[i + 1]) / sum);
        scored++;
    });
    await sequence.dispose();
}
console.log(`${a.text}: ${scored} tokens, perplexity ` +
    Math.exp(nll / scored).toFixed(4));
await llama.dispose();
