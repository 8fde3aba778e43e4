/* The handlers of /events, driven without a connection: the exchange, the queue and the history
 * are the test's. */
#include "api/loop.h"
#include "api/problem.h"
#include "api/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MEMBERS "\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00Z\",\"payload\":{\"a\":1}}"
#define GOOD(id) "{\"event_id\":\"" id "\"," MEMBERS
#define BAD(id) "{\"event_id\":\"" id "\",\"type\":\"T\",\"timestamp\":\"now\",\"payload\":{}}"
#define JSON "Content-Type: application/json\r\n"
#define NDJSON "Content-Type: application/x-ndjson\r\n"

struct fake {
    struct queue queue;     /* first: the operations find the rest */
    struct history history; /* found by its own offset */
    struct config cfg;
    struct stats stats;
    struct api_parts parts;
    struct api_loop loop;
    struct exchange x;
    struct http_request request;
    char *body_memory;
    /* the queue */
    enum err publish_fails;
    struct publish *published;
    /* the history */
    enum err ask_fails;
    struct question *asked;
    /* the answer */
    int answers;
    int status;
    char type[64];
    char headers[512];
    struct buf body;
};

static struct fake *the; /* exchange_reply has no other way to its test */

/* The allocation that fails, counted down; negative: none does. */
static long allocations_left = -1;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool
fails_now(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

void *
__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __real_realloc(p, size);
}

void
exchange_header(struct exchange *x, const char *name, const char *value)
{
    assert_ptr_equal(x, &the->x);
    size_t len = strlen(the->headers);
    snprintf(the->headers + len, sizeof the->headers - len, "%s: %s\n", name, value);
}

void
exchange_reply(struct exchange *x, int status, const char *content_type, struct span body)
{
    assert_ptr_equal(x, &the->x);
    long left = allocations_left;
    allocations_left = -1;
    the->answers++;
    the->status = status;
    snprintf(the->type, sizeof the->type, "%s", content_type);
    buf_reset(&the->body);
    buf_add_span(&the->body, body);
    buf_add(&the->body, "", 1);
    the->body.len--;
    assert_true(buf_ok(&the->body));
    allocations_left = left;
}

static enum err
fake_publish(struct queue *q, struct publish *p)
{
    struct fake *f = (struct fake *)q;
    if (f->publish_fails == OK) {
        assert_null(f->published);
        f->published = p;
    }
    return f->publish_fails;
}

static void
fake_status(struct queue *q, struct queue_status *out)
{
    (void)q;
    *out = (struct queue_status){.retry_after_s = 7};
}

static const struct queue_ops queue_ops = {.publish = fake_publish, .status = fake_status};

static enum err
fake_ask(struct history *h, struct question *q)
{
    struct fake *f = (struct fake *)((char *)h - offsetof(struct fake, history));
    if (f->ask_fails == OK) {
        f->asked = q;
    }
    return f->ask_fails;
}

static const struct history_ops history_ops = {.ask = fake_ask};

static int
open_fake(void **state)
{
    struct fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->queue.ops = &queue_ops;
    f->history.ops = &history_ops;
    f->cfg.http_max_batch = 1000;
    f->parts = (struct api_parts){
        .cfg = &f->cfg, .stats = &f->stats, .queue = &f->queue, .history = &f->history};
    f->loop = (struct api_loop){.parts = &f->parts, .parser = event_parser_open(4096)};
    f->loop.replies = mailbox_open(1024, 16, NULL, NULL);
    f->x = (struct exchange){.request = &f->request, .loop = &f->loop};
    buf_init(&f->body, 0);
    the = f;
    *state = f;
    return 0;
}

static int
close_fake(void **state)
{
    struct fake *f = *state;
    assert_null(f->published);
    assert_null(f->asked);
    event_parser_close(f->loop.parser);
    mailbox_close(f->loop.replies);
    buf_fini(&f->body);
    free(f);
    return 0;
}

