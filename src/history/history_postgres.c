/* history_postgres.c - the history that the PostgreSQL sink keeps: one thread, one read-only
 * connection, questions one after the other. */
#include "history/history.h"

#include "config.h"
#include "env.h"
#include "postgres/postgres.h"
#include "thread.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_MS 1000
#define WAITING_MAX 1024      /* questions */
#define AWAY_MS INT64_C(1000) /* after a failure, questions are not even asked */

struct history_postgres {
    struct history base;
    struct env *env;
    struct pg *pg; /* the thread's, once it runs */
    struct mailbox *questions;
    struct thread thread;
    int64_t away_until_ms;
};

/* One question that waits for a server that is away must not make those behind it wait, too. */
static enum err
answer(struct history_postgres *h, struct question *q)
{
    if (h->env->mono_ms(h->env) < h->away_until_ms) {
        q->why = "PostgreSQL cannot be reached or does not answer";
        return ERR_UNAVAILABLE;
    }
    enum err e = pg_answer(h->pg, q);
    if (e == ERR_UNAVAILABLE && !pg_is_connected(h->pg)) {
        h->away_until_ms = h->env->mono_ms(h->env) + AWAY_MS;
    }
    return e;
}

static void
run(void *data)
{
    struct history_postgres *h = data;
    for (;;) {
        struct mail_list list = mailbox_take(h->questions, 1, SIZE_MAX, -1);
        struct question *q = (struct question *)mail_list_pop(&list);
        if (q == NULL) {
            return; /* shut, and nothing is left */
        }
        q->result = answer(h, q);
        mailbox_post_reply(q->reply_to, &q->reply.mail); /* now the asker's */
    }
}

static enum err
postgres_ask(struct history *history, struct question *q)
{
    struct history_postgres *h = (struct history_postgres *)history;
    q->rows = NULL;
    q->n = 0;
    q->next_seq = 0;
    q->why = "";
    return mailbox_post(h->questions, &q->reply.mail);
}

static void
postgres_close(struct history *history)
{
    struct history_postgres *h = (struct history_postgres *)history;
    if (h == NULL) {
        return;
    }
    if (h->questions != NULL) {
        mailbox_shut(h->questions);
    }
    thread_join(&h->thread);
    mailbox_close(h->questions);
    pg_close(h->pg);
    free(h);
}

enum err
history_postgres_open(struct history **out, const struct config *cfg, struct env *env, char *why,
                      size_t why_size)
{
    static const struct history_ops ops = {"postgresql", postgres_ask, postgres_close};
    struct history_postgres *h = calloc(1, sizeof *h);
    if (h == NULL) {
        snprintf(why, why_size, "out of memory");
        return ERR_NOMEM;
    }
    *h = (struct history_postgres){.base = {&ops}, .env = env};
    h->questions = mailbox_open(SIZE_MAX, WAITING_MAX, NULL, NULL);
    enum err e = h->questions == NULL ? ERR_NOMEM : OK;
    if (e == OK) {
        e = pg_open(&h->pg, cfg->sink, ANSWER_MS, true, env, why, why_size);
    }
    if (e == OK) {
        e = thread_start(&h->thread, "history", run, h);
    }
    if (e != OK) {
        postgres_close(&h->base);
        return e;
    }
    *out = &h->base;
    return OK;
}
