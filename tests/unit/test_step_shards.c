/* test_step_shards.c - the same bits, the model being spread over shards:
 * layers, experts, embedding and head's vocabulary anywhere. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "tests/lib/engine_rig.h"

#define LAYERS    5
#define EXPERTS   8
#define NODES_MAX 5
#define N_SEQS    3
#define ROWS      33
static const uint32_t lengths[N_SEQS] = {36, 9, 20};

/* Who holds what. */
struct plan {
    uint32_t n_nodes;
    uint32_t embed, block[LAYERS], expert[LAYERS][EXPERTS];
    uint32_t n_heads, head[2], vocab_cut; /* head[0] holds [0, cut) */
};

struct node {
    struct shard *s;
    struct step *step, *serve;
};

struct visit { /* of one node, once in a step */
    uint32_t node, first, end;
    bool embed;
};

struct cluster {
    struct plan plan;
    struct node nodes[NODES_MAX];
    struct visit visits[LAYERS + 1];
    uint32_t n_visits;
    struct rng rng;
    uint32_t n_parts, n_late; /* served; of them after local experts */
};

static struct rig rigs[2]; /* dense, mixture of experts */
static const enum kv_type kv_of[2] = {KV_F16, KV_Q8_0};
static struct rig_text texts[2];
static float *logits, *expert_y;

static int open_all(void **state)
{
    (void)state;
    struct gen_model m[2] = {rig_dense(), rig_moe()};
    for (int i = 0; i < 2; i++) {
        m[i].n_layer = LAYERS;
        rig_open(&rigs[i], &m[i]);
        rig_text_open(&texts[i], &rigs[i], kv_of[i], N_SEQS, lengths);
    }
    logits = mem_zalloc_array(ROWS * (size_t)m[0].n_vocab, sizeof *logits);
    expert_y = mem_zalloc_array(ROWS * (size_t)m[0].n_embd, sizeof *expert_y);
    return logits && expert_y ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        rig_text_close(&texts[i]);
        rig_close(&rigs[i]);
    }
    mem_free(logits);
    mem_free(expert_y);
    return mem_in_use() == 0 ? 0 : -1;
}

/* ------------------------------------------------------------ cluster */

static void open_node(struct cluster *c, const struct rig *r, uint32_t n)
{
    const struct plan *p = &c->plan;
    struct shard_layer_spec layers[LAYERS] = {0};
    struct shard_spec spec = {.embed = p->embed == n, .layers = layers};
    for (uint32_t h = 0; h < p->n_heads; h++) {
        if (p->head[h] != n) continue;
        spec.vocab_first = h == 0 ? 0 : p->vocab_cut;
        spec.vocab_end = h + 1 < p->n_heads ? p->vocab_cut : r->model.n_vocab;
    }
    for (uint32_t l = 0; l < LAYERS; l++) {
        layers[l].block = p->block[l] == n;
        for (uint32_t e = 0; e < r->model.n_expert; e++) {
            if (p->expert[l][e] == n) layers[l].experts[0] |= 1u << e;
        }
    }
    struct shard_options o = rig_options(&r->model);
    o.kv_type = kv_of[r - rigs];
    /* machines are not alike */
    o.isa = rng_below(&c->rng, 4) ? cpu_isa() : ISA_REF;
    o.blas = rng_below(&c->rng, 2) ? BLAS_ALWAYS : BLAS_NEVER;
    o.n_threads = 1 + (uint32_t)rng_below(&c->rng, 2);
    struct node *node = &c->nodes[n];
    assert_ok(shard_create(&node->s, &r->model, &spec, &o, &rig_err));
    assert_ok(step_create(&node->step, node->s, &rig_err));
    assert_ok(step_create(&node->serve, node->s, &rig_err));
}