/* Runs the handler; the body's memory ends with it, as the contract of an exchange allows. */
static void
post(struct fake *f, const char *fields, struct span body)
{
    char *copy = malloc(body.len + BUF_SLACK);
    assert_non_null(copy);
    memcpy(copy, body.at, body.len);
    memset(copy + body.len, 'x', BUF_SLACK);
    f->answers = 0;
    f->headers[0] = '\0';
    f->request = (struct http_request){
        .method = HTTP_POST, .fields = span_of(fields), .body = {copy, body.len}};
    ingest_post(&f->x);
    free(copy);
}

/* The queue's reply arrives on the loop. The events are the queue's: freed here. */
static void
finish_publish(struct fake *f, enum err result)
{
    struct publish *p = f->published;
    assert_non_null(p);
    f->published = NULL;
    struct mail *mail;
    while ((mail = mail_list_pop(&p->events)) != NULL) {
        event_free((struct event *)mail);
    }
    p->result = result;
    p->durability = DURABILITY_FSYNC;
    p->reply.on_arrival(&p->reply);
}

static void
assert_answer(const struct fake *f, int status, const char *type, const char *body)
{
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->status, status);
    assert_string_equal(f->type, type);
    assert_string_equal(f->body.at, body);
}

static void
assert_problem(const struct fake *f, int status, const char *part)
{
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->status, status);
    assert_string_equal(f->type, "application/problem+json");
    if (strstr(f->body.at, part) == NULL) {
        fail_msg("'%s' is not in %s", part, f->body.at);
    }
}

static void
nothing_is_answered_before_the_queue_said_ok(void **state)
{
    struct fake *f = *state;
    post(f, JSON, span_of(GOOD("evt_001")));
    assert_int_equal(f->answers, 0);
    assert_non_null(f->published);
    assert_int_equal(f->published->count, 1);
    assert_int_equal(f->published->events.count, 1);
    assert_int_equal(f->published->reply.mail.bytes, f->published->events.bytes);
    assert_ptr_equal(f->published->reply_to, f->loop.replies);
    assert_int_equal(stats_get(&f->stats.accepted), 0);
    finish_publish(f, OK);
    assert_answer(f, 202, "application/json",
                  "{\"event_id\":\"evt_001\",\"durability\":\"fsync\"}");
    assert_int_equal(stats_get(&f->stats.accepted), 1);
}

static void
an_id_is_answered_as_the_json_string_that_it_is(void **state)
{
    struct fake *f = *state;
    post(f, JSON, span_of(GOOD("\\\"\\\\/\\u00e9")));
    finish_publish(f, OK);
    assert_answer(f, 202, "application/json",
                  "{\"event_id\":\"\\\"\\\\/\xC3\xA9\",\"durability\":\"fsync\"}");
}

static void
an_invalid_event_is_400_with_every_error_and_publishes_nothing(void **state)
{
    struct fake *f = *state;
    post(f, JSON, span_of("{\"event_id\":\"\",\"x\":1," MEMBERS));
    assert_null(f->published);
    assert_answer(f, 400, "application/problem+json",
                  "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
                  "\"detail\":\"the event is not valid\",\"errors\":["
                  "{\"pointer\":\"/event_id\",\"detail\":\"is empty; expected 1 to 128 bytes\"},"
                  "{\"pointer\":\"/x\",\"detail\":\"unknown member; expected only event_id, type, "
                  "timestamp, payload\"}]}");
    assert_int_equal(stats_get(&f->stats.rejected), 1);
}

static void
a_body_that_is_not_json_is_400_and_says_where(void **state)
{
    struct fake *f = *state;
    post(f, JSON, SPAN("{\"event_id\":}"));
    assert_problem(f, 400, "is not JSON at line 1, column 13: expected a value");
    post(f, JSON, SPAN(""));
    assert_problem(f, 400, "the body is empty");
    post(f, JSON, SPAN("[" GOOD("a") ",]"));
    assert_problem(f, 400, "expected an event");
    assert_int_equal(stats_get(&f->stats.rejected), 3);
}

