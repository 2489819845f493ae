#include "worker/hello.h"

#include <stdio.h>

#include "engine/numerics.h"

void hello_fill(struct wire_hello *out, const struct worker_options *o,
                uint64_t boot_id, uint32_t data_port)
{
    char cpu[64];
    *out = (struct wire_hello){.protocol_min = PROTOCOL_MIN,
                               .protocol_max = PROTOCOL_MAX,
                               .numerics_version = NUMERICS_VERSION,
                               .boot_id = boot_id,
                               .n_threads = o->shard.n_threads,
                               .memory_bytes = o->shard.memory_max,
                               .data_port = data_port};
    cpu_model_name(cpu, sizeof cpu);
    snprintf(out->name, sizeof out->name, "%s", o->name);
    snprintf(out->build, sizeof out->build, "%s", WORKER_BUILD);
    snprintf(out->cpu, sizeof out->cpu, "%.*s", LIMIT_NAME, cpu);
    snprintf(out->isa, sizeof out->isa, "%s", isa_name(o->shard.isa));
    snprintf(out->token, sizeof out->token, "%s", o->join.token);
}