static void open_cluster(struct cluster *c, const struct rig *r,
                         const struct plan *p, uint64_t seed)
{
    *c = (struct cluster){.plan = *p, .rng = {seed}};
    for (uint32_t n = 0; n < p->n_nodes; n++) open_node(c, r, n);
    c->visits[c->n_visits++] = (struct visit){p->embed, 0, 0, true};
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct visit *last = &c->visits[c->n_visits - 1];
        if (last->node == p->block[l])
            last->end = l + 1;
        else
            c->visits[c->n_visits++] =
                (struct visit){p->block[l], l, l + 1, false};
    }
}

static void close_cluster(struct cluster *c)
{
    for (uint32_t n = 0; n < c->plan.n_nodes; n++) {
        step_free(c->nodes[n].step);
        step_free(c->nodes[n].serve);
        shard_free(c->nodes[n].s);
    }
}

/* Compute part i of st where its expert is, and supply it. */
static void serve_part(struct cluster *c, struct step *st, uint32_t i)
{
    uint32_t n;
    const struct step_part *part = &step_parts(st, &n)[i];
    assert_true(i < n && part->n_rows >= 1 && part->n_rows <= ROWS);
    struct node *holder = &c->nodes[c->plan.expert[part->layer][part->expert]];
    assert_ok(step_expert(holder->serve, part->layer, part->expert,
                          part->n_rows, part->x, expert_y, &rig_err));
    assert_int_equal(step_supply(st, i, expert_y), ST_OK);
    assert_int_equal(step_supply(st, i, expert_y), ST_INVALID);
    c->n_parts++;
}

/* Serve a random choice of the parts that are missing, in random order; all
 * of them if `all`, else maybe none. */
static void serve_some(struct cluster *c, struct step *st, bool all)
{
    uint32_t n;
    const struct step_part *parts = step_parts(st, &n);
    assert_true(n <= EXPERTS);
    assert_int_equal(step_supply(st, n, expert_y), ST_INVALID);
    const uint32_t shift = (uint32_t)rng_below(&c->rng, EXPERTS);
    for (uint32_t k = 0; k < EXPERTS; k++) {
        const uint32_t i = (k * 5 + shift) % EXPERTS;
        if (i >= n || parts[i].supplied) continue;
        if (!all && rng_below(&c->rng, 2)) continue;
        serve_part(c, st, i);
    }
}

static void run_to_end(struct cluster *c, struct step *st)
{
    for (uint32_t turn = 0;; turn++) {
        const enum step_state state = step_run(st);
        if (state == STEP_DONE) return;
        assert_true(turn < 100);
        const uint32_t before = c->n_parts;
        serve_some(c, st, state == STEP_WAIT && rng_below(&c->rng, 3) == 0);
        if (state == STEP_WAIT) c->n_late += c->n_parts - before;
    }
}

static void cluster_step(struct cluster *c, const struct step_row *rows,
                         uint32_t n_rows, const struct kv_op *ops,
                         uint32_t n_ops)
{
    struct step_input in = {
        .rows = rows, .n_rows = n_rows, .ops = ops, .n_ops = n_ops};
    bool seen[NODES_MAX] = {false};
    for (uint32_t i = 0; i < c->n_visits; i++) {
        const struct visit *v = &c->visits[i];
        struct step *st = c->nodes[v->node].step;
        in.embed = v->embed;
        in.layer_first = v->first;
        in.layer_end = v->end;
        in.again = seen[v->node];
        assert_ok(step_begin(st, &in, &rig_err));
        run_to_end(c, st);
        in.x = step_x(st);
        seen[v->node] = true;
    }
    in.embed = false;
    in.layer_first = in.layer_end = LAYERS;
    in.head = true;
    const uint32_t n_vocab = c->nodes[0].s->model.n_vocab;
    for (uint32_t h = 0; h < c->plan.n_heads; h++) {
        struct node *node = &c->nodes[c->plan.head[h]];
        in.again = seen[c->plan.head[h]];
        assert_ok(step_begin(node->step, &in, &rig_err));
        run_to_end(c, node->step);
        seen[c->plan.head[h]] = true;
        /* the next head wants the same rows */
        in.x = step_x(node->step);
        const uint32_t first = node->s->vocab_first,
                       n = node->s->vocab_end - first;
        uint32_t out = 0;
        for (uint32_t r = 0; r < n_rows; r++) {
            if (!rows[r].want) continue;
            memcpy(logits + out * (size_t)n_vocab + first,
                   step_logits(node->step, out), n * sizeof *logits);
            out++;
        }
    }
}

