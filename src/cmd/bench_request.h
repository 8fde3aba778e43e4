/* bench_request.h - requests made ahead, of which only the ids change; and answers, read no further
 * than the bench needs.
 * Threads:  one owner. */
#ifndef WEIR_BENCH_REQUEST_H
#define WEIR_BENCH_REQUEST_H

#include "cmd/bench_load.h"
#include "span.h"

struct request {
    struct buf bytes; /* head and body, as sent */
    size_t first_id;  /* where the first id stands in bytes */
    size_t step;      /* from one event to the next */
    unsigned events;  /* 0: a GET */
    bool sequential;
    uint64_t seed;
    uint64_t next; /* number of the next event */
};

enum err request_init(struct request *r, const struct load_plan *plan) MUST_CHECK;
void request_fini(struct request *r);
/* Gives every event in it a new id. */
void request_renew(struct request *r);

struct answer {
    int status;
    bool close; /* the server will close the connection */
    size_t head_len;
    uint64_t body_len;
};
enum answer_result { ANSWER_MORE, ANSWER_OK, ANSWER_BAD };
/* The head of an answer at the front of `in`. */
enum answer_result answer_read(struct answer *a, struct span in);
/* The number behind "name": in the beginning of an answer's body; -1 when it is not there. */
int64_t answer_count(struct span body, const char *name);

#endif
