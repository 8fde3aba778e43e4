#include "event.h"

#include "buf.h"
#include "json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_EVENT_BYTES ((size_t)256 * 1024)
#define ITEMS_MAX 64
#define HEAD                                                                                       \
    "\"event_id\":\"evt_001\",\"type\":\"GRIEVANCE\",\"timestamp\":\"2026-02-03T12:30:00Z\""
#define GOOD "{" HEAD ",\"payload\":{\"message\":\"Water issue\"}}"

/* What a body gave. */
struct got {
    struct event_parser *p;
    enum err result;
    bool is_batch;
    struct event_errors whole;
    size_t n;
    size_t stop_after; /* items; 0: never */
    struct item {
        struct event *ev;
        char id[EVENT_ID_MAX + 1];
        struct event_errors errors;
    } item[ITEMS_MAX];
};

static void
on_item(void *data, size_t index, struct event *ev, struct span id,
        const struct event_errors *errors)
{
    struct got *g = data;
    assert_int_equal(index, g->n);
    assert_true(g->n < ITEMS_MAX);
    struct item *item = &g->item[g->n++];
    item->ev = ev;
    memcpy(item->id, id.at != NULL ? id.at : "", id.len);
    item->id[id.len] = '\0';
    assert_true((ev == NULL) == (errors != NULL));
    item->errors.n = 0;
    if (errors != NULL) {
        item->errors = *errors;
    }
    if (g->n == g->stop_after) {
        event_parser_stop(g->p);
    }
}

static void
forget(struct got *g)
{
    for (size_t i = 0; i < g->n; i++) {
        event_free(g->item[i].ev);
    }
    g->n = 0;
}

/* A body in memory of exactly its size and the slack, so that a sanitizer sees every step beyond. */
static void
parse(struct got *g, struct span body, enum event_format format)
{
    forget(g);
    char *copy = malloc(body.len + BUF_SLACK);
    assert_non_null(copy);
    memcpy(copy, body.at, body.len);
    memset(copy + body.len, '7', BUF_SLACK);
    g->result = event_parse_body(g->p, (struct span){copy, body.len}, format, &g->is_batch,
                                 &g->whole, on_item, g);
    free(copy);
}

static void
parse_json(struct got *g, const char *body)
{
    parse(g, span_of(body), EVENT_FORMAT_JSON);
}

static int
open_parser(void **state)
{
    struct got *g = calloc(1, sizeof *g);
    g->p = event_parser_open(MAX_EVENT_BYTES);
    *state = g;
    return g->p == NULL;
}

static int
close_parser(void **state)
{
    struct got *g = *state;
    forget(g);
    event_parser_close(g->p);
    free(g);
    return 0;
}

static void
assert_span(struct span got, const char *expected)
{
    if (!span_eq(got, span_of(expected))) {
        fail_msg("got '%.*s', expected '%s'", SPAN_FMT(got), expected);
    }
}

static void
assert_error(const struct event_errors *errors, const char *pointer, const char *part)
{
    for (size_t i = 0; i < errors->n; i++) {
        if (strcmp(errors->item[i].pointer, pointer) == 0 &&
            strstr(errors->item[i].detail, part) != NULL) {
            return;
        }
    }
    fail_msg("no error '%s' about '%s' (%zu others, first '%s' '%s')", part, pointer, errors->n,
             errors->n > 0 ? errors->item[0].pointer : "",
             errors->n > 0 ? errors->item[0].detail : "");
}

/* The body is one event with this error, and only this. */
static void
assert_single_error(struct got *g, const char *body, const char *pointer, const char *part)
{
    parse_json(g, body);
    assert_int_equal(g->result, OK);
    assert_int_equal(g->n, 1);
    assert_null(g->item[0].ev);
    assert_error(&g->item[0].errors, pointer, part);
    assert_int_equal(g->item[0].errors.n, 1);
}

static void
assert_broken(struct got *g, const char *body, const char *part)
{
    parse_json(g, body);
    assert_int_equal(g->result, ERR_INVALID);
    assert_error(&g->whole, "", part);
}

