#include "amqp/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_EVENT_BYTES ((size_t)256 * 1024)
#define HEAD(id) "{\"event_id\":\"" id "\",\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00Z\""
#define EVENT(id) HEAD(id) ",\"payload\":{\"of\":\"" id "\"}}"
#define NEST(data) "{\"pattern\":\"event_created\",\"data\":" data "}"

struct rig {
    struct event_parser *p;
    struct buf out;
    struct mail_list list; /* of what was read, or is to be written */
    struct event_errors wrong;
};

static int
set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->p = event_parser_open(MAX_EVENT_BYTES);
    assert_non_null(r->p);
    buf_init(&r->out, 0);
    *state = r;
    return 0;
}

static struct event *
pop(struct rig *r)
{
    return (struct event *)(void *)mail_list_pop(&r->list);
}

static void
empty(struct rig *r)
{
    for (struct event *ev; (ev = pop(r)) != NULL;) {
        event_free(ev);
    }
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    empty(r);
    buf_fini(&r->out);
    event_parser_close(r->p);
    free(r);
    return 0;
}

/* In memory of exactly its size and the slack, so that a sanitizer sees every step beyond. */
static enum err
read_bytes(struct rig *r, struct span body)
{
    char *copy = malloc(body.len + BUF_SLACK);
    assert_non_null(copy);
    memcpy(copy, body.at, body.len);
    memset(copy + body.len, '7', BUF_SLACK);
    enum err e = envelope_read(r->p, &r->list, &r->wrong, (struct span){copy, body.len});
    free(copy);
    return e;
}

static enum err
read_text(struct rig *r, const char *body)
{
    return read_bytes(r, span_of(body));
}

static void
expect_event(struct rig *r, const char *id, const char *payload)
{
    struct event *ev = pop(r);
    assert_non_null(ev);
    assert_true(span_eq(event_id(ev), span_of(id)));
    assert_true(span_eq(event_payload(ev), span_of(payload)));
    event_free(ev);
}

static void
add(struct rig *r, const char *id, struct span payload)
{
    struct event *ev = event_new(span_of(id), SPAN("T"), SPAN("2026-02-03T12:30:00Z"), payload);
    assert_non_null(ev);
    mail_list_add(&r->list, &ev->mail);
}

/* A payload of about `size` bytes; the caller's. */
static char *
large_payload(size_t size)
{
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'x', size);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + size - 2, "\"}", 3);
    return text;
}

static void
add_large(struct rig *r, const char *id, size_t size)
{
    char *payload = large_payload(size);
    add(r, id, span_of(payload));
    free(payload);
}

static size_t
write_some(struct rig *r, const struct mail **at, size_t max_events, bool nest)
{
    buf_reset(&r->out);
    return envelope_write(&r->out, at, max_events, nest);
}

/* Writes all of the list, reads it back, and compares; the list holds the copies afterwards. */
static size_t
round_trip(struct rig *r, size_t max_events, bool nest)
{
    struct mail_list sent = r->list;
    size_t messages = 0;
    r->list = (struct mail_list){0};
    for (const struct mail *at = sent.first; at != NULL; messages++) {
        size_t n = write_some(r, &at, max_events, nest);
        assert_in_range(n, 1, max_events);
        assert_int_equal(read_bytes(r, buf_span(&r->out)), OK);
    }
    assert_int_equal(r->list.count, sent.count);
    const struct mail *copy = r->list.first;
    for (struct mail *mail; (mail = mail_list_pop(&sent)) != NULL; copy = copy->next) {
        struct event *ev = (struct event *)(void *)mail;
        const struct event *back = (const struct event *)(const void *)copy;
        assert_true(span_eq(event_id(ev), event_id(back)));
        assert_true(span_eq(event_type(ev), event_type(back)));
        assert_true(span_eq(event_timestamp(ev), event_timestamp(back)));
        assert_true(span_eq(event_payload(ev), event_payload(back)));
        event_free(ev);
    }
    return messages;
}

