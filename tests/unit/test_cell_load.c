/* test_cell_load.c - workers without a file: a header, cells from a manifest
 * through a disk cache, and the logits of the process that has the file. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/manifest.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/temp.h"
#include "worker/cache.h"

#define LAYERS   2
#define EXPERTS  4
#define N_TOKENS 12
#define LIMIT    (512u << 20)

static struct rig rig; /* the coordinator's: it has the file */
static struct buf header;
static int32_t tokens[N_TOKENS];
static float *want; /* [N_TOKENS][n_vocab], from the file */
static char dir[TEMP_PATH_BYTES], state_dir[TEMP_PATH_BYTES + 16];

/* A set of files; planes of several cells and of a part of one. */
static struct gen_model model(void)
{
    struct gen_model m = rig_moe();
    m.n_layer = LAYERS;
    m.n_expert = EXPERTS;
    m.n_ff = 5120;
    m.n_vocab = 5000;
    m.n_splits = 3;
    m.rope_factor = 4;
    m.type[GEN_FFN] = QUANT_Q8_0;  /* 1.3 MiB a plane */
    m.type[GEN_EMBD] = QUANT_F16;  /* 2.4 MiB */
    m.type[GEN_HEAD] = QUANT_Q8_0; /* 1.3 MiB */
    return m;
}

static int open_all(void **state)
{
    (void)state;
    const struct gen_model m = model();
    struct rng rng = {12};
    rig_open(&rig, &m);
    buf_init(&header, 1 << 20);
    assert_ok(gguf_strip_header(rig.gguf, &header, &rig_err));
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = (int32_t)rng_below(&rng, m.n_vocab);
    }
    want = rig_reference(&rig, KV_F16, tokens, N_TOKENS);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    mem_free(want);
    buf_fini(&header);
    rig_close(&rig);
    return mem_in_use() == 0 ? 0 : -1;
}

static void remove_tree(const char *path, int depth)
{
    DIR *d = opendir(path);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char sub[TEMP_PATH_BYTES + 300];
        if (e->d_name[0] == '.') continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        if (unlink(sub) != 0 && depth > 0) remove_tree(sub, depth - 1);
    }
    closedir(d);
    rmdir(path);
}

static int make_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "test_cell_load")) return -1;
    snprintf(state_dir, sizeof state_dir, "%s/state", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    remove_tree(dir, 4);
    return access(dir, F_OK) != 0 ? 0 : -1;
}

/* ------------------------------------------------------------- worker */

/* Stands for a worker process: what it knows, it has from the header, from
 * cells and from their hashes. */
struct worker {
    struct manifest *coordinator;
    struct cache *cache;
    struct cell_source source;
    struct gguf *gguf;
    struct model model;
    pthread_mutex_t lock;
    uint32_t n_fetched, n_sent; /* cells; those the coordinator had to send */
    bool spoil;                 /* one bit of each on the way */
    struct shard *s;
    struct step *step, *serve;
};

static enum status receive(struct worker *w, struct cell_id id, void *dst,
                           size_t n, const uint8_t *hash, struct error *err)
{
    struct buf b;
    uint8_t sent[HASH_BYTES], found[HASH_BYTES];
    buf_init(&b, CELL_BYTES_MAX);
    enum status st = manifest_read_cell(w->coordinator, id, &b, sent, err);
    if (st == ST_OK && b.len != n) st = ST_INVALID;
    if (st == ST_OK) {
        if (w->spoil) b.data[n / 2] ^= 16;
        hash_of(found, b.data, n);
        if (memcmp(found, hash, sizeof found) != 0) {
            st = error_set(err, ST_INVALID, "a cell was changed on the way");
        }
    }
    if (st == ST_OK) {
        memcpy(dst, b.data, n);
        cache_put(w->cache, hash, dst, n);
        w->n_sent++;
    }
    buf_fini(&b);
    return st;
}

static enum status fetch(void *arg, struct cell_id id, void *dst, size_t n,
                         struct error *err)
{
    struct worker *w = arg;
    uint8_t hash[HASH_BYTES];
    enum status st = manifest_hash(w->coordinator, id, hash, err);
    if (st != ST_OK) return st;
    /* two threads may each want a part of one cell: one of them fetches it */
    pthread_mutex_lock(&w->lock);
    w->n_fetched++;
    if (!cache_get(w->cache, hash, dst, n)) {
        st = receive(w, id, dst, n, hash, err);
    }
    pthread_mutex_unlock(&w->lock);
    return st;
}

static struct manifest *open_manifest(void)
{
    struct manifest *m = NULL;
    assert_ok(manifest_open(&m, rig.gguf, "m-00001-of-00003.gguf", state_dir,
                            NULL, NULL, &rig_err));
    return m;
}

