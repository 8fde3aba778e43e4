#include "log.h"

#include "clock.h"
#include "span.h"
#include "thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A log that writes into a file of its own, and what it wrote. */
struct paper {
    FILE *file;
    struct log *log;
    char text[64 * 1024];
};

static struct paper *
paper_open(enum log_level least, bool json)
{
    struct paper *p = calloc(1, sizeof *p);
    p->file = tmpfile();
    assert_non_null(p->file);
    p->log = log_open(fileno(p->file), least, json);
    assert_non_null(p->log);
    return p;
}

static const char *
paper_read(struct paper *p)
{
    ssize_t n = pread(fileno(p->file), p->text, sizeof p->text - 1, 0);
    assert_true(n >= 0);
    p->text[n] = '\0';
    return p->text;
}

static void
paper_close(struct paper *p)
{
    log_close(p->log);
    fclose(p->file);
    free(p);
}

static unsigned
count_of(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        n++;
    }
    return n;
}

static void
a_line_is_time_level_event_and_what_the_caller_says(void **state)
{
    (void)state;
    struct paper *p = paper_open(LOG_INFO, false);
    log_info(p->log, "store.open", "path=%s n=%d", "/tmp/x", 3);
    const char *text = paper_read(p);
    assert_memory_equal(text, "ts=", 3);
    int64_t ms = 0;
    const char *end = strchr(text, ' ');
    assert_null(clock_parse_rfc3339((struct span){text + 3, (size_t)(end - text - 3)}, &ms));
    assert_string_equal(end, " level=info event=store.open path=/tmp/x n=3\n");
    paper_close(p);
}

static void
json_lines_hold_the_same_members(void **state)
{
    (void)state;
    struct paper *p = paper_open(LOG_INFO, true);
    log_warn(p->log, "worker.pause", "err=%s why=\"%s\" n=1", "ERR_BUSY", "it is \\ full");
    const char *rest = strstr(paper_read(p), "\"level\"");
    assert_non_null(rest);
    assert_string_equal(rest, "\"level\":\"warn\",\"event\":\"worker.pause\",\"err\":\"ERR_BUSY\","
                              "\"why\":\"it is \\\\ full\",\"n\":\"1\"}\n");
    paper_close(p);
}

static void
an_event_without_more_to_say_ends_after_its_name(void **state)
{
    (void)state;
    struct paper *p = paper_open(LOG_INFO, false);
    log_info(p->log, "stop", "%s", "");
    assert_non_null(strstr(paper_read(p), "event=stop\n"));
    paper_close(p);
}

static void
levels_below_the_least_are_not_written(void **state)
{
    (void)state;
    struct paper *p = paper_open(LOG_WARN, false);
    log_debug(p->log, "a", "x=1");
    log_info(p->log, "b", "x=1");
    log_warn(p->log, "c", "x=1");
    log_error(p->log, "d", "x=1");
    assert_int_equal(count_of(paper_read(p), "\n"), 2);
    assert_null(strstr(p->text, "event=a"));
    assert_null(strstr(p->text, "event=b"));
    paper_close(p);
}

static void
a_line_stays_one_line_whatever_is_in_it(void **state)
{
    (void)state;
    struct paper *p = paper_open(LOG_INFO, false);
    log_info(p->log, "x", "id=%s", "a\nlevel=error\r\x1b[31m\x7f");
    assert_int_equal(count_of(paper_read(p), "\n"), 1);
    assert_non_null(strstr(p->text, "id=a?level=error??[31m?\n"));
    paper_close(p);
}

static void
a_clients_text_cannot_end_its_quotes_and_is_cut(void **state)
{
    (void)state;
    char out[LOG_VALUE_MAX];
    assert_string_equal(log_value(out, SPAN("a\" level=error \\\n\0b\x7f \xc3\xa9")),
                        "a? level=error ???b? \xc3\xa9");
    char longer[LOG_VALUE_MAX * 2];
    memset(longer, 'y', sizeof longer);
    log_value(out, (struct span){longer, sizeof longer});
    assert_int_equal(strlen(out), LOG_VALUE_MAX - 1);
    assert_string_equal(log_value(out, SPAN("")), "");
}

