/* cmd_quantize.c - potluck quantize: a model file in smaller types. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "common/clock.h"
#include "engine/cpu.h"
#include "engine/quantize.h"

/* The names of all mixes, for a message. */
static void list_mixes(char *text, size_t n)
{
    size_t at = 0;
    const struct quantize_mix *mix;
    for (uint32_t i = 0; (mix = quantize_mix(i)); i++) {
        const int got =
            snprintf(text + at, n - at, "%s%s", i ? " " : "", mix->name);
        if (got < 0 || (size_t)got >= n - at) return;
        at += (size_t)got;
    }
}

static void report(const struct quantize_options *o,
                   const struct quantize_result *r, uint64_t start_ns)
{
    char in[32], out[32];
    fprintf(stderr, "%s: %s to %s (%.0f %%), %u of %u tensors converted",
            o->mix->name, human_bytes(in, r->bytes_in),
            human_bytes(out, r->bytes_out),
            100.0 * (double)r->bytes_out / (double)r->bytes_in, r->n_converted,
            r->n_tensors);
    if (r->n_fallback) {
        fprintf(stderr,
                ", %u of them with rows that blocks of 256 do not divide, "
                "to a type of blocks of 32 or F16",
                r->n_fallback);
    }
    fprintf(stderr, ", %.1f s\n", (double)(clock_now_ns() - start_ns) / 1e9);
}

static void say_swept(void *arg, const char *name, uint64_t bytes)
{
    (void)arg;
    char text[32];
    fprintf(stderr, "%s: %s that a killed run had left: removed\n", name,
            human_bytes(text, bytes));
}

static enum status run(struct quantize_options *o, const char *const words[3],
                       struct error *err)
{
    o->mix = quantize_mix_by_name(words[2]);
    if (!o->mix) {
        char names[256];
        list_mixes(names, sizeof names);
        return error_set(err, ST_USAGE, "type %.30s is not among %s", words[2],
                         names);
    }
    struct progress progress = {.label = "quantizing"};
    struct quantize_options shown = *o;
    shown.progress = progress_show;
    shown.progress_arg = &progress;
    shown.swept = say_swept;
    const uint64_t start = clock_now_ns();
    struct quantize_result r;
    const enum status st = quantize_file(words[0], words[1], &shown, &r, err);
    progress_end(&progress);
    if (st == ST_OK) report(o, &r, start);
    return st;
}

int cmd_quantize(int argc, char **argv)
{
    struct error err;
    struct quantize_options o = {.n_threads = cpu_cores()};
    const struct option table[] = {
        {"--threads", 't', OPTION_U32, &o.n_threads, "N",
         "threads (default: one per physical core)", 1, POOL_THREADS_MAX},
        {"--pure", 0, OPTION_FLAG, &o.pure, NULL,
         "every matrix in TYPE's main type, no mix", 0, 0},
        {"--allow-requantize", 0, OPTION_FLAG, &o.requantize, NULL,
         "convert what is quantized already", 0, 0},
        {"--force", 0, OPTION_FLAG, &o.force, NULL,
         "replace OUT.gguf if it is there", 0, 0},
    };
    const char *words[3];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table),
                       "quantize IN.gguf OUT.gguf TYPE [OPTIONS]", argc, argv,
                       words, 3, &n_words, &code)) {
        return code;
    }
    if (n_words != 3) {
        (void)error_set(&err, ST_USAGE,
                        "quantize needs a model file, a file to write and a "
                        "type, as in Q4_K_M");
        return fail(&err);
    }
    catch_interrupt();
    (void)signal(SIGXFSZ, SIG_IGN); /* a full quota is an error */
    const enum status st = run(&o, words, &err);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}