/* All sequences in random steps, twice: the second time with new ids, the
 * first ones being freed by operations of a step. */
static void feed_cluster(struct cluster *c, const struct rig_text *t,
                         const char *what)
{
    for (uint64_t round = 0; round < 2; round++) {
        const uint64_t ids[N_SEQS] = {3 * round, 3 * round + 1, 3 * round + 2};
        const struct kv_op ops[N_SEQS] = {{KV_OP_FREE, 0, 0, 0},
                                          {KV_OP_FREE, 1, 0, 0},
                                          {KV_OP_FREE, 2, 0, 0}};
        uint32_t at[N_SEQS] = {0}, n, n_ops = round ? N_SEQS : 0;
        struct step_row rows[ROWS];
        while ((n = rig_mix(t, &c->rng, ids, at, ROWS, rows)) != 0) {
            cluster_step(c, rows, n, ops, n_ops);
            rig_assert_rows(t, ids, rows, n, logits, what);
            n_ops = 0;
        }
    }
}

static void check_plan(int model, const struct plan *p, uint64_t seed,
                       const char *what)
{
    struct cluster c;
    open_cluster(&c, &rigs[model], p, seed);
    feed_cluster(&c, &texts[model], what);
    if (model == 1) assert_true(c.n_parts > 10 && c.n_late > 0);
    close_cluster(&c);
}

/* -------------------------------------------------------------- plans */

static struct plan random_plan(struct rng *rng)
{
    struct plan p = {.n_nodes = 2 + (uint32_t)rng_below(rng, NODES_MAX - 1)};
    p.embed = (uint32_t)rng_below(rng, p.n_nodes);
    p.n_heads = 1 + (uint32_t)rng_below(rng, 2);
    p.head[0] = (uint32_t)rng_below(rng, p.n_nodes);
    p.head[1] = (p.head[0] + 1) % p.n_nodes;
    p.vocab_cut = 256 * (1 + (uint32_t)rng_below(rng, 2));
    for (uint32_t l = 0; l < LAYERS; l++) {
        p.block[l] = (uint32_t)rng_below(rng, p.n_nodes);
        for (uint32_t e = 0; e < EXPERTS; e++) {
            p.expert[l][e] = (uint32_t)rng_below(rng, p.n_nodes);
        }
    }
    return p;
}

static void test_random_plans(void **state)
{
    (void)state;
    struct rng rng = {51};
    for (uint64_t i = 0; i < 10; i++) {
        const struct plan p = random_plan(&rng);
        check_plan(i % 3 ? 1 : 0, &p, i, "a random plan");
    }
}

/* Two shards with the cut after each layer. */
static void test_every_cut(void **state)
{
    (void)state;
    for (uint32_t cut = 0; cut <= LAYERS; cut++) {
        struct plan p = {
            .n_nodes = 2, .embed = 0, .n_heads = 1, .head = {1, 0}};
        for (uint32_t l = 0; l < LAYERS; l++) p.block[l] = l >= cut;
        check_plan(0, &p, cut, "two stages");
    }
}

