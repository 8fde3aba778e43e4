/* Each test loads a configuration in a folder of its own, from up to three layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config.h"
#include "config_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 16

struct world {
    char folder[32];
    struct config cfg;
    struct buf errors;
    char *argv[WORDS_MAX];
    int argc;
    char *envp[WORDS_MAX + 1];
};

static int
set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    strcpy(w->folder, "/tmp/weir-config-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    assert_int_equal(chdir(w->folder), 0);
    buf_init(&w->errors, 0);
    *state = w;
    return 0;
}

static int
tear_down(void **state)
{
    struct world *w = *state;
    config_free(&w->cfg);
    buf_fini(&w->errors);
    unlink("weir.conf");
    unlink("other.conf");
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(w->folder), 0);
    free(w);
    return 0;
}

static void
write_file(const char *name, const char *bytes, size_t len)
{
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void
conf(const char *text)
{
    write_file("weir.conf", text, strlen(text));
}

/* Words separated by spaces: strtok writes into `copy`. */
static int
split(char **out, char *copy)
{
    int n = 0;
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        assert_in_range(n, 0, WORDS_MAX - 1);
        out[n++] = word;
    }
    return n;
}

static enum err
load(struct world *w, const char *flags, const char *variables)
{
    static char words[2][4096]; /* config copies what it keeps; argv is looked at by the tests */
    snprintf(words[0], sizeof words[0], "%s", flags);
    snprintf(words[1], sizeof words[1], "%s", variables);
    w->argc = split(w->argv, words[0]);
    w->envp[split(w->envp, words[1])] = NULL;
    config_free(&w->cfg);
    buf_reset(&w->errors);
    enum err e = config_load(&w->cfg, &w->argc, w->argv, w->envp, &w->errors);
    buf_add(&w->errors, "", 1);
    assert_true(buf_ok(&w->errors));
    return e;
}

static void
assert_error(struct world *w, const char *flags, const char *variables, const char *expected)
{
    assert_int_equal(load(w, flags, variables), ERR_CONFIG);
    assert_string_equal(w->errors.at, expected);
}

static void
assert_loads(struct world *w, const char *flags, const char *variables)
{
    enum err e = load(w, flags, variables);
    assert_string_equal(w->errors.at, "");
    assert_int_equal(e, OK);
}

static void
without_anything_the_defaults_are_in_effect(void **state)
{
    struct world *w = *state;
    assert_loads(w, "", "");
    assert_string_equal(w->cfg.listen, "127.0.0.1:3000");
    assert_string_equal(w->cfg.log_level, "info");
    assert_int_equal(w->cfg.event_max_bytes, 256 * 1024);
    assert_int_equal(w->cfg.http_header_timeout, 10000);
    assert_int_equal(w->cfg.http_max_batch, 10000);
    assert_int_equal(w->cfg.source[CONFIG_ROW_listen], CONFIG_FROM_DEFAULT);
    assert_null(w->cfg.file);
}

static void
a_flag_wins_over_a_variable_over_the_file_over_the_default(void **state)
{
    struct world *w = *state;
    conf("data = file\nlisten = :1\nworker.batch = 1\n");
    assert_loads(w, "--data flag", "WEIR_DATA=variable WEIR_LISTEN=:2 HOME=/root");
    assert_string_equal(w->cfg.data, "flag");
    assert_string_equal(w->cfg.listen, ":2");
    assert_int_equal(w->cfg.worker_batch, 1);
    assert_string_equal(w->cfg.sink, "local");
    assert_int_equal(w->cfg.source[CONFIG_ROW_data], CONFIG_FROM_FLAG);
    assert_int_equal(w->cfg.source[CONFIG_ROW_listen], CONFIG_FROM_ENVIRONMENT);
    assert_int_equal(w->cfg.source[CONFIG_ROW_worker_batch], CONFIG_FROM_FILE);
    assert_int_equal(w->cfg.line[CONFIG_ROW_worker_batch], 3);
    assert_string_equal(w->cfg.file, "weir.conf");
}

static void
a_flag_takes_its_value_after_a_space_or_an_equals_sign_and_the_last_one_counts(void **state)
{
    struct world *w = *state;
    assert_loads(w, "--data=a=b --log-level warn --worker-batch 1 --worker-batch=2", "");
    assert_string_equal(w->cfg.data, "a=b");
    assert_string_equal(w->cfg.log_level, "warn");
    assert_int_equal(w->cfg.worker_batch, 2);
}

static void
what_is_no_flag_stays_for_the_subcommand_in_its_order(void **state)
{
    struct world *w = *state;
    assert_loads(w, "one --data d - two -- --three --data x", "");
    assert_int_equal(w->argc, 6);
    assert_string_equal(w->argv[0], "one");
    assert_string_equal(w->argv[1], "-");
    assert_string_equal(w->argv[2], "two");
    assert_string_equal(w->argv[3], "--three");
    assert_string_equal(w->argv[5], "x");
    assert_string_equal(w->cfg.data, "d");
}

