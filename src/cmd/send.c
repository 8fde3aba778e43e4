/* send.c - weir send: the events of a file to an API, in batches over one connection.
 * Happy path: read, fill a batch, post it, read which events it refused, go on.
 * Failures:   no answer, 429 or 5xx: the batch again, until --retry-for has passed; what was
 *             accepted without our knowing has no second effect, ids being idempotent. 400 or 413
 *             for the batch as a whole: its halves, until the guilty event stands alone. Any
 *             other status: stop. */
#include "cmd/cmd.h"

#include "clock.h"
#include "cmd/args.h"
#include "cmd/client.h"
#include "cmd/print.h"
#include "cmd/progress.h"
#include "cmd/scan.h"
#include "cmd/source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define BATCH_BYTES ((size_t)1024 * 1024)
#define BATCH_MAX 10000
#define EXPLAINED_MAX 100 /* rejected events that an answer explains, at most */
#define BACKOFF_LEAST_MS 100
#define BACKOFF_MOST_MS 5000

static const char usage[] =
    "weir send FILE|- [--url URL] [--batch N] [--retry-for TIME] [--from LINE]\n"
    "\n"
    "Sends the events of a file: one a line (NDJSON), a JSON array, or one object.\n"
    "Sending a file again is safe: an event_id has its effect once.\n"
    "\n"
    "  --url URL         where the API listens (" CLIENT_URL "; also unix:/path)\n"
    "  --batch N         events in one request, at most (500)\n"
    "  --retry-for TIME  how long to go on trying when the API is busy or away (60s)\n"
    "  --from LINE       skip what stands before this line\n"
    "\n"
    "Exit code: 0 all accepted, 1 some rejected or gave up, 2 wrong usage.\n";

struct place {
    size_t at; /* in the body */
    uint64_t line;
    bool unexplained; /* rejected, but the answer did not say why */
};

struct sender {
    const char *name; /* of the file, for messages */
    struct client *client;
    struct client_answer answer;
    struct progress progress;
    int64_t retry_for_ms;
    struct buf body; /* the batch: events, each ended by \n */
    struct place *place;
    size_t n;
    uint64_t sent;
    uint64_t accepted;
    uint64_t rejected;
};

/* Where an event stands in its file, and what was wrong with it. */
static void
print_rejected(struct sender *s, uint64_t line, struct span id, struct span detail)
{
    progress_clear(&s->progress);
    fprintf(stderr, "%s:%" PRIu64 ": %.*s%s%.*s\n", s->name, line, SPAN_FMT(id),
            id.len > 0 ? ": " : "", SPAN_FMT(detail));
}

/* One event's errors; `holder` is the problem or the batch item that names them. */
static void
report_errors(struct sender *s, uint64_t line, struct span holder)
{
    struct buf id;
    struct buf text;
    buf_init(&id, 0);
    buf_init(&text, 0);
    scan_text(&id, scan_member(holder, "event_id"));
    struct span rest = scan_member(holder, "errors");
    size_t printed = 0;
    for (struct span e = scan_item(&rest); e.at != NULL; e = scan_item(&rest)) {
        buf_reset(&text);
        scan_text(&text, scan_member(e, "pointer"));
        buf_add_text(&text, text.len > 0 ? ": " : "");
        scan_text(&text, scan_member(e, "detail"));
        print_rejected(s, line, buf_span(&id), buf_span(&text));
        printed++;
    }
    if (printed == 0) {
        struct span detail = scan_member(holder, "detail");
        scan_text(&text, detail.at != NULL ? detail : SPAN("refused without a reason"));
        print_rejected(s, line, buf_span(&id), buf_span(&text));
    }
    buf_fini(&id);
    buf_fini(&text);
}

static void
wait_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* Doubles with every try; between half of it and all of it, so that many clients do not come back
 * at once. Never sooner than the server asked for. */
static int64_t
backoff_ms(unsigned tries, long retry_after_s)
{
    int64_t most = tries > 5 ? BACKOFF_MOST_MS : (int64_t)BACKOFF_LEAST_MS << tries;
    uint16_t r = 0;
    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r) {
        r = UINT16_MAX;
    }
    int64_t ms = most / 2 + most / 2 * r / UINT16_MAX;
    int64_t asked = (int64_t)retry_after_s * 1000;
    return asked > ms ? asked : ms;
}

