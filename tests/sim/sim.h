/* sim.h - one seeded run of the whole way (publish, queue, deliver, sink) in a child process that
 * may die at any point; and the checker that looks at what is left.
 * Books:    the child notes in a file, before each publish, what it is about to publish, and after
 *           each answer what was acknowledged. The checker knows only the books and the effects,
 *           which it counts where they have no unique key (rows, lines), so that a second effect
 *           can be seen.
 * Seed:     WEIR_SIM_SEED repeats a run; without it a fixed seed is used. It is printed.
 * Threads:  the test's. */
#ifndef WEIR_SIM_H
#define WEIR_SIM_H

#include "kit.h"

enum sim_mode {
    SIM_JOINED, /* local sink: write, mark and settle are one transaction */
    SIM_APART,  /* local sink as behind a queue elsewhere: write commits, then settle */
    SIM_LOG     /* log sink, local dedup */
};

struct sim_plan {
    uint64_t seed;
    enum sim_mode mode;
    unsigned requests;
    unsigned payload_bytes; /* of padding, at most */
    bool acks_early;        /* planted bug: the ack is noted before the answer */
    bool settles_first;     /* planted bug: the batch is settled before it is written */
};

struct sim {
    struct kit kit;
    struct sim_plan plan;
    struct queue *queue;
    struct consumer *consumer;
    struct dedup *dedup;
    struct sink *sink;
    uint64_t random; /* state of the generator */
    unsigned published;
    unsigned ids; /* how many different ones were used */
};

uint64_t sim_seed(void);              /* prints it once */
uint64_t sim_random(uint64_t *state); /* splitmix64 */
void sim_init(struct sim *s, const struct sim_plan *plan);
void sim_fini(struct sim *s);

/* Forks; in the child runs prepare(data), then publishes and delivers by the plan. Gives the
 * child's exit code: 0 when it came to its end without meeting the fault, SIM_SURVIVED when it came
 * to its end in spite of it, FAULT_CRASH_CODE, or 74 after env->fatal. */
#define SIM_SURVIVED 3
int sim_run_child(struct sim *s, void (*prepare)(struct sim *s, void *data), void *data);
/* The same work in this process, for tests without a crash. */
void sim_work(struct sim *s);
void sim_open(struct sim *s);
void sim_close(struct sim *s);
void sim_deliver_all(struct sim *s); /* until nothing is queued */
/* The path of a file in the run's folder: "books", "effects". */
void sim_path(const struct sim *s, char *out, size_t size, const char *name);

/* Opens what the child left behind, delivers everything that waits, counts. */
struct sim_verdict {
    unsigned acknowledged; /* ids */
    unsigned effects;
    unsigned lost;       /* acknowledged, without effect */
    unsigned doubled;    /* effects beyond the first */
    unsigned unexpected; /* effects of what was never published, or with a payload that cannot be */
    unsigned left;       /* events still queued */
};
struct sim_verdict sim_finish_and_count(struct sim *s);
/* Fails the test, with the seed and the numbers, unless nothing is lost, unexpected or left and at
 * most may_double effects are doubled. */
void sim_check(struct sim *s, const struct sim_verdict *v, unsigned may_double, const char *what);

#endif