static void
an_unknown_name_is_an_error_with_the_nearest_one(void **state)
{
    struct world *w = *state;
    conf("quue.max_bytes = 1MiB\n");
    assert_error(w, "--worker-thread=4 --confg x --zzzzzzzzzz", "WEIR_HTTP_MAXBODY=1MiB",
                 "weir.conf:1: quue.max_bytes: no such setting; did you mean queue.max_bytes?\n"
                 "WEIR_HTTP_MAXBODY: no such setting; did you mean WEIR_HTTP_MAX_BODY?\n"
                 "--worker-thread: no such flag; did you mean --worker-threads?\n"
                 "--confg: no such flag; did you mean --config?\n"
                 "--zzzzzzzzzz: no such flag; weir help settings lists them\n");
}

static void
a_key_spelled_as_a_flag_is_an_error_with_the_key(void **state)
{
    struct world *w = *state;
    conf("queue-max-bytes = 1MiB\nconfig = other.conf\n");
    assert_error(w, "--queue.max_bytes=1MiB", "",
                 "weir.conf:1: queue-max-bytes: no such setting; did you mean queue.max_bytes?\n"
                 "weir.conf:2: config: no such setting; weir help settings lists them\n"
                 "--queue.max_bytes: no such flag; did you mean --queue-max-bytes?\n");
}

static void
the_variables_of_kubernetes_services_are_left_alone(void **state)
{
    struct world *w = *state;
    assert_loads(
        w, "",
        "WEIR_SERVICE_HOST=10.0.0.1 WEIR_SERVICE_PORT_HTTP=3000 WEIR_PORT=tcp://10.0.0.1:3000 "
        "WEIR_API_PORT_3000_TCP_ADDR=10.0.0.1 WEIR_API_PORT_3000_TCP=tcp://10.0.0.1:3000");
    assert_error(w, "", "WEIR_PORT=8080",
                 "WEIR_PORT: no such setting; weir help settings lists them\n");
}

static void
a_flag_without_its_value_is_an_error(void **state)
{
    struct world *w = *state;
    assert_error(w, "--data --listen", "",
                 "--data: no value; expected one after a space or =\n"
                 "--listen: no value; expected one after a space or =\n");
    assert_error(w, "--config", "", "--config: no value; expected one after a space or =\n");
    assert_error(w, "--data=", "", "--data: \"\" is empty; expected 1 to 1024 bytes\n");
}

static void
comments_blanks_and_foreign_line_ends_are_skipped_in_the_file(void **state)
{
    struct world *w = *state;
    conf("\xEF\xBB\xBF# first\r\n\r\n  \t data =  a b#c \t# why\r\n   # x = y\nlisten=:7");
    assert_loads(w, "", "");
    assert_string_equal(w->cfg.data, "a b#c");
    assert_string_equal(w->cfg.listen, ":7");
}

static void
errors_in_the_file_name_their_lines(void **state)
{
    struct world *w = *state;
    conf("data = x\nlisten\ndata = y\n= z\nsink =\n");
    assert_error(w, "", "",
                 "weir.conf:2: listen: no = in this line; expected key = value\n"
                 "weir.conf:3: data: set twice; expected once, and line 1 has it\n"
                 "weir.conf:4: : no such setting; weir help settings lists them\n"
                 "weir.conf:5: sink: \"\" is empty; expected 1 to 1024 bytes\n");
}

static void
config_names_the_file_and_it_has_to_be_there(void **state)
{
    struct world *w = *state;
    conf("data = default\n");
    write_file("other.conf", "data = other\n", 13);
    assert_loads(w, "--config other.conf", "");
    assert_string_equal(w->cfg.data, "other");
    assert_loads(w, "", "WEIR_CONFIG=other.conf");
    assert_string_equal(w->cfg.data, "other");
    assert_loads(w, "--config=weir.conf", "WEIR_CONFIG=other.conf");
    assert_string_equal(w->cfg.data, "default");
    assert_error(w, "--config none.conf", "", "none.conf: No such file or directory\n");
    assert_error(w, "--config .", "", ".: Is a directory\n");
}

static void
a_file_beyond_its_bound_is_refused(void **state)
{
    struct world *w = *state;
    size_t len = 2 * 1024 * 1024;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, '#', len);
    write_file("weir.conf", text, len);
    free(text);
    assert_error(w, "", "", "weir.conf: File too large\n");
}

