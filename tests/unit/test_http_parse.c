/* Requests, good and bad, each given whole, byte by byte and cut in two at every place: what the
 * parser says must not depend on it. */
#include "../http_feed.h"
#include "http_cases.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static size_t
whole(void *data, size_t left)
{
    (void)data;
    return left;
}

static size_t
single(void *data, size_t left)
{
    (void)data;
    (void)left;
    return 1;
}

/* data: the length of the first piece; then the rest at once. */
static size_t
first_then_rest(void *data, size_t left)
{
    size_t first = *(size_t *)data;
    *(size_t *)data = left;
    return first;
}

static bool
has(const struct http_fed *fed, const char *text)
{
    return memmem(fed->text.at, fed->text.len, text, strlen(text)) != NULL;
}

static void
check_same(const char *name, const struct http_fed *want, struct http_fed got)
{
    if (!span_eq(buf_span(&want->text), buf_span(&got.text))) {
        fail_msg("%s: split matters:\n%.*s\n--- against\n%.*s", name, SPAN_FMT(got.text),
                 SPAN_FMT(want->text));
    }
    buf_fini(&got.text);
}

/* The same in any split; what it says when whole. Free with buf_fini. */
static struct http_fed
feed_every_way(const char *name, struct span bytes)
{
    struct http_fed fed = http_feed(bytes, MAX_BODY, whole, NULL);
    check_same(name, &fed, http_feed(bytes, MAX_BODY, single, NULL));
    for (size_t cut = 1; cut < bytes.len; cut++) {
        size_t first = cut;
        check_same(name, &fed, http_feed(bytes, MAX_BODY, first_then_rest, &first));
    }
    return fed;
}

static void
good_requests_are_read_the_same_in_any_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct http_fed fed = feed_every_way(good[i].name, good[i].bytes);
        if (fed.status != 0 || fed.requests == 0 || !has(&fed, good[i].text) ||
            !has(&fed, "end idle")) {
            fail_msg("%s: %.*s", good[i].name, SPAN_FMT(fed.text));
        }
        buf_fini(&fed.text);
    }
}

static void
bad_requests_are_refused_the_same_in_any_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct http_fed fed = feed_every_way(bad[i].name, bad[i].bytes);
        if (fed.status != bad[i].status || strcmp(fed.error, bad[i].text) != 0) {
            fail_msg("%s: %.*s", bad[i].name, SPAN_FMT(fed.text));
        }
        buf_fini(&fed.text);
    }
}

static void
truncated_requests_are_never_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct http_fed all = http_feed(good[i].bytes, MAX_BODY, whole, NULL);
        for (size_t len = 0; len < good[i].bytes.len; len++) {
            struct span part = {good[i].bytes.at, len};
            struct http_fed fed = http_feed(part, MAX_BODY, whole, NULL);
            check_same(good[i].name, &fed, http_feed(part, MAX_BODY, single, NULL));
            assert_int_equal(fed.status, 0);
            assert_true(fed.requests < all.requests);
            buf_fini(&fed.text);
        }
        buf_fini(&all.text);
    }
}

/* --- limits: `unit` n times between two texts --- */

static struct http_fed
feed_repeated(const char *before, const char *unit, size_t n, const char *after)
{
    struct buf bytes;
    buf_init(&bytes, 0);
    buf_add_text(&bytes, before);
    for (size_t i = 0; i < n; i++) {
        buf_add_text(&bytes, unit);
    }
    buf_add_text(&bytes, after);
    assert_true(buf_ok(&bytes));
    struct http_fed fed = http_feed(buf_span(&bytes), MAX_BODY, whole, NULL);
    check_same(before, &fed, http_feed(buf_span(&bytes), MAX_BODY, single, NULL));
    size_t first = bytes.len / 2;
    check_same(before, &fed, http_feed(buf_span(&bytes), MAX_BODY, first_then_rest, &first));
    buf_fini(&bytes);
    return fed;
}

/* n units are the most that is taken; one more is answered with status. */
static void
check_limit(const char *before, const char *unit, size_t n, const char *after, int status)
{
    struct http_fed fits = feed_repeated(before, unit, n, after);
    assert_int_equal(fits.status, 0);
    assert_int_equal(fits.requests, 1);
    buf_fini(&fits.text);
    struct http_fed over = feed_repeated(before, unit, n + 1, after);
    assert_int_equal(over.status, status);
    assert_int_equal(over.requests, 0);
    buf_fini(&over.text);
}

