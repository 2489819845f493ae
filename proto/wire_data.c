/* wire_data.c - fields of the expert exchange, of the link probe, and of the
 * bulk socket's cells. */
#include <string.h>

#include "proto/wire_internal.h"

/* ----------------------------------------------------------- exchange */

enum status wire_get_exchange(struct wire_message *out,
                              const ProtobufCMessage *in,
                              struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Exchange *p = (const Potluck__Exchange *)in;
    const size_t n[] = {p->n_part_layer, p->n_part_expert, p->n_part_n_rows};
    enum status st = wire_columns("parts", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_count("parts", n[0], LIMIT_PARTS, err);
    if (st != ST_OK) return st;
    struct wire_exchange *x = &out->exchange;
    bool ok = true;
    x->parts = wire_array(n[0], sizeof *x->parts, &ok);
    if (!ok) return wire_no_memory(err);
    x->epoch = p->epoch;
    x->step = p->step;
    x->node = p->node;
    x->serial = p->serial;
    x->width = p->width;
    x->n_parts = (uint32_t)n[0];
    for (uint32_t i = 0; i < x->n_parts; i++) {
        x->parts[i] = (struct wire_part){p->part_layer[i], p->part_expert[i],
                                         p->part_n_rows[i]};
    }
    return ST_OK;
}

enum status wire_put_exchange(struct wire_sink *k, const struct wire_message *m,
                              struct error *err)
{
    const struct wire_exchange *x = &m->exchange;
    Potluck__Exchange p = POTLUCK__EXCHANGE__INIT;
    COLUMN(k, &p, part_layer, x->n_parts);
    COLUMN(k, &p, part_expert, x->n_parts);
    COLUMN(k, &p, part_n_rows, x->n_parts);
    if (k->failed) return wire_no_memory(err);
    p.epoch = x->epoch;
    p.step = x->step;
    p.node = x->node;
    p.serial = x->serial;
    p.width = x->width;
    for (uint32_t i = 0; i < x->n_parts; i++) {
        p.part_layer[i] = x->parts[i].layer;
        p.part_expert[i] = x->parts[i].expert;
        p.part_n_rows[i] = x->parts[i].n_rows;
    }
    return wire_pack(k, &p.base, err);
}

/* --------------------------------------------------------------- echo */

enum status wire_get_echo(struct wire_message *out, const ProtobufCMessage *in,
                          struct wire_frame header, struct error *err)
{
    (void)header, (void)err;
    const Potluck__Echo *p = (const Potluck__Echo *)in;
    out->echo.n = p->n;
    out->echo.reply_bytes = p->reply_bytes;
    return ST_OK;
}

enum status wire_put_echo(struct wire_sink *k, const struct wire_message *m,
                          struct error *err)
{
    Potluck__Echo p = POTLUCK__ECHO__INIT;
    p.n = m->echo.n;
    p.reply_bytes = m->echo.reply_bytes;
    return wire_pack(k, &p.base, err);
}

/* -------------------------------------------------------------- cells */

/* b - a modulo 2^32, as the signed number that zigzag wants. */
static int32_t difference(uint32_t a, uint32_t b)
{
    const uint32_t d = b - a;
    return d <= INT32_MAX ? (int32_t)d : -(int32_t)(UINT32_MAX - d) - 1;
}

enum status wire_get_cells(struct wire_message *out, const ProtobufCMessage *in,
                           struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Cells *p = (const Potluck__Cells *)in;
    const size_t n[] = {p->n_tensor, p->n_cell};
    enum status st = wire_columns("cells", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_count("cells", n[0], LIMIT_CELLS, err);
    if (st == ST_OK && p->hashes.len != 0 &&
        p->hashes.len != n[0] * KEY_BYTES) {
        st = error_set(err, ST_INVALID, "%zu bytes of hashes for %zu cells",
                       p->hashes.len, n[0]);
    }
    struct wire_cells *c = &out->cells;
    if (st == ST_OK) {
        st = wire_get_key(c->model_id, "model id", p->model_id, err);
    }
    if (st != ST_OK) return st;
    bool ok = true;
    c->ids = wire_array(n[0], sizeof *c->ids, &ok);
    c->hashes = wire_array(p->hashes.len, 1, &ok);
    if (!ok) return wire_no_memory(err);
    c->n = (uint32_t)n[0];
    c->manifest_only = p->manifest_only != 0;
    struct wire_cell_id last = {0};
    for (uint32_t i = 0; i < c->n; i++) {
        last.tensor += (uint32_t)p->tensor[i];
        last.cell += (uint32_t)p->cell[i];
        c->ids[i] = last;
    }
    if (c->hashes) memcpy(c->hashes, p->hashes.data, p->hashes.len);
    return ST_OK;
}

enum status wire_put_cells(struct wire_sink *k, const struct wire_message *m,
                           struct error *err)
{
    const struct wire_cells *c = &m->cells;
    Potluck__Cells p = POTLUCK__CELLS__INIT;
    COLUMN(k, &p, tensor, c->n);
    COLUMN(k, &p, cell, c->n);
    if (k->failed) return wire_no_memory(err);
    p.model_id = wire_bytes(c->model_id, KEY_BYTES);
    p.manifest_only = c->manifest_only;
    struct wire_cell_id last = {0};
    for (uint32_t i = 0; i < c->n; i++) {
        p.tensor[i] = difference(last.tensor, c->ids[i].tensor);
        p.cell[i] = difference(last.cell, c->ids[i].cell);
        last = c->ids[i];
    }
    if (c->hashes) {
        p.hashes = wire_bytes(c->hashes, (size_t)c->n * KEY_BYTES);
    }
    return wire_pack(k, &p.base, err);
}

enum status wire_get_cell(struct wire_message *out, const ProtobufCMessage *in,
                          struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Cell *p = (const Potluck__Cell *)in;
    out->cell.id = (struct wire_cell_id){p->tensor, p->cell};
    out->cell.status = p->status;
    return wire_get_key(out->cell.model_id, "model id", p->model_id, err);
}

enum status wire_put_cell(struct wire_sink *k, const struct wire_message *m,
                          struct error *err)
{
    Potluck__Cell p = POTLUCK__CELL__INIT;
    p.model_id = wire_bytes(m->cell.model_id, KEY_BYTES);
    p.tensor = m->cell.id.tensor;
    p.cell = m->cell.id.cell;
    p.status = m->cell.status;
    return wire_pack(k, &p.base, err);
}