static void
sizes_and_times_are_read_in_every_unit(void **state)
{
    static const struct {
        const char *flag;
        int64_t expected;
    } sizes[] = {{"--disk-min-free=0", 0},          {"--disk-min-free=77", 77},
                 {"--disk-min-free=77B", 77},       {"--disk-min-free=3KiB", 3072},
                 {"--disk-min-free=3MiB", 3145728}, {"--disk-min-free=1024GiB", 1024LL << 30}},
      times[] = {{"--drain-timeout=100ms", 100},
                 {"--drain-timeout=59s", 59000},
                 {"--drain-timeout=2m", 120000},
                 {"--drain-timeout=1h", 3600000}};
    struct world *w = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_loads(w, sizes[i].flag, "");
        assert_int_equal(w->cfg.disk_min_free, sizes[i].expected);
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        assert_loads(w, times[i].flag, "");
        assert_int_equal(w->cfg.drain_timeout, times[i].expected);
    }
    assert_loads(w, "--retention=30d", "");
    assert_int_equal(w->cfg.retention, 30LL * 24 * 3600000);
}

#define A_SIZE "expected a size such as 512B, 64KiB, 4MiB or 1GiB, from 0B to 1024GiB\n"
#define A_TIME "expected a duration such as 50ms, 10s or 5m, from 100ms to 1h\n"
#define A_COUNT "expected a whole number from 1 to 64\n"

static void
a_number_that_cannot_be_used_says_what_is_expected_with_units(void **state)
{
    static const char *const cases[][2] = {
        {"--disk-min-free=64KB",
         "--disk-min-free: \"64KB\" could mean thousands or 1024s: write KiB, "
         "MiB or GiB; " A_SIZE},
        {"--disk-min-free=1g", "--disk-min-free: \"1g\" could mean thousands or 1024s: write KiB, "
                               "MiB or GiB; " A_SIZE},
        {"--disk-min-free=1.5MiB", "--disk-min-free: \"1.5MiB\" is not a size; " A_SIZE},
        {"--disk-min-free=-1", "--disk-min-free: \"-1\" is not a size; " A_SIZE},
        {"--disk-min-free=MiB", "--disk-min-free: \"MiB\" is not a size; " A_SIZE},
        {"--disk-min-free=1025GiB", "--disk-min-free: \"1025GiB\" is too large; " A_SIZE},
        {"--disk-min-free=9223372036854775807KiB",
         "--disk-min-free: \"9223372036854775807KiB\" is too large; " A_SIZE},
        {"--disk-min-free=9223372036854775808",
         "--disk-min-free: \"9223372036854775808\" is too large; " A_SIZE},
        {"--drain-timeout=10", "--drain-timeout: \"10\" has no unit; " A_TIME},
        {"--drain-timeout=10sec", "--drain-timeout: \"10sec\" is not a duration; " A_TIME},
        {"--drain-timeout=99ms", "--drain-timeout: \"99ms\" is too small; " A_TIME},
        {"--drain-timeout=", "--drain-timeout: \"\" is empty; " A_TIME},
        {"--api-threads=0", "--api-threads: \"0\" is too small; " A_COUNT},
        {"--api-threads=2x", "--api-threads: \"2x\" is not a whole number; " A_COUNT},
        {"--log-level=loud",
         "--log-level: \"loud\" is not known; expected info, debug, warn or error\n"},
    };
    struct world *w = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_error(w, cases[i][0], "", cases[i][1]);
    }
}

static void
the_ends_of_every_range_are_accepted(void **state)
{
    struct world *w = *state;
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        const struct config_setting *s = &config_settings[row];
        for (int end = 0; end < 2 && s->type != CONFIG_TEXT && s->type != CONFIG_CHOICE; end++) {
            struct config_load l = {.cfg = &w->cfg, .errors = &w->errors};
            int64_t value = end == 0 ? s->least : s->most;
            struct buf text;
            buf_init(&text, 0);
            config_add_number(&text, s->type, value);
            config_set(&l, row, buf_span(&text), (struct config_place){CONFIG_FROM_FLAG, 0});
            buf_fini(&text);
            assert_int_equal(l.errors_count, 0);
            assert_int_equal(*(int64_t *)config_field(&w->cfg, row), value);
        }
    }
}

static void
every_default_is_written_as_check_would_print_it(void **state)
{
    struct world *w = *state;
    assert_loads(w, "", "");
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        const struct config_setting *s = &config_settings[row];
        struct span dflt = s->type == CONFIG_CHOICE ? config_word(s, 0) : span_of(s->dflt);
        struct buf printed;
        buf_init(&printed, 0);
        config_add_value(&printed, &w->cfg, row);
        assert_int_equal(printed.len, dflt.len);
        assert_memory_equal(printed.at, dflt.at, dflt.len);
        buf_fini(&printed);
    }
}

static void
every_address_form_is_accepted(void **state)
{
    static const char *const good[] = {
        ":0",           ":65535",        "localhost:80",     "10.0.0.1:80",
        "[::1]:3000",   "[fe80::1:2]:1", "[fe80::1%eth0]:1", "unix:/run/w",
        "unix:relative"};
    struct world *w = *state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--listen=%s", good[i]);
        assert_loads(w, flag, "");
        assert_string_equal(w->cfg.listen, good[i]);
    }
}

