/* limits.h - every maximum of what comes over the wire, met before anything
 * is allocated.  Depends on: nothing. */
#ifndef PROTO_LIMITS_H
#define PROTO_LIMITS_H

#define PROTOCOL_MIN 1
#define PROTOCOL_MAX 1

#define LIMIT_HELLO_BYTES  (4u << 10)   /* from a key we do not know yet */
#define LIMIT_HEADER_BYTES (1u << 20)   /* any protobuf header           */
#define LIMIT_ASSIGN_BYTES (16u << 20)  /* with the model's GGUF header  */
#define LIMIT_RESULT_BYTES (4u << 20)   /* 4096 rows of 64 candidates    */
#define LIMIT_TENSOR_BYTES (256u << 20) /* 4096 rows of 16384 floats     */
#define LIMIT_CELL_BYTES   (8u << 20)   /* a cell is about 1 MiB         */
#define LIMIT_NAME         63           /* bytes of a node's name        */
#define LIMIT_ADDRESS      63           /* bytes of a host               */
#define LIMIT_TEXT         255          /* bytes of an error or progress */
#define LIMIT_NODES        256
#define LIMIT_PENDING      64   /* keys in the enrolment state     */
#define LIMIT_ROWS         4096 /* of a step                       */
#define LIMIT_KV_OPS       4096 /* of a step                       */
#define LIMIT_STAGES       1024 /* visits of a step                */
#define LIMIT_RECENT       512  /* of a row's penalties            */
#define LIMIT_ADJUST       512
#define LIMIT_STEPS        1024   /* in flight at a worker */
#define LIMIT_SEQUENCES    65536  /* alive at once */
#define LIMIT_PARTS        256    /* experts in one exchange         */
#define LIMIT_CELLS        262144 /* hashes in one manifest message  */
#define LIMIT_RATES        32     /* of a report                     */
#define KEY_BYTES          32     /* CURVE keys, BLAKE2b-256         */

#define HEARTBEAT_MS  500
#define LEASE_MS      3000
#define ENROL_MS      5000 /* for the one Hello of an unknown key */
#define TOKEN_MINUTES 60

_Static_assert(KEY_BYTES == 32, "CURVE keys and BLAKE2b-256");

#endif
