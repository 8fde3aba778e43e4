#include "mailbox.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct mail_list list;
    size_t max_bytes;
    size_t max_count;
    mailbox_wake *wake;
    void *data;
    unsigned waiting; /* takers inside pthread_cond_wait */
    bool nudged;
    bool shut;
};

struct mailbox *
mailbox_open(size_t max_bytes, size_t max_count, mailbox_wake *wake, void *data)
{
    struct mailbox *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return NULL;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->arrived, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&m->lock, NULL);
    m->max_bytes = max_bytes;
    m->max_count = max_count;
    m->wake = wake;
    m->data = data;
    return m;
}

void
mailbox_close(struct mailbox *m)
{
    if (m == NULL) {
        return;
    }
    assert(m->list.first == NULL && m->waiting == 0);
    pthread_cond_destroy(&m->arrived);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* Appends the whole of *list and empties it; wakes who waits. */
static enum err
post(struct mailbox *m, struct mail_list *list, bool bounded)
{
    pthread_mutex_lock(&m->lock);
    bool full =
        m->list.count + list->count > m->max_count || m->list.bytes + list->bytes > m->max_bytes;
    if (bounded && (m->shut || full)) {
        bool shut = m->shut;
        pthread_mutex_unlock(&m->lock);
        return shut ? ERR_STOPPING : ERR_BUSY;
    }
    bool was_empty = m->list.first == NULL;
    if (was_empty) {
        m->list = *list;
    } else {
        m->list.last->next = list->first;
        m->list.last = list->last;
        m->list.count += list->count;
        m->list.bytes += list->bytes;
    }
    mailbox_wake *wake = was_empty ? m->wake : NULL;
    void *data = m->data;
    /* Under the lock: once it is free, a taker may have taken its answer and closed the box. */
    if (m->waiting > 0) {
        pthread_cond_signal(&m->arrived);
    }
    pthread_mutex_unlock(&m->lock);
    *list = (struct mail_list){0};
    if (wake != NULL) {
        wake(data);
    }
    return OK;
}

enum err
mailbox_post(struct mailbox *m, struct mail *mail)
{
    struct mail_list one = {0};
    mail_list_add(&one, mail);
    return post(m, &one, true);
}

void
mailbox_post_replies(struct mailbox *m, struct mail_list *list)
{
    if (list->first != NULL) {
        enum err e = post(m, list, false);
        assert(e == OK);
        (void)e;
    }
}

void
mailbox_post_reply(struct mailbox *m, struct mail *mail)
{
    struct mail_list one = {0};
    mail_list_add(&one, mail);
    mailbox_post_replies(m, &one);
}

enum err
mailbox_post_list(struct mailbox *m, struct mail_list *list)
{
    return list->first == NULL ? OK : post(m, list, true);
}

static void
wait_for_mail(struct mailbox *m, int wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    m->waiting++;
    int rc = 0;
    while (m->list.first == NULL && !m->nudged && !m->shut && rc != ETIMEDOUT) {
        rc = wait_ms < 0 ? pthread_cond_wait(&m->arrived, &m->lock)
                         : pthread_cond_timedwait(&m->arrived, &m->lock, &until);
    }
    m->waiting--;
}

struct mail_list
mailbox_take(struct mailbox *m, size_t max_count, size_t max_bytes, int wait_ms)
{
    struct mail_list taken = {0};
    pthread_mutex_lock(&m->lock);
    if (m->list.first == NULL && !m->nudged && !m->shut && wait_ms != 0) {
        wait_for_mail(m, wait_ms);
    }
    m->nudged = false;
    if (m->list.count <= max_count && m->list.bytes <= max_bytes) {
        taken = m->list;
        m->list = (struct mail_list){0};
    } else {
        while (m->list.first != NULL && taken.count < max_count &&
               (taken.count == 0 || taken.bytes + m->list.first->bytes <= max_bytes)) {
            mail_list_add(&taken, mail_list_pop(&m->list));
        }
    }
    /* one signal may have stood for several mails: pass it on */
    if (m->list.first != NULL && m->waiting > 0) {
        pthread_cond_signal(&m->arrived);
    }
    pthread_mutex_unlock(&m->lock);
    return taken;
}

void
mailbox_nudge(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    m->nudged = true;
    pthread_cond_signal(&m->arrived);
    pthread_mutex_unlock(&m->lock);
}

void
mailbox_shut(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    m->shut = true;
    pthread_cond_broadcast(&m->arrived);
    pthread_mutex_unlock(&m->lock);
}

size_t
mailbox_bytes(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    size_t n = m->list.bytes;
    pthread_mutex_unlock(&m->lock);
    return n;
}

size_t
mailbox_count(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    size_t n = m->list.count;
    pthread_mutex_unlock(&m->lock);
    return n;
}