/* One shard holds layers 0, 1 and 4 and is visited twice. */
static void test_out_of_order(void **state)
{
    (void)state;
    static const struct plan p = {.n_nodes = 2,
                                  .embed = 1,
                                  .block = {0, 0, 1, 1, 0},
                                  .n_heads = 2,
                                  .head = {1, 0},
                                  .vocab_cut = 256};
    check_plan(0, &p, 1, "layers 0, 1 and 4");
    struct plan moe = p;
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t e = 0; e < EXPERTS; e++) moe.expert[l][e] = (e + l) % 2;
    }
    check_plan(1, &moe, 2, "layers 0, 1 and 4 with experts on both");
}

/* Each shard has the other's experts, all of them or all but one. */
static void test_crossed(void **state)
{
    (void)state;
    struct plan p = {.n_nodes = 2, .n_heads = 1, .head = {1, 0}};
    for (uint32_t one = 0; one < 2; one++) {
        for (uint32_t l = 0; l < LAYERS; l++) {
            p.block[l] = l >= 3;
            for (uint32_t e = 0; e < EXPERTS; e++) {
                p.expert[l][e] = (e == 2 && one) ? p.block[l] : !p.block[l];
            }
        }
        check_plan(1, &p, 3 + one, "crossed experts");
    }
}

/* ------------------------------------------------------- interleaving */

static const struct plan helper = {.n_nodes = 2,
                                   .n_heads = 1,
                                   .head = {0, 0},
                                   .expert = {{0, 1, 0, 1, 0, 1, 0, 1},
                                              {1, 1, 1, 1, 0, 0, 0, 0},
                                              {1, 0, 1, 0, 1, 0, 1, 0},
                                              {1, 1, 1, 1, 1, 1, 1, 1},
                                              {0, 0, 0, 0, 1, 1, 1, 1}}};

static struct step_input whole_input(const struct rig_text *t, uint32_t k,
                                     uint64_t seq, uint32_t n,
                                     struct step_row *rows)
{
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = (struct step_row){seq, i, t->tokens[k][i], true};
    }
    return (struct step_input){.rows = rows,
                               .n_rows = n,
                               .embed = true,
                               .layer_end = LAYERS,
                               .head = true};
}

/* Two steps of one shard take turns wherever one of them stops. */
static void test_two_steps_at_once(void **state)
{
    (void)state;
    const struct rig_text *t = &texts[1];
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct cluster c;
        open_cluster(&c, &rigs[1], &helper, seed);
        struct step *two[2] = {c.nodes[0].step, c.nodes[0].serve};
        struct step_row rows[2][ROWS];
        bool done[2] = {false, false};
        for (uint32_t i = 0; i < 2; i++) {
            const struct step_input in =
                whole_input(t, i ? 2 : 0, 10 + i, i ? 20 : 30, rows[i]);
            assert_ok(step_begin(two[i], &in, &rig_err));
        }
        for (uint32_t turns = 0; !done[0] || !done[1]; turns++) {
            assert_true(turns < 2000);
            const uint32_t i = (uint32_t)rng_below(&c.rng, 2);
            if (done[i]) continue;
            done[i] = step_run(two[i]) == STEP_DONE;
            if (!done[i]) serve_some(&c, two[i], false);
        }
        const uint64_t ids[N_SEQS] = {10, UINT64_MAX, 11};
        rig_assert_rows(t, ids, rows[0], 30, step_logits(two[0], 0), "first");
        rig_assert_rows(t, ids, rows[1], 20, step_logits(two[1], 0), "second");
        close_cluster(&c);
    }
}

/* Given up while it waits; its sequence is truncated or freed, and begun
 * again. */