static void
targets_are_8192_bytes_at_most(void **state)
{
    (void)state;
    check_limit("GET /", "a", 8191, " HTTP/1.1\r\nHost: a\r\n\r\n", 414);
    check_limit("GET /?", "a", 8190, " HTTP/1.1\r\nHost: a\r\n\r\n", 414);
}

static void
methods_are_32_bytes_at_most(void **state)
{
    (void)state;
    check_limit("", "M", 32, " / HTTP/1.1\r\nHost: a\r\n\r\n", 501);
}

static void
heads_are_16384_bytes_at_most(void **state)
{
    (void)state;
    const char *before = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    check_limit(before, "x", 16384 - strlen(before) - 4, "\r\n\r\n", 431);
}

static void
heads_have_64_fields_at_most(void **state)
{
    (void)state;
    check_limit("GET / HTTP/1.1\r\nHost: a\r\n", "X: y\r\n", 63, "\r\n", 431);
}

static void
chunk_extensions_are_256_bytes_at_most_in_all(void **state)
{
    (void)state;
    check_limit(CHUNKED "1;", "e", 256, "\r\nx\r\n0\r\n\r\n", 400);
    check_limit(CHUNKED, "1;e\r\nx\r\n", 256, "0\r\n\r\n", 400);
}

static void
trailers_are_16_and_4096_bytes_at_most(void **state)
{
    (void)state;
    check_limit(CHUNKED "0\r\n", "X: y\r\n", 16, "\r\n", 431);
    check_limit(CHUNKED "0\r\nX: ", "y", 4093, "\r\n\r\n", 431);
}

static void
a_request_line_without_end_is_refused_at_its_limit(void **state)
{
    (void)state;
    const struct {
        const char *before, *unit;
        int status;
    } endless[] = {{"GET /", "a", 414}, {"", "A", 501}, {"", "/", 400}, {"GET", "\"", 400}};
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        struct http_fed fed = feed_repeated(endless[i].before, endless[i].unit, 20000, "");
        assert_int_equal(fed.status, endless[i].status);
        assert_true(fed.consumed <= 8192 + 64);
        buf_fini(&fed.text);
    }
}

static void
fields_without_end_are_refused_at_the_heads_limit(void **state)
{
    (void)state;
    struct http_fed fed = feed_repeated("GET / HTTP/1.1\r\nX: ", "a", 40000, "");
    assert_int_equal(fed.status, 431);
    assert_int_equal(fed.consumed, 16384);
    buf_fini(&fed.text);
}

/* --- bodies --- */

static void
write_fixed(struct buf *out, struct span body)
{
    buf_addf(out, HEAD "Content-Length: %zu\r\n\r\n", body.len);
    buf_add_span(out, body);
}

/* In chunks of growing length. */
static void
write_chunked(struct buf *out, struct span body)
{
    buf_add_text(out, CHUNKED);
    size_t len = 1;
    for (size_t at = 0; at < body.len; at += len) {
        len = len * 3 / 2 + 1;
        len = len > body.len - at ? body.len - at : len;
        buf_addf(out, "%zX\r\n", len);
        buf_add(out, body.at + at, len);
        buf_add_text(out, "\r\n");
    }
    buf_add_text(out, "0\r\n\r\n");
}

static void
check_body(struct span bytes, struct span body, size_t max_body, http_piece *piece, void *data)
{
    struct http_fed fed = http_feed(bytes, max_body, piece, data);
    if (body.len > max_body) {
        assert_int_equal(fed.status, 413);
        assert_int_equal(fed.requests, 0);
    } else {
        assert_int_equal(fed.requests, 1);
        assert_true(body.len == 0 || memmem(fed.text.at, fed.text.len, body.at, body.len) != NULL);
        char text[32];
        snprintf(text, sizeof text, " body=%zu:", body.len);
        assert_true(has(&fed, text));
    }
    buf_fini(&fed.text);
}