static void
the_seed_example_is_an_event(void **state)
{
    struct got *g = *state;
    parse_json(g, GOOD);
    assert_int_equal(g->result, OK);
    assert_false(g->is_batch);
    assert_int_equal(g->n, 1);
    struct event *ev = g->item[0].ev;
    assert_non_null(ev);
    assert_span(event_id(ev), "evt_001");
    assert_span(event_type(ev), "GRIEVANCE");
    assert_span(event_timestamp(ev), "2026-02-03T12:30:00Z");
    assert_span(event_payload(ev), "{\"message\":\"Water issue\"}");
    assert_string_equal(g->item[0].id, "evt_001");
    assert_int_equal(ev->mail.bytes, sizeof *ev + 7 + 9 + 20 + 25);
    assert_int_equal(ev->seq, 0);
    assert_int_equal(ev->accepted_ms, 0);
    assert_int_equal(ev->attempt, 0);
}

static void
the_payload_is_kept_byte_for_byte_wherever_it_stands(void **state)
{
    static const char *const payloads[] = {
        "{}",
        "{ }",
        "{ \"a\" : [ 1 , {\"b\":[]} ] , \"}\" : \"]\\\"{\" }",
        "{\"a\":1,\"a\":2}",
        "{\"escaped\":\"\\u00e9\\/\\ud83d\\ude00\",\"plain\":\"\xC3\xA9/\xF0\x9F\x98\x80\"}",
        "{\n\t\"deep\":[[[[[[\"x\"]]]]]],\r\n\"t\":true,\"f\":false,\"n\":null}",
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"payload\": %s ," HEAD "}", payloads[i]);
        parse_json(g, body);
        assert_int_equal(g->n, 1);
        assert_non_null(g->item[0].ev);
        assert_span(event_payload(g->item[0].ev), payloads[i]);
        snprintf(body, sizeof body, " { " HEAD " , \"payload\" :%s}\n", payloads[i]);
        parse_json(g, body);
        assert_non_null(g->item[0].ev);
        assert_span(event_payload(g->item[0].ev), payloads[i]);
    }
}

static void
numbers_of_any_size_are_kept_as_text(void **state)
{
    static const char *const numbers[] = {
        "12345678901234567890123456789012345678901234567890",
        "-9223372036854775809",
        "18446744073709551616",
        "1e999",
        "-1.5E+4000",
        "0.00000000000000000000000000000000000000000000000000000000000000000001",
        "-0",
        "1E-9999",
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char payload[400];
        char body[600];
        snprintf(payload, sizeof payload, "{\"n\":%s,\"l\":[%s, 5 ,%s ],\"s\":\"01\"}", numbers[i],
                 numbers[i], numbers[i]);
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":%s}", payload);
        parse_json(g, body);
        assert_int_equal(g->result, OK);
        assert_non_null(g->item[0].ev);
        assert_span(event_payload(g->item[0].ev), payload);
    }
}

static void
numbers_that_json_does_not_know_are_refused(void **state)
{
    static const char *const numbers[] = {
        "01",  "-",   "+1", "1.",  ".5",   "1e",       "1e+", "0x10",   "NaN",
        "1_0", "--1", "00", "-01", "1.e1", "Infinity", "1 2", "1e999x", "-Infinity",
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char body[512];
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":{\"n\":%s}}", numbers[i]);
        assert_broken(g, body, "is not JSON at line 1, column ");
        /* and beside one that needs the second look */
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":{\"big\":1e999,\"n\":%s}}", numbers[i]);
        assert_broken(g, body, "is not JSON at line 1, column ");
    }
}

static void
all_errors_of_an_event_are_said_at_once(void **state)
{
    struct got *g = *state;
    parse_json(g, "{\"event_id\":7,\"type\":\"\",\"timestamp\":\"2026-02-30T00:00:00Z\","
                  "\"extra/~\":[1,[2]],\"payload\":[]}");
    assert_int_equal(g->result, OK);
    assert_int_equal(g->n, 1);
    const struct event_errors *e = &g->item[0].errors;
    assert_int_equal(e->n, 5);
    assert_error(e, "/event_id", "is a number; expected a string");
    assert_error(e, "/type", "is empty; expected 1 to 64 bytes");
    assert_error(e, "/timestamp", "no such date");
    assert_error(e, "/extra~1~0", "unknown member");
    assert_error(e, "/payload", "is an array; expected an object");
    assert_string_equal(g->item[0].id, "");
}

