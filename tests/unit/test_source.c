/* How weir send finds the events of a file, and reads the answers of an API. */
#include "cmd/scan.h"
#include "cmd/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct source *
open_text(const void *bytes, size_t len, char why[SOURCE_WHY_MAX])
{
    char path[] = "/tmp/weir-source-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
    struct source *s = NULL;
    enum err e = source_open(&s, path, why);
    unlink(path);
    assert_true((e == OK) == (s != NULL));
    return s;
}

/* expected: "line:text" of every item, in order, ended by NULL. */
static void
check(const char *text, const char *const *expected)
{
    char why[SOURCE_WHY_MAX];
    struct source *s = open_text(text, strlen(text), why);
    assert_non_null(s);
    struct source_item item;
    while (source_next(s, &item) == OK) {
        char found[256];
        snprintf(found, sizeof found, "%d:%.*s", (int)item.line, SPAN_FMT(item.text));
        assert_non_null(*expected);
        assert_string_equal(found, *expected++);
    }
    assert_null(*expected);
    source_close(s);
}
#define CHECK(text, ...) check(text, (const char *const[]){__VA_ARGS__, NULL})

static void
lines_are_events_and_blank_lines_are_none(void **state)
{
    (void)state;
    CHECK("{\"a\":1}\n{\"b\":2}\n", "1:{\"a\":1}", "2:{\"b\":2}");
    CHECK("\n \r\n{\"a\":1}\r\n\t\n{\"b\":2}", "3:{\"a\":1}", "5:{\"b\":2}");
    CHECK("\xef\xbb\xbf{\"a\":1}\n", "1:{\"a\":1}");
    CHECK("", NULL);
    CHECK("\n\n  \n", NULL);
}

static void
broken_lines_stay_lines_of_their_own(void **state)
{
    (void)state;
    CHECK("{\"a\n{\"b\":2}\nnonsense\n", "1:{\"a", "2:{\"b\":2}", "3:nonsense");
    CHECK("{\n{\n", "1:{", "2:{");
}

static void
an_array_gives_its_items_with_their_lines(void **state)
{
    (void)state;
    CHECK("[{\"a\":1},{\"b\":[2,3]}]", "1:{\"a\":1}", "1:{\"b\":[2,3]}");
    CHECK("\n[\n  {\n \"a\":1\n}\n,\n  7 ]\n", "3:{  \"a\":1 }", "7:7");
    CHECK("[\"]\",\"\\\"[\"]", "1:\"]\"", "1:\"\\\"[\"");
    CHECK("[\"a\nb\",\n\"\\\"\n\"]", "1:\"a\tb\"", "3:\"\\\"\t\"");
    CHECK(" [ ] ", NULL);
}

static void
an_object_over_several_lines_is_one_event(void **state)
{
    (void)state;
    CHECK("{\n \"a\": \"}\"\n}\n", "1:{  \"a\": \"}\" }");
    CHECK("{\n \"a\": 1\n}\n{\"b\":2}\n", "1:{", "2: \"a\": 1", "3:}", "4:{\"b\":2}");
}

static void
a_broken_array_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char *const broken[] = {"[", "[\n{\"a\":1}\n", "[{\"a\":1}\n{\"b\":2}]",
                                         "[1,2]\n3", "[\n{\"a\":1]"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char why[SOURCE_WHY_MAX];
        assert_null(open_text(broken[i], strlen(broken[i]), why));
        assert_non_null(strstr(why, "line "));
    }
}

static void
a_line_that_is_too_long_is_named_and_passed_over(void **state)
{
    (void)state;
    size_t len = SOURCE_LINE_MAX + 1000000;
    char *text = malloc(len + 16);
    assert_non_null(text);
    memcpy(text, "1\n", 2);
    memset(text + 2, 'x', len);
    memcpy(text + 2 + len, "\n2\n", 3);
    char why[SOURCE_WHY_MAX];
    struct source *s = open_text(text, len + 5, why);
    assert_non_null(s);
    struct source_item item;
    assert_int_equal(source_next(s, &item), OK);
    assert_null(item.problem);
    assert_int_equal(source_next(s, &item), OK);
    assert_non_null(item.problem);
    assert_int_equal(item.line, 2);
    assert_int_equal(source_next(s, &item), OK);
    assert_int_equal(item.line, 3);
    assert_true(span_eq(item.text, SPAN("2")));
    assert_int_equal(source_next(s, &item), ERR_NOT_FOUND);
    source_close(s);
    free(text);
}