static void
a_lone_event_is_plain_json(void **state)
{
    struct rig *r = *state;
    add(r, "a", SPAN("{\"of\": \"a\"\n}"));
    const struct mail *at = r->list.first;
    assert_int_equal(write_some(r, &at, 256, false), 1);
    assert_null(at);
    assert_true(span_eq(buf_span(&r->out), SPAN(HEAD("a") ",\"payload\":{\"of\": \"a\"\n}}")));
    assert_string_equal(envelope_content_type(1), "application/json");
}

static void
several_events_are_one_a_line(void **state)
{
    struct rig *r = *state;
    add(r, "a", SPAN("{\"of\":\n\"a\"}"));
    add(r, "b", SPAN("{\"of\":\"b\"}"));
    const struct mail *at = r->list.first;
    assert_int_equal(write_some(r, &at, 256, false), 2);
    assert_null(at);
    assert_true(span_eq(buf_span(&r->out),
                        SPAN(HEAD("a") ",\"payload\":{\"of\": \"a\"}}\n" EVENT("b") "\n")));
    assert_string_equal(envelope_content_type(2), "application/x-ndjson");
}

static void
an_envelope_ends_at_its_number_of_events(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 7; i++) {
        add(r, "a", SPAN("{}"));
    }
    const struct mail *at = r->list.first;
    assert_int_equal(write_some(r, &at, 3, false), 3);
    assert_int_equal(write_some(r, &at, 3, false), 3);
    assert_int_equal(write_some(r, &at, 3, false), 1);
    assert_int_equal(r->out.at[r->out.len - 1], '}');
    assert_null(at);
    assert_int_equal(round_trip(r, 3, false), 3);
}

static void
one_event_at_most_means_plain_json(void **state)
{
    struct rig *r = *state;
    add(r, "a", SPAN("{}"));
    add(r, "b", SPAN("{}"));
    const struct mail *at = r->list.first;
    assert_int_equal(write_some(r, &at, 1, false), 1);
    assert_int_equal(r->out.at[r->out.len - 1], '}');
    assert_ptr_equal(at, r->list.last);
}

static void
an_envelope_ends_at_its_bytes(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 10; i++) {
        add_large(r, "a", 15000);
    }
    const struct mail *at = r->list.first;
    assert_int_equal(write_some(r, &at, 256, false), 4);
    assert_true(r->out.len <= ENVELOPE_BYTES);
    assert_int_equal(round_trip(r, 256, false), 3);
}

static void
a_large_event_travels_alone(void **state)
{
    struct rig *r = *state;
    add(r, "a", SPAN("{}"));
    add_large(r, "b", 2 * ENVELOPE_BYTES);
    add(r, "c", SPAN("{}"));
    const struct mail *at = r->list.first;
    assert_int_equal(write_some(r, &at, 256, false), 1);
    assert_int_equal(r->out.at[r->out.len - 1], '}'); /* alone, though it was tried with another */
    assert_int_equal(write_some(r, &at, 256, false), 1);
    assert_true(r->out.len > ENVELOPE_BYTES);
    assert_int_equal(write_some(r, &at, 256, false), 1);
    assert_null(at);
}

static void
escapes_count_as_bytes_of_the_envelope(void **state)
{
    struct rig *r = *state;
    char id[EVENT_ID_MAX + 1];
    memset(id, '"', EVENT_ID_MAX);
    id[EVENT_ID_MAX] = '\0';
    for (int i = 0; i < 600; i++) {
        add(r, id, SPAN("{}"));
    }
    const struct mail *at = r->list.first;
    while (at != NULL) {
        assert_true(write_some(r, &at, 1000, false) > 0);
        assert_true(r->out.len <= ENVELOPE_BYTES);
    }
    (void)round_trip(r, 1000, false);
}

static void
an_envelope_is_appended(void **state)
{
    struct rig *r = *state;
    add(r, "a", SPAN("{}"));
    add(r, "b", SPAN("{}"));
    const struct mail *at = r->list.first;
    buf_add_text(&r->out, "before:");
    assert_int_equal(envelope_write(&r->out, &at, 1, false), 1);
    assert_memory_equal(r->out.at, "before:{\"event_id\":\"a\"", 22);
}

