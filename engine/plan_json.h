/* plan_json.h - helpers of the planner's two readers of JSON.
 *
 * Depends on: plan.h, jansson.  Thread: any. */
#ifndef ENGINE_PLAN_JSON_H
#define ENGINE_PLAN_JSON_H

#include <jansson.h>

#include "engine/plan.h"

/* The parsed text (json_decref), or NULL with ST_INVALID (line and column) or
 * ST_TOO_LARGE in err.  Keys that are there twice are an error. */
json_t *plan_json_parse(const char *text, size_t n, const char *what,
                        struct error *err);
/* ST_INVALID unless o is an object with no other keys than these. */
NODISCARD enum status plan_json_keys(const json_t *o, const char *what,
                                     const char *const *keys, size_t n,
                                     struct error *err);
NODISCARD enum status plan_json_u32(const json_t *v, const char *what,
                                    uint32_t low, uint32_t high, uint32_t *out,
                                    struct error *err);

#endif