static void
every_other_address_is_refused(void **state)
{
    static const char *const bad[] = {"3000",
                                      "host",
                                      "host:",
                                      "host:65536",
                                      "host:-1",
                                      "host:80x",
                                      "::1:80",
                                      "[::1:80",
                                      "[zz]:80",
                                      "[::1%]:80",
                                      "[1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19]:80",
                                      "[]:80",
                                      "a/b:80",
                                      "http://h:80",
                                      "unix:",
                                      "host:000080",
                                      "[::1]80",
                                      "h@x:80"};
    struct world *w = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char flag[128];
        snprintf(flag, sizeof flag, "--listen=%s", bad[i]);
        assert_int_equal(load(w, flag, ""), ERR_CONFIG);
        assert_non_null(strstr(w->errors.at, "expected"));
    }
    char flag[160] = "--listen=unix:";
    memset(flag + strlen(flag), 'x', 108);
    assert_int_equal(load(w, flag, ""), ERR_CONFIG);
}

static void
backends_of_later_versions_are_refused_by_name(void **state)
{
    struct world *w = *state;
    assert_error(w, "--dedup=rediss://:secret@h --sink=exec:cat", "",
                 "--dedup: \"rediss://:***@h\" is not supported by this version; expected local, "
                 "redis://[user:password@]host[:port][/number] or none\n"
                 "--sink: \"exec:cat\" is not supported by this version; expected local, "
                 "postgresql://user:password@host[:port]/database, log or log:/path/to/file\n");
    assert_error(w, "--queue=x --dedup=x --sink=log:", "",
                 "--queue: \"x\" is not a queue; expected local or "
                 "amqp://user:password@host[:port]/vhost\n"
                 "--dedup: \"x\" is not known; expected local, "
                 "redis://[user:password@]host[:port][/number] or none\n"
                 "--sink: \"log:\" has no path; expected log or log:/path/to/file\n");
    static const char *const others[] = {
        "--sink=http://h", "--sink=https://h",  "--sink=postgresql:db",
        "--queue=amqp:h",  "--queue=redis://h", "--queue=localhost",
        "--dedup=redis:h", "--dedup=amqp://h",  "--sink=mysql://h"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(load(w, others[i], ""), ERR_CONFIG);
        assert_non_null(strstr(w->errors.at, "expected local"));
    }
}

static void
every_url_form_is_accepted(void **state)
{
    static const char *const good[] = {
        "--queue=amqp://h",
        "--queue=amqp://h/",
        "--queue=amqp://guest:guest@h:5672/%2F",
        "--queue=amqps://u:p%40w%2F@[::1]:5671/v?cacertfile=/a/b.pem",
        "--queue=amqp://u:p@h1:5672,h2,[fe80::1]:5673/v",
        "--queue=amqp://u@h",
        "--dedup=redis://h",
        "--dedup=redis://unix:/run/redis.sock",
        "--dedup=redis://:p@unix:/run/redis.sock",
        "--dedup=redis://:p@h:6379/15",
        "--dedup=redis://u:p@h1:6379,h2:6380/",
        "--sink=postgresql://u:p@h:5432/d?sslmode=verify-full",
        "--sink=postgres://h/d",
        "--sink=postgresql:///d?host=/run/postgresql",
        "--sink=postgresql://u@%2Frun%2Fpostgresql:5433/d",
        "--sink=postgresql://u@h1:1,h2:2/d?target_session_attrs=primary",
        "--sink=postgresql://",
    };
    struct world *w = *state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_loads(w, good[i], "");
    }
}