/* Everything but the shard. */
static void open_worker(struct worker *w, struct manifest *coordinator,
                        const char *name)
{
    char path[TEMP_PATH_BYTES + 32];
    *w = (struct worker){.coordinator = coordinator};
    pthread_mutex_init(&w->lock, NULL);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(cache_open(&w->cache, path, LIMIT, NULL, NULL, &rig_err));
    w->source = (struct cell_source){.fetch = fetch, .arg = w};
    assert_ok(gguf_open_header(&w->gguf, header.data, header.len,
                               cell_source_read, &w->source, &rig_err));
    w->source.gguf = w->gguf;
    assert_ok(model_describe(&w->model, w->gguf, &rig_err));
}

static void load(struct worker *w, const struct shard_spec *spec,
                 uint32_t n_threads)
{
    struct shard_options o = rig_options(&w->model);
    o.n_threads = n_threads;
    if (n_threads > 1) o.isa = cpu_isa(); /* machines are not alike */
    assert_ok(shard_create(&w->s, &w->model, spec, &o, &rig_err));
    assert_ok(step_create(&w->step, w->s, &rig_err));
    assert_ok(step_create(&w->serve, w->s, &rig_err));
}

static void close_worker(struct worker *w)
{
    step_free(w->step);
    step_free(w->serve);
    shard_free(w->s);
    model_fini(&w->model);
    gguf_close(w->gguf);
    cache_close(w->cache);
    pthread_mutex_destroy(&w->lock);
}

/* --------------------------------------------------------------- pool */

/* Worker 0: embedding, layer 0, experts 0 and 3; worker 1: layer 1, the other
 * experts, the head. */
static void spec_of(uint32_t worker, struct shard_spec *spec,
                    struct shard_layer_spec layers[LAYERS])
{
    *spec = (struct shard_spec){.embed = worker == 0, .layers = layers};
    if (worker == 1) spec->vocab_end = rig.model.n_vocab;
    for (uint32_t i = 0; i < LAYERS; i++) {
        layers[i] = (struct shard_layer_spec){.block = i == worker,
                                              .experts = {worker == 0 ? 9 : 6}};
    }
}

/* Every part of w's step is the other's: compute and supply. */
static void supply(struct worker *w, struct worker *other, uint32_t *n_parts)
{
    static float y[N_TOKENS * 256];
    uint32_t n;
    const struct step_part *parts = step_parts(w->step, &n);
    for (uint32_t i = 0; i < n; i++) {
        if (parts[i].supplied) continue;
        assert_ok(step_expert(other->serve, parts[i].layer, parts[i].expert,
                              parts[i].n_rows, parts[i].x, y, &rig_err));
        assert_ok(step_supply(w->step, i, y));
        ++*n_parts;
    }
}

/* The tokens in one step through both; their logits equal the file's. */
static void compute(struct worker w[2])
{
    struct step_row rows[N_TOKENS];
    uint32_t n_parts = 0;
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        rows[i] = (struct step_row){1, i, tokens[i], true};
    }
    for (uint32_t k = 0; k < 2; k++) {
        const struct step_input in = {.rows = rows,
                                      .n_rows = N_TOKENS,
                                      .x = k ? step_x(w[0].step) : NULL,
                                      .embed = k == 0,
                                      .layer_first = k,
                                      .layer_end = k + 1,
                                      .head = k == 1};
        assert_ok(step_begin(w[k].step, &in, &rig_err));
        while (step_run(w[k].step) != STEP_DONE) {
            supply(&w[k], &w[1 - k], &n_parts);
        }
    }
    assert_true(n_parts > 2); /* of each layer up to two */
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        rig_assert_same(step_logits(w[1].step, i),
                        want + (size_t)i * rig.model.n_vocab, rig.model.n_vocab,
                        "workers");
    }
}

static void open_pool(struct worker w[2], struct manifest *m)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct shard_layer_spec layers[LAYERS];
        struct shard_spec spec;
        open_worker(&w[i], m, i ? "cache1" : "cache0");
        spec_of(i, &spec, layers);
        load(&w[i], &spec, 1 + i);
    }
}

static void close_pool(struct worker w[2])
{
    close_worker(&w[0]);
    close_worker(&w[1]);
}

static uint32_t n_needed(struct worker *w, uint32_t i)
{
    struct shard_layer_spec layers[LAYERS];
    struct shard_spec spec;
    struct cell_list list;
    spec_of(i, &spec, layers);
    assert_ok(cell_list(&list, &w->model, &spec, &rig_err));
    mem_free(list.ids);
    return (uint32_t)list.n;
}