static void
every_missing_member_is_named(void **state)
{
    struct got *g = *state;
    parse_json(g, "{}");
    assert_int_equal(g->item[0].errors.n, 4);
    assert_error(&g->item[0].errors, "/event_id", "is missing; expected a string");
    assert_error(&g->item[0].errors, "/type", "is missing; expected a string");
    assert_error(&g->item[0].errors, "/timestamp", "is missing; expected a string");
    assert_error(&g->item[0].errors, "/payload", "is missing; expected an object");
}

static void
every_wrong_json_type_is_named(void **state)
{
    static const char *const values[][2] = {
        {"null", "is null"},   {"true", "is a boolean"}, {"1.5", "is a number"},
        {"[]", "is an array"}, {"{}", "is an object"},
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"event_id\":%s,\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00Z\","
                 "\"payload\":{}}",
                 values[i][0]);
        assert_single_error(g, body, "/event_id", values[i][1]);
    }
    assert_single_error(g, "{" HEAD ",\"payload\":\"{}\"}", "/payload", "is a string");
}

static void
a_member_given_twice_is_an_error_even_when_escaped(void **state)
{
    struct got *g = *state;
    assert_single_error(g, "{" HEAD ",\"type\":\"GRIEVANCE\",\"payload\":{}}", "/type",
                        "more than once");
    assert_single_error(g, "{" HEAD ",\"payload\":{},\"\\u0070ayload\":{}}", "/payload",
                        "more than once");
}

static void
an_error_keeps_the_id_where_it_could_be_read(void **state)
{
    struct got *g = *state;
    parse_json(g, "{\"type\":\"T\",\"event_id\":\"evt_9\"}");
    assert_null(g->item[0].ev);
    assert_string_equal(g->item[0].id, "evt_9");
}

/* An event with an id and a type of so many bytes. */
static void
write_lengths(struct buf *b, size_t id_len, size_t type_len)
{
    buf_reset(b);
    buf_add_text(b, "{\"event_id\":\"");
    for (size_t i = 0; i < id_len; i++) {
        buf_add_text(b, "i");
    }
    buf_add_text(b, "\",\"type\":\"");
    for (size_t i = 0; i < type_len; i++) {
        buf_add_text(b, "t");
    }
    buf_add_text(b, "\",\"timestamp\":\"2026-02-03T12:30:00Z\",\"payload\":{}}");
    assert_true(buf_ok(b));
}

static void
id_and_type_may_have_up_to_128_and_64_bytes(void **state)
{
    struct got *g = *state;
    struct buf b;
    buf_init(&b, 0);
    write_lengths(&b, 128, 64);
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    assert_non_null(g->item[0].ev);
    assert_int_equal(event_id(g->item[0].ev).len, 128);
    write_lengths(&b, 129, 65);
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    assert_null(g->item[0].ev);
    assert_error(&g->item[0].errors, "/event_id", "is 129 bytes long; expected 1 to 128");
    assert_error(&g->item[0].errors, "/type", "is 65 bytes long; expected 1 to 64");
    write_lengths(&b, 0, 1);
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    assert_error(&g->item[0].errors, "/event_id", "is empty");
    buf_fini(&b);
}

static void
lengths_count_the_utf8_of_the_unescaped_text(void **state)
{
    struct got *g = *state;
    struct buf b;
    buf_init(&b, 0);
    for (size_t letters = 32; letters <= 33; letters++) { /* of two bytes each */
        buf_reset(&b);
        buf_add_text(&b, "{\"type\":\"");
        for (size_t i = 0; i < letters; i++) {
            buf_add_text(&b, i % 2 == 0 ? "\\u00e9" : "\xC3\xA9");
        }
        buf_add_text(&b, "\",\"event_id\":\"e\",\"timestamp\":\"2026-02-03T12:30:00Z\","
                         "\"payload\":{}}");
        parse(g, buf_span(&b), EVENT_FORMAT_JSON);
        assert_true((g->item[0].ev != NULL) == (letters == 32));
    }
    assert_error(&g->item[0].errors, "/type", "is 66 bytes long");
    buf_fini(&b);
}

static void
control_characters_in_id_or_type_are_refused(void **state)
{
    static const char *const controls[] = {"\\u0000", "\\n", "\\u001f", "\x7F", "\\u007f"};
    struct got *g = *state;
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"event_id\":\"a%sb\",\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00Z\","
                 "\"payload\":{}}",
                 controls[i]);
        assert_single_error(g, body, "/event_id", "control character");
        snprintf(body, sizeof body,
                 "{\"event_id\":\"a\",\"type\":\"T%s\",\"timestamp\":\"2026-02-03T12:30:00Z\","
                 "\"payload\":{}}",
                 controls[i]);
        assert_single_error(g, body, "/type", "control character");
    }
}