static void
a_url_that_cannot_be_says_what_is_wrong_with_it(void **state)
{
    static const char *const cases[][2] = {
        {"--queue=amqp://", "has no host; expected amqp://user:"},
        {"--queue=amqp://u:p@/v", "has no host"},
        {"--queue=amqp://u:p@h,/v", "has no host"},
        {"--queue=amqp://u:p@:5672/v", "has no host"},
        {"--queue=amqp://h:0/v", "has no valid port; expected one from 1 to 65535"},
        {"--queue=amqp://h:65536/v", "has no valid port"},
        {"--queue=amqp://h:/v", "has no valid port"},
        {"--queue=amqp://h1,h2:x/v", "has no valid port"},
        {"--queue=amqp://::1/v", "has no valid host"},
        {"--queue=amqp://[zz]/v", "has no valid host"},
        {"--queue=amqp://[::1/v", "has no valid host"},
        {"--queue=amqp://u:p@w@h/v", "has an @ in its user or password; expected %40"},
        {"--queue=amqp://u:p/w@h/v", "has a / or a ? before its @"},
        {"--queue=amqp://u:p?w@h/v", "has a / or a ? before its @"},
        {"--queue=amqp://u:p%w@h/v", "has a % without two hexadecimal digits"},
        {"--queue=amqp://h/%2", "has a % without two hexadecimal digits"},
        {"--queue=amqp://h//", "has a / in its vhost; expected %2F"},
        {"--queue=amqp://h/v?verify=verify_none", "has parameters; expected them with amqps://"},
        {"--queue=amqps://", "has no host; expected amqps://"},
        {"--dedup=redis://", "has no host; expected redis://"},
        {"--dedup=redis://h/x", "has no valid database number"},
        {"--dedup=redis://h/1/2", "has no valid database number"},
        {"--dedup=redis://h?x=y", "has a ?; expected redis://"},
        {"--sink=postgresql://h:x/d", "has no valid port"},
        {"--sink=postgresql://h/d/e", "has a / in its database"},
    };
    struct world *w = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(load(w, cases[i][0], ""), ERR_CONFIG);
        if (strstr(w->errors.at, cases[i][1]) == NULL) {
            fail_msg("%s: %s", cases[i][0], w->errors.at);
        }
    }
    conf("sink = postgresql://h/my db\n");
    assert_error(w, "", "",
                 "weir.conf:1: sink: \"postgresql://h/my db\" has a space; expected %20 for it\n");
}

static void
values_that_contradict_each_other_are_refused_with_both_sources(void **state)
{
    struct world *w = *state;
    conf("http.max_body = 16MiB\nevent.max_bytes = 1MiB\n");
    assert_error(w, "--http-max-inflight=9MiB", "",
                 "http.max_body = 16MiB (weir.conf:1) is larger than queue.mailbox_bytes = 8MiB "
                 "(default); expected at most that: a request must fit into one commit\n"
                 "http.max_body = 16MiB (weir.conf:1) is larger than http.max_inflight = 9MiB "
                 "(--http-max-inflight); expected at most that: a request must fit into memory\n");
    assert_error(w, "--http-max-body=512KiB", "",
                 "event.max_bytes = 1MiB (weir.conf:2) is larger than http.max_body = 512KiB "
                 "(--http-max-body); expected at most that: an event must fit into a request\n");
    assert_loads(w, "--http-max-body=1MiB --queue-mailbox-bytes=1MiB --http-max-inflight=1MiB", "");
}

static void
two_workers_write_one_log_only_where_redis_claims_ids(void **state)
{
    struct world *w = *state;
    assert_error(
        w, "--sink=log:/x --worker-threads=2", "",
        "worker.threads = 2 (--worker-threads) with sink = log:/x (--sink); expected 1, or "
        "a Redis as dedup: two workers could write the same event at once\n");
    assert_int_equal(load(w, "--sink=log --worker-threads=2 --dedup=none", ""), ERR_CONFIG);
    assert_loads(w, "--sink=log --worker-threads=2 --dedup=redis://h", "");
    assert_loads(w, "--sink=log --worker-threads=1", "");
    assert_loads(w, "--sink=local --worker-threads=2", "");
}

static void
every_queue_goes_with_every_sink_and_dedup(void **state)
{
    static const char *const queues[] = {"local", "amqp://h/v"};
    static const char *const dedups[] = {"local", "redis://h", "none"};
    static const char *const sinks[] = {"local", "postgresql://h/d", "log"};
    struct world *w = *state;
    for (size_t i = 0; i < 2 * 3 * 3; i++) {
        char flags[128];
        snprintf(flags, sizeof flags, "--queue=%s --dedup=%s --sink=%s", queues[i % 2],
                 dedups[i / 2 % 3], sinks[i / 6]);
        assert_loads(w, flags, "");
    }
}

static void
the_older_form_of_messages_means_one_event_each(void **state)
{
    struct world *w = *state;
    assert_loads(w, "--amqp-format=nest", "");
    assert_int_equal(w->cfg.amqp_envelope, 1);
    assert_loads(w, "--amqp-format=nest --amqp-envelope=1", "");
    assert_loads(w, "--amqp-format=weir --amqp-envelope=2", "");
    assert_loads(w, "", "");
    assert_int_equal(w->cfg.amqp_envelope, 256);
    conf("amqp.envelope = 256\n");
    assert_error(w, "--amqp-format=nest", "",
                 "amqp.envelope = 256 (weir.conf:1) with amqp.format = nest (--amqp-format); "
                 "expected 1: the older service reads one event a message\n");
    assert_error(w, "--amqp-format=nest --amqp-envelope=x", "",
                 "--amqp-envelope: \"x\" is not a whole number; expected a whole number from 1 to "
                 "1000\n");
}

/* The notes of this configuration, as weir check prints them. */
static const char *
notes(struct world *w, const char *flags)
{
    assert_loads(w, flags, "");
    buf_reset(&w->errors);
    config_add_notes(&w->errors, &w->cfg);
    buf_add(&w->errors, "", 1);
    return w->errors.at;
}

