/* events.c - weir events list, weir events show ID: what became of events, asked of the API. */
#include "cmd/cmd.h"

#include "cmd/args.h"
#include "cmd/client.h"
#include "cmd/print.h"
#include "cmd/scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE_MAX 1000

static const char usage[] =
    "weir events list [--type T] [--since T] [--until T] [--limit N] [--json] [--url URL]\n"
    "weir events show ID [--json] [--url URL]\n"
    "\n"
    "Lists events, newest first, or shows one with its timeline.\n"
    "\n"
    "  --type T      only events of this type\n"
    "  --since T     accepted at or after this time, as in 2026-02-03T12:30:00Z\n"
    "  --until T     accepted before this time\n"
    "  --limit N     how many, at most (20)\n"
    "  --json        JSON as the API gives it, one event a line\n"
    "  --url URL     where the API listens (" CLIENT_URL "; also unix:/path)\n";

struct events_flags {
    const char *url;
    const char *type;
    const char *since;
    const char *until;
    int64_t limit;
    bool json;
};

/* GET; anything but 200 is printed as a problem. */
static enum err
get(struct client *c, struct client_answer *a, const char *path)
{
    enum err e = client_get(c, a, path);
    if (e == OK && a->status != 200) {
        e = ERR_REJECTED;
    }
    if (e == ERR_NOMEM) {
        fprintf(stderr, "weir: %s\n", err_text(e));
    } else if (e != OK) {
        client_print_problem("events", a);
    }
    return e;
}

/* A member's text, control characters made harmless for the terminal. */
static struct span
text_of(struct buf *scratch, struct span object, const char *name)
{
    buf_reset(scratch);
    scan_text(scratch, scan_member(object, name));
    for (size_t i = 0; i < scratch->len; i++) {
        unsigned char c = (unsigned char)scratch->at[i];
        if (c < 0x20 || c == 0x7f) {
            scratch->at[i] = '?';
        }
    }
    return buf_span(scratch);
}

static void
print_column(struct buf *scratch, struct span event, const char *name, int width)
{
    struct span text = text_of(scratch, event, name);
    int pad = (int)text.len < width ? width - (int)text.len : 0;
    printf("%.*s%*s  ", SPAN_FMT(text), pad, "");
}

static void
print_row(struct span event)
{
    struct buf scratch;
    buf_init(&scratch, 0);
    print_column(&scratch, event, "accepted_at", 24);
    print_column(&scratch, event, "state", 10);
    print_column(&scratch, event, "type", 16);
    printf("%.*s\n", SPAN_FMT(text_of(&scratch, event, "event_id")));
    buf_fini(&scratch);
}

/* Prints a page; returns how many events it had. */
static int64_t
print_page(struct span answer, bool json)
{
    int64_t n = 0;
    struct span rest = scan_member(answer, "events");
    for (struct span ev = scan_item(&rest); ev.at != NULL; ev = scan_item(&rest)) {
        if (json) {
            printf("%.*s\n", SPAN_FMT(ev));
        } else {
            print_row(ev);
        }
        n++;
    }
    return n;
}

static void
write_list_path(struct buf *path, const struct events_flags *flags, int64_t limit,
                const char *cursor)
{
    char count[24];
    snprintf(count, sizeof count, "%" PRId64, limit);
    buf_reset(path);
    buf_add_text(path, "/events");
    client_add_query(path, "type", flags->type);
    client_add_query(path, "since", flags->since);
    client_add_query(path, "until", flags->until);
    client_add_query(path, "limit", count);
    client_add_query(path, "cursor", cursor);
    buf_add(path, "", 1);
}

/* Goes on with the next page until `limit` events are printed. */
static enum err
list(struct client *c, struct client_answer *a, const struct events_flags *flags)
{
    struct buf path;
    struct buf cursor;
    buf_init(&path, 0);
    buf_init(&cursor, 0);
    enum err e = OK;
    if (!flags->json) {
        printf("%-24s  %-10s  %-16s  %s\n", "ACCEPTED", "STATE", "TYPE", "ID");
    }
    for (int64_t left = flags->limit; left > 0;) {
        const char *from = cursor.len > 0 ? cursor.at : NULL;
        write_list_path(&path, flags, left < PAGE_MAX ? left : PAGE_MAX, from);
        e = buf_ok(&path) ? get(c, a, path.at) : ERR_NOMEM;
        if (e != OK) {
            break;
        }
        struct span answer = buf_span(&a->body);
        left -= print_page(answer, flags->json);
        struct span next = scan_member(answer, "next");
        if (next.at == NULL) {
            break;
        }
        buf_reset(&cursor);
        scan_text(&cursor, next);
        buf_add(&cursor, "", 1);
    }
    buf_fini(&path);
    buf_fini(&cursor);
    return e;
}