static void
without_memory_nothing_is_written(void **state)
{
    struct rig *r = *state;
    add(r, "a", SPAN("{}"));
    add(r, "b", SPAN("{}"));
    buf_init(&r->out, 20);
    const struct mail *at = r->list.first;
    assert_int_equal(envelope_write(&r->out, &at, 256, false), 0);
    assert_ptr_equal(at, r->list.first);
}

static void
text_of_any_kind_survives_the_way(void **state)
{
    struct rig *r = *state;
    add(r, "quote\"back\\slash/\xC3\xA9\xF0\x9F\x98\x80",
        SPAN("{\"a\":\"\\n\\\"\\u0000\xC3\xA9\"}"));
    add(r, "}{", SPAN("{\"a\":[1e400,-0,{\"}\":\"{\"}]}"));
    add(r, " ", SPAN("{ }"));
    assert_int_equal(round_trip(r, 256, false), 1);
    assert_int_equal(round_trip(r, 1, false), 3);
    assert_int_equal(round_trip(r, 1, true), 3);
}

static void
the_older_form_carries_one_event(void **state)
{
    struct rig *r = *state;
    add(r, "a", SPAN("{\"of\":\"a\"}"));
    add(r, "b", SPAN("{}"));
    const struct mail *at = r->list.first;
    assert_int_equal(write_some(r, &at, 256, true), 1);
    assert_ptr_equal(at, r->list.last);
    assert_true(span_eq(buf_span(&r->out), SPAN(NEST(EVENT("a")))));
}

static void
the_older_form_is_read(void **state)
{
    struct rig *r = *state;
    assert_int_equal(read_text(r, NEST(EVENT("a"))), OK);
    assert_int_equal(
        read_text(r, "\n{ \"data\" : " EVENT("b") "\n,\n\"p\\u0061ttern\":\"event_created\" }\n"),
        OK);
    expect_event(r, "a", "{\"of\":\"a\"}");
    expect_event(r, "b", "{\"of\":\"b\"}");
}

static void
the_older_form_of_something_else_is_refused(void **state)
{
    static const char *const bodies[] = {
        "{\"pattern\":\"event_deleted\",\"data\":" EVENT("a") "}",
        "{\"pattern\":7,\"data\":" EVENT("a") "}",
        "{\"data\":" EVENT("a") "}",
        "{\"pattern\":\"event_created\"}",
        "{\"pattern\":\"event_created\",\"data\":[" EVENT("a") "]}",
        "{\"pattern\":\"event_created\",\"data\":\"x\"}",
        "{\"pattern\":\"event_created\",\"data\":" EVENT("a") ",\"data\":" EVENT("b") "}",
        "{\"pattern\":\"event_created\",\"pattern\":\"event_created\",\"data\":" EVENT("a") "}",
        "{\"pattern\":\"event_created\",\"id\":\"1\",\"data\":" EVENT("a") "}",
        NEST(NEST(EVENT("a"))),
        NEST(EVENT("a")) "\n" NEST(EVENT("b")),
    };
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        assert_int_equal(read_text(r, bodies[i]), ERR_INVALID);
        assert_int_equal(r->list.count, 0);
        assert_true(r->wrong.n > 0);
    }
}

static void
what_is_wrong_inside_the_older_form_is_said(void **state)
{
    struct rig *r = *state;
    assert_int_equal(read_text(r, NEST(HEAD("a") ",\"payload\":7}")), ERR_INVALID);
    assert_string_equal(r->wrong.item[0].pointer, "/payload");
}

static void
a_lone_event_over_many_lines_is_read(void **state)
{
    struct rig *r = *state;
    assert_int_equal(
        read_text(
            r,
            "{\n\"event_id\":\"a\",\n\"type\":\"T\",\n\"timestamp\":\"2026-02-03T12:30:00Z\",\r\n"
            "\"payload\":{\n\"of\":\"a\"}\n}\n"),
        OK);
    expect_event(r, "a", "{\n\"of\":\"a\"}");
}

