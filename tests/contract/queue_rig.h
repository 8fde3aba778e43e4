/* queue_rig.h - a queue, a consumer, their kit and a batch, for the suites that ask what queue.h and
 * consumer.h promise. */
#ifndef WEIR_TEST_QUEUE_RIG_H
#define WEIR_TEST_QUEUE_RIG_H

#include "kit.h"

#define QUEUE_MAX_BYTES ((uint64_t)1024 * 1024)

struct queue_rig;
struct queue_maker {
    void (*open)(struct queue_rig *r); /* sets queue */
    void (*close)(struct queue_rig *r);
    enum err (*open_consumer)(struct consumer **out, struct queue_rig *r);
    void (*fail_settle)(struct queue_rig *r); /* the next one is ERR_UNAVAILABLE */
};
extern struct queue_maker queue_rig_memory;
extern struct queue_maker queue_rig_local;

struct queue_rig {
    const struct queue_maker *maker;
    struct kit kit;
    struct queue *queue;
    struct consumer *consumer;
    struct batch batch; /* of that consumer */
};

/* cmocka's fixtures; the maker is what *state is at first. */
int queue_rig_set_up(void **state);
int queue_rig_tear_down(void **state);

/* As after a stop of the process: what it held is forgotten. */
void queue_rig_reopen(struct queue_rig *r);
/* Decides what is still undecided in the rig's batch, settles and empties it. */
void queue_rig_settle(struct queue_rig *r, enum event_state state);
struct consumer *queue_rig_another_consumer(struct queue_rig *r); /* the test closes it */
void queue_rig_assert_nothing_to_take(struct queue_rig *r);

#define QUEUE_TEST(test)                                                                           \
    {                                                                                              \
#test, test, queue_rig_set_up, queue_rig_tear_down, NULL                                   \
    }

#endif