static void
check_body_of(size_t len, size_t max_body)
{
    char *body = malloc(len + 1);
    assert_non_null(body);
    for (size_t i = 0; i < len; i++) {
        body[i] = (char)(i * 7 + i / 251);
    }
    void (*const writers[])(struct buf *, struct span) = {write_fixed, write_chunked};
    for (size_t i = 0; i < 2; i++) {
        struct buf bytes;
        buf_init(&bytes, 0);
        writers[i](&bytes, (struct span){body, len});
        assert_true(buf_ok(&bytes));
        struct span all = buf_span(&bytes);
        size_t first = all.len - len / 2 - 1;
        check_body(all, (struct span){body, len}, max_body, whole, NULL);
        check_body(all, (struct span){body, len}, max_body, single, NULL);
        check_body(all, (struct span){body, len}, max_body, first_then_rest, &first);
        buf_fini(&bytes);
    }
    free(body);
}

static void
bodies_of_every_size_are_read_up_to_the_limit(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 310; len++) {
        check_body_of(len, 300);
    }
    const size_t turns[] = {16383, 16384, 16385, 32768, 65535, 65536, 65537};
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        check_body_of(turns[i], 65536);
    }
    check_body_of(0, 0);
    check_body_of(1, 0);
}

/* --- the parser as an object --- */

static const char post[] = HEAD "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

static enum http_parse_result
parse(struct http_parser *p, struct span *in)
{
    enum http_parse_result result = http_parse(p, in);
    return result == HTTP_HEADERS ? http_parse(p, in) : result;
}

static void
a_whole_request_is_neither_copied_nor_allocated(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    size_t before = mallinfo2().uordblks;
    struct span in = SPAN(post);
    assert_int_equal(parse(p, &in), HTTP_REQUEST);
    const struct http_request *r = http_parser_request(p);
    assert_ptr_equal(r->method_name.at, post);
    assert_ptr_equal(r->body.at, post + sizeof post - 3);
    assert_int_equal(http_parser_body_bytes(p), 0);
    assert_int_equal(mallinfo2().uordblks, before);
    http_parser_close(p);
}

static void
an_idle_parser_is_small(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(1 << 20);
    struct http_fed fed = {.error = ""};
    for (size_t i = 0; i + 1 < sizeof post; i++) {
        assert_true(http_fed_piece(&fed, p, (struct span){post + i, 1}));
    }
    assert_int_equal(fed.requests, 1);
    assert_true(http_parser_idle(p));
    assert_true(malloc_usable_size(p) <= 320);
    http_parser_close(p);
    buf_fini(&fed.text);
}

static void
promised_bodies_take_no_memory_before_they_come(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(1 << 30);
    struct span in = SPAN(HEAD "Content-Length: 1000000000\r\n\r\n");
    assert_int_equal(parse(p, &in), HTTP_MORE);
    assert_int_equal(http_parser_body_bytes(p), 0);
    assert_int_equal(http_parser_request(p)->body_expected, 1000000000);
    in = SPAN("{");
    assert_int_equal(parse(p, &in), HTTP_MORE);
    assert_true(http_parser_body_bytes(p) <= 16384);
    http_parser_close(p);
}

static void
states_are_idle_head_body_and_idle_again(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    struct span in = SPAN("\r\n");
    assert_int_equal(http_parse(p, &in), HTTP_MORE);
    assert_true(http_parser_idle(p));
    in = (struct span){post, 1};
    assert_int_equal(http_parse(p, &in), HTTP_MORE);
    assert_true(!http_parser_idle(p) && !http_parser_in_body(p));
    in = (struct span){post + 1, sizeof post - 2};
    assert_int_equal(http_parse(p, &in), HTTP_HEADERS);
    assert_true(!http_parser_idle(p) && http_parser_in_body(p));
    assert_int_equal(in.len, 2);
    assert_int_equal(http_parse(p, &in), HTTP_REQUEST);
    assert_true(!http_parser_idle(p) && !http_parser_in_body(p));
    http_parser_next(p);
    assert_true(http_parser_idle(p) && !http_parser_in_body(p));
    http_parser_close(p);
}

static void
an_error_stays(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    struct span in = SPAN("GET / HTTP/3.0\r\nHost: a\r\n\r\n");
    assert_int_equal(http_parse(p, &in), HTTP_ERROR);
    assert_int_equal(in.len, 11);
    in = SPAN(post);
    assert_int_equal(http_parse(p, &in), HTTP_ERROR);
    assert_int_equal(in.len, sizeof post - 1);
    assert_int_equal(http_parser_status(p), 505);
    http_parser_close(p);
}

