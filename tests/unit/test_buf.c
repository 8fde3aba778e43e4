#include "buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
assert_holds(const struct buf *b, const char *text)
{
    assert_true(buf_ok(b));
    assert_true(span_eq(buf_span(b), span_of(text)));
}

static void
appends_follow_each_other(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_add(&b, "one", 3);
    buf_add_span(&b, SPAN(" two"));
    buf_add_text(&b, " three");
    buf_addf(&b, " %d%s", 4, "!");
    assert_holds(&b, "one two three 4!");
    buf_fini(&b);
}

static void
bytes_survive_growing(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    for (unsigned i = 0; i < 100000; i++) {
        unsigned char c = (unsigned char)(i * 31);
        buf_add(&b, &c, 1);
    }
    assert_true(buf_ok(&b));
    assert_int_equal(b.len, 100000);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal((unsigned char)b.at[i], (unsigned char)(i * 31));
    }
    buf_fini(&b);
}

static void
slack_after_the_bytes_can_be_read(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 300); /* not a power of two: the last growth is cut to the limit */
    for (size_t i = 0; i < 300; i++) {
        buf_add(&b, "x", 1);
        unsigned sum = 0;
        for (size_t k = 0; k < BUF_SLACK; k++) {
            sum += b.at[b.cap + k] != 0;
        }
        assert_int_equal(sum, 0);
    }
    buf_fini(&b);
}

static void
an_append_over_the_limit_fails_whole_and_so_do_all_later_ones(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_add_text(&b, "12345678");
    buf_add_text(&b, "abc");
    assert_false(buf_ok(&b));
    buf_add_text(&b, "z");
    assert_int_equal(b.len, 8);
    assert_memory_equal(b.at, "12345678", 8);
    buf_reset(&b);
    buf_add_text(&b, "1234567890");
    assert_holds(&b, "1234567890");
    buf_fini(&b);
}

static void
a_size_that_would_overflow_is_refused(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_add_text(&b, "x");
    assert_int_equal(buf_reserve(&b, SIZE_MAX), ERR_NOMEM);
    assert_int_equal(buf_reserve(&b, 1), ERR_NOMEM); /* failed stays failed */
    buf_reset(&b);
    assert_int_equal(buf_reserve(&b, 1), OK);
    buf_fini(&b);
}

static void
json_strings_are_escaped_where_they_must_be_and_only_there(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_add_json_string(&b, SPAN("a\"b\\c/\n\x01\x1f\x7f\0 \xc3\xa9"));
    assert_holds(&b, "\"a\\\"b\\\\c/\\u000a\\u0001\\u001f\x7f\\u0000 \xc3\xa9\"");
    buf_reset(&b);
    buf_add_json_string(&b, SPAN(""));
    assert_holds(&b, "\"\"");
    buf_fini(&b);
}

static void
consumed_bytes_leave_from_the_front(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_add_text(&b, "GET /events");
    buf_consume(&b, 4);
    assert_holds(&b, "/events");
    buf_consume(&b, 7);
    assert_holds(&b, "");
    buf_fini(&b);
}

static void
a_buffer_can_be_used_again_after_fini(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    buf_add_text(&b, "1234");
    buf_fini(&b);
    assert_int_equal(b.len, 0);
    buf_add_text(&b, "5678");
    assert_holds(&b, "5678");
    buf_add_text(&b, "9"); /* the limit is still its own */
    assert_false(buf_ok(&b));
    buf_fini(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_follow_each_other),
        cmocka_unit_test(bytes_survive_growing),
        cmocka_unit_test(slack_after_the_bytes_can_be_read),
        cmocka_unit_test(an_append_over_the_limit_fails_whole_and_so_do_all_later_ones),
        cmocka_unit_test(a_size_that_would_overflow_is_refused),
        cmocka_unit_test(json_strings_are_escaped_where_they_must_be_and_only_there),
        cmocka_unit_test(consumed_bytes_leave_from_the_front),
        cmocka_unit_test(a_buffer_can_be_used_again_after_fini),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
