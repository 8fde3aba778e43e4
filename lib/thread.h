/* thread.h - start and join a named thread. Signals are blocked in it: only the main thread
 * handles them. */
#ifndef WEIR_THREAD_H
#define WEIR_THREAD_H

#include "err.h"

#include <pthread.h>
#include <stdbool.h>

struct thread {
    pthread_t id;
    bool running;
};

typedef void thread_main(void *data);

enum err thread_start(struct thread *t, const char *name, thread_main *main,
                      void *data) MUST_CHECK; /* name: 15 bytes */
void thread_join(struct thread *t);           /* a thread that was never started is fine */

#endif
