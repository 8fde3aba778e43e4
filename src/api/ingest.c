/* ingest.c - POST /events: one event, a JSON array of events, or NDJSON.
 *
 * The way of a request: check the media type, parse, publish the valid events in one go, return
 * to the loop; answer when the queue's reply arrives.
 *
 * 1. Nothing answers 202 but answer(), and only where the queue said OK.
 * 2. The events belong to the request until publish() is OK, to the queue from then on.
 * 3. A batch names each item that was not accepted: its index always, its errors for the first
 *    REJECTED_DETAILS_MAX, so that an answer stays small whatever was sent. */
#include "api/loop.h"
#include "api/problem.h"
#include "api/route.h"

#include <stdio.h>
#include <stdlib.h>

#define REJECTED_DETAILS_MAX 100
#define REJECTED_DETAIL_BYTES 16384 /* of one item's errors, escaped */
#define REJECTED_INDEX_BYTES 32     /* of {"index":…}, */

/* One POST from its body to its answer. */
struct ingest {
    struct publish publish; /* first: its reply is where we come back */
    struct exchange *x;
    size_t max_batch;
    size_t seen; /* items */
    size_t rejected;
    struct buf rejected_list; /* what stands between the brackets of "rejected" */
    bool is_batch;
    bool too_many;
    struct span id; /* of a single event, in id_bytes: the event itself is the queue's */
    char id_bytes[EVENT_ID_MAX];
};

static const struct api_parts *
parts_of(const struct exchange *x)
{
    return x->loop->parts;
}

static void
free_events(struct ingest *in)
{
    struct mail *mail;
    while ((mail = mail_list_pop(&in->publish.events)) != NULL) {
        event_free((struct event *)mail);
    }
}

/* Before publish() was OK. */
static void
ingest_free(struct ingest *in)
{
    free_events(in);
    buf_fini(&in->rejected_list);
    free(in);
}

/* What is written about one item that was not accepted. */
static void
add_rejected(struct ingest *in, size_t index, struct span id, const struct event_errors *errors)
{
    struct buf *list = &in->rejected_list;
    in->rejected++;
    buf_addf(list, "%s{\"index\":%zu", in->rejected > 1 ? "," : "", index);
    if (in->rejected <= REJECTED_DETAILS_MAX) {
        if (id.len > 0) {
            buf_add_text(list, ",\"event_id\":");
            buf_add_json_string(list, id);
        }
        buf_add_text(list, ",");
        problem_write_errors(list, errors);
    }
    buf_add_text(list, "}");
}

/* A body on its way through the parser. */
struct collecting {
    struct ingest *in;
    struct event_errors errors; /* of the body, or of the only event in it */
};

static void
on_item(void *data, size_t index, struct event *ev, struct span id,
        const struct event_errors *errors)
{
    struct collecting *c = data;
    struct ingest *in = c->in;
    if (index >= in->max_batch) {
        in->too_many = true;
        event_free(ev);
        event_parser_stop(in->x->loop->parser);
        return;
    }
    in->seen++;
    if (ev != NULL) {
        mail_list_add(&in->publish.events, &ev->mail);
    } else if (in->is_batch) {
        add_rejected(in, index, id, errors);
    } else {
        in->rejected++;
        c->errors = *errors;
    }
}

static struct span
trim(struct span s)
{
    while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s.at++;
        s.len--;
    }
    while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* Splits at the first `by`: returns what stands before it, leaves in *rest what stands after. */
static struct span
cut(struct span *rest, char by)
{
    const char *at = rest->len == 0 ? NULL : memchr(rest->at, by, rest->len);
    struct span first = *rest;
    if (at == NULL) {
        *rest = (struct span){0};
        return trim(first);
    }
    first.len = (size_t)(at - first.at);
    rest->at = at + 1;
    rest->len -= first.len + 1;
    return trim(first);
}