static void
what_promises_less_is_noted(void **state)
{
    struct world *w = *state;
    assert_string_equal(notes(w, ""), "");
    assert_string_equal(notes(w, "--sink=log"), "");
    assert_string_equal(notes(w, "--queue=amqp://h --dedup=redis://h --sink=postgresql://h/d"), "");
    assert_string_equal(notes(w, "--queue=amqp://h --dedup=redis://h --sink=log"), "");
    assert_non_null(strstr(notes(w, "--sink=log --dedup=none"), "at least once"));
    assert_non_null(strstr(notes(w, "--queue=amqp://h --sink=log"), "# note: with dedup = local"));
    assert_non_null(strstr(notes(w, "--queue=amqp://h"), "# note: with sink = local"));
    assert_non_null(strstr(notes(w, "--amqp-format=nest"), "amqp.envelope is 1\n"));
}

static void
a_value_with_an_error_of_its_own_breaks_no_further_rule(void **state)
{
    struct world *w = *state;
    assert_error(
        w, "--http-max-body=x --event-max-bytes=8MiB", "",
        "--http-max-body: \"x\" is not a size; expected a size such as 512B, 64KiB, 4MiB or "
        "1GiB, from 1KiB to 64MiB\n");
}

static void
more_than_a_hundred_errors_are_counted(void **state)
{
    struct world *w = *state;
    FILE *f = fopen("weir.conf", "w");
    assert_non_null(f);
    for (int i = 0; i < 250; i++) {
        fputs("x\n", f);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(load(w, "", ""), ERR_CONFIG);
    assert_non_null(strstr(w->errors.at, "weir.conf:100: x"));
    assert_null(strstr(w->errors.at, "weir.conf:101: x"));
    assert_non_null(strstr(w->errors.at, "\nand 150 more errors\n"));
}

static void
control_characters_never_reach_the_values_or_the_terminal(void **state)
{
    struct world *w = *state;
    write_file("weir.conf", "data = a\x1b[31mb\0c\n", 17);
    assert_error(
        w, "", "",
        "weir.conf:1: data: \"a?[31mb?c\" holds a control character; expected plain text\n");
}

static void
what_is_printed_loads_again_to_the_same_values(void **state)
{
    struct world *w = *state;
    assert_loads(
        w, "--data=/a#b --sink=log:x --drain-timeout=1500ms --disk-min-free=1000 --dedup=none",
        "WEIR_LOG_FORMAT=json");
    struct buf printed[2];
    for (int i = 0; i < 2; i++) {
        buf_init(&printed[i], 0);
        config_print(&printed[i], &w->cfg);
        assert_true(buf_ok(&printed[i]));
        write_file("weir.conf", printed[i].at, printed[i].len);
        assert_loads(w, "", "");
    }
    assert_string_equal(w->cfg.data, "/a#b");
    assert_int_equal(w->cfg.drain_timeout, 1500);
    assert_int_equal(w->cfg.disk_min_free, 1000);
    assert_string_equal(w->cfg.log_format, "json");
    buf_fini(&printed[0]);
    buf_fini(&printed[1]);
}

static void
what_would_not_load_again_is_refused(void **state)
{
    struct world *w = *state;
    char *argv[] = {"--data", "/a #b"};
    char *envp[] = {"WEIR_SINK=log: x ", NULL};
    int argc = 2;
    assert_int_equal(config_load(&w->cfg, &argc, argv, envp, &w->errors), ERR_CONFIG);
    buf_add(&w->errors, "", 1);
    assert_string_equal(
        w->errors.at,
        "WEIR_SINK: \"log: x \" starts or ends with a space; expected none there\n"
        "--data: \"/a #b\" has a # at its start or after a space; expected none there\n");
}

static void
printing_names_sources_and_hides_passwords(void **state)
{
    struct world *w = *state;
    conf("\nworker.batch = 7\n");
    assert_loads(w, "--data=x://me:p/w@d@host/y", "WEIR_SINK=log WEIR_DEDUP=none");
    struct buf out;
    buf_init(&out, 0);
    config_print(&out, &w->cfg);
    buf_add(&out, "", 1);
    assert_non_null(strstr(out.at, "= x://me:***@host/y         # --data\n"));
    assert_non_null(
        strstr(out.at, "worker.batch         = 7                         # weir.conf:2\n"));
    assert_non_null(
        strstr(out.at, "sink                 = log                       # WEIR_SINK\n"));
    assert_non_null(strstr(out.at, "# note: with dedup = none the log sink"));
    assert_null(strstr(out.at, "p/w"));
    buf_fini(&out);
}

static void
no_password_of_a_url_is_shown(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"local", "local"},
        {"", ""},
        {"amqp://h/v", "amqp://h/v"},
        {"amqp://u@h:1/v", "amqp://u@h:1/v"},
        {"amqp://u:secret@h:1/v", "amqp://u:***@h:1/v"},
        {"amqp://u:se@cr/et?@h:1/v", "amqp://u:***@h:1/v"},
        {"amqp://u:secret@h1,h2:2/v", "amqp://u:***@h1,h2:2/v"},
        {"amqp://u:secret@h1/v,amqp://u:secret@h2/v", "amqp://u:***@h1/v,amqp://u:***@h2/v"},
        {"amqp://u:secret@h1/v,h2", "amqp://u:***@h1/v,h2"},
        {"redis://:secret@h", "redis://:***@h"},
        {"redis://h1:1,h2:2/3", "redis://h1:1,h2:2/3"},
        {"postgresql://u@h:1/d?password=secret", "postgresql://u@h:1/d?password=***"},
        {"postgresql://u@h:1/d?password=sec@ret&a=b", "postgresql://u@h:1/d?password=***&a=b"},
        {"postgresql://u:secret@h/d?sslpassword=secret&password=secret&x=1",
         "postgresql://u:***@h/d?sslpassword=***&password=***&x=1"},
        {"u:secret@h", "u:***@h"},
        {"amqp:u:secret@h", "amqp:***@h"},
        {"amqp:/u:secret@h", "amqp:***@h"},
        {"host=h password=secret user=u", "host=h password=***"},
        {"/a:b@c", "/a:b@c"},
        {"log:/a:b@c", "log:/a:b@c"},
        {"unix:/a:b@c", "unix:/a:b@c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[128];
        assert_ptr_equal(config_mask(out, sizeof out, cases[i][0]), out);
        assert_string_equal(out, cases[i][1]);
    }
}

