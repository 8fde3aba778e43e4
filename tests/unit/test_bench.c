#include "cmd/bench_request.h"
#include "cmd/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* histogram */

static void
every_value_lands_within_one_percent(void **state)
{
    (void)state;
    for (int64_t v = 0; v < (int64_t)1 << 39; v += 1 + v / 37) {
        struct histogram *h = calloc(1, sizeof *h);
        assert_non_null(h);
        histogram_add(h, v);
        histogram_add(h, (int64_t)1 << 39); /* so that the greatest does not cut the first's */
        int64_t found = histogram_at(h, 0.5);
        assert_true(found >= v);
        assert_true(found - v <= v / 100);
        free(h);
    }
}

static void
shares_are_those_of_the_sorted_values(void **state)
{
    (void)state;
    struct histogram *h = calloc(1, sizeof *h);
    assert_non_null(h);
    for (int64_t v = 100; v >= 1; v--) {
        histogram_add(h, v);
    }
    assert_int_equal(histogram_at(h, 0.0), 1);
    assert_int_equal(histogram_at(h, 0.5), 50);
    assert_int_equal(histogram_at(h, 0.99), 99);
    assert_int_equal(histogram_at(h, 1.0), 100);
    assert_int_equal(h->max_ns, 100);
    free(h);
}

static void
a_histogram_without_values_says_zero(void **state)
{
    (void)state;
    struct histogram *h = calloc(1, sizeof *h);
    assert_non_null(h);
    assert_int_equal(histogram_at(h, 0.99), 0);
    free(h);
}

static void
negative_and_endless_times_are_counted_at_the_ends(void **state)
{
    (void)state;
    struct histogram *h = calloc(1, sizeof *h);
    assert_non_null(h);
    histogram_add(h, -5);
    histogram_add(h, INT64_MAX);
    assert_int_equal(h->total, 2);
    assert_int_equal(histogram_at(h, 0.5), 0);
    assert_int_equal(histogram_at(h, 1.0), ((int64_t)1 << HISTOGRAM_BITS) - 1);
    free(h);
}

/* requests */

static struct load_plan
a_plan(unsigned batch)
{
    struct load_plan plan = {.post = "/events", .connections = 1, .batch = batch, .seed = 7};
    strcpy(plan.target.host, "localhost:3000");
    return plan;
}

static int
compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

static void
check_ids_differ(bool sequential)
{
    enum { ROUNDS = 200, BATCH = 50 };
    struct load_plan plan = a_plan(BATCH);
    plan.sequential = sequential;
    struct request r;
    assert_int_equal(request_init(&r, &plan), OK);
    char *ids = calloc(ROUNDS * BATCH, 32);
    assert_non_null(ids);
    for (size_t i = 0; i < ROUNDS; i++) {
        request_renew(&r);
        for (size_t k = 0; k < BATCH; k++) {
            memcpy(ids + (i * BATCH + k) * 32, r.bytes.at + r.first_id + k * r.step, 32);
        }
    }
    qsort(ids, ROUNDS * BATCH, 32, compare_ids);
    for (size_t i = 1; i < ROUNDS * BATCH; i++) {
        assert_true(memcmp(ids + (i - 1) * 32, ids + i * 32, 32) < 0);
    }
    free(ids);
    request_fini(&r);
}

static void
ids_never_repeat(void **state)
{
    (void)state;
    check_ids_differ(false);
    check_ids_differ(true);
}

static void
a_request_says_its_own_length(void **state)
{
    (void)state;
    struct load_plan plan = a_plan(3);
    plan.payload_bytes = 100;
    struct request r;
    assert_int_equal(request_init(&r, &plan), OK);
    char expected[64];
    const char *body = (const char *)memmem(r.bytes.at, r.bytes.len, "\r\n\r\n", 4) + 4;
    size_t len = r.bytes.len - (size_t)(body - r.bytes.at);
    snprintf(expected, sizeof expected, "Content-Length: %zu\r\n", len);
    assert_non_null(memmem(r.bytes.at, r.bytes.len, expected, strlen(expected)));
    assert_int_equal(len, 3 * r.step);
    const char *payload = (const char *)memmem(body, len, "\"payload\":", 10) + 10;
    const char *end = memchr(payload, '\n', len);
    assert_int_equal(end - 1 - payload, 100);
    request_fini(&r);
}

/* answers */

static const char an_answer[] = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
                                "content-length:  47\r\nConnection: close\r\n\r\n"
                                "{\"accepted\":98,\"rejected\":[]}";

static void
an_answer_is_read_only_when_its_head_is_whole(void **state)
{
    (void)state;
    size_t head = (size_t)(strstr(an_answer, "\r\n\r\n") + 4 - an_answer);
    struct answer a;
    for (size_t n = 0; n < sizeof an_answer; n++) {
        char *exact = malloc(n + 1); /* so that the sanitizer sees a read beyond it */
        assert_non_null(exact);
        memcpy(exact, an_answer, n);
        enum answer_result r = answer_read(&a, (struct span){exact, n});
        assert_int_equal(r, n < head ? ANSWER_MORE : ANSWER_OK);
        free(exact);
    }
    assert_int_equal(a.status, 202);
    assert_int_equal(a.head_len, head);
    assert_int_equal(a.body_len, 47);
    assert_true(a.close);
}

static void
an_answer_of_unknown_length_is_bad(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct answer a;
        assert_int_equal(answer_read(&a, span_of(bad[i])), ANSWER_BAD);
    }
}

static void
a_count_is_found_or_not_guessed(void **state)
{
    (void)state;
    assert_int_equal(answer_count(SPAN("{\"accepted\":98,"), "\"accepted\":"), 98);
    assert_int_equal(answer_count(SPAN("{\"accepted\":0}"), "\"accepted\":"), 0);
    assert_int_equal(answer_count(SPAN("{\"accepted\":"), "\"accepted\":"), -1);
    assert_int_equal(answer_count(SPAN("{\"status\":400}"), "\"accepted\":"), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_lands_within_one_percent),
        cmocka_unit_test(shares_are_those_of_the_sorted_values),
        cmocka_unit_test(a_histogram_without_values_says_zero),
        cmocka_unit_test(negative_and_endless_times_are_counted_at_the_ends),
        cmocka_unit_test(ids_never_repeat),
        cmocka_unit_test(a_request_says_its_own_length),
        cmocka_unit_test(an_answer_is_read_only_when_its_head_is_whole),
        cmocka_unit_test(an_answer_of_unknown_length_is_bad),
        cmocka_unit_test(a_count_is_found_or_not_guessed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