static void
an_event_that_is_too_large_is_413(void **state)
{
    struct fake *f = *state;
    char body[5000] = GOOD("a");
    size_t len = strlen(body) - 1;
    memset(body + len, ' ', sizeof body - len - 2);
    memcpy(body + sizeof body - 2, "}", 2);
    post(f, JSON, span_of(body));
    assert_problem(f, 413, "is 4999 bytes; an event has at most 4096");
}

static void
the_valid_events_of_a_batch_are_published_at_once_and_the_others_named(void **state)
{
    struct fake *f = *state;
    post(f, JSON, SPAN("[" GOOD("a") "," BAD("b") "," GOOD("c") ",17]"));
    assert_int_equal(f->answers, 0);
    assert_int_equal(f->published->count, 2);
    finish_publish(f, OK);
    assert_answer(
        f, 202, "application/json",
        "{\"accepted\":2,\"rejected\":[{\"index\":1,\"event_id\":\"b\",\"errors\":[{\"pointer\":"
        "\"/timestamp\",\"detail\":\"expected an RFC 3339 date-time such as "
        "2026-02-03T12:30:00Z\"}]},{\"index\":3,\"errors\":[{\"pointer\":\"\",\"detail\":"
        "\"expected an event, which is a JSON object\"}]}],\"rejected_count\":2,"
        "\"durability\":\"fsync\"}");
    assert_int_equal(stats_get(&f->stats.accepted), 2);
    assert_int_equal(stats_get(&f->stats.rejected), 2);
}

static void
a_batch_without_an_invalid_event_says_so(void **state)
{
    struct fake *f = *state;
    post(f, NDJSON, SPAN(GOOD("a") "\n" GOOD("b") "\r\n\n" GOOD("c")));
    finish_publish(f, OK);
    assert_answer(f, 202, "application/json",
                  "{\"accepted\":3,\"rejected\":[],\"durability\":\"fsync\"}");
}

static void
a_batch_of_one_is_answered_as_a_batch(void **state)
{
    struct fake *f = *state;
    post(f, JSON, SPAN("[" GOOD("a") "]"));
    finish_publish(f, OK);
    assert_answer(f, 202, "application/json",
                  "{\"accepted\":1,\"rejected\":[],\"durability\":\"fsync\"}");
}

static void
a_batch_without_a_valid_event_is_400_and_names_each(void **state)
{
    struct fake *f = *state;
    post(f, NDJSON, SPAN(BAD("a") "\n{\n"));
    assert_null(f->published);
    assert_problem(f, 400,
                   "\"status\":400,\"detail\":\"no event of the batch is valid\",\"rejected\":[{"
                   "\"index\":0,\"event_id\":\"a\",\"errors\":[");
    assert_problem(f, 400,
                   "\"index\":1,\"errors\":[{\"pointer\":\"\",\"detail\":\"is not JSON at "
                   "line 2, column 2: expected");
    assert_problem(f, 400, "]}],\"rejected_count\":2}");
    assert_int_equal(stats_get(&f->stats.rejected), 2);
}

static void
beyond_a_hundred_rejected_events_only_the_index_is_named(void **state)
{
    struct fake *f = *state;
    struct buf body;
    buf_init(&body, 0);
    buf_add_text(&body, GOOD("a") "\n");
    for (int i = 1; i < 251; i++) {
        buf_add_text(&body, BAD("b") "\n");
    }
    post(f, NDJSON, buf_span(&body));
    finish_publish(f, OK);
    buf_fini(&body);
    assert_int_equal(f->status, 202);
    assert_non_null(strstr(f->body.at, "{\"accepted\":1,"));
    assert_non_null(strstr(f->body.at, "{\"index\":100,\"event_id\":\"b\",\"errors\":["));
    assert_non_null(strstr(f->body.at, ",{\"index\":101},{\"index\":102},"));
    assert_non_null(strstr(f->body.at, ",{\"index\":250}],\"rejected_count\":250,"));
}