static void
a_timestamp_must_be_a_real_rfc3339_time(void **state)
{
    static const char *const good[] = {
        "2026-02-03T12:30:00Z",
        "2026-02-03t12:30:00.123456789+05:30",
        "2024-02-29T00:00:00-00:00",
        "2016-12-31T23:59:60Z",
        "2026-02-03T12:30:00.00000000000000000000000000000000000000+01:00",
    };
    static const char *const bad[] = {
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2026-02-03",
        "2026-02-03 12:30:00Z",
        "2026-02-03T12:30:00",
        "2026-02-03T24:00:00Z",
        "2026-02-03T12:60:00Z",
        "2026-02-03T12:30:60Z",
        "2026-13-01T00:00:00Z",
        "yesterday",
        "2026-02-03T12:30:00Z ",
        "2026-02-03T12:30:00.Z",
        "1770121800",
        "2026-02-03T12:30:00+5:30",
        "2026-02-03T12:30:00.0Z\\u0000",
    };
    struct got *g = *state;
    char body[256];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(body, sizeof body,
                 "{\"event_id\":\"a\",\"type\":\"T\",\"timestamp\":\"%s\",\"payload\":{}}",
                 good[i]);
        parse_json(g, body);
        assert_non_null(g->item[0].ev);
        assert_span(event_timestamp(g->item[0].ev), good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(body, sizeof body,
                 "{\"event_id\":\"a\",\"type\":\"T\",\"timestamp\":\"%s\",\"payload\":{}}", bad[i]);
        assert_single_error(g, body, "/timestamp", "");
    }
    assert_single_error(g,
                        "{\"event_id\":\"a\",\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00."
                        "00000000000000000000000000000000000000000000000Z\",\"payload\":{}}",
                        "/timestamp", "is 68 bytes long; expected 1 to 64");
}

static void
bad_utf8_is_refused_wherever_it_stands(void **state)
{
    static const char *const bad[] = {
        "\xFF",     "\xC3", "\xC0\x80",         "\xED\xA0\x80", "\xF4\x90\x80\x80",
        "\xE2\x82", "\x80", "\xF0\x80\x80\x80", "\xFE",         "\xF8\x88\x80\x80\x80",
        "a\351te",
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char body[256];
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":{\"a\":[\"%s\"]}}", bad[i]);
        assert_single_error(g, body, "", "not UTF-8");
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":{\"%s\":1}}", bad[i]);
        assert_single_error(g, body, "", "not UTF-8");
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":{}}%s", bad[i]);
        assert_single_error(g, body, "", "expected nothing more");
    }
}

static void
half_of_a_surrogate_pair_is_refused_inside_the_payload_too(void **state)
{
    static const char *const bad[] = {
        "\\ud800",        "\\udc00",        "\\ud800x",       "\\ud800\\n",
        "\\ud800\\ud800", "\\ud800\\u0041", "\\udc00\\ud800", "\\udc00\\udc00",
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char body[256];
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":{\"a\":\"%s\"}}", bad[i]);
        assert_broken(g, body, "half of a surrogate pair");
        snprintf(body, sizeof body, "{" HEAD ",\"payload\":{\"a\":1e999,\"%s\":1}}", bad[i]);
        assert_broken(g, body, "half of a surrogate pair");
    }
}

/* HEAD and a payload whose brackets make the whole event `depth` deep. */
static void
write_depth(struct buf *b, size_t depth, const char *innermost)
{
    buf_reset(b);
    buf_add_text(b, "{" HEAD ",\"payload\":{\"a\":");
    for (size_t i = 2; i < depth; i++) {
        buf_add_text(b, "[");
    }
    buf_add_text(b, innermost);
    for (size_t i = 2; i < depth; i++) {
        buf_add_text(b, "]");
    }
    buf_add_text(b, "}}");
}

