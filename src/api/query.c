/* query.c - GET /events and GET /events/{event_id}: what became of events.
 * The question goes to the history, which answers on the loop; nothing waits here. */
#include "api/loop.h"
#include "api/problem.h"
#include "api/route.h"
#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LIMIT_DEFAULT 50
#define CURSOR_LEN 16   /* hex digits */
#define PARAM_MAX 127   /* bytes of a query parameter */
#define FATE_BYTES 2048 /* of a row's state, times and reasons */

/* question_free frees it whole: the question comes first. */
struct query {
    struct question question;
    struct exchange *x;
};

static struct query *
query_new(struct exchange *x, enum question_kind kind, void (*on_answer)(struct reply *r))
{
    struct query *q = calloc(1, sizeof *q);
    if (q == NULL) {
        problem_reply_retry(x, err_text(ERR_NOMEM), 1);
        return NULL;
    }
    q->x = x;
    q->question.kind = kind;
    q->question.reply.on_arrival = on_answer;
    q->question.reply.mail.bytes = sizeof *q;
    q->question.reply_to = x->loop->replies;
    return q;
}

static void
ask(struct query *q)
{
    struct history *h = q->x->loop->parts->history;
    enum err e = h->ops->ask(h, &q->question); /* now the history's, if OK */
    if (e != OK) {
        problem_reply_retry(q->x, e == ERR_BUSY ? "too many questions wait" : err_text(e), 1);
        question_free(&q->question);
    }
}

/* Anything but a found answer. False: there is one. */
static bool
reply_failed(struct query *q)
{
    switch (q->question.result) {
    case OK:
        return false;
    case ERR_NOT_FOUND:
        problem_reply(q->x, 404, "no event has this id", NULL);
        return true;
    case ERR_UNAVAILABLE:
        problem_reply_retry(q->x, q->question.why != NULL ? q->question.why : "no answer in time",
                            1);
        return true;
    default:
        problem_reply_retry(q->x, err_text(q->question.result), 1);
        return true;
    }
}

static void
reply_json(struct exchange *x, const struct buf *body)
{
    if (buf_ok(body)) {
        exchange_reply(x, 200, "application/json", buf_span(body));
    } else {
        problem_reply_retry(x, err_text(ERR_NOMEM), 1);
    }
}

/* ,"name":"2026-…" */
static void
add_time(struct buf *out, const char *name, int64_t ms)
{
    char text[CLOCK_RFC3339_MAX];
    clock_format_rfc3339(text, ms);
    buf_addf(out, ",\"%s\":\"%s\"", name, text);
}

/* The members that say what became of it, each with a comma before it. */
static void
add_fate(struct buf *out, const struct found *f)
{
    buf_addf(out, ",\"state\":\"%s\"", event_state_name(f->state));
    add_time(out, "accepted_at", f->ev->accepted_ms);
    if (f->state == EVENT_PROCESSED) {
        add_time(out, "processed_at", f->settled_ms);
    } else if (f->state == EVENT_DEAD) {
        add_time(out, "dead_at", f->settled_ms);
        buf_add_text(out, ",\"reason\":");
        buf_add_json_string(out, span_of(f->reason));
    }
}

static void
add_timeline(struct buf *out, const struct found *f)
{
    buf_addf(out, ",\"timeline\":[{\"state\":\"%s\"", event_state_name(EVENT_QUEUED));
    add_time(out, "at", f->ev->accepted_ms);
    if (f->durability != NULL) {
        buf_addf(out, ",\"durability\":\"%s\"", f->durability);
    }
    buf_add_text(out, "}");
    if (f->state != EVENT_QUEUED) {
        buf_addf(out, ",{\"state\":\"%s\"", event_state_name(f->state));
        add_time(out, "at", f->settled_ms);
        if (f->state == EVENT_DEAD) {
            buf_add_text(out, ",\"reason\":");
            buf_add_json_string(out, span_of(f->reason));
        }
        buf_add_text(out, "}");
    }
    buf_add_text(out, "]");
}

static void
add_found(struct buf *out, const struct found *f, bool with_timeline)
{
    struct buf extra;
    buf_init(&extra, FATE_BYTES);
    add_fate(&extra, f);
    if (with_timeline) {
        add_timeline(&extra, f);
    }
    event_write_json(out, f->ev, buf_span(&extra));
    out->failed |= extra.failed;
    buf_fini(&extra);
}

static void
on_shown(struct reply *reply)
{
    struct query *q = (struct query *)reply;
    if (!reply_failed(q)) {
        struct buf body;
        buf_init(&body, 0); /* one event and its fate */
        add_found(&body, &q->question.rows[0], true);
        reply_json(q->x, &body);
        buf_fini(&body);
    }
    question_free(&q->question);
}

void
query_show(struct exchange *x)
{
    if (x->param.len == 0 || x->param.len > EVENT_ID_MAX) {
        problem_reply(x, 404, "no event has this id", NULL);
        return;
    }
    struct query *q = query_new(x, QUESTION_ONE, on_shown);
    if (q == NULL) {
        return;
    }
    memcpy(q->question.id, x->param.at, x->param.len);
    q->question.id_len = x->param.len;
    ask(q);
}