static void
an_empty_batch_is_400(void **state)
{
    struct fake *f = *state;
    post(f, JSON, SPAN("[]"));
    assert_problem(f, 400, "the batch is empty");
    post(f, NDJSON, SPAN("\n \n"));
    assert_problem(f, 400, "the batch is empty");
    post(f, NDJSON, SPAN(""));
    assert_problem(f, 400, "the batch is empty");
}

static void
a_batch_beyond_the_bound_is_413_and_publishes_nothing(void **state)
{
    struct fake *f = *state;
    f->cfg.http_max_batch = 2;
    post(f, NDJSON, SPAN(GOOD("a") "\n" GOOD("b") "\n" GOOD("c")));
    assert_problem(f, 413, "more than 2 events");
    post(f, JSON, SPAN("[1,2,3,4,5"));
    assert_problem(f, 413, "more than 2 events");
    post(f, JSON, SPAN("[" GOOD("a") "," GOOD("b") "]"));
    finish_publish(f, OK);
    assert_int_equal(f->status, 202);
}

static void
other_media_types_charsets_and_codings_are_415(void **state)
{
    static const char *const good[] = {
        "Content-Type: application/json\r\n",
        "content-type: Application/JSON; charset=utf-8\r\n",
        "Content-Type: application/json;charset=\"UTF-8\"; x=y\r\n",
        "Content-Type: application/json ;\r\n",
        "Content-Type: application/json; version=1\r\nContent-Encoding: identity\r\n",
    };
    static const char *const bad[] = {
        "",
        "Content-Type: \r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/jsonx\r\n",
        "Content-Type: application/problem+json\r\n",
        "Content-Type: application/json; charset=iso-8859-1\r\n",
        "Content-Type: application/json; a=b; Charset = utf-16\r\n",
        "Content-Type: application/json; charset\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/json\r\nContent-Encoding: identity, br\r\n",
    };
    struct fake *f = *state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        post(f, good[i], SPAN(GOOD("a")));
        finish_publish(f, OK);
        assert_int_equal(f->status, 202);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        post(f, bad[i], SPAN(GOOD("a")));
        assert_null(f->published);
        assert_problem(f, 415, "expected");
        assert_non_null(strstr(f->headers, "Accept-Post: application/json, application/x-ndjson"));
    }
}

static const struct {
    enum err e;
    const char *word;
} refusals[] = {
    {ERR_BUSY, "busy"},
    {ERR_QUEUE_FULL, "queue is full"},
    {ERR_DISK_FULL, "disk is full"},
    {ERR_UNAVAILABLE, "reached"},
    {ERR_STOPPING, "stopping"},
    {ERR_NOMEM, "memory"},
    {ERR_IO, "input/output"},
};

static void
what_the_queue_does_not_take_is_503_with_retry_after(void **state)
{
    struct fake *f = *state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        f->publish_fails = refusals[i].e;
        post(f, NDJSON, SPAN(GOOD("a") "\n" GOOD("b") "\n{}"));
        assert_problem(f, 503, refusals[i].word);
        assert_string_equal(f->headers, "Retry-After: 7\n");
        assert_int_equal(stats_get(&f->stats.refused), 2 * (i + 1));
    }
    assert_int_equal(stats_get(&f->stats.accepted), 0);
}

static void
what_the_queue_could_not_keep_is_503_with_retry_after(void **state)
{
    struct fake *f = *state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        post(f, JSON, SPAN(GOOD("a")));
        finish_publish(f, refusals[i].e);
        assert_problem(f, 503, refusals[i].word);
        assert_string_equal(f->headers, "Retry-After: 7\n");
        assert_int_equal(stats_get(&f->stats.refused), i + 1);
    }
    assert_int_equal(stats_get(&f->stats.accepted), 0);
}

/* Posts with the nth allocation failing, for every n until all succeed: the answer is 503, or the
 * one that it should be. Returns how many failed. */