static void
an_event_may_be_64_levels_deep_and_no_more(void **state)
{
    struct got *g = *state;
    struct buf b;
    buf_init(&b, 0);
    static const char *const innermost[] = {"1", "", "1e999"};
    for (size_t i = 0; i < sizeof innermost / sizeof *innermost; i++) {
        write_depth(&b, 64, innermost[i]);
        parse(g, buf_span(&b), EVENT_FORMAT_JSON);
        assert_int_equal(g->result, OK);
        assert_non_null(g->item[0].ev);
        write_depth(&b, 65, innermost[i]);
        parse(g, buf_span(&b), EVENT_FORMAT_JSON);
        assert_int_equal(g->result, OK);
        assert_null(g->item[0].ev);
        assert_error(&g->item[0].errors, "/payload", "65 levels deep; at most 64");
    }
    write_depth(&b, 100000, "");
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    assert_int_equal(g->result, OK);
    assert_error(&g->item[0].errors, "", "more than 64 levels deep");
    buf_fini(&b);
}

static void
write_size(struct buf *b, size_t bytes)
{
    buf_reset(b);
    buf_add_text(b, "{" HEAD ",\"payload\":{\"a\":\"");
    while (b->len < bytes - 3) {
        buf_add_text(b, "x");
    }
    buf_add_text(b, "\"}}");
    assert_int_equal(b->len, bytes);
}

static void
an_event_may_have_the_largest_size_and_not_a_byte_more(void **state)
{
    struct got *g = *state;
    struct buf b;
    buf_init(&b, 0);
    write_size(&b, MAX_EVENT_BYTES);
    buf_add_text(&b, " \n "); /* white space around it does not count */
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    assert_non_null(g->item[0].ev);
    write_size(&b, MAX_EVENT_BYTES + 1);
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    assert_int_equal(g->result, OK);
    assert_null(g->item[0].ev);
    assert_true(g->item[0].errors.too_large);
    assert_error(&g->item[0].errors, "", "is 262145 bytes; an event has at most 262144");
    buf_fini(&b);
}

static void
many_small_events_after_a_large_one_are_read_as_before(void **state)
{
    struct got *g = *state;
    struct buf b;
    buf_init(&b, 0);
    for (int round = 0; round < 2; round++) {
        write_size(&b, MAX_EVENT_BYTES);
        parse(g, buf_span(&b), EVENT_FORMAT_JSON);
        assert_non_null(g->item[0].ev);
        for (int i = 0; i < 2 * JSON_SHRINK_AFTER; i++) {
            parse_json(g, GOOD);
            assert_non_null(g->item[0].ev);
            assert_span(event_payload(g->item[0].ev), "{\"message\":\"Water issue\"}");
        }
    }
    buf_fini(&b);
}

static void
a_too_large_event_of_an_array_leaves_the_others_valid(void **state)
{
    struct got *g = *state;
    struct buf b;
    struct buf array;
    buf_init(&b, 0);
    buf_init(&array, 0);
    write_size(&b, MAX_EVENT_BYTES + 1);
    buf_add_text(&array, "[" GOOD ",");
    buf_add_span(&array, buf_span(&b));
    buf_add_text(&array, "," GOOD "]");
    parse(g, buf_span(&array), EVENT_FORMAT_JSON);
    assert_int_equal(g->result, OK);
    assert_int_equal(g->n, 3);
    assert_non_null(g->item[0].ev);
    assert_true(g->item[1].errors.too_large);
    assert_non_null(g->item[2].ev);
    buf_fini(&array);
    buf_fini(&b);
}

static void
what_is_not_json_is_refused_with_its_place(void **state)
{
    static const char *const bodies[][2] = {
        {"{", "line 1, column 2: expected a member's name in double quotes, or }"},
        {"{\"a\"}", "line 1, column 5: expected a colon"},
        {"{\"a\":}", "line 1, column 6: expected a value"},
        {"{\"a\":1,}", "line 1, column 8: expected a member's name in double quotes"},
        {"{\"a\":1 \"b\":2}", "line 1, column 8: expected a comma or }"},
        {"{\n\"a\":[1\n2]}", "line 3, column 1: expected a comma or ]"},
        {"{\"a\":[1,]}", "line 1, column 9: expected a value"},
        {"{\"a\":[1}", "line 1, column 8: expected a comma or ]"},
        {"{'a':1}", "line 1, column 2: expected a member's name"},
        {"{a:1}", "line 1, column 2: expected a member's name"},
        {"{\"a\":tru}", "line 1, column 6: expected a value"},
        {"{\"a\":undefined}", "line 1, column 6: expected a value"},
        {"{\"a\":\"x}", "a string without its closing quote"},
        {"{\"a\":\"\\x\"}", "line 1, column 8: expected an escape"},
        {"{\"a\":\"\\u12g4\"}", "line 1, column 11: expected four hexadecimal digits"},
        {"{\"a\":\"\t\"}", "line 1, column 7: a control character in a string"},
        {"{\"a\":1} // note", "line 1, column 9: expected nothing more"},
        {GOOD "}", "expected nothing more"},
        {GOOD GOOD, "expected nothing more"},
        {"", "the body is empty"},
        {" \r\n\t ", "the body is empty"},
        {"null", "expected an event, which is a JSON object, or an array"},
        {"\"text\"", "expected an event, which is a JSON object, or an array"},
        {"event_id=1&type=2", "expected an event, which is a JSON object, or an array"},
        {"\xEF\xBB\xBF" GOOD, "begins with a byte order mark"},
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        assert_broken(g, bodies[i][0], bodies[i][1]);
        assert_int_equal(g->n, 0);
    }
}

