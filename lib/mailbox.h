/* mailbox.h - how one thread hands work to another: a bounded list under a lock.
 * Contract: posting moves ownership of the mail to whoever takes it. First in, first out. The
 *           wake callback runs on the posting thread, outside the lock, when the box goes from
 *           empty to not empty: it must only nudge the reader (uv_async_send), never read.
 * Bounds:   max_bytes and max_count, counted over what waits; a post over them is ERR_BUSY and
 *           changes nothing. mailbox_post_reply ignores the bounds: a reply's room was reserved
 *           when its request was posted.
 * Threads:  any number of posters and takers. */
#ifndef WEIR_MAILBOX_H
#define WEIR_MAILBOX_H

#include "err.h"

#include <stddef.h>
#include <stdint.h>

/* Embedded first in what is sent. `bytes` is what it counts against the bound. */
struct mail {
    struct mail *next;
    size_t bytes;
};

struct mail_list {
    struct mail *first;
    struct mail *last;
    size_t count;
    size_t bytes;
};

/* A mail that knows what to do where it arrives: the loop that takes it calls on_arrival on its own
 * thread. */
struct reply {
    struct mail mail;
    void (*on_arrival)(struct reply *r);
};

struct mailbox;
typedef void mailbox_wake(void *data);

struct mailbox *mailbox_open(size_t max_bytes, size_t max_count, mailbox_wake *wake,
                             void *data); /* NULL: no memory */
void mailbox_close(struct mailbox *m);    /* NULL ok; must be empty */

enum err mailbox_post(struct mailbox *m,
                      struct mail *mail) MUST_CHECK; /* OK, ERR_BUSY, ERR_STOPPING after shut */
void mailbox_post_reply(struct mailbox *m, struct mail *mail);
void mailbox_post_replies(struct mailbox *m, struct mail_list *list); /* list emptied */
enum err mailbox_post_list(struct mailbox *m,
                           struct mail_list *list) MUST_CHECK; /* all or none; list emptied on OK */
/* Waits up to wait_ms (0: not, -1: for ever) for something, then moves out up to max_count mails,
 * and no more than max_bytes beyond the first. Empty when the time ran out, after mailbox_shut, or
 * after mailbox_nudge. */
struct mail_list mailbox_take(struct mailbox *m, size_t max_count, size_t max_bytes, int wait_ms);
void mailbox_nudge(struct mailbox *m); /* wakes one waiting taker though nothing is there */
void mailbox_shut(struct mailbox *m); /* posts are refused from now on, takers stop waiting; what is
                                         inside stays takeable */
size_t mailbox_bytes(struct mailbox *m); /* what waits now */
size_t mailbox_count(struct mailbox *m);

static inline void
mail_list_add(struct mail_list *list, struct mail *mail)
{
    mail->next = NULL;
    if (list->last != NULL) {
        list->last->next = mail;
    } else {
        list->first = mail;
    }
    list->last = mail;
    list->count++;
    list->bytes += mail->bytes;
}

static inline struct mail *
mail_list_pop(struct mail_list *list)
{
    struct mail *mail = list->first;
    if (mail != NULL) {
        list->first = mail->next;
        if (list->first == NULL) {
            list->last = NULL;
        }
        list->count--;
        list->bytes -= mail->bytes;
        mail->next = NULL;
    }
    return mail;
}

#endif
