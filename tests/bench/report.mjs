// report.mjs - docs/PERFORMANCE.md from what compare.sh measured.
//
//   node tests/bench/report.mjs [RESULTS [DOCUMENT]]
//
// The text between the lines "<!-- measured" and "<!-- end" is made anew, all
// else in the document stays. A ratio is one of medians over the pairs; its
// range is that of the single pairs.
import {execFileSync} from "node:child_process";
import {existsSync, readFileSync, readdirSync, statSync, writeFileSync}
    from "node:fs";
import os from "node:os";
import {join} from "node:path";

const results = process.argv[2] ?? "build/bench/results";
const doc = process.argv[3] ?? "docs/PERFORMANCE.md";

// What is asked of us: ratio to llama.cpp, share of the read bandwidth.
const rows = [
    ["decode, Q4_K_M, 2 threads", "q4km-2t", "decode", 0, 1.15, 0.8],
    ["decode, Q4_K_M, 1 thread", "q4km-1t", "decode", 0, 1.2, 0.8],
    ["prefill 512, Q4_K_M, 1 thread", "q4km-1t", "prefill", 0, 2.7],
    ["prefill 512, Q4_K_M, 2 threads", "q4km-2t", "prefill", 0, 2.7],
    ["prefill 512, Q8_0, 2 threads", "q8-2t", "prefill", 0, 3.6],
    ["prefill 512, Q4_0, 2 threads", "q4_0-2t", "prefill", 0, 1.6],
    ["16 streams decode, Q4_K_M, 1 thread", "q4km-16-1t", "decode", 0, 1.8],
    ["16 streams decode, Q4_K_M, 2 threads", "q4km-16-2t", "decode", 0, 1.8],
    ["MoE (8 experts, 2 used), Q4_K_M, 2 threads: decode", "moe-2t",
        "decode", 0, 1.15],
    ["the same: prefill 512", "moe-2t", "prefill", 0, 2.9],
    ["forced AVX2, Q4_K_M, 2 threads: decode", "avx2-2t", "decode", 0, 1.1],
    ["the same: prefill 512", "avx2-2t", "prefill", 0, 1.8],
    ["forced AVX: decode", "avx-2t", "decode", 0, 1.3],
    ["the same: prefill 128", "avx-2t", "prefill", 0, 2],
    ["forced SSE4: decode", "sse4-2t", "decode", 0, 1.3],
    ["the same: prefill 128", "sse4-2t", "prefill", 0, 2],
    ["decode after 4096 positions, Q4_K_M, 2 threads", "q4km-2t", "decode", 1],
    ["decode, Q8_0, 2 threads", "q8-2t", "decode", 0],
    ["decode, Q4_0, 2 threads", "q4_0-2t", "decode", 0],
    ["four layers of Llama 3 70B, Q4_K_M, 2 threads: decode", "70b-2t",
        "decode", 0],
    ["the same: prefill 128", "70b-2t", "prefill", 0],
];

const median = (values) => {
    const v = values.toSorted((a, b) => a - b), n = v.length;
    return n % 2 ? v[n >> 1] : (v[n / 2 - 1] + v[n / 2]) / 2;
};
const command = (...words) => {
    try {
        return execFileSync(words[0], words.slice(1), {encoding: "utf8",
            stdio: ["ignore", "pipe", "ignore"]}).split("\n")[0];
    } catch {
        return "unknown";
    }
};

// [{ours, peer}] of a job, whole pairs only.
function pairsOf(job) {
    const pairs = [];
    for (const file of readdirSync(results).sort()) {
        const end = file.match(/^(.*)\.([0-9]+)\.ours$/);
        if (end?.[1] !== job) continue;
        const peer = join(results, `${job}.${end[2]}.peer`);
        if (!existsSync(peer)) continue;
        pairs.push({ours: JSON.parse(readFileSync(join(results, file))),
            peer: JSON.parse(readFileSync(peer))});
    }
    return pairs;
}

const all = Object.fromEntries([...new Set(rows.map((r) => r[1]))]
    .map((job) => [job, pairsOf(job)]));

// The best that was read with so many threads: other work only lowers it.
const bandwidth = {};
for (const pairs of Object.values(all)) {
    for (const {ours} of pairs) {
        const was = bandwidth[ours.threads] ?? 0;
        bandwidth[ours.threads] = Math.max(was, ours.read_bytes_per_s);
    }
}

const speed = (x) => x >= 100 ? x.toFixed(0) : x.toFixed(1);
const percent = (x) => `${(100 * x).toFixed(0)} %`;

