/* sim_check.c - the checker: the books against the effects. */
#include "sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IDS_MAX 512

struct tally {
    unsigned effects;
    unsigned payload; /* number of the publish whose payload the effect has */
    bool acknowledged;
    unsigned first;     /* publish of this id that was noted first, and … */
    unsigned first_ack; /* … that was acknowledged first */
    bool invoked;
};

struct count {
    struct tally of[IDS_MAX];
    unsigned unexpected;
};

static void
read_books(struct sim *s, struct count *c)
{
    char path[128];
    char what = 0;
    unsigned id = 0;
    unsigned number = 0;
    sim_path(s, path, sizeof path, "books");
    FILE *f = fopen(path, "r");
    while (f != NULL && fscanf(f, " %c %u %u", &what, &id, &number) == 3) {
        assert_true(id < IDS_MAX);
        struct tally *t = &c->of[id];
        if (what == 'i' && !t->invoked) {
            t->invoked = true;
            t->first = number;
        } else if (what == 'a' && !t->acknowledged) {
            t->acknowledged = true;
            t->first_ack = number;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
}

/* The unsigned number right after `prefix`, or false. */
static bool
read_number(unsigned *out, struct span text, const char *prefix)
{
    size_t skip = strlen(prefix);
    char digits[16] = "";
    if (text.len <= skip || memcmp(text.at, prefix, skip) != 0) {
        return false;
    }
    size_t n = text.len - skip < sizeof digits - 1 ? text.len - skip : sizeof digits - 1;
    memcpy(digits, text.at + skip, n);
    return sscanf(digits, "%u", out) == 1;
}

static void
count_effect(struct count *c, struct span id_text, struct span payload)
{
    unsigned id = 0;
    unsigned number = 0;
    if (!read_number(&id, id_text, "id-") || id >= IDS_MAX ||
        !read_number(&number, payload, "{\"n\":")) {
        c->unexpected++;
        return;
    }
    if (c->of[id].effects == 0 || number < c->of[id].payload) {
        c->of[id].payload = number;
    }
    c->of[id].effects++;
}

static void
count_rows(struct sim *s, struct count *c)
{
    struct mailbox *answers = mailbox_open(0, 0, NULL, NULL);
    struct question *q = calloc(1, sizeof *q);
    assert_true(answers != NULL && q != NULL);
    q->kind = QUESTION_LIST;
    q->since_ms = INT64_MIN;
    q->until_ms = INT64_MAX;
    q->limit = HISTORY_LIMIT_MAX;
    q->reply_to = answers;
    while (true) {
        assert_int_equal(store_ask(s->kit.store, q), OK);
        assert_ptr_equal(mailbox_take(answers, 1, SIZE_MAX, KIT_DEADLINE_MS).first, q);
        assert_int_equal(q->result, OK);
        for (size_t i = 0; i < q->n; i++) {
            if (q->rows[i].state == EVENT_PROCESSED) {
                count_effect(c, event_id(q->rows[i].ev), event_payload(q->rows[i].ev));
            }
            event_free(q->rows[i].ev);
        }
        free(q->rows);
        q->rows = NULL;
        q->n = 0;
        if (q->next_seq == 0) {
            break;
        }
        q->before_seq = q->next_seq;
    }
    question_free(q);
    mailbox_close(answers);
}

/* Half a line is what a crash left: no effect, and no error. */
static void
count_lines(struct sim *s, struct count *c)
{
    char path[128];
    char *line = NULL;
    size_t size = 0;
    sim_path(s, path, sizeof path, "effects");
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    ssize_t len = getline(&line, &size, f);
    while (len >= 0) {
        char *payload = strstr(line, "\"payload\":");
        bool whole = len > 3 && strcmp(line + len - 3, "\"}\n") == 0;
        if (strncmp(line, "{\"event_id\":\"id-", 16) == 0 && payload != NULL && whole) {
            count_effect(c, span_of(line + 13), span_of(payload + 10));
        }
        len = getline(&line, &size, f);
    }
    free(line);
    fclose(f);
}

/* The first accepted publish of an id is the one whose payload is kept. One that was noted but
 * never acknowledged may have been accepted, so: not before the first noted, not after the first
 * acknowledged. */
static void
judge(struct sim_verdict *v, const struct tally *t)
{
    v->acknowledged += t->acknowledged;
    v->effects += t->effects;
    v->lost += t->acknowledged && t->effects == 0;
    v->doubled += t->effects > 1 ? t->effects - 1 : 0;
    if (t->effects > 0) {
        v->unexpected +=
            !t->invoked || t->payload < t->first || (t->acknowledged && t->payload > t->first_ack);
    }
}

struct sim_verdict
sim_finish_and_count(struct sim *s)
{
    struct sim_verdict v = {0};
    struct count *c = calloc(1, sizeof *c);
    assert_non_null(c);
    kit_disarm(&s->kit);
    sim_open(s);
    sim_deliver_all(s);
    v.left = (unsigned)kit_depth(s->queue);
    read_books(s, c);
    if (s->plan.mode == SIM_LOG) {
        count_lines(s, c);
    } else {
        count_rows(s, c);
    }
    sim_close(s);
    v.unexpected = c->unexpected;
    for (size_t i = 0; i < IDS_MAX; i++) {
        judge(&v, &c->of[i]);
    }
    free(c);
    return v;
}

void
sim_check(struct sim *s, const struct sim_verdict *v, unsigned may_double, const char *what)
{
    if (v->lost > 0 || v->unexpected > 0 || v->left > 0 || v->doubled > may_double) {
        fail_msg("seed %llu, mode %d, %s: acknowledged %u, effects %u, lost %u, doubled %u, "
                 "unexpected %u, left %u (kept in %s)",
                 (unsigned long long)s->plan.seed, (int)s->plan.mode, what, v->acknowledged,
                 v->effects, v->lost, v->doubled, v->unexpected, v->left, s->kit.folder);
    }
}