static long
post_without_memory(struct fake *f, const char *fields, struct span body, int status)
{
    post(f, fields, body);
    if (f->published != NULL) {
        finish_publish(f, OK);
    }
    assert_int_equal(f->status, status);
    char expected[1024];
    snprintf(expected, sizeof expected, "%s", f->body.at);
    for (long n = 0;; n++) {
        char *copy = malloc(body.len + BUF_SLACK);
        assert_non_null(copy);
        memcpy(copy, body.at, body.len);
        memset(copy + body.len, 'x', BUF_SLACK);
        f->answers = 0;
        f->request = (struct http_request){
            .method = HTTP_POST, .fields = span_of(fields), .body = {copy, body.len}};
        allocations_left = n;
        ingest_post(&f->x);
        if (f->published != NULL) {
            assert_int_equal(f->answers, 0);
            finish_publish(f, OK);
        }
        bool failed = allocations_left < 0;
        allocations_left = -1;
        free(copy);
        assert_int_equal(f->answers, 1);
        if (!failed) {
            assert_int_equal(f->status, status);
            assert_string_equal(f->body.at, expected);
            return n;
        }
        if (f->status != 503) {
            assert_int_equal(f->status, status);
            assert_true(f->body.len == 0 || strcmp(f->body.at, expected) == 0);
        }
    }
}

static void
when_memory_runs_out_the_answer_is_503_wherever_it_happens(void **state)
{
    struct fake *f = *state;
    assert_true(post_without_memory(f, JSON, SPAN(GOOD("a")), 202) >= 3);
    assert_true(post_without_memory(f, JSON, SPAN(BAD("a")), 400) >= 1);
    assert_true(post_without_memory(f, NDJSON, SPAN(GOOD("a") "\n{}\n" GOOD("b")), 202) >= 5);
    assert_true(post_without_memory(f, NDJSON, SPAN("{}\n{}"), 400) >= 3);
    assert_true(post_without_memory(f, JSON,
                                    SPAN("{\"n\":1e999,"
                                         "\"event_id\":\"a\"}"),
                                    400) >= 2);
}

static void
list(struct fake *f, const char *query)
{
    f->answers = 0;
    f->headers[0] = '\0';
    f->request = (struct http_request){.method = HTTP_GET, .query = span_of(query)};
    query_list(&f->x);
}

static void
show(struct fake *f, const char *id)
{
    f->answers = 0;
    f->headers[0] = '\0';
    f->request = (struct http_request){.method = HTTP_GET};
    f->x.param = span_of(id);
    query_show(&f->x);
}

/* One row more of the answer. */
static void
add_row(struct question *q, const char *id, enum event_state state, const char *reason)
{
    q->rows = realloc(q->rows, (q->n + 1) * sizeof *q->rows);
    assert_non_null(q->rows);
    struct found *row = &q->rows[q->n++];
    *row = (struct found){.state = state, .durability = "fsync"};
    row->settled_ms = state == EVENT_QUEUED ? 0 : 2500;
    snprintf(row->reason, sizeof row->reason, "%s", reason);
    row->ev = event_new(span_of(id), SPAN("T"), SPAN("2026-02-03T12:30:00Z"), SPAN("{ }"));
    assert_non_null(row->ev);
    row->ev->accepted_ms = 1000;
}

static void
finish_ask(struct fake *f, enum err result)
{
    struct question *q = f->asked;
    assert_non_null(q);
    f->asked = NULL;
    q->result = result;
    q->reply.on_arrival(&q->reply);
}

static void
a_list_asks_for_the_newest_fifty_when_nothing_else_is_said(void **state)
{
    struct fake *f = *state;
    list(f, "");
    const struct question *q = f->asked;
    assert_int_equal(q->kind, QUESTION_LIST);
    assert_int_equal(q->limit, 50);
    assert_true(q->since_ms == INT64_MIN && q->until_ms == INT64_MAX);
    assert_int_equal(q->before_seq, 0);
    assert_int_equal(q->type_len, 0);
    finish_ask(f, OK);
    assert_answer(f, 200, "application/json", "{\"events\":[]}");
}