static void
a_nul_byte_is_no_end_of_text(void **state)
{
    struct got *g = *state;
    parse(g, (struct span){GOOD "\0", sizeof GOOD}, EVENT_FORMAT_JSON);
    assert_int_equal(g->result, ERR_INVALID);
    parse(g, (struct span){GOOD "\0" GOOD, sizeof GOOD * 2 - 1}, EVENT_FORMAT_JSON);
    assert_int_equal(g->result, ERR_INVALID);
    struct span inside = SPAN("{" HEAD ",\"payload\":{\"a\":\"x\0y\"}}");
    parse(g, inside, EVENT_FORMAT_JSON);
    assert_int_equal(g->result, ERR_INVALID);
    assert_error(&g->whole, "", "a control character in a string");
}

static void
an_array_gives_its_items_in_order(void **state)
{
    struct got *g = *state;
    parse_json(g, "\n[ " GOOD ",\n42 , {} ,\t\"],[\", [[1],{}]," GOOD " ]\n");
    assert_int_equal(g->result, OK);
    assert_true(g->is_batch);
    assert_int_equal(g->n, 6);
    assert_non_null(g->item[0].ev);
    assert_error(&g->item[1].errors, "", "expected an event, which is a JSON object");
    assert_int_equal(g->item[2].errors.n, 4);
    assert_error(&g->item[3].errors, "", "expected an event, which is a JSON object");
    assert_error(&g->item[4].errors, "", "expected an event, which is a JSON object");
    assert_non_null(g->item[5].ev);
}

static void
an_empty_array_is_a_batch_without_items(void **state)
{
    struct got *g = *state;
    parse_json(g, " [ ] ");
    assert_int_equal(g->result, OK);
    assert_true(g->is_batch);
    assert_int_equal(g->n, 0);
}

static void
an_array_with_broken_syntax_is_refused_as_a_whole(void **state)
{
    static const char *const bodies[][2] = {
        {"[", "line 1, column 2: an event or the array is not closed"},
        {"[" GOOD, "expected a comma or ] after an event"},
        {"[" GOOD ",", "is not closed"},
        {"[" GOOD ",]", "expected an event"},
        {"[,]", "expected an event"},
        {"[" GOOD ",," GOOD "]", "expected an event"},
        {"[" GOOD " " GOOD "]", "expected a comma or ]"},
        {"[" GOOD "]]", "expected nothing after the end of the array"},
        {"[" GOOD "] x", "expected nothing after the end of the array"},
        {"[" GOOD ",\n{\"a\":}]", "item 1 is not JSON at line 2, column 6: expected a value"},
        {"[" GOOD ",{\"a\":1]", "item 1 is not JSON at line 1, column 121: expected a comma or }"},
        {"[" GOOD ",{\"a\":[1}]]", "item 1 is not JSON"},
        {"[" GOOD "}", "expected a comma or ]"},
        {"[\"abc]", "is not closed"},
        {"[\"abc\\\"]", "is not closed"},
        {"[1 2]", "item 0 is not JSON"},
        {"[" GOOD "x]", "expected a comma or ]"},
        {"[tru]", "item 0 is not JSON at line 1, column 2"},
        {"[" GOOD "]" GOOD, "expected nothing after the end of the array"},
    };
    struct got *g = *state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        assert_broken(g, bodies[i][0], bodies[i][1]);
        assert_true(g->is_batch);
    }
}