static void
a_masked_url_that_is_cut_shows_no_more_of_its_password(void **state)
{
    (void)state;
    static const char url[] = "amqp://u:a-long-secret@h";
    for (size_t size = 1; size < sizeof url; size++) {
        char out[sizeof url];
        config_mask(out, size, url);
        assert_true(strlen(out) < size);
        assert_memory_equal(out, "amqp://u:***@h", strlen(out));
    }
    char text[4096] = "amqp://u:"; /* the @ stands behind what is shown */
    memset(text + strlen(text), 's', 3000);
    strcat(text, "@h");
    struct buf out;
    buf_init(&out, 0);
    config_add_shown(&out, span_of(text));
    assert_true(span_eq(buf_span(&out), SPAN("amqp://u:***@h")));
    buf_reset(&out);
    memset(text, 'x', sizeof text - 1);
    config_add_shown(&out, (struct span){text, sizeof text - 1});
    assert_int_equal(out.len, CONFIG_SHOWN_MAX + strlen("..."));
    buf_fini(&out);
}

static void
every_form_of_the_documents_names_every_setting(void **state)
{
    (void)state;
    for (int form = CONFIG_DOC_HELP; form <= CONFIG_DOC_MAN; form++) {
        struct buf out;
        buf_init(&out, 0);
        config_document(&out, (enum config_doc)form);
        buf_add(&out, "", 1);
        assert_true(buf_ok(&out));
        for (unsigned row = 0; row < CONFIG_ROWS; row++) {
            char name[CONFIG_NAME_MAX];
            bool flags = form == CONFIG_DOC_HELP || form == CONFIG_DOC_MAN;
            struct buf spelled;
            buf_init(&spelled, 0);
            config_spell(name, flags ? CONFIG_AS_FLAG : CONFIG_AS_KEY, row);
            if (form == CONFIG_DOC_MAN) {
                config_add_roff(&spelled, name);
            } else {
                buf_add_text(&spelled, name);
            }
            assert_non_null(memmem(out.at, out.len, spelled.at, spelled.len));
            buf_fini(&spelled);
        }
        buf_fini(&out);
    }
}

static void
text_in_the_man_page_keeps_its_dashes_and_backslashes(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    config_add_roff(&out, "a --b\\c …");
    assert_true(span_eq(buf_span(&out), SPAN("a \\-\\-b\\ec ...")));
    buf_fini(&out);
}

static void
the_example_file_loads_and_changes_nothing(void **state)
{
    struct world *w = *state;
    struct buf example;
    buf_init(&example, 0);
    config_document(&example, CONFIG_DOC_CONF);
    for (size_t i = 0; i + 1 < example.len; i++) { /* take the # off the settings, not the prose */
        if (example.at[i] == '#' && example.at[i + 1] != ' ') {
            example.at[i] = ' ';
        }
    }
    write_file("weir.conf", example.at, example.len);
    buf_fini(&example);
    assert_loads(w, "", "");
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        assert_int_equal(w->cfg.source[row], CONFIG_FROM_FILE);
    }
    assert_string_equal(w->cfg.listen, "127.0.0.1:3000");
}