static void test_cancel(void **state)
{
    (void)state;
    const struct rig_text *t = &texts[1];
    struct cluster c;
    uint32_t n;
    open_cluster(&c, &rigs[1], &helper, 9);
    struct step *st = c.nodes[0].step;
    struct shard *s = c.nodes[0].s;
    struct step_row rows[ROWS];
    const struct step_input in = whole_input(t, 2, 11, 20, rows);
    for (uint32_t stop = 0; stop < LAYERS; stop++) {
        assert_ok(step_begin(st, &in, &rig_err));
        for (uint32_t i = 0; i <= stop; i++) {
            assert_int_not_equal(step_run(st), STEP_DONE);
            if (i < stop) serve_some(&c, st, true);
        }
        if (stop % 2) assert_int_equal(step_run(st), STEP_WAIT);
        step_cancel(st);
        step_parts(st, &n);
        assert_int_equal(n, 0);
        assert_int_equal(step_supply(st, 0, expert_y), ST_INVALID);
        assert_int_equal(kv_length(s->kv, 11), 20);
        if (stop % 2)
            rig_op(s, KV_OP_FREE, 11, 0, 0);
        else
            rig_op(s, KV_OP_TRUNCATE, 11, 0, 0);
    }
    assert_ok(step_begin(st, &in, &rig_err));
    run_to_end(&c, st);
    const uint64_t ids[N_SEQS] = {0, 0, 11};
    rig_assert_rows(t, ids, rows, 20, step_logits(st, 0), "after cancelling");
    close_cluster(&c);
}

/* Freed or shortened under a waiting step: it ends, and leaves the pages to
 * others. */
static void test_pages_taken_from_a_waiting_step(void **state)
{
    (void)state;
    const struct rig_text *t = &texts[1];
    struct cluster c;
    open_cluster(&c, &rigs[1], &helper, 9);
    struct step *st = c.nodes[0].step;
    struct shard *s = c.nodes[0].s;
    struct step_row rows[ROWS];
    struct step_input in = whole_input(t, 2, 11, 20, rows);
    assert_ok(step_begin(st, &in, &rig_err));
    assert_int_equal(step_run(st), STEP_DISPATCH);
    rig_op(s, KV_OP_FREE, 11, 0, 0);
    struct step_row other[ROWS];
    const struct step_input next = whole_input(t, 0, 12, 30, other);
    assert_ok(step_begin(c.nodes[0].serve, &next, &rig_err));
    assert_int_equal(step_run(c.nodes[0].serve), STEP_DISPATCH);
    run_to_end(&c, st);
    run_to_end(&c, c.nodes[0].serve);
    const uint64_t other_ids[N_SEQS] = {12, 0, 0};
    rig_assert_rows(t, other_ids, other, 30, step_logits(c.nodes[0].serve, 0),
                    "beside a freed one");
    rig_op(s, KV_OP_FREE, 12, 0, 0);

    /* the second page goes to another sequence, which is not disturbed */
    in = whole_input(t, 0, 13, 33, rows);
    assert_ok(step_begin(st, &in, &rig_err));
    assert_int_equal(step_run(st), STEP_DISPATCH);
    const void *page = kv_k(s->kv, kv_find(s->kv, 13), 0, 0, 32);
    rig_op(s, KV_OP_TRUNCATE, 13, 0, 32);
    struct step_input rest = whole_input(t, 0, 14, 30, other);
    assert_ok(step_begin(c.nodes[0].serve, &rest, &rig_err));
    run_to_end(&c, c.nodes[0].serve);
    assert_ptr_equal(kv_k(s->kv, kv_find(s->kv, 14), 0, 0, 0), page);
    run_to_end(&c, st);
    for (uint32_t i = 30; i < 36; i++) {
        other[i - 30] = (struct step_row){14, i, t->tokens[0][i], true};
    }
    rest.n_rows = 6;
    assert_ok(step_begin(c.nodes[0].serve, &rest, &rig_err));
    run_to_end(&c, c.nodes[0].serve);
    const uint64_t last_ids[N_SEQS] = {14, 0, 0};
    rig_assert_rows(t, last_ids, other, 6, step_logits(c.nodes[0].serve, 0),
                    "beside a shortened one");
    close_cluster(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_plans),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_out_of_order),
        cmocka_unit_test(test_crossed),
        cmocka_unit_test(test_two_steps_at_once),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_pages_taken_from_a_waiting_step),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