static void
a_broken_line_is_that_lines_error_only(void **state)
{
    struct got *g = *state;
    parse(g,
          SPAN(GOOD "\r\n\n{\"event_id\":\n \t\r\n[" GOOD "]\n  " GOOD "  \n{\"\xFF\":1}\n" GOOD),
          EVENT_FORMAT_NDJSON);
    assert_int_equal(g->result, OK);
    assert_true(g->is_batch);
    assert_int_equal(g->n, 6);
    assert_non_null(g->item[0].ev);
    assert_error(&g->item[1].errors, "", "is not JSON at line 3, column 13: expected a value");
    assert_error(&g->item[2].errors, "", "expected an event, which is a JSON object");
    assert_non_null(g->item[3].ev);
    assert_error(&g->item[4].errors, "",
                 "is not JSON at line 7, column 3: bytes that are not UTF-8");
    assert_non_null(g->item[5].ev);
}

static void
ndjson_of_one_line_is_a_batch(void **state)
{
    struct got *g = *state;
    parse(g, SPAN(GOOD), EVENT_FORMAT_NDJSON);
    assert_true(g->is_batch);
    assert_int_equal(g->n, 1);
    parse(g, SPAN("\n\r\n  \n"), EVENT_FORMAT_NDJSON);
    assert_int_equal(g->result, OK);
    assert_int_equal(g->n, 0);
    parse(g, SPAN(""), EVENT_FORMAT_NDJSON);
    assert_int_equal(g->result, OK);
    assert_int_equal(g->n, 0);
}

static void
reading_stops_when_the_receiver_says_so(void **state)
{
    struct got *g = *state;
    g->stop_after = 2;
    parse_json(g, "[" GOOD "," GOOD "," GOOD ",not even JSON");
    assert_int_equal(g->result, OK);
    assert_int_equal(g->n, 2);
    parse(g, SPAN(GOOD "\n" GOOD "\n" GOOD), EVENT_FORMAT_NDJSON);
    assert_int_equal(g->n, 2);
    g->stop_after = 0;
    parse_json(g, "[" GOOD "," GOOD "," GOOD "]");
    assert_int_equal(g->n, 3);
}

static void
no_more_than_sixteen_errors_are_kept(void **state)
{
    struct got *g = *state;
    struct buf b;
    buf_init(&b, 0);
    buf_add_text(&b, "{");
    for (int i = 0; i < 100; i++) {
        buf_addf(&b, "\"x%d\":%d,", i, i);
    }
    buf_add_text(&b, HEAD ",\"payload\":{}}");
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    assert_int_equal(g->item[0].errors.n, EVENT_ERRORS_MAX);
    assert_error(&g->item[0].errors, "/x15", "unknown member");
    buf_fini(&b);
}

static void
a_long_member_name_is_cut_between_characters(void **state)
{
    struct got *g = *state;
    struct buf b;
    buf_init(&b, 0);
    for (size_t shift = 0; shift < 4; shift++) {
        buf_reset(&b);
        buf_addf(&b, "{\"%.*s", (int)shift, "aaa");
        for (int i = 0; i < 100; i++) {
            buf_add_text(&b, "\xE2\x82\xAC");
        }
        buf_add_text(&b, "\":1," HEAD ",\"payload\":{}}");
        parse(g, buf_span(&b), EVENT_FORMAT_JSON);
        const char *pointer = g->item[0].errors.item[0].pointer;
        size_t len = strlen(pointer);
        assert_in_range(len, 80, 95);
        assert_int_equal((len - 1 - shift) % 3, 0);
    }
    buf_fini(&b);
}

