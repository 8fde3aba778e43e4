/* history_none.c - the history of a sink that cannot be asked: every answer says so. */
#include "history/history.h"

#include "mailbox.h"

#include <stdlib.h>

/* Answered at once, but it arrives when the asker's loop next looks: never inside this call. */
static enum err
none_ask(struct history *h, struct question *q)
{
    (void)h;
    q->result = ERR_UNAVAILABLE;
    q->why = "this API cannot read where events are stored: name it with --sink";
    mailbox_post_reply(q->reply_to, &q->reply.mail); /* the asker's again */
    return OK;
}

static void
none_close(struct history *h)
{
    free(h);
}

static const struct history_ops none_ops = {.name = "none", .ask = none_ask, .close = none_close};

enum err
history_none_open(struct history **out)
{
    struct history *h = calloc(1, sizeof *h);
    if (h == NULL) {
        return ERR_NOMEM;
    }
    h->ops = &none_ops;
    *out = h;
    return OK;
}
