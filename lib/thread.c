#include "thread.h"

#include <signal.h>
#include <stdlib.h>

struct start {
    thread_main *main;
    void *data;
};

/* A thread needs little stack: every buffer of ours lives on the heap or is small. */
#define STACK_BYTES ((size_t)512 * 1024)

static void *
run(void *data)
{
    struct start s = *(struct start *)data;
    free(data);
    s.main(s.data);
    return NULL;
}

enum err
thread_start(struct thread *t, const char *name, thread_main *main, void *data)
{
    struct start *s = malloc(sizeof *s);
    if (s == NULL) {
        return ERR_NOMEM;
    }
    *s = (struct start){main, data};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int rc = pthread_create(&t->id, &attr, run, s);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(s);
        return ERR_NOMEM;
    }
    pthread_setname_np(t->id, name);
    t->running = true;
    return OK;
}

void
thread_join(struct thread *t)
{
    if (t->running) {
        pthread_join(t->id, NULL);
        t->running = false;
    }
}
