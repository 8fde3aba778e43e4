/* The first byte chooses the format, the rest is a body.
 * Oracles: an accepted event written as JSON is read as the same event; its payload stands in the
 * body byte for byte; simdjson and json_explain agree on what JSON is. */
#include "event.h"

#include "buf.h"
#include "json.h"

#include <stdlib.h>

#define MAX_EVENT_BYTES 8192

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            __builtin_trap();                                                                      \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_parser *parser; /* kept, so that one body can hurt the next */
static struct event_parser *parser_again;
static struct json_reader *reader;

struct run {
    struct span body;
    size_t n;
};

static void
check_errors(const struct event_errors *errors)
{
    CHECK(errors->n >= 1 && errors->n <= EVENT_ERRORS_MAX);
    struct buf text;
    buf_init(&text, 0);
    for (size_t i = 0; i < errors->n; i++) {
        CHECK(memchr(errors->item[i].pointer, '\0', sizeof errors->item[i].pointer) != NULL);
        CHECK(memchr(errors->item[i].detail, '\0', sizeof errors->item[i].detail) != NULL);
        buf_add_json_string(&text, span_of(errors->item[i].pointer));
        size_t from = text.len;
        buf_add_json_string(&text, span_of(errors->item[i].detail));
        size_t offset;
        CHECK(json_explain((struct span){text.at, from}, &offset) == NULL);
        CHECK(json_explain((struct span){text.at + from, text.len - from}, &offset) == NULL);
        buf_reset(&text);
    }
    buf_fini(&text);
}

static void
on_same_item(void *data, size_t index, struct event *ev, struct span id,
             const struct event_errors *errors)
{
    const struct event *first = data;
    CHECK(index == 0 && ev != NULL && errors == NULL && span_eq(id, event_id(first)));
    CHECK(span_eq(event_id(ev), event_id(first)));
    CHECK(span_eq(event_type(ev), event_type(first)));
    CHECK(span_eq(event_timestamp(ev), event_timestamp(first)));
    CHECK(span_eq(event_payload(ev), event_payload(first)));
    event_free(ev);
}

/* Escaping may make it larger than it came: the second parser allows for that. */
static void
check_round_trip(const struct event *ev)
{
    struct buf text;
    struct event_errors whole;
    bool is_batch;
    buf_init(&text, 0);
    event_write_json(&text, ev, (struct span){0});
    CHECK(buf_ok(&text));
    CHECK(event_parse_body(parser_again, buf_span(&text), EVENT_FORMAT_JSON, &is_batch, &whole,
                           on_same_item, (void *)ev) == OK);
    CHECK(!is_batch);
    buf_reset(&text);
    event_write_json_line(&text, ev, (struct span){0});
    CHECK(memchr(text.at, '\n', text.len) == text.at + text.len - 1);
    buf_fini(&text);
}

static void
on_item(void *data, size_t index, struct event *ev, struct span id,
        const struct event_errors *errors)
{
    struct run *run = data;
    CHECK(index == run->n++);
    CHECK((ev == NULL) == (errors != NULL));
    CHECK(id.len <= EVENT_ID_MAX);
    if (ev == NULL) {
        check_errors(errors);
        return;
    }
    struct span payload = event_payload(ev);
    CHECK(payload.len >= 2 && payload.at[0] == '{' && payload.at[payload.len - 1] == '}');
    CHECK(memmem(run->body.at, run->body.len, payload.at, payload.len) != NULL);
    check_round_trip(ev);
    event_free(ev);
}

static void
check_judges_agree(struct span text)
{
    enum json_type top;
    size_t offset;
    enum json_result result = json_read(reader, text, &top);
    const char *wrong = json_explain(text, &offset);
    CHECK(offset <= text.len);
    CHECK(result == JSON_TOO_DEEP || (result == JSON_OK) == (wrong == NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (parser == NULL) {
        parser = event_parser_open(MAX_EVENT_BYTES);
        parser_again = event_parser_open((size_t)8 * MAX_EVENT_BYTES);
        reader = json_open();
    }
    if (size == 0) {
        return 0;
    }
    char *body = malloc(size - 1 + BUF_SLACK);
    CHECK(body != NULL);
    memcpy(body, data + 1, size - 1);
    memset(body + size - 1, data[0], BUF_SLACK);
    struct run run = {.body = {body, size - 1}};
    struct event_errors whole;
    bool is_batch;
    enum event_format format = data[0] & 1 ? EVENT_FORMAT_NDJSON : EVENT_FORMAT_JSON;
    enum err e = event_parse_body(parser, run.body, format, &is_batch, &whole, on_item, &run);
    CHECK(e == OK || e == ERR_INVALID);
    if (e == ERR_INVALID) {
        check_errors(&whole);
    }
    check_judges_agree(run.body);
    free(body);
    return 0;
}