static bool
is_utf8_name(struct span value)
{
    return span_eq_nocase(value, SPAN("utf-8")) || span_eq_nocase(value, SPAN("\"utf-8\"")) ||
           span_eq_nocase(value, SPAN("utf8"));
}

/* NULL and *format, or why the request is refused with 415. */
static const char *
check_media_type(const struct http_request *r, enum event_format *format)
{
    struct span rest = http_request_field(r, "content-type");
    struct span type = cut(&rest, ';');
    if (span_eq_nocase(type, SPAN("application/json"))) {
        *format = EVENT_FORMAT_JSON;
    } else if (span_eq_nocase(type, SPAN("application/x-ndjson"))) {
        *format = EVENT_FORMAT_NDJSON;
    } else {
        return "expected Content-Type: application/json or application/x-ndjson";
    }
    while (rest.len > 0) {
        struct span value = cut(&rest, ';');
        struct span name = cut(&value, '=');
        if (span_eq_nocase(name, SPAN("charset")) && !is_utf8_name(trim(value))) {
            return "expected the charset utf-8, or none";
        }
    }
    struct span coding = http_request_field(r, "content-encoding");
    if (coding.at != NULL && !span_eq_nocase(coding, SPAN("identity"))) {
        return "a Content-Encoding is not supported; expected identity, or none";
    }
    return NULL;
}

/* Why the queue took nothing, for people. */
static const char *
refusal(enum err e)
{
    switch (e) {
    case ERR_BUSY:
        return "too busy: the mailbox of events that wait for the next commit is full";
    case ERR_QUEUE_FULL:
        return "the queue is full";
    case ERR_DISK_FULL:
        return "the disk is full, or nearly so";
    case ERR_UNAVAILABLE:
        return "the queue cannot be reached";
    case ERR_STOPPING:
        return "the server is stopping";
    default:
        return err_text(e);
    }
}

static void
reply_refused(struct exchange *x, enum err e, size_t events)
{
    struct queue *queue = parts_of(x)->queue;
    struct queue_status status = {0};
    queue->ops->status(queue, &status);
    stats_add(&parts_of(x)->stats->refused, events);
    problem_reply_retry(x, refusal(e), status.retry_after_s > 0 ? status.retry_after_s : 1);
}

static void
write_accepted(struct buf *out, const struct ingest *in)
{
    if (in->is_batch) {
        buf_addf(out, "{\"accepted\":%zu,\"rejected\":[", in->publish.count);
        buf_add_span(out, buf_span(&in->rejected_list));
        buf_add_text(out, "]");
        if (in->rejected > 0) {
            buf_addf(out, ",\"rejected_count\":%zu", in->rejected);
        }
    } else {
        buf_add_text(out, "{\"event_id\":");
        buf_add_json_string(out, in->id);
    }
    buf_addf(out, ",\"durability\":\"%s\"}", durability_name(in->publish.durability));
}

static void
answer(struct ingest *in)
{
    if (in->publish.result != OK) {
        reply_refused(in->x, in->publish.result, in->publish.count);
        return;
    }
    stats_add(&parts_of(in->x)->stats->accepted, in->publish.count);
    struct buf body;
    buf_init(&body, in->rejected_list.len + 1024);
    write_accepted(&body, in);
    if (buf_ok(&body)) {
        exchange_reply(in->x, 202, "application/json", buf_span(&body));
    } else { /* they are accepted; sending them again is harmless */
        problem_reply_retry(in->x, err_text(ERR_NOMEM), 1);
    }
    buf_fini(&body);
}

static void
on_published(struct reply *reply)
{
    struct ingest *in = (struct ingest *)reply;
    answer(in);
    ingest_free(in);
}