static bool
may_retry(enum err e, long status)
{
    return e == ERR_UNAVAILABLE || status == 429 || (status >= 500 && status != 501);
}

/* Posts events [lo, hi) until an answer comes that another try would not change. */
static enum err
post(struct sender *s, size_t lo, size_t hi)
{
    size_t end = hi < s->n ? s->place[hi].at : s->body.len;
    struct span body = {s->body.at + s->place[lo].at, end - s->place[lo].at};
    int64_t give_up_ns = clock_mono_ns() + s->retry_for_ms * 1000000;
    for (unsigned tries = 0;; tries++) {
        enum err e = client_post(s->client, &s->answer, "/events", "application/x-ndjson", body);
        if (!may_retry(e, s->answer.status)) {
            return e;
        }
        int64_t wait = backoff_ms(tries, s->answer.retry_after_s);
        if (clock_mono_ns() + wait * 1000000 > give_up_ns) {
            return ERR_UNAVAILABLE;
        }
        progress_note(&s->progress, s->answer.status != 0 ? "busy" : "no answer");
        wait_ms(wait);
    }
}

/* Reads a batch answer. ERR_INVALID: it does not account for every event. Rejected events that it
 * only counts, without saying why, are marked. */
static enum err
take_answer(struct sender *s, size_t lo, size_t hi)
{
    struct span body = buf_span(&s->answer.body);
    struct span rest = scan_member(body, "rejected");
    uint64_t accepted = scan_count(scan_member(body, "accepted"));
    uint64_t rejected = 0;
    for (struct span item = scan_item(&rest); item.at != NULL; item = scan_item(&rest)) {
        uint64_t index = scan_count(scan_member(item, "index"));
        if (index >= hi - lo) {
            return ERR_INVALID;
        }
        struct place *place = &s->place[lo + index];
        place->unexplained = rejected > 0 && scan_member(item, "errors").at == NULL;
        if (!place->unexplained) {
            report_errors(s, place->line, item);
            s->rejected++;
        }
        rejected++;
    }
    s->accepted += accepted;
    return accepted + rejected == hi - lo ? OK : ERR_INVALID;
}

static enum err send_range(struct sender *s, size_t lo, size_t hi, uint64_t *resume);

/* Sends what an answer left unexplained once more, a few at a time. */
static enum err
ask_why(struct sender *s, size_t lo, size_t hi, uint64_t *resume)
{
    enum err e = OK;
    for (size_t i = lo; i < hi && e == OK; i++) {
        size_t first = i;
        while (i < hi && s->place[i].unexplained && i - first < EXPLAINED_MAX) {
            s->place[i++].unexplained = false;
        }
        if (i > first) {
            e = send_range(s, first, i--, resume);
        }
    }
    return e;
}

/* 400 or 413 for a whole request. */
static enum err
divide(struct sender *s, size_t lo, size_t hi, uint64_t *resume)
{
    if (hi - lo == 1) {
        report_errors(s, s->place[lo].line, buf_span(&s->answer.body));
        s->rejected++;
        return OK;
    }
    size_t middle = lo + (hi - lo) / 2;
    enum err e = send_range(s, lo, middle, resume);
    return e == OK ? send_range(s, middle, hi, resume) : e;
}

/* *resume: on failure, the line of the first event that may not have been accepted. */
static enum err
send_range(struct sender *s, size_t lo, size_t hi, uint64_t *resume)
{
    *resume = s->place[lo].line;
    enum err e = post(s, lo, hi);
    if (e != OK) {
        return e;
    }
    long status = s->answer.status;
    if (scan_member(buf_span(&s->answer.body), "rejected").at != NULL) { /* also of a 400 */
        e = take_answer(s, lo, hi);
        return e == OK ? ask_why(s, lo, hi, resume) : e;
    }
    return status == 400 || status == 413 ? divide(s, lo, hi, resume) : ERR_REJECTED;
}

static void
print_failure(struct sender *s, enum err e, uint64_t line)
{
    progress_clear(&s->progress);
    const char *what = e == ERR_UNAVAILABLE ? "gave up"
                       : e == ERR_INVALID   ? "the answer does not account for every event"
                       : e == ERR_REJECTED  ? "stopped"
                                            : err_text(e);
    client_print_problem(what, &s->answer);
    fprintf(stderr,
            "weir: send again from line %" PRIu64 " (--from %" PRIu64 "), or the whole file: "
            "what was accepted has no second effect\n",
            line, line);
}

