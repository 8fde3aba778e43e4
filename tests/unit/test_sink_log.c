/* The log sink's own promises: whole lines, whatever happens to the disk or the reader. */
#include "sink/sink.h"

#include "kit.h"
#include "thread.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    struct kit kit;
    struct sink *sink;
    struct batch batch;
    char path[128];
    char why[256];
    char *text; /* what the file held when it was last read */
    size_t text_len;
};

static int
set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    kit_open(&r->kit);
    snprintf(r->path, sizeof r->path, "%s/out.ndjson", r->kit.folder);
    assert_int_equal(batch_init(&r->batch, 1000), OK);
    *state = r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    if (r->sink != NULL) {
        r->sink->ops->close(r->sink);
    }
    batch_fini(&r->batch);
    kit_close(&r->kit);
    free(r->text);
    free(r);
    return 0;
}

static void
open_sink(struct rig *r, const char *path)
{
    if (sink_log_open(&r->sink, path, &r->kit.env, r->why, sizeof r->why) != OK) {
        fail_msg("%s", r->why);
    }
}

static void
put_file(struct rig *r, const char *text)
{
    FILE *f = fopen(r->path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static const char *
read_file(struct rig *r)
{
    struct stat st;
    int fd = open(r->path, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    free(r->text);
    r->text = calloc(1, (size_t)st.st_size + 1);
    r->text_len = (size_t)st.st_size;
    assert_int_equal(read(fd, r->text, r->text_len), st.st_size);
    close(fd);
    return r->text;
}

/* A JSON string that fills `size`, its NUL included. */
static void
fill_string(char *out, size_t size)
{
    memset(out, 'x', size - 1);
    out[0] = out[size - 2] = '"';
    out[size - 1] = '\0';
}

static void
hold(struct rig *r, const char *id, size_t payload_bytes)
{
    char *payload = malloc(payload_bytes + 1);
    fill_string(payload, payload_bytes + 1);
    batch_reset(&r->batch);
    batch_add(&r->batch, kit_event(id, payload));
    free(payload);
}

static enum err
write_batch(struct rig *r)
{
    return r->sink->ops->write(r->sink, &r->batch);
}

/* Each line begins and ends as an event's does, and the last one has its newline. */
static unsigned
count_whole_lines(struct rig *r)
{
    unsigned n = 0;
    for (const char *at = read_file(r); *at != '\0'; n++) {
        const char *end = strchr(at, '\n');
        assert_non_null(end);
        assert_memory_equal(at, "{\"event_id\":", 12);
        assert_memory_equal(end - 3, "Z\"}", 3);
        at = end + 1;
    }
    return n;
}

static void
a_line_is_the_event_and_when_it_was_accepted(void **state)
{
    struct rig *r = *state;
    open_sink(r, r->path);
    batch_add(&r->batch, kit_event("e\"1", "{ \"a\" : 1 }"));
    r->batch.item[0].ev->accepted_ms = 1770121800123;
    assert_int_equal(write_batch(r), OK);
    assert_string_equal(read_file(r), "{\"event_id\":\"e\\\"1\",\"type\":\"TEST\",\"timestamp\":"
                                      "\"2026-02-03T12:30:00Z\",\"payload\":{ \"a\" : 1 },"
                                      "\"accepted_at\":\"2026-02-03T12:30:00.123Z\"}\n");
}

static void
an_event_with_line_breaks_in_its_payload_is_one_line(void **state)
{
    struct rig *r = *state;
    open_sink(r, r->path);
    batch_add(&r->batch, kit_event("a", "{\r\n  \"a\": [1,\n2],\n  \"b\": \"\\n\"\n}"));
    assert_int_equal(write_batch(r), OK);
    assert_int_equal(count_whole_lines(r), 1);
    assert_non_null(strstr(r->text, "\"b\": \"\\n\"")); /* what is inside a string stays */
}

static void
lines_are_added_to_what_the_file_held(void **state)
{
    struct rig *r = *state;
    put_file(r, "before\n");
    open_sink(r, r->path);
    hold(r, "a", 2);
    assert_int_equal(write_batch(r), OK);
    assert_memory_equal(read_file(r), "before\n{\"event_id\":\"a\"", 22);
}

static void
half_a_line_from_a_crash_is_ended_before_the_next(void **state)
{
    struct rig *r = *state;
    put_file(r, "{\"event_id\":\"ha");
    open_sink(r, r->path);
    hold(r, "a", 2);
    assert_int_equal(write_batch(r), OK);
    assert_memory_equal(read_file(r), "{\"event_id\":\"ha\n{\"event_id\":\"a\"", 30);
}

static void
a_batch_larger_than_the_buffer_is_written_whole(void **state)
{
    struct rig *r = *state;
    open_sink(r, r->path);
    for (unsigned i = 0; i < 1000; i++) {
        char id[16];
        snprintf(id, sizeof id, "e%u", i);
        batch_add(&r->batch, kit_event(id, "{\"message\":\"a hundred bytes or so, many times\"}"));
    }
    assert_int_equal(write_batch(r), OK);
    assert_int_equal(count_whole_lines(r), 1000);
    assert_true(r->text_len > (size_t)64 * 1024);
}

/* RLIMIT_FSIZE makes write(2) short and then fail, as a full disk does. */
static void
limit_file_size(size_t bytes)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
a_full_disk_leaves_no_half_line_and_the_batch_goes_through_later(void **state)
{
    struct rig *r = *state;
    open_sink(r, r->path);
    hold(r, "first", 100);
    assert_int_equal(write_batch(r), OK);
    hold(r, "second", 200000);
    limit_file_size(100000);
    assert_int_equal(write_batch(r), ERR_DISK_FULL);
    assert_int_equal(count_whole_lines(r), 1);
    assert_int_equal(write_batch(r), ERR_DISK_FULL);
    limit_file_size(0);
    assert_int_equal(write_batch(r), OK);
    assert_int_equal(count_whole_lines(r), 2);
}

static void
a_disk_that_fills_up_in_the_middle_of_a_batch_takes_none_of_it(void **state)
{
    struct rig *r = *state;
    open_sink(r, r->path);
    char payload[20001];
    fill_string(payload, sizeof payload);
    for (unsigned i = 0; i < 20; i++) { /* several chunks, the first ones fit */
        batch_add(&r->batch, kit_event("e", payload));
    }
    limit_file_size(300000);
    assert_int_equal(write_batch(r), ERR_DISK_FULL);
    limit_file_size(0);
    assert_int_equal(count_whole_lines(r), 0);
    assert_int_equal(write_batch(r), OK);
    assert_int_equal(count_whole_lines(r), 20);
}

static void
a_failed_sync_must_stop_the_process(void **state)
{
    struct rig *r = *state;
    open_sink(r, r->path);
    hold(r, "a", 2);
    kit_arm(&r->kit, FAULT_ERROR, ERR_IO, "sink_log.sync", 0);
    assert_int_equal(write_batch(r), ERR_IO);
    assert_int_equal(err_fate(ERR_IO), FATE_STOP);
}

static void
a_path_that_cannot_be_opened_is_told(void **state)
{
    struct rig *r = *state;
    assert_int_not_equal(
        sink_log_open(&r->sink, "/nowhere/at/all", &r->kit.env, r->why, sizeof r->why), OK);
    assert_null(r->sink);
    assert_non_null(strstr(r->why, "/nowhere/at/all: No such file or directory"));
}

static void
a_pipe_by_name_that_nobody_reads_is_told_at_once(void **state)
{
    struct rig *r = *state;
    assert_int_equal(mkfifo(r->path, 0600), 0);
    assert_int_equal(sink_log_open(&r->sink, r->path, &r->kit.env, r->why, sizeof r->why), ERR_IO);
    assert_non_null(strstr(r->why, "No such device or address"));
}

struct writer {
    struct thread thread;
    struct sink *sink;
    enum err result;
};

static void
write_many(void *data)
{
    struct writer *w = data;
    struct batch b;
    w->result = batch_init(&b, 40);
    for (unsigned round = 0; round < 20 && w->result == OK; round++) {
        for (unsigned i = 0; i < 40; i++) {
            batch_add(&b, kit_event("e", "{\"message\":\"some words to make the line longer\"}"));
        }
        w->result = w->sink->ops->write(w->sink, &b);
        batch_reset(&b);
    }
    batch_fini(&b);
}

static void
sinks_of_several_workers_do_not_mix_their_lines(void **state)
{
    struct rig *r = *state;
    struct writer writers[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(
            sink_log_open(&writers[i].sink, r->path, &r->kit.env, r->why, sizeof r->why), OK);
        assert_int_equal(thread_start(&writers[i].thread, "writer", write_many, &writers[i]), OK);
    }
    for (size_t i = 0; i < 3; i++) {
        thread_join(&writers[i].thread);
        assert_int_equal(writers[i].result, OK);
        writers[i].sink->ops->close(writers[i].sink);
    }
    assert_int_equal(count_whole_lines(r), 3 * 20 * 40);
}

/* --- standard output --- */

static int saved_stdout;

static void
redirect_stdout(int fd)
{
    fflush(stdout);
    saved_stdout = dup(STDOUT_FILENO);
    assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
}

static void
restore_stdout(void)
{
    fflush(stdout);
    dup2(saved_stdout, STDOUT_FILENO);
    close(saved_stdout);
}

static void
standard_output_that_is_a_file_gets_whole_lines_after_what_was_printed(void **state)
{
    struct rig *r = *state;
    int fd = open(r->path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    redirect_stdout(fd);
    open_sink(r, NULL);
    assert_int_equal(write(STDOUT_FILENO, "printed\n", 8), 8);
    hold(r, "a", 10);
    enum err e = write_batch(r);
    assert_int_equal(write(STDOUT_FILENO, "again\n", 6), 6); /* must not land on the line */
    restore_stdout();
    assert_int_equal(e, OK);
    assert_memory_equal(read_file(r), "printed\n{\"event_id\":\"a\"", 23);
    assert_string_equal(r->text + r->text_len - 6, "again\n");
    close(fd);
}

static void
a_reader_that_went_away_is_unavailable_not_the_end(void **state)
{
    struct rig *r = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    signal(SIGPIPE, SIG_IGN);
    redirect_stdout(ends[1]);
    open_sink(r, NULL);
    hold(r, "a", 10);
    enum err with_reader = write_batch(r);
    close(ends[0]);
    enum err without = write_batch(r);
    restore_stdout();
    close(ends[1]);
    assert_int_equal(with_reader, OK);
    assert_int_equal(without, ERR_UNAVAILABLE);
}

static void
standard_output_without_a_reader_from_the_start_does_not_hang(void **state)
{
    struct rig *r = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    redirect_stdout(ends[1]);
    open_sink(r, NULL);
    hold(r, "a", 10);
    enum err e = write_batch(r);
    restore_stdout();
    close(ends[1]);
    assert_int_equal(e, ERR_UNAVAILABLE);
}

struct reader {
    int fd;
    struct thread thread;
    size_t bytes;
    char last;
};

static void
read_slowly(void *data)
{
    struct reader *rd = data;
    char some[1000];
    ssize_t n = read(rd->fd, some, sizeof some);
    while (n > 0) {
        rd->bytes += (size_t)n;
        rd->last = some[n - 1];
        sched_yield();
        n = read(rd->fd, some, sizeof some);
    }
}

static void
a_pipe_or_socket_that_fills_up_is_waited_for(void **state)
{
    struct rig *r = *state;
    for (int socket = 0; socket <= 1; socket++) {
        int ends[2];
        assert_int_equal(socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends), 0);
        struct reader rd = {.fd = ends[0]};
        redirect_stdout(ends[1]);
        open_sink(r, NULL);
        hold(r, "a", 600000);
        assert_int_equal(thread_start(&rd.thread, "reader", read_slowly, &rd), OK);
        enum err e = write_batch(r);
        r->sink->ops->close(r->sink);
        r->sink = NULL;
        restore_stdout();
        close(ends[1]);
        thread_join(&rd.thread);
        close(ends[0]);
        assert_int_equal(e, OK);
        assert_true(rd.bytes > 600000);
        assert_int_equal(rd.last, '\n');
    }
}

static void
write_long_lines(void *data)
{
    struct writer *w = data;
    char payload[20000];
    struct batch b;
    fill_string(payload, sizeof payload);
    w->result = batch_init(&b, 1);
    for (unsigned round = 0; round < 30 && w->result == OK; round++) {
        batch_add(&b, kit_event("e", payload));
        w->result = w->sink->ops->write(w->sink, &b);
        batch_reset(&b);
    }
    batch_fini(&b);
}

/* A pipe takes such lines piece by piece, so only taking turns keeps them whole. */
static void
sinks_of_several_workers_take_turns_on_a_pipe(void **state)
{
    struct rig *r = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    redirect_stdout(ends[1]);
    struct writer writers[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(sink_log_open(&writers[i].sink, NULL, &r->kit.env, r->why, sizeof r->why),
                         OK);
    }
    restore_stdout();
    close(ends[1]);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(thread_start(&writers[i].thread, "writer", write_long_lines, &writers[i]),
                         OK);
    }
    FILE *all = fdopen(ends[0], "r");
    char line[32 * 1024];
    unsigned whole = 0;
    for (unsigned n = 0; n < 3 * 30 && fgets(line, sizeof line, all) != NULL; n++) {
        size_t len = strlen(line);
        whole += strncmp(line, "{\"event_id\":", 12) == 0 && strcmp(line + len - 4, "Z\"}\n") == 0;
    }
    fclose(all);
    for (size_t i = 0; i < 3; i++) {
        thread_join(&writers[i].thread);
        assert_int_equal(writers[i].result, OK);
        writers[i].sink->ops->close(writers[i].sink);
    }
    assert_int_equal(whole, 3 * 30);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_is_the_event_and_when_it_was_accepted),
        TEST(an_event_with_line_breaks_in_its_payload_is_one_line),
        TEST(lines_are_added_to_what_the_file_held),
        TEST(half_a_line_from_a_crash_is_ended_before_the_next),
        TEST(a_batch_larger_than_the_buffer_is_written_whole),
        TEST(a_full_disk_leaves_no_half_line_and_the_batch_goes_through_later),
        TEST(a_disk_that_fills_up_in_the_middle_of_a_batch_takes_none_of_it),
        TEST(a_failed_sync_must_stop_the_process),
        TEST(a_path_that_cannot_be_opened_is_told),
        TEST(a_pipe_by_name_that_nobody_reads_is_told_at_once),
        TEST(sinks_of_several_workers_do_not_mix_their_lines),
        TEST(standard_output_that_is_a_file_gets_whole_lines_after_what_was_printed),
        TEST(a_reader_that_went_away_is_unavailable_not_the_end),
        TEST(standard_output_without_a_reader_from_the_start_does_not_hang),
        TEST(a_pipe_or_socket_that_fills_up_is_waited_for),
        TEST(sinks_of_several_workers_take_turns_on_a_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