static void
on_listed(struct reply *reply)
{
    struct query *q = (struct query *)reply;
    const struct question *asked = &q->question;
    if (!reply_failed(q)) {
        struct buf body;
        buf_init(&body, 0); /* the answer's rows are bounded, and they are in memory already */
        buf_add_text(&body, "{\"events\":[");
        for (size_t i = 0; i < asked->n; i++) {
            buf_add_text(&body, i > 0 ? "," : "");
            add_found(&body, &asked->rows[i], false);
        }
        buf_add_text(&body, "]");
        if (asked->next_seq != 0) {
            buf_addf(&body, ",\"next\":\"%0*" PRIx64 "\"", CURSOR_LEN, asked->next_seq);
        }
        buf_add_text(&body, "}");
        reply_json(q->x, &body);
        buf_fini(&body);
    }
    question_free(&q->question);
}

/* The parameters of a list. Each reads its text into the question, or says what it expected. */
typedef const char *read_param(struct question *q, char *text);

static const char *
read_type(struct question *q, char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > sizeof q->type) {
        return "expected an event type: 1 to 64 bytes";
    }
    memcpy(q->type, text, len);
    q->type_len = len;
    return NULL;
}

/* The + of an offset means a space in a query string, and no RFC 3339 time has one. */
static const char *
read_time(char *text, int64_t *out)
{
    for (char *at = text; *at != '\0'; at++) {
        if (*at == ' ') {
            *at = '+';
        }
    }
    return clock_parse_rfc3339(span_of(text), out);
}

static const char *
read_since(struct question *q, char *text)
{
    return read_time(text, &q->since_ms);
}

static const char *
read_until(struct question *q, char *text)
{
    return read_time(text, &q->until_ms);
}

static const char *
read_limit(struct question *q, char *text)
{
    size_t len = strspn(text, "0123456789");
    unsigned long n = len > 0 && len <= 4 && text[len] == '\0' ? strtoul(text, NULL, 10) : 0;
    if (n < 1 || n > HISTORY_LIMIT_MAX) {
        return "expected a number from 1 to 1000";
    }
    q->limit = n;
    return NULL;
}

static const char *
read_cursor(struct question *q, char *text)
{
    uint64_t seq = 0;
    if (strspn(text, "0123456789abcdef") == CURSOR_LEN && text[CURSOR_LEN] == '\0') {
        seq = strtoull(text, NULL, 16);
    }
    q->before_seq = seq;
    return seq == 0 ? "expected a cursor as a list gave it in \"next\"" : NULL;
}

static const struct param {
    const char *name;
    read_param *read;
} params[] = {
    {"type", read_type},   {"since", read_since},   {"until", read_until},
    {"limit", read_limit}, {"cursor", read_cursor},
};
#define PARAMS (sizeof params / sizeof *params)

static bool
is_param(struct span name)
{
    for (size_t i = 0; i < PARAMS; i++) {
        if (span_eq(name, span_of(params[i].name))) {
            return true;
        }
    }
    return false;
}

/* The first parameter that is not one of ours, or an empty span: a misspelt filter must not list
 * everything. */
static struct span
unknown_param(struct span query)
{
    const char *at = query.at;
    const char *end = at + query.len;
    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop == NULL ? end : stop;
        const char *eq = memchr(at, '=', (size_t)(stop - at));
        struct span name = {at, (size_t)((eq == NULL ? stop : eq) - at)};
        if (stop > at && !is_param(name)) {
            return name.len > 0 ? name : SPAN("=");
        }
        at = stop + 1;
    }
    return (struct span){0};
}

/* False: why is set. */
static bool
read_params(struct question *q, struct span query, char *why, size_t why_size)
{
    struct span unknown = unknown_param(query);
    if (unknown.len > 0) {
        snprintf(why, why_size,
                 "unknown parameter %.*s; expected type, since, until, limit, cursor",
                 unknown.len > 64 ? 64 : (int)unknown.len, unknown.at);
        return false;
    }
    for (size_t i = 0; i < PARAMS; i++) {
        char text[PARAM_MAX + 1];
        int given = http_query_get(query, params[i].name, text, sizeof text);
        const char *wrong = given > 0   ? params[i].read(q, text)
                            : given < 0 ? "is too long, given twice or badly encoded"
                                        : NULL;
        if (wrong != NULL) {
            snprintf(why, why_size, "%s: %s", params[i].name, wrong);
            return false;
        }
    }
    return true;
}

void
query_list(struct exchange *x)
{
    struct query *q = query_new(x, QUESTION_LIST, on_listed);
    if (q == NULL) {
        return;
    }
    q->question.since_ms = INT64_MIN;
    q->question.until_ms = INT64_MAX;
    q->question.limit = LIMIT_DEFAULT;
    char why[192];
    if (!read_params(&q->question, x->request->query, why, sizeof why)) {
        problem_reply(x, 400, why, NULL);
        question_free(&q->question);
        return;
    }
    ask(q);
}
