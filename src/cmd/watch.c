#include "cmd/watch.h"

#include "buf.h"
#include "mailbox.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct line {
    struct mail mail;
    enum event_state state;
    bool conflict;
    size_t id_len;
    char id[EVENT_ID_MAX];
    char reason[96];
};

struct watch {
    int fd;
    bool on;
    struct mailbox *lines; /* bounded: WATCH_LINES between two refills of `left` */
    _Atomic int left;      /* lines that may still be made in this second */
    _Atomic uint64_t unseen[EVENT_DEAD + 1]; /* events without a line, by state */
    int64_t next_second_ms;
};

struct watch *
watch_open(int fd)
{
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->fd = fd;
    w->on = isatty(fd) == 1;
    w->left = WATCH_LINES;
    w->lines = mailbox_open(SIZE_MAX, (size_t)2 * WATCH_LINES, NULL, NULL);
    if (w->lines == NULL) {
        free(w);
        return NULL;
    }
    return w;
}

void
watch_event(void *data, const struct delivery *d)
{
    struct watch *w = data;
    if (!w->on) {
        return;
    }
    struct line *line = atomic_load(&w->left) > 0 ? malloc(sizeof *line) : NULL;
    if (line == NULL) {
        atomic_fetch_add(&w->unseen[d->state], 1);
        return;
    }
    atomic_fetch_sub(&w->left, 1);
    struct span id = event_id(d->ev);
    *line = (struct line){.state = d->state, .conflict = d->conflict, .id_len = id.len};
    memcpy(line->id, id.at, id.len);
    memcpy(line->reason, d->reason, sizeof line->reason);
    if (mailbox_post(w->lines, &line->mail) != OK) {
        atomic_fetch_add(&w->unseen[d->state], 1);
        free(line);
    }
}

/* An id is a client's text: what a terminal would take for a command becomes '?'. C1 controls are 0xC2 0x80 … 0x9F in UTF-8. */
static void
add_id(struct buf *out, struct line *line)
{
    for (size_t i = 0; i < line->id_len; i++) {
        unsigned char c = (unsigned char)line->id[i];
        unsigned char next = i + 1 < line->id_len ? (unsigned char)line->id[i + 1] : 0;
        bool c1 = c == 0xC2 && next >= 0x80 && next <= 0x9F;
        i += c1;
        buf_add(out, c < 0x20 || c == 0x7F || c1 ? "?" : &line->id[i], 1);
    }
}

static void
print(const struct watch *w, struct buf *out)
{
    if (buf_ok(out) && out->len > 0 && write(w->fd, out->at, out->len) < 0) {
        /* the terminal is gone: nothing depends on it */
    }
}

static void
print_lines(struct watch *w)
{
    struct buf out;
    buf_init(&out, 65536);
    struct mail_list list = mailbox_take(w->lines, SIZE_MAX, SIZE_MAX, 0);
    struct line *line;
    while ((line = (struct line *)mail_list_pop(&list)) != NULL) {
        buf_addf(&out, "%-9s ", event_state_name(line->state));
        add_id(&out, line);
        if (line->conflict) {
            buf_add_text(&out, " (with another payload: the first one was kept)");
        }
        if (line->state == EVENT_DEAD) {
            buf_addf(&out, " (%s)", line->reason);
        }
        buf_add_text(&out, "\n");
        free(line);
    }
    print(w, &out);
    buf_fini(&out);
}

static void
print_summary(struct watch *w)
{
    uint64_t processed = atomic_exchange(&w->unseen[EVENT_PROCESSED], 0);
    uint64_t duplicate = atomic_exchange(&w->unseen[EVENT_DUPLICATE], 0);
    uint64_t dead = atomic_exchange(&w->unseen[EVENT_DEAD], 0);
    if (processed + duplicate + dead == 0) {
        return;
    }
    struct buf out;
    buf_init(&out, 1024);
    buf_addf(&out, "… and %llu processed, %llu duplicate, %llu dead in this second\n",
             (unsigned long long)processed, (unsigned long long)duplicate,
             (unsigned long long)dead);
    print(w, &out);
    buf_fini(&out);
}

void
watch_tick(struct watch *w, int64_t mono_ms)
{
    if (!w->on) {
        return;
    }
    print_lines(w);
    if (mono_ms >= w->next_second_ms) {
        w->next_second_ms = mono_ms + 1000;
        print_summary(w);
        atomic_store(&w->left, WATCH_LINES);
    }
}

void
watch_close(struct watch *w)
{
    if (w == NULL) {
        return;
    }
    print_lines(w);
    print_summary(w);
    mailbox_close(w->lines);
    free(w);
}