static void
a_list_passes_every_parameter_on(void **state)
{
    struct fake *f = *state;
    list(f, "type=A%20B&since=1970-01-01T00:00:01Z&until=1970-01-01T05:30:02.5%2B05:30&limit=1000"
            "&cursor=00000000000000ff");
    const struct question *q = f->asked;
    assert_memory_equal(q->type, "A B", 3);
    assert_int_equal(q->type_len, 3);
    assert_int_equal(q->since_ms, 1000);
    assert_int_equal(q->until_ms, 2500);
    assert_int_equal(q->limit, 1000);
    assert_int_equal(q->before_seq, 255);
    finish_ask(f, OK);
    list(f, "&until=1970-01-01T05:30:02+05:30&"); /* a plus that was not encoded */
    assert_int_equal(f->asked->until_ms, 2000);
    finish_ask(f, OK);
}

static void
a_bad_parameter_is_400_and_named(void **state)
{
    static const char *const bad[][2] = {
        {"limit=0", "limit: expected a number from 1 to 1000"},
        {"limit=1001", "limit: expected a number"},
        {"limit=", "limit: expected a number"},
        {"limit=-1", "limit: expected a number"},
        {"limit=1e2", "limit: expected a number"},
        {"limit=00000000005", "limit: expected a number"},
        {"limit=5&limit=6", "limit: is too long, given twice"},
        {"type=", "type: expected an event type"},
        {"type=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "type: expected"},
        {"type=%zz", "type: is too long, given twice or badly encoded"},
        {"since=yesterday", "since: expected an RFC 3339"},
        {"until=2026-02-30T00:00:00Z", "until: no such date"},
        {"cursor=x", "cursor: expected a cursor"},
        {"cursor=", "cursor: expected a cursor"},
        {"cursor=0000000000000000", "cursor: expected a cursor"},
        {"cursor=00000000000000FF", "cursor: expected a cursor"},
        {"cursor=00000000000000ff0", "cursor: expected a cursor"},
        {"Type=A", "unknown parameter Type; expected type, since, until, limit, cursor"},
        {"type=A&state=dead", "unknown parameter state;"},
        {"limits", "unknown parameter limits;"},
        {"=5", "unknown parameter =;"},
    };
    struct fake *f = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        list(f, bad[i][0]);
        assert_null(f->asked);
        assert_problem(f, 400, bad[i][1]);
    }
}

static void
a_list_shows_each_event_with_its_fate_and_the_next_page(void **state)
{
    struct fake *f = *state;
    list(f, "limit=3");
    add_row(f->asked, "c", EVENT_QUEUED, "");
    add_row(f->asked, "b", EVENT_PROCESSED, "");
    add_row(f->asked, "a", EVENT_DEAD, "says \"no\"");
    f->asked->next_seq = 0x1234;
    finish_ask(f, OK);
#define ROW(id)                                                                                    \
    "{\"event_id\":\"" id "\",\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00Z\","              \
    "\"payload\":{ },"
#define ACCEPTED ",\"accepted_at\":\"1970-01-01T00:00:01.000Z\""
    assert_answer(f, 200, "application/json",
                  "{\"events\":[" ROW("c") "\"state\":\"queued\"" ACCEPTED "}," ROW(
                      "b") "\"state\":\"processed\"" ACCEPTED
                           ",\"processed_at\":\"1970-01-01T00:00:02.500Z\"}," ROW(
                               "a") "\"state\":\"dead\"" ACCEPTED
                                    ",\"dead_at\":\"1970-01-01T00:00:02.500Z\","
                                    "\"reason\":\"says \\\"no\\\"\"}],"
                                    "\"next\":\"0000000000001234\"}");
}

