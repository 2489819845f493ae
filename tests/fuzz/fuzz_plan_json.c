/* fuzz_plan_json.c - any bytes as a plan file, or as a list of nodes.
 *
 * What begins with '[' is a list of nodes, all else a plan for a small model
 * with experts on three nodes, one of them too small for everything.  A plan
 * that is accepted must be whole, and must read the same when written. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/plan.h"
#include "tests/lib/gen_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gguf *gguf;
static struct model model;
static struct plan_node nodes[3];

static void make_model(void)
{
    char path[] = "/tmp/fuzz_plan_XXXXXX";
    struct gen_model m;
    const int fd = mkstemp(path);
    if (fd < 0) abort();
    close(fd);
    if (gen_model_preset(&m, "tiny-moe", NULL) != ST_OK) abort();
    m.sparse = 1;
    if (gen_model_write(&m, path, NULL) != ST_OK ||
        gguf_open(&gguf, path, NULL) != ST_OK ||
        model_describe(&model, gguf, NULL) != ST_OK) {
        abort();
    }
    unlink(path);
    for (uint32_t i = 0; i < 3; i++) {
        nodes[i].id = i;
        nodes[i].memory_bytes = i == 2 ? 12 << 20 : 1 << 30;
        snprintf(nodes[i].name, sizeof nodes[i].name, "pc-%u", i);
    }
}

static void try_nodes(const char *text, size_t size)
{
    struct plan_node *list = NULL;
    uint32_t n = 0;
    struct error err = {.text = ""};
    const enum status st = plan_read_nodes(&list, &n, text, size, &err);
    if (st != ST_OK) {
        if (list || err.status != st || strlen(err.text) == 0) abort();
        return;
    }
    const struct plan_request r = {
        .model = &model, .nodes = list, .n_nodes = n, .n_ctx = 64};
    struct plan p;
    if (plan_make(&p, &r, &err) == ST_OK) {
        if (plan_check(&p, &model, &err) != ST_OK) abort();
        plan_fini(&p);
    } else if (err.status != ST_NO_MEMORY) {
        abort();
    }
    mem_free(list);
}

static void try_plan(const char *text, size_t size)
{
    const struct plan_request r = {
        .model = &model, .nodes = nodes, .n_nodes = 3};
    struct plan p = {0}, q;
    struct error err = {.text = ""};
    const enum status st = plan_read_json(&p, &r, text, size, &err);
    if (st != ST_OK) {
        if (p.nodes || err.status != st || strlen(err.text) == 0) abort();
        return;
    }
    if (plan_check(&p, &model, &err) != ST_OK) abort();
    struct buf a, b;
    buf_init(&a, PLAN_JSON_MAX);
    buf_init(&b, PLAN_JSON_MAX);
    if (plan_write_json(&p, &a, &err) != ST_OK ||
        plan_read_json(&q, &r, a.data, a.len, &err) != ST_OK ||
        plan_write_json(&q, &b, &err) != ST_OK || a.len != b.len ||
        memcmp(a.data, b.data, a.len) != 0) {
        abort();
    }
    buf_fini(&a);
    if (plan_write_table(&p, &b) != ST_OK) abort();
    buf_fini(&b);
    plan_fini(&p);
    plan_fini(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!gguf) make_model();
    const size_t before = mem_in_use();
    if (size > 0 && data[0] == '[')
        try_nodes((const char *)data, size);
    else
        try_plan((const char *)data, size);
    if (mem_in_use() != before) abort();
    return 0;
}