function line([what, job, kind, index, floor, share]) {
    const pairs = all[job].filter((p) => p.peer[kind][index] &&
        p.ours.levels[0][kind][index]);
    if (pairs.length === 0) return `| ${what} | | | | | | | not measured |`;
    const ours = pairs.map((p) => p.ours.levels[0][kind][index].tokens_per_s);
    const peer = pairs.map((p) => p.peer[kind][index].tokens_per_s);
    const ratio = median(ours) / median(peer);
    const each = ours.map((x, i) => x / peer[i]);
    const wanted = [floor && `${floor}x`, share && percent(share)]
        .filter(Boolean).join(", ");
    let reading = "", enough = true;
    if (kind === "decode") {
        const d = pairs[0].ours.levels[0].decode[index];
        const most = bandwidth[pairs[0].ours.threads];
        const part = (rate) => rate / d.streams *
            (d.weight_bytes_per_step + d.kv_bytes_per_step) / most;
        reading = `${percent(part(median(ours)))} / ` +
            percent(part(median(peer)));
        enough = !share || part(median(ours)) >= share;
    }
    const met = !wanted ? "" : (!floor || ratio >= floor) && enough ?
        "met" : "**below**";
    return `| ${what} | ${speed(median(ours))} | ${speed(median(peer))} | ` +
        `${ratio.toFixed(2)} | ${Math.min(...each).toFixed(2)} - ` +
        `${Math.max(...each).toFixed(2)} | ${reading} | ${wanted} | ${met} |`;
}

// Runs of ours that found memory slower than it can be: others were at work.
function disturbed() {
    const found = Object.entries(all).flatMap(([job, pairs]) =>
        pairs.filter(({ours}) => ours.read_bytes_per_s <
            0.85 * bandwidth[ours.threads]).map(() => job));
    return found.length === 0 ? [] : ["- **disturbed**: memory was read at " +
        "less than 85 % of its best in pairs of " + found.join(", ")];
}

function machine() {
    const some = Object.values(all).flat()[0];
    if (!some) throw new Error(`${results}: no pair is there`);
    const counts = Object.values(all).map((p) => p.length);
    const variants = Object.values(all).filter((p) => p.length > 0)
        .map((p) => `${p[0].ours.isa} beside ${p[0].peer.variant}`);
    const times = readdirSync(results).map((file) =>
        statSync(join(results, file)).mtime.toISOString().slice(0, 10)).sort();
    const read = Object.entries(bandwidth).map(([threads, rate]) =>
        `${(rate / 1e9).toFixed(1)} GB/s with ${threads} thread` +
        (threads === "1" ? "" : "s"));
    const dirty = command("git", "status", "--porcelain", "-uno",
        "--", "engine", "client", "common") ? ", with changes" : "";
    return [
        `- ${some.ours.cpu}, ${os.cpus().length} processors, ` +
        `${(os.totalmem() / 2 ** 30).toFixed(0)} GiB, ` +
        `${os.type()} ${os.release()}`,
        `- reading memory: ${read.join(", ")}`,
        `- measured ${times.at(-1)}; potluck ` +
        `${command("git", "rev-parse", "--short", "HEAD")}${dirty}, ` +
        command("cc", "--version"),
        `- llama.cpp ${some.peer.release} as in node-llama-cpp ` +
        `${some.peer.package}, prebuilt; node ${process.version}`,
        `- levels: ${[...new Set(variants)].join(", ")} (the library that ` +
        "llama.cpp had mapped)",
        `- pairs of each job: ${Math.min(...counts)} to ${Math.max(...counts)}`,
        ...disturbed(),
    ].join("\n");
}

function kernels() {
    const files = readdirSync(results).filter((f) => /^kernels\..*md$/.test(f));
    return files.map((f) => readFileSync(join(results, f), "utf8").trim())
        .join("\n\n");
}

const measured = `${machine()}

| what | potluck, tokens/s | llama.cpp, tokens/s | ratio | of single pairs | share of reading, potluck / llama.cpp | floor | |
|---|---|---|---|---|---|---|---|
${rows.map(line).join("\n")}

### Kernels against the limits of one thread

${kernels()}`;

const old = readFileSync(doc, "utf8").split("\n");
const first = old.findIndex((l) => l.startsWith("<!-- measured"));
const last = old.findIndex((l) => l.startsWith("<!-- end"));
if (first < 0 || last < first) throw new Error(`${doc}: no place for tables`);
writeFileSync(doc, [...old.slice(0, first + 1), measured, ...old.slice(last)]
    .join("\n"));
console.log(measured);