static void
lines_are_the_same_wherever_reading_pauses(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 0);
    for (int i = 0; i < 30000; i++) {
        buf_addf(&text, "{\"n\":%d,\"filler\":\"%*d\"}\n", i, 10 + i % 90, i);
    }
    char why[SOURCE_WHY_MAX];
    struct source *s = open_text(text.at, text.len, why);
    assert_non_null(s);
    struct span rest = buf_span(&text);
    struct source_item item;
    while (source_next(s, &item) == OK) {
        assert_true(item.text.len < rest.len);
        assert_memory_equal(item.text.at, rest.at, item.text.len);
        rest.at += item.text.len + 1;
        rest.len -= item.text.len + 1;
    }
    assert_int_equal(rest.len, 0);
    uint64_t done, total;
    source_progress(s, &done, &total);
    assert_int_equal(done, text.len);
    assert_int_equal(total, text.len);
    source_close(s);
    buf_fini(&text);
}

/* scan */

static void
check_text(const char *json, const char *expected)
{
    struct buf out;
    buf_init(&out, 0);
    scan_text(&out, span_of(json));
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(out.at, expected, out.len);
    buf_fini(&out);
}

static void
strings_are_unescaped(void **state)
{
    (void)state;
    check_text("\"a\\\"b\\\\c\\/d\\n\"", "a\"b\\c/d\n");
    check_text("\"\\u00e9\\u20ac\\ud83d\\ude00\"", "é€😀");
    check_text("\"\"", "");
    check_text("12", "12");
}

static void
members_are_found_at_their_own_level_only(void **state)
{
    (void)state;
    struct span object = SPAN(" { \"x\" : {\"b\":1}, \"s\":\"\\\"b\\\":2\", \"b\" : 3 }");
    assert_true(span_eq(scan_member(object, "b"), SPAN("3")));
    assert_null(scan_member(object, "c").at);
    assert_null(scan_member(SPAN("[1]"), "b").at);
    assert_null(scan_member((struct span){NULL, 0}, "b").at);
}

static void
nothing_beyond_a_cut_off_text_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "{\"accepted\":2,\"rejected\":[{\"index\":1,\"errors\":[{\"pointer\":"
        "\"/a\\u00e9\\\\\",\"detail\":\"x\"}]}],\"z\":true}";
    size_t word = (size_t)(strstr(text, "true") - text); /* a word cut off is still a word */
    for (size_t n = 0; n <= word; n++) {
        char *exact = malloc(n + 1);
        assert_non_null(exact);
        char *at = exact + 1; /* the end of what was allocated is the end of the text */
        memcpy(at, text, n);
        assert_null(scan_member((struct span){at, n}, "z").at);
        struct span rest = scan_member((struct span){at, n}, "rejected");
        while (scan_item(&rest).at != NULL) {
        }
        free(exact);
    }
    assert_true(span_eq(scan_member(SPAN(text), "z"), SPAN("true")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_events_and_blank_lines_are_none),
        cmocka_unit_test(broken_lines_stay_lines_of_their_own),
        cmocka_unit_test(an_array_gives_its_items_with_their_lines),
        cmocka_unit_test(an_object_over_several_lines_is_one_event),
        cmocka_unit_test(a_broken_array_is_refused_with_its_line),
        cmocka_unit_test(a_line_that_is_too_long_is_named_and_passed_over),
        cmocka_unit_test(lines_are_the_same_wherever_reading_pauses),
        cmocka_unit_test(strings_are_unescaped),
        cmocka_unit_test(members_are_found_at_their_own_level_only),
        cmocka_unit_test(nothing_beyond_a_cut_off_text_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