static void
one_event_is_shown_with_its_timeline(void **state)
{
    struct fake *f = *state;
    show(f, "evt/1");
    assert_int_equal(f->asked->kind, QUESTION_ONE);
    assert_int_equal(f->asked->id_len, 5);
    assert_memory_equal(f->asked->id, "evt/1", 5);
    add_row(f->asked, "evt/1", EVENT_PROCESSED, "");
    finish_ask(f, OK);
    assert_answer(f, 200, "application/json",
                  ROW("evt/1") "\"state\":\"processed\"" ACCEPTED
                               ",\"processed_at\":\"1970-01-01T00:00:02.500Z\",\"timeline\":[{"
                               "\"state\":\"queued\",\"at\":\"1970-01-01T00:00:01.000Z\","
                               "\"durability\":\"fsync\"},{\"state\":\"processed\","
                               "\"at\":\"1970-01-01T00:00:02.500Z\"}]}");
    show(f, "q");
    add_row(f->asked, "q", EVENT_QUEUED, "");
    finish_ask(f, OK);
    assert_non_null(strstr(f->body.at, "\"durability\":\"fsync\"}]}"));
    show(f, "d");
    add_row(f->asked, "d", EVENT_DEAD, "why");
    finish_ask(f, OK);
    assert_non_null(strstr(f->body.at, ",{\"state\":\"dead\",\"at\":\"1970-01-01T00:00:02.500Z\","
                                       "\"reason\":\"why\"}]}"));
}

static void
an_event_that_is_not_there_is_404(void **state)
{
    struct fake *f = *state;
    show(f, "nobody");
    finish_ask(f, ERR_NOT_FOUND);
    assert_problem(f, 404, "no event has this id");
    char id[EVENT_ID_MAX + 2];
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    show(f, id);
    assert_null(f->asked);
    assert_problem(f, 404, "no event has this id");
}

static void
a_history_that_cannot_answer_is_503_and_says_why(void **state)
{
    struct fake *f = *state;
    list(f, "");
    f->asked->why = "the filter reads too much";
    finish_ask(f, ERR_UNAVAILABLE);
    assert_problem(f, 503, "the filter reads too much");
    assert_non_null(strstr(f->headers, "Retry-After: "));
    show(f, "a");
    finish_ask(f, ERR_NOMEM);
    assert_problem(f, 503, "out of memory");
    f->ask_fails = ERR_BUSY;
    list(f, "");
    assert_problem(f, 503, "too many questions");
    show(f, "a");
    assert_problem(f, 503, "too many questions");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_fake, close_fake)
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_answered_before_the_queue_said_ok),
        TEST(an_id_is_answered_as_the_json_string_that_it_is),
        TEST(an_invalid_event_is_400_with_every_error_and_publishes_nothing),
        TEST(a_body_that_is_not_json_is_400_and_says_where),
        TEST(an_event_that_is_too_large_is_413),
        TEST(the_valid_events_of_a_batch_are_published_at_once_and_the_others_named),
        TEST(a_batch_without_an_invalid_event_says_so),
        TEST(a_batch_of_one_is_answered_as_a_batch),
        TEST(a_batch_without_a_valid_event_is_400_and_names_each),
        TEST(beyond_a_hundred_rejected_events_only_the_index_is_named),
        TEST(an_empty_batch_is_400),
        TEST(a_batch_beyond_the_bound_is_413_and_publishes_nothing),
        TEST(other_media_types_charsets_and_codings_are_415),
        TEST(what_the_queue_does_not_take_is_503_with_retry_after),
        TEST(what_the_queue_could_not_keep_is_503_with_retry_after),
        TEST(when_memory_runs_out_the_answer_is_503_wherever_it_happens),
        TEST(a_list_asks_for_the_newest_fifty_when_nothing_else_is_said),
        TEST(a_list_passes_every_parameter_on),
        TEST(a_bad_parameter_is_400_and_named),
        TEST(a_list_shows_each_event_with_its_fate_and_the_next_page),
        TEST(one_event_is_shown_with_its_timeline),
        TEST(an_event_that_is_not_there_is_404),
        TEST(a_history_that_cannot_answer_is_503_and_says_why),
    };
    return cmocka_run_group_tests_name("ingest", tests, NULL, NULL);
}