static void
names_leave_room(void **state)
{
    (void)state;
    assert_true(CONFIG_ROWS < 40);
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        assert_true(strlen(config_settings[row].key) < CONFIG_NAME_MAX - strlen("WEIR_"));
        for (unsigned other = 0; other < row; other++) {
            assert_string_not_equal(config_settings[row].key, config_settings[other].key);
        }
    }
}

static void
a_freed_or_failed_configuration_may_be_freed_again(void **state)
{
    struct world *w = *state;
    assert_loads(w, "", "");
    config_free(&w->cfg);
    config_free(&w->cfg);
    assert_int_equal(load(w, "--listen=x", ""), ERR_CONFIG);
    assert_null(w->cfg.data);
    config_free(&w->cfg);
}

/* The linker sends every allocation of the configuration here (--wrap in tests/meson.build). */
static int allocations_left = -1; /* negative: no end */
static bool allocation_failed;

static bool
allocation_fails(void)
{
    if (allocations_left == 0) {
        allocation_failed = true;
        return true;
    }
    allocations_left -= allocations_left > 0;
    return false;
}

void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t most);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t most);

void *
__wrap_realloc(void *old, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(old, size);
}

char *
__wrap_strdup(const char *text)
{
    return allocation_fails() ? NULL : __real_strdup(text);
}

char *
__wrap_strndup(const char *text, size_t most)
{
    return allocation_fails() ? NULL : __real_strndup(text, most);
}

/* Fails the first allocation, then the second, until none is left to fail. */
static int
load_without_memory(struct world *w, char *flag, enum err expected)
{
    int n = 0;
    for (;; n++) {
        char *argv[] = {flag};
        char *envp[] = {"WEIR_LOG_LEVEL=debug", NULL};
        int argc = 1;
        struct config cfg;
        allocations_left = n;
        allocation_failed = false;
        enum err e = config_load(&cfg, &argc, argv, envp, &w->errors);
        allocations_left = -1;
        config_free(&cfg);
        buf_fini(&w->errors);
        if (!allocation_failed) {
            assert_int_equal(e, expected);
            return n;
        }
        assert_true(e == ERR_NOMEM || e == ERR_CONFIG);
    }
}

static void
memory_may_end_at_every_allocation(void **state)
{
    struct world *w = *state;
    conf("data = file\nsink = log\n");
    assert_true(load_without_memory(w, "--listen=:1", OK) > 8);
    assert_true(load_without_memory(w, "--listen=1", ERR_CONFIG) > 8);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(without_anything_the_defaults_are_in_effect),
        T(a_flag_wins_over_a_variable_over_the_file_over_the_default),
        T(a_flag_takes_its_value_after_a_space_or_an_equals_sign_and_the_last_one_counts),
        T(what_is_no_flag_stays_for_the_subcommand_in_its_order),
        T(an_unknown_name_is_an_error_with_the_nearest_one),
        T(a_key_spelled_as_a_flag_is_an_error_with_the_key),
        T(the_variables_of_kubernetes_services_are_left_alone),
        T(a_flag_without_its_value_is_an_error),
        T(comments_blanks_and_foreign_line_ends_are_skipped_in_the_file),
        T(errors_in_the_file_name_their_lines),
        T(config_names_the_file_and_it_has_to_be_there),
        T(a_file_beyond_its_bound_is_refused),
        T(sizes_and_times_are_read_in_every_unit),
        T(a_number_that_cannot_be_used_says_what_is_expected_with_units),
        T(the_ends_of_every_range_are_accepted),
        T(every_default_is_written_as_check_would_print_it),
        T(every_address_form_is_accepted),
        T(every_other_address_is_refused),
        T(backends_of_later_versions_are_refused_by_name),
        T(values_that_contradict_each_other_are_refused_with_both_sources),
        T(every_url_form_is_accepted),
        T(a_url_that_cannot_be_says_what_is_wrong_with_it),
        T(two_workers_write_one_log_only_where_redis_claims_ids),
        T(every_queue_goes_with_every_sink_and_dedup),
        T(the_older_form_of_messages_means_one_event_each),
        T(what_promises_less_is_noted),
        T(a_value_with_an_error_of_its_own_breaks_no_further_rule),
        T(more_than_a_hundred_errors_are_counted),
        T(control_characters_never_reach_the_values_or_the_terminal),
        T(what_is_printed_loads_again_to_the_same_values),
        T(what_would_not_load_again_is_refused),
        T(printing_names_sources_and_hides_passwords),
        T(no_password_of_a_url_is_shown),
        T(a_masked_url_that_is_cut_shows_no_more_of_its_password),
        T(every_form_of_the_documents_names_every_setting),
        T(text_in_the_man_page_keeps_its_dashes_and_backslashes),
        T(the_example_file_loads_and_changes_nothing),
        T(names_leave_room),
        T(a_freed_or_failed_configuration_may_be_freed_again),
        T(memory_may_end_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
