#include "clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct sample {
    const char *text;
    int64_t ms;
};

static void
times_are_read_to_the_millisecond(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01t00:00:00z", 0},
        {"2026-02-03T12:30:00Z", 1770121800000},
        {"2026-02-03T12:30:00.5Z", 1770121800500},
        {"2026-02-03T12:30:00.123456789Z", 1770121800123},
        {"2026-02-03T18:00:00+05:30", 1770121800000},
        {"2026-02-03T07:30:00-05:00", 1770121800000},
        {"2026-02-03T12:30:00-00:00", 1770121800000},
        {"2000-02-29T00:00:00Z", 951782400000},
        {"1969-12-31T23:59:59.999Z", -1},
        {"0000-01-01T00:00:00Z", -62167219200000},
        {"9999-12-31T23:59:59.999Z", 253402300799999},
        {"2016-12-31T23:59:60Z", 1483228800000},      /* a leap second: the next day begins */
        {"2016-12-31T18:59:60-05:00", 1483228800000}, /* the same one, elsewhere */
    };
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        int64_t ms = 0;
        const char *wrong = clock_parse_rfc3339(span_of(samples[i].text), &ms);
        if (wrong != NULL || ms != samples[i].ms) {
            fail_msg("%s: %s, %lld", samples[i].text, wrong, (long long)ms);
        }
    }
}

static void
what_is_no_rfc_3339_time_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const samples[] = {
        "",
        "2026",
        "2026-02-03",
        "2026-02-03T12:30Z",
        "2026-02-03T12:30:00",
        "2026-02-03 12:30:00Z",
        "2026-2-3T12:30:00Z",
        "2026-02-03T12:30:00.Z",
        "2026-02-03T12:30:00,5Z",
        "2026-02-03T12:30:00Zx",
        "2026-02-03T12:30:00+0530",
        "2026-02-03T12:30:00+05",
        "2026-02-03T12:30:00+24:00",
        "2026-02-03T12:30:00+05:60",
        "2026-02-03T24:00:00Z",
        "2026-02-03T12:60:00Z",
        "2026-02-03T12:30:60Z",
        "2026-02-03T23:59:60+05:30",
        "2026-02-03T12:30:61Z",
        "2026-02-30T12:30:00Z",
        "2026-02-29T12:30:00Z",
        "1900-02-29T12:30:00Z",
        "2026-00-03T12:30:00Z",
        "2026-13-03T12:30:00Z",
        "2026-02-00T12:30:00Z",
        "2026-04-31T12:30:00Z",
        "+026-02-03T12:30:00Z",
        "-2026-02-03T12:30:00Z",
        " 2026-02-03T12:30:00Z",
        "2026-02-03T12:30:00Z ",
    };
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        int64_t ms = 0;
        const char *wrong = clock_parse_rfc3339(span_of(samples[i]), &ms);
        if (wrong == NULL) {
            fail_msg("%s was read as %lld", samples[i], (long long)ms);
        }
    }
    int64_t ms = 0;
    assert_non_null(clock_parse_rfc3339(SPAN("2026-02-03T12:30:00\0Z"), &ms));
}

static void
a_time_is_written_in_utc_with_milliseconds(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"1970-01-01T00:00:00.000Z", 0},
        {"2026-02-03T12:30:00.123Z", 1770121800123},
        {"1969-12-31T23:59:59.999Z", -1},
        {"9999-12-31T23:59:59.999Z", 253402300799999},
    };
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        char text[CLOCK_RFC3339_MAX];
        assert_int_equal(clock_format_rfc3339(text, samples[i].ms), strlen(samples[i].text));
        assert_string_equal(text, samples[i].text);
    }
}

static void
every_time_that_is_written_reads_as_the_same(void **state)
{
    (void)state;
    int64_t step = (int64_t)86400000 * 97 + 3723004; /* over all months and leap years */
    for (int64_t ms = -62167219200000; ms < 253402300800000; ms += step) {
        char text[CLOCK_RFC3339_MAX];
        size_t len = clock_format_rfc3339(text, ms);
        int64_t again = 0;
        assert_null(clock_parse_rfc3339((struct span){text, len}, &again));
        assert_true(again == ms);
    }
}

static void
the_clocks_run_and_the_wall_clock_is_the_systems(void **state)
{
    (void)state;
    int64_t before = clock_mono_ns();
    assert_true(clock_mono_ns() >= before);
    int64_t apart = clock_wall_ms() - (int64_t)time(NULL) * 1000;
    assert_true(apart > -2000 && apart < 2000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_to_the_millisecond),
        cmocka_unit_test(what_is_no_rfc_3339_time_is_refused_with_a_reason),
        cmocka_unit_test(a_time_is_written_in_utc_with_milliseconds),
        cmocka_unit_test(every_time_that_is_written_reads_as_the_same),
        cmocka_unit_test(the_clocks_run_and_the_wall_clock_is_the_systems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