static void
a_very_long_line_is_cut_not_lost(void **state)
{
    (void)state;
    char longer[5000];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    struct paper *p = paper_open(LOG_INFO, true);
    log_info(p->log, "x", "id=%s", longer);
    assert_int_equal(count_of(paper_read(p), "}\n"), 1);
    assert_true(strlen(p->text) > 1000);
    paper_close(p);
}

/* The second may change while the test writes: then it starts again. */
static unsigned
write_in_one_second(struct paper *p, const char *event, unsigned times)
{
    int64_t second = 0;
    unsigned before = 0;
    do {
        before = count_of(paper_read(p), event);
        second = clock_wall_ms() / 1000;
        for (unsigned i = 0; i < times; i++) {
            log_info(p->log, event, "i=%u", i);
        }
    } while (second != clock_wall_ms() / 1000);
    return count_of(paper_read(p), event) - before;
}

static void
wait_for_next_second(void)
{
    int64_t second = clock_wall_ms() / 1000;
    while (second == clock_wall_ms() / 1000) {
    }
}

static void
repeats_are_held_back_counted_and_the_count_is_told(void **state)
{
    (void)state;
    struct paper *p = paper_open(LOG_INFO, false);
    wait_for_next_second();
    assert_int_equal(write_in_one_second(p, "busy", LOG_BURST + 7), LOG_BURST);
    uint64_t held = log_suppressed(p->log);
    assert_true(held >= 7);
    assert_true(write_in_one_second(p, "other", 1) == 1); /* another name has its own burst */
    wait_for_next_second();
    log_info(p->log, "busy", "i=%d", 99);
    char expected[64];
    snprintf(expected, sizeof expected, "i=99 suppressed=%llu\n", (unsigned long long)held);
    assert_non_null(strstr(paper_read(p), expected));
    log_info(p->log, "busy", "i=%d", 100);
    assert_non_null(strstr(paper_read(p), "i=100\n"));
    paper_close(p);
}

static void
more_names_than_the_table_holds_are_still_limited(void **state)
{
    (void)state;
    static char names[LOG_NAMES + 50][16];
    struct paper *p = paper_open(LOG_INFO, false);
    for (unsigned i = 0; i < LOG_NAMES + 50; i++) {
        snprintf(names[i], sizeof names[i], "name.%u", i);
        log_info(p->log, names[i], "i=%u", i);
    }
    unsigned lines = count_of(paper_read(p), "\n");
    assert_true(lines >= LOG_NAMES - 1 + LOG_BURST && lines < LOG_NAMES + 50);
    assert_int_equal(lines + log_suppressed(p->log), LOG_NAMES + 50);
    paper_close(p);
}

static void
write_mine(void *data)
{
    static const char *const names[] = {"t.a", "t.b", "t.c", "t.d"};
    for (unsigned i = 0; i < 40; i++) {
        log_info((struct log *)data, names[i % 4], "text=%s", "abcdefghijklmnopqrstuvwxyz");
    }
}

static void
lines_of_many_threads_do_not_mix(void **state)
{
    (void)state;
    struct paper *p = paper_open(LOG_INFO, false);
    struct thread threads[4] = {0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(thread_start(&threads[i], "writer", write_mine, p->log), OK);
    }
    for (size_t i = 0; i < 4; i++) {
        thread_join(&threads[i]);
    }
    unsigned lines = count_of(paper_read(p), "\n");
    assert_int_equal(count_of(p->text, "ts="), lines);
    assert_int_equal(count_of(p->text, "text=abcdefghijklmnopqrstuvwxyz"), lines);
    assert_int_equal(lines + log_suppressed(p->log), 160);
    paper_close(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_time_level_event_and_what_the_caller_says),
        cmocka_unit_test(json_lines_hold_the_same_members),
        cmocka_unit_test(an_event_without_more_to_say_ends_after_its_name),
        cmocka_unit_test(levels_below_the_least_are_not_written),
        cmocka_unit_test(a_line_stays_one_line_whatever_is_in_it),
        cmocka_unit_test(a_clients_text_cannot_end_its_quotes_and_is_cut),
        cmocka_unit_test(a_very_long_line_is_cut_not_lost),
        cmocka_unit_test(repeats_are_held_back_counted_and_the_count_is_told),
        cmocka_unit_test(more_names_than_the_table_holds_are_still_limited),
        cmocka_unit_test(lines_of_many_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