static void
close_takes_nothing(void **state)
{
    (void)state;
    http_parser_close(NULL);
}

/* --- looking things up --- */

static void
fields_are_found_without_case_and_trimmed(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    struct span in = SPAN("GET / HTTP/1.1\r\nHost: a\r\nX-Long: no\r\nX-L: \t yes \t\r\nX-l: "
                          "second\r\nEmpty:\r\n\r\n");
    assert_int_equal(http_parse(p, &in), HTTP_REQUEST);
    const struct http_request *r = http_parser_request(p);
    assert_true(span_eq(http_request_field(r, "x-l"), SPAN("yes")));
    assert_true(span_eq(http_request_field(r, "HOST"), SPAN("a")));
    assert_non_null(http_request_field(r, "empty").at);
    assert_int_equal(http_request_field(r, "empty").len, 0);
    assert_null(http_request_field(r, "x").at);
    assert_null(http_request_field(r, "absent").at);
    assert_null(http_request_field(r, "").at);
    http_parser_close(p);
}

static void
query_parameters_are_decoded_and_found_once(void **state)
{
    (void)state;
    const struct {
        const char *query, *name, *value;
        int found;
    } cases[] = {
        {"type=A&limit=10", "limit", "10", 1},
        {"type=A&limit=10", "type", "A", 1},
        {"type=A", "typ", "", 0},
        {"typ=A", "type", "", 0},
        {"", "type", "", 0},
        {"&&type=A&", "type", "A", 1},
        {"type", "type", "", 1},
        {"type=", "type", "", 1},
        {"type=a=b", "type", "a=b", 1},
        {"t%79pe=%41+%2b%e9", "type", "A +\xe9", 1},
        {"type=12345678901", "type", "12345678901", 1},
        {"type=%31%32%33%34%35%36%37%38%39%30%31", "type", "12345678901", 1},
        {"type=123456789012", "type", "", -1},
        {"type=A&type=A", "type", "", -1},
        {"type=A&%74ype=B", "type", "", -1},
        {"type=%4", "type", "", -1},
        {"type=%4&x", "type", "", -1},
        {"type=%zz", "type", "", -1},
        {"type=a%00b", "type", "", -1},
        {"x=%zz&type=A", "type", "A", 1},
        {"%zz=1&typ%4=2&type=A", "type", "A", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[12] = "unset";
        int found = http_query_get(span_of(cases[i].query), cases[i].name, out, sizeof out);
        if (found != cases[i].found || (found == 1 && strcmp(out, cases[i].value) != 0)) {
            fail_msg("%s: %d %s", cases[i].query, found, out);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests_are_read_the_same_in_any_split),
        cmocka_unit_test(bad_requests_are_refused_the_same_in_any_split),
        cmocka_unit_test(truncated_requests_are_never_requests),
        cmocka_unit_test(targets_are_8192_bytes_at_most),
        cmocka_unit_test(methods_are_32_bytes_at_most),
        cmocka_unit_test(heads_are_16384_bytes_at_most),
        cmocka_unit_test(heads_have_64_fields_at_most),
        cmocka_unit_test(chunk_extensions_are_256_bytes_at_most_in_all),
        cmocka_unit_test(trailers_are_16_and_4096_bytes_at_most),
        cmocka_unit_test(a_request_line_without_end_is_refused_at_its_limit),
        cmocka_unit_test(fields_without_end_are_refused_at_the_heads_limit),
        cmocka_unit_test(bodies_of_every_size_are_read_up_to_the_limit),
        cmocka_unit_test(a_whole_request_is_neither_copied_nor_allocated),
        cmocka_unit_test(an_idle_parser_is_small),
        cmocka_unit_test(promised_bodies_take_no_memory_before_they_come),
        cmocka_unit_test(states_are_idle_head_body_and_idle_again),
        cmocka_unit_test(an_error_stays),
        cmocka_unit_test(close_takes_nothing),
        cmocka_unit_test(fields_are_found_without_case_and_trimmed),
        cmocka_unit_test(query_parameters_are_decoded_and_found_once),
    };
    return cmocka_run_group_tests_name("http_parse", tests, NULL, NULL);
}