static void test_same_logits(void **state)
{
    (void)state;
    struct worker w[2];
    struct manifest *m = open_manifest();
    uint64_t n_cells, n_known;
    open_pool(w, m);
    compute(w);
    /* each worker got what it needs, no more, and each cell once */
    assert_int_equal(w[0].n_sent, n_needed(&w[0], 0));
    assert_int_equal(w[1].n_sent, n_needed(&w[1], 1));
    /* and reads with one thread are cells: none twice */
    assert_int_equal(w[0].n_fetched, w[0].n_sent);
    manifest_counts(m, &n_cells, &n_known);
    assert_int_equal(n_known, n_cells);
    assert_true(n_cells > 2u * LAYERS * EXPERTS * 3);
    close_pool(w);

    /* the next start: all from disk, hashes too */
    assert_ok(manifest_save(m, &rig_err));
    manifest_close(m);
    m = open_manifest();
    manifest_counts(m, &n_cells, &n_known);
    assert_int_equal(n_known, n_cells);
    open_pool(w, m);
    compute(w);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(w[i].n_sent, 0);
        assert_int_equal(cache_counters(w[i].cache).misses, 0);
    }
    close_pool(w);
    manifest_close(m);
}

/* The other plan afterwards: only what is new is sent. */
static void test_another_plan(void **state)
{
    (void)state;
    struct worker w;
    struct manifest *m = open_manifest();
    struct shard_layer_spec layers[LAYERS];
    struct shard_spec spec, whole;
    struct cell_list first;
    open_worker(&w, m, "cache");
    spec_of(1, &spec, layers);
    assert_ok(cell_list(&first, &w.model, &spec, &rig_err));
    load(&w, &spec, 1);
    close_worker(&w);
    open_worker(&w, m, "cache");
    assert_ok(shard_spec_whole(&whole, &w.model, &rig_err));
    load(&w, &whole, 2);
    assert_int_equal(w.n_sent, cell_total(w.gguf) - first.n);
    float *logits =
        mem_zalloc_array(N_TOKENS * (size_t)w.model.n_vocab, sizeof *logits);
    struct step_row rows[N_TOKENS];
    assert_non_null(logits);
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        rows[i] = (struct step_row){0, i, tokens[i], true};
    }
    rig_step(w.s, w.step, rows, N_TOKENS, logits);
    rig_assert_same(logits, want, N_TOKENS * (size_t)w.model.n_vocab, "whole");
    mem_free(logits);
    mem_free(whole.layers);
    mem_free(first.ids);
    close_worker(&w);
    manifest_close(m);
}

/* Flips a bit in every cached cell. */
static unsigned damage_all(const char *path, int depth)
{
    unsigned n = 0;
    DIR *d = opendir(path);
    for (const struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char sub[TEMP_PATH_BYTES + 300];
        char byte;
        if (e->d_name[0] == '.') continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        if (depth > 0) {
            n += damage_all(sub, depth - 1);
            continue;
        }
        const int fd = open(sub, O_RDWR);
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, 17), 1);
        byte ^= 2;
        assert_int_equal(pwrite(fd, &byte, 1, 17), 1);
        close(fd);
        n++;
    }
    if (d) closedir(d);
    return n;
}

static void test_damaged_cache(void **state)
{
    (void)state;
    struct worker w[2];
    char path[TEMP_PATH_BYTES + 32];
    struct manifest *m = open_manifest();
    open_pool(w, m);
    close_pool(w);
    snprintf(path, sizeof path, "%s/cache1/cells", dir);
    const unsigned n = damage_all(path, 1);
    assert_int_equal(n, w[1].n_sent); /* no two cells are alike */
    open_pool(w, m);
    compute(w);
    assert_int_equal(w[0].n_sent, 0);
    assert_int_equal(w[1].n_sent, n);
    assert_int_equal(cache_counters(w[1].cache).damaged, n);
    close_pool(w);
    manifest_close(m);
}

/* What does not match its hash is neither used nor kept. */
static void test_spoiled_on_the_way(void **state)
{
    (void)state;
    struct worker w;
    struct shard_layer_spec layers[LAYERS];
    struct shard_spec spec;
    struct manifest *m = open_manifest();
    open_worker(&w, m, "cache");
    spec_of(0, &spec, layers);
    const struct shard_options o = rig_options(&w.model);
    w.spoil = true;
    assert_fails(shard_create(&w.s, &w.model, &spec, &o, &rig_err), ST_INVALID,
                 "changed on the way");
    assert_non_null(strstr(rig_err.text, "tensor \"blk.0.attn_norm.weight\""));
    assert_null(w.s);
    assert_int_equal(cache_counters(w.cache).puts, 0);
    w.spoil = false;
    load(&w, &spec, 1);
    close_worker(&w);
    manifest_close(m);
}

static void test_every_allocation_fails_once(void **state)
{
    (void)state;
    struct worker w;
    struct shard_layer_spec layers[LAYERS];
    struct shard_spec spec;
    struct manifest *m = open_manifest();
    open_worker(&w, m, "cache");
    spec_of(0, &spec, layers);
    const struct shard_options o = rig_options(&w.model);
    const size_t before = mem_in_use();
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st =
            shard_create(&w.s, &w.model, &spec, &o, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(w.s);
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n >= 20);
    close_worker(&w);
    manifest_close(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_same_logits),
        TEST(test_another_plan),
        TEST(test_damaged_cache),
        TEST(test_spoiled_on_the_way),
        TEST(test_every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