static void
lines_and_arrays_are_read(void **state)
{
    struct rig *r = *state;
    assert_int_equal(read_text(r, EVENT("a") "\r\n\n" EVENT("b")), OK);
    assert_int_equal(read_text(r, "[" EVENT("c") ",\n" EVENT("d") "]"), OK);
    expect_event(r, "a", "{\"of\":\"a\"}");
    expect_event(r, "b", "{\"of\":\"b\"}");
    expect_event(r, "c", "{\"of\":\"c\"}");
    expect_event(r, "d", "{\"of\":\"d\"}");
    assert_int_equal(r->list.count, 0);
}

static void
one_bad_event_makes_the_message_foreign_and_leaves_the_list(void **state)
{
    struct rig *r = *state;
    assert_int_equal(read_text(r, EVENT("a")), OK);
    assert_int_equal(read_text(r, EVENT("b") "\n" HEAD("c") "}\n" EVENT("d") "\n"), ERR_INVALID);
    assert_string_equal(r->wrong.item[0].pointer, "/payload");
    assert_int_equal(read_text(r, "[" EVENT("b") ", 7]"), ERR_INVALID);
    assert_int_equal(read_text(r, "[" EVENT("b") ","), ERR_INVALID);
    assert_int_equal(r->list.count, 1);
    expect_event(r, "a", "{\"of\":\"a\"}");
}

static void
what_holds_no_event_is_foreign(void **state)
{
    static const char *const bodies[] = {
        "",     " \n",          "[]",     "7",        "null",     "{}",   "{",
        "\"\"", "hello\nworld", "{}\n{}", "\xFF\xFE", "{\"a\":1", "}\n{", "\xEF\xBB\xBF" EVENT("a"),
    };
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        assert_int_equal(read_text(r, bodies[i]), ERR_INVALID);
        assert_int_equal(r->list.count, 0);
        assert_in_range(r->wrong.n, 1, EVENT_ERRORS_MAX);
        assert_true(r->wrong.item[0].detail[0] != '\0');
    }
    assert_int_equal(read_bytes(r, SPAN("\0\0")), ERR_INVALID);
}

static void
an_event_larger_than_allowed_is_foreign_in_each_form(void **state)
{
    struct rig *r = *state;
    static const char *const around[][2] = {{"", ""},
                                            {"{\"pattern\":\"event_created\",\"data\":", "}"}};
    for (size_t i = 0; i < 2; i++) {
        for (size_t over = 0; over < 2; over++) {
            char *payload =
                large_payload(MAX_EVENT_BYTES - strlen(HEAD("a") ",\"payload\":}") + over);
            buf_reset(&r->out);
            buf_addf(&r->out, "%s" HEAD("a") ",\"payload\":%s}%s", around[i][0], payload,
                     around[i][1]);
            assert_int_equal(read_bytes(r, buf_span(&r->out)), over ? ERR_INVALID : OK);
            assert_true(!over || r->wrong.too_large);
            free(payload);
        }
    }
    assert_int_equal(r->list.count, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lone_event_is_plain_json),
        TEST(several_events_are_one_a_line),
        TEST(an_envelope_ends_at_its_number_of_events),
        TEST(one_event_at_most_means_plain_json),
        TEST(an_envelope_ends_at_its_bytes),
        TEST(a_large_event_travels_alone),
        TEST(escapes_count_as_bytes_of_the_envelope),
        TEST(an_envelope_is_appended),
        TEST(without_memory_nothing_is_written),
        TEST(text_of_any_kind_survives_the_way),
        TEST(the_older_form_carries_one_event),
        TEST(the_older_form_is_read),
        TEST(the_older_form_of_something_else_is_refused),
        TEST(what_is_wrong_inside_the_older_form_is_said),
        TEST(a_lone_event_over_many_lines_is_read),
        TEST(lines_and_arrays_are_read),
        TEST(one_bad_event_makes_the_message_foreign_and_leaves_the_list),
        TEST(what_holds_no_event_is_foreign),
        TEST(an_event_larger_than_allowed_is_foreign_in_each_form),
    };
    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
