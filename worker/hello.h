/* hello.h - what a worker says of itself when it joins.
 *
 * Depends on: engine/cpu, proto/wire.  Thread: any. */
#ifndef WORKER_HELLO_H
#define WORKER_HELLO_H

#include "proto/wire.h"
#include "worker/net.h"

/* boot_id: of this process; data_port: where it listens. */
void hello_fill(struct wire_hello *out, const struct worker_options *o,
                uint64_t boot_id, uint32_t data_port);

#endif