/* Keeps what the answer needs and gives the events to the queue. */
static void
publish(struct ingest *in)
{
    const struct api_parts *parts = parts_of(in->x);
    struct publish *p = &in->publish;
    const struct event *first = (const struct event *)p->events.first;
    in->id = event_id(first);
    memcpy(in->id_bytes, in->id.at, in->id.len);
    in->id.at = in->id_bytes;
    p->reply.on_arrival = on_published;
    p->reply.mail.bytes = p->events.bytes;
    p->count = p->events.count;
    p->reply_to = in->x->loop->replies;
    enum err e = parts->queue->ops->publish(parts->queue, p); /* now the queue's, if OK */
    if (e != OK) {
        reply_refused(in->x, e, p->count);
        ingest_free(in);
    }
}

static void
reply_all_rejected(const struct ingest *in)
{
    struct buf body;
    buf_init(&body, in->rejected_list.len + 1024);
    problem_write(&body, 400, "no event of the batch is valid", NULL);
    if (body.len > 0) {
        body.len--; /* the brace: RFC 9457 allows members of our own */
    }
    buf_add_text(&body, ",\"rejected\":[");
    buf_add_span(&body, buf_span(&in->rejected_list));
    buf_addf(&body, "],\"rejected_count\":%zu}", in->rejected);
    if (buf_ok(&body)) {
        exchange_reply(in->x, 400, "application/problem+json", buf_span(&body));
    } else {
        problem_reply_retry(in->x, err_text(ERR_NOMEM), 1);
    }
    buf_fini(&body);
}

static void
reply_too_many(const struct ingest *in)
{
    char detail[80];
    snprintf(detail, sizeof detail, "the batch has more than %zu events; send it in parts",
             in->max_batch);
    problem_reply(in->x, 413, detail, NULL);
}

/* Answers everything that ends before the queue. False: go on and publish. */
static bool
reply_early(const struct ingest *in, enum err parsed, const struct event_errors *errors)
{
    struct exchange *x = in->x;
    struct stats *stats = parts_of(x)->stats;
    if (parsed == ERR_NOMEM || !buf_ok(&in->rejected_list)) {
        reply_refused(x, ERR_NOMEM, in->seen > 0 ? in->seen : 1);
    } else if (parsed != OK) {
        stats_add(&stats->rejected, 1);
        problem_reply(x, 400, "the body cannot be read", errors);
    } else if (in->too_many) {
        reply_too_many(in);
    } else if (in->seen == 0) {
        problem_reply(x, 400, "the batch is empty; expected at least one event", NULL);
    } else {
        stats_add(&stats->rejected, in->rejected);
        if (in->rejected < in->seen) {
            return false;
        }
        if (in->is_batch) {
            reply_all_rejected(in);
        } else {
            problem_reply(x, errors->too_large ? 413 : 400, "the event is not valid", errors);
        }
    }
    return true;
}

static struct ingest *
ingest_new(struct exchange *x)
{
    struct ingest *in = calloc(1, sizeof *in);
    if (in == NULL) {
        return NULL;
    }
    in->x = x;
    in->max_batch = (size_t)parts_of(x)->cfg->http_max_batch;
    buf_init(&in->rejected_list, (size_t)REJECTED_DETAILS_MAX * REJECTED_DETAIL_BYTES +
                                     in->max_batch * REJECTED_INDEX_BYTES);
    return in;
}

void
ingest_post(struct exchange *x)
{
    enum event_format format;
    const char *unsupported = check_media_type(x->request, &format);
    if (unsupported != NULL) {
        exchange_header(x, "Accept-Post", "application/json, application/x-ndjson");
        exchange_header(x, "Accept-Encoding", "identity");
        problem_reply(x, 415, unsupported, NULL);
        return;
    }
    struct collecting c;
    c.in = ingest_new(x);
    if (c.in == NULL) {
        reply_refused(x, ERR_NOMEM, 1);
        return;
    }
    enum err e = event_parse_body(x->loop->parser, x->request->body, format, &c.in->is_batch,
                                  &c.errors, on_item, &c);
    if (reply_early(c.in, e, &c.errors)) {
        ingest_free(c.in);
        return;
    }
    publish(c.in);
}
