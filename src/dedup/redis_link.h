/* redis_link.h - one connection to Redis, at one of the addresses that stand in for each other.
 * Contract: redis_link_call() sends commands in one write and reads all their replies. Its deadline
 *           covers all of it, connecting and logging in too, and no partial reply extends it. An
 *           address that fails, or is loading, or refuses writes because it is a replica, is left
 *           for the next one. A reply that is late or damaged costs the connection: what came
 *           after it could not be told apart.
 * Threads:  one owner. Blocks up to the deadline; only the look-up of a host's name is not bounded
 *           by it (an address in digits needs none).
 * Bounds:   REDIS_REPLY_MAX bytes of replies a call.
 * Fails:    by the outcome, and redis_link_why() says more. The password is in none of it. */
#ifndef WEIR_REDIS_LINK_H
#define WEIR_REDIS_LINK_H

#include "buf.h"
#include "env.h"

#define REDIS_REPLY_MAX ((size_t)16 * 1024 * 1024)

struct redis_link;

/* In order of gravity: the gravest of its replies is a call's. */
enum redis_outcome {
    REDIS_ANSWERED, /* every reply is there, none is an error */
    REDIS_READS,    /* it answers, but refuses to write: full, a replica, disk trouble */
    REDIS_AWAY,     /* no address gave an answer in time that is of any use */
    REDIS_DENIED,   /* user, password, permission or database are not accepted */
};

/* Does not connect yet. */
enum err redis_link_open(struct redis_link **out, const char *url, struct env *env, char *why,
                         size_t why_size) MUST_CHECK;
void redis_link_close(struct redis_link *l); /* NULL ok */

/* `commands` holds `replies` whole commands, made by redis_command…() */
enum redis_outcome redis_link_call(struct redis_link *l, struct span commands, size_t replies,
                                   int64_t timeout_ms) MUST_CHECK;
/* "host:port: what was wrong", of the last call that was not ANSWERED. */
const char *redis_link_why(const struct redis_link *l);
/* The last reply of the last call: how many items it has (0 also when it is no list), and each; at
 * NULL: nil. Valid until the next call. */
size_t redis_link_items(const struct redis_link *l);
struct span redis_link_item(const struct redis_link *l, size_t i);

/* A command with its name is `args` arguments. */
void redis_command(struct buf *out, size_t args);
void redis_argument(struct buf *out, struct span arg);

#endif