/* Sends what is gathered. */
static enum err
flush(struct sender *s)
{
    if (s->n == 0) {
        return OK;
    }
    uint64_t resume = 0;
    enum err e = send_range(s, 0, s->n, &resume);
    if (e != OK) {
        print_failure(s, e, resume);
        return e;
    }
    s->sent += s->n;
    s->n = 0;
    buf_reset(&s->body);
    return OK;
}

static enum err
gather(struct sender *s, const struct source_item *item, size_t batch)
{
    if (item->problem != NULL) {
        print_rejected(s, item->line, SPAN(""), span_of(item->problem));
        s->sent++;
        s->rejected++;
        return OK;
    }
    if (s->n == batch || (s->n > 0 && s->body.len + item->text.len + 1 > BATCH_BYTES)) {
        enum err e = flush(s);
        if (e != OK) {
            return e;
        }
    }
    s->place[s->n++] = (struct place){.at = s->body.len, .line = item->line};
    buf_add_span(&s->body, item->text);
    buf_add(&s->body, "\n", 1);
    return buf_ok(&s->body) ? OK : ERR_NOMEM;
}

static enum err
send_all(struct sender *s, struct source *src, size_t batch, uint64_t from)
{
    struct source_item item;
    enum err e;
    while ((e = source_next(src, &item)) == OK) {
        if (item.line >= from) {
            e = gather(s, &item, batch);
        }
        if (e != OK) {
            return e;
        }
        uint64_t done, total;
        source_progress(src, &done, &total);
        progress_show(&s->progress, s->sent, done, total);
    }
    if (e != ERR_NOT_FOUND) {
        progress_clear(&s->progress);
        fprintf(stderr, "weir: %s: %s\n", s->name, e == ERR_IO ? strerror(errno) : err_text(e));
        return e;
    }
    return flush(s);
}

struct send_flags {
    const char *url;
    int64_t batch;
    int64_t retry_for_ms;
    int64_t from;
};

static int
send_file(const char *path, const struct send_flags *flags)
{
    struct sender s = {.name = strcmp(path, "-") == 0 ? "stdin" : path,
                       .retry_for_ms = flags->retry_for_ms};
    struct source *src = NULL;
    char why[SOURCE_WHY_MAX];
    _Static_assert(sizeof why >= CLIENT_WHY_MAX, "why is for both");
    int code = 1;
    s.place = calloc((size_t)flags->batch, sizeof *s.place);
    if (s.place == NULL) {
        fprintf(stderr, "weir: %s\n", err_text(ERR_NOMEM));
        return 1;
    }
    if (source_open(&src, path, why) != OK) {
        fprintf(stderr, "weir: %s: %s\n", s.name, why);
    } else if (client_open(&s.client, flags->url, why) != OK) {
        fprintf(stderr, "weir: --url %s\n", why);
        code = 2;
    } else {
        progress_open(&s.progress);
        enum err e = send_all(&s, src, (size_t)flags->batch, (uint64_t)flags->from);
        progress_clear(&s.progress);
        printf("sent %" PRIu64 ", accepted %" PRIu64 ", rejected %" PRIu64 "\n", s.sent, s.accepted,
               s.rejected);
        code = print_end(e == OK && s.rejected == 0 ? 0 : 1);
    }
    source_close(src);
    client_close(s.client);
    client_answer_fini(&s.answer);
    buf_fini(&s.body);
    free(s.place);
    return code;
}

int
cmd_send(int argc, char **argv, char *const *envp)
{
    (void)envp;
    struct send_flags flags = {.url = CLIENT_URL, .batch = 500, .retry_for_ms = 60000};
    const struct arg table[] = {
        {"--url", ARG_TEXT, &flags.url, 0, 0},
        {"--batch", ARG_COUNT, &flags.batch, 1, BATCH_MAX},
        {"--retry-for", ARG_TIME, &flags.retry_for_ms, 0, 86400000},
        {"--from", ARG_COUNT, &flags.from, 1, INT64_MAX},
        {0},
    };
    enum args_result r = args_take(table, usage, &argc, argv);
    if (r != ARGS_OK) {
        return args_exit(r);
    }
    if (argc != 1) {
        fprintf(stderr, "weir: expected one file to send, or - for standard input\n");
        return 2;
    }
    return send_file(argv[0], &flags);
}