static void
print_member(struct span event, const char *name, const char *label)
{
    struct buf scratch;
    buf_init(&scratch, 0);
    struct span text = text_of(&scratch, event, name);
    if (text.len > 0) {
        printf("%-10s %.*s\n", label, SPAN_FMT(text));
    }
    buf_fini(&scratch);
}

/* "2026-02-03T12:30:00.123Z  queued  fsync" */
static void
print_step(struct span step)
{
    struct buf scratch;
    buf_init(&scratch, 0);
    printf("  %.*s", SPAN_FMT(text_of(&scratch, step, "at")));
    printf("  %.*s", SPAN_FMT(text_of(&scratch, step, "state")));
    static const char *const more[] = {"durability", "reason"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        struct span text = text_of(&scratch, step, more[i]);
        printf("%s%.*s", text.len > 0 ? "  " : "", SPAN_FMT(text));
    }
    putchar('\n');
    buf_fini(&scratch);
}

static void
print_event(struct span event)
{
    print_member(event, "event_id", "id");
    print_member(event, "type", "type");
    print_member(event, "timestamp", "timestamp");
    print_member(event, "state", "state");
    print_member(event, "reason", "reason");
    struct span payload = scan_member(event, "payload");
    printf("%-10s %.*s\n", "payload", SPAN_FMT(payload));
    struct span rest = scan_member(event, "timeline");
    if (rest.at != NULL) {
        printf("timeline\n");
    }
    for (struct span step = scan_item(&rest); step.at != NULL; step = scan_item(&rest)) {
        print_step(step);
    }
}

static enum err
show(struct client *c, struct client_answer *a, const char *id, const struct events_flags *flags)
{
    struct buf path;
    buf_init(&path, 0);
    buf_add_text(&path, "/events/");
    client_add_encoded(&path, span_of(id));
    buf_add(&path, "", 1);
    enum err e = buf_ok(&path) ? get(c, a, path.at) : ERR_NOMEM;
    buf_fini(&path);
    if (e != OK) {
        return e;
    }
    if (flags->json) {
        printf("%.*s\n", SPAN_FMT(buf_span(&a->body)));
    } else {
        print_event(buf_span(&a->body));
    }
    return OK;
}

static int
run(const char *id, const struct events_flags *flags)
{
    struct client *c = NULL;
    struct client_answer a = {0};
    char why[CLIENT_WHY_MAX];
    enum err e = client_open(&c, flags->url, why);
    if (e != OK) {
        fprintf(stderr, "weir: --url %s\n", why);
        return 2;
    }
    e = id == NULL ? list(c, &a, flags) : show(c, &a, id, flags);
    client_answer_fini(&a);
    client_close(c);
    return print_end(e == OK ? 0 : 1);
}

int
cmd_events(int argc, char **argv, char *const *envp)
{
    (void)envp;
    struct events_flags flags = {.url = CLIENT_URL, .limit = 20};
    const struct arg table[] = {
        {"--url", ARG_TEXT, &flags.url, 0, 0},
        {"--type", ARG_TEXT, &flags.type, 0, 0},
        {"--since", ARG_TEXT, &flags.since, 0, 0},
        {"--until", ARG_TEXT, &flags.until, 0, 0},
        {"--limit", ARG_COUNT, &flags.limit, 1, INT64_MAX},
        {"--json", ARG_SWITCH, &flags.json, 0, 0},
        {0},
    };
    enum args_result r = args_take(table, usage, &argc, argv);
    if (r != ARGS_OK) {
        return args_exit(r);
    }
    if (argc == 1 && strcmp(argv[0], "list") == 0) {
        return run(NULL, &flags);
    }
    if (argc == 2 && strcmp(argv[0], "show") == 0) {
        return run(argv[1], &flags);
    }
    fprintf(stderr, "weir: expected events list, or events show ID\n");
    return 2;
}