static void
an_event_written_as_json_is_the_same_event(void **state)
{
    struct got *g = *state;
    parse_json(g, "{\"event_id\":\"\\\"\\\\\\u00e9\\/\",\"type\":\"\xE2\x82\xAC \\ud83d\\ude00\","
                  "\"timestamp\":\"2026-02-03T12:30:00Z\",\"payload\":{ \"a\" :\n1 }}");
    struct event *first = g->item[0].ev;
    assert_non_null(first);
    struct buf b;
    buf_init(&b, 0);
    event_write_json(&b, first, SPAN(""));
    g->item[0].ev = NULL;
    parse(g, buf_span(&b), EVENT_FORMAT_JSON);
    struct event *second = g->item[0].ev;
    assert_non_null(second);
    assert_true(span_eq(event_id(first), event_id(second)));
    assert_true(span_eq(event_type(first), event_type(second)));
    assert_span(event_payload(second), "{ \"a\" :\n1 }");
    event_free(first);
    buf_reset(&b);
    event_write_json_line(&b, second, SPAN(",\"state\":\"processed\""));
    assert_span(buf_span(&b),
                "{\"event_id\":\"\\\"\\\\\xC3\xA9/\",\"type\":\"\xE2\x82\xAC \xF0\x9F\x98\x80\","
                "\"timestamp\":\"2026-02-03T12:30:00Z\",\"payload\":{ \"a\" : 1 },"
                "\"state\":\"processed\"}\n");
    buf_fini(&b);
}

static void
the_states_have_the_words_that_users_see(void **state)
{
    (void)state;
    static const char *const words[] = {"queued",    "processing", "retrying",
                                        "processed", "duplicate",  "dead"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        assert_string_equal(event_state_name((enum event_state)i), words[i]);
    }
}

/* simdjson and our own reader are two independent judges of the same texts. */
static void
the_explanation_agrees_with_the_parser_on_every_one_byte_change(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,-0.5e+3,true,null],\"\\u00e9\xC3\xA9\":{\"b\":\"\\n\"} }";
    static const char changes[] = "\"\\{}[]:,0-+.eEtu nX\x01\x7F\x80\xC3\xED\xFF\n";
    struct json_reader *r = json_open();
    assert_non_null(r);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (size_t c = 0; c < sizeof changes; c++) { /* its NUL too */
            char copy[sizeof text + BUF_SLACK] = {0};
            memcpy(copy, text, sizeof text);
            copy[i] = changes[c];
            struct span changed = {copy, sizeof text - 1};
            enum json_type top;
            size_t offset;
            bool good = json_read(r, changed, &top) == JSON_OK;
            if (good != (json_explain(changed, &offset) == NULL)) {
                fail_msg("they differ about '%s'", copy);
            }
        }
    }
    json_close(r);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_parser, close_parser)
    const struct CMUnitTest tests[] = {
        TEST(the_seed_example_is_an_event),
        TEST(the_payload_is_kept_byte_for_byte_wherever_it_stands),
        TEST(numbers_of_any_size_are_kept_as_text),
        TEST(numbers_that_json_does_not_know_are_refused),
        TEST(all_errors_of_an_event_are_said_at_once),
        TEST(every_missing_member_is_named),
        TEST(every_wrong_json_type_is_named),
        TEST(a_member_given_twice_is_an_error_even_when_escaped),
        TEST(an_error_keeps_the_id_where_it_could_be_read),
        TEST(id_and_type_may_have_up_to_128_and_64_bytes),
        TEST(lengths_count_the_utf8_of_the_unescaped_text),
        TEST(control_characters_in_id_or_type_are_refused),
        TEST(a_timestamp_must_be_a_real_rfc3339_time),
        TEST(bad_utf8_is_refused_wherever_it_stands),
        TEST(half_of_a_surrogate_pair_is_refused_inside_the_payload_too),
        TEST(an_event_may_be_64_levels_deep_and_no_more),
        TEST(an_event_may_have_the_largest_size_and_not_a_byte_more),
        TEST(many_small_events_after_a_large_one_are_read_as_before),
        TEST(a_too_large_event_of_an_array_leaves_the_others_valid),
        TEST(what_is_not_json_is_refused_with_its_place),
        TEST(a_nul_byte_is_no_end_of_text),
        TEST(an_array_gives_its_items_in_order),
        TEST(an_empty_array_is_a_batch_without_items),
        TEST(an_array_with_broken_syntax_is_refused_as_a_whole),
        TEST(a_broken_line_is_that_lines_error_only),
        TEST(ndjson_of_one_line_is_a_batch),
        TEST(reading_stops_when_the_receiver_says_so),
        TEST(no_more_than_sixteen_errors_are_kept),
        TEST(a_long_member_name_is_cut_between_characters),
        TEST(an_event_written_as_json_is_the_same_event),
        cmocka_unit_test(the_states_have_the_words_that_users_see),
        cmocka_unit_test(the_explanation_agrees_with_the_parser_on_every_one_byte_change),
    };
    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
