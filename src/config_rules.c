/* config_rules.c - what values may be beyond type and range, and the rules between them. */
#include "config_parts.h"

#include <arpa/inet.h>
#include <sys/un.h>

static bool
starts_with(struct span text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.at, prefix, len) == 0;
}

static bool
is_port(struct span text)
{
    unsigned port = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return false;
        }
        port = port * 10 + (unsigned)(text.at[i] - '0');
    }
    return text.len >= 1 && text.len <= 5 && port <= 65535;
}

static bool
is_ipv6(struct span text)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr unused;
    const char *zone = memchr(text.at, '%', text.len); /* fe80::1%eth0 */
    if (zone != NULL && zone + 1 < text.at + text.len) {
        text.len = (size_t)(zone - text.at);
    }
    if (text.len >= sizeof address) {
        return false;
    }
    memcpy(address, text.at, text.len);
    address[text.len] = '\0';
    return inet_pton(AF_INET6, address, &unused) == 1;
}

static bool
is_host(struct span text)
{
    if (text.len >= 2 && text.at[0] == '[') {
        return text.at[text.len - 1] == ']' && is_ipv6((struct span){text.at + 1, text.len - 2});
    }
    for (size_t i = 0; i < text.len; i++) {
        if (strchr(":/[]@ ", text.at[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static const char *
check_unix(struct span path)
{
    struct sockaddr_un sa;
    if (path.len < 1) {
        return "has no path; expected unix:/path";
    }
    return path.len < sizeof sa.sun_path ? NULL
                                         : "is too long; a socket's path is at most 107 bytes";
}

static const char *
check_listen(struct span text)
{
    if (starts_with(text, "unix:")) {
        return check_unix((struct span){text.at + 5, text.len - 5});
    }
    const char *colon = memrchr(text.at, ':', text.len);
    if (colon == NULL) {
        return "is not an address; expected host:port, [v6]:port, :port or unix:/path";
    }
    size_t host_len = (size_t)(colon - text.at);
    if (!is_port((struct span){colon + 1, text.len - host_len - 1})) {
        return "has no valid port; expected host:port with a port from 0 to 65535";
    }
    if (!is_host((struct span){text.at, host_len})) {
        return "has no valid host; expected host:port, [v6]:port, :port or unix:/path";
    }
    return NULL;
}

static const char *
check_queue(struct span text)
{
    if (starts_with(text, "amqp://") || starts_with(text, "amqps://")) {
        return "is not supported by this version; expected local";
    }
    return span_eq(text, SPAN("local")) ? NULL : "is not a queue; expected local";
}

static const char *
check_dedup(struct span text)
{
    if (starts_with(text, "redis://") || starts_with(text, "rediss://")) {
        return "is not supported by this version; expected local or none";
    }
    bool known = span_eq(text, SPAN("local")) || span_eq(text, SPAN("none"));
    return known ? NULL : "is not known; expected local or none";
}

static const char *
check_sink(struct span text)
{
    static const char *const later[] = {"postgresql:", "postgres:", "http:", "https:", "exec:"};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        if (starts_with(text, later[i])) {
            return "is not supported by this version; expected local, log or log:/path/to/file";
        }
    }
    if (span_eq(text, SPAN("log:"))) {
        return "has no path; expected log or log:/path/to/file";
    }
    bool known = span_eq(text, SPAN("local")) || span_eq(text, SPAN("log"));
    return known || starts_with(text, "log:")
               ? NULL
               : "is not a sink; expected local, log or log:/path/to/file";
}

/* What config_print writes must read back as the same value: a line of the file ends at a # after
 * a space, and is trimmed. */
static const char *
check_line(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c < 0x20 || c == 0x7f) {
            return "holds a control character; expected plain text";
        }
        if (c == '#' && (i == 0 || text.at[i - 1] == ' ')) {
            return "has a # at its start or after a space; expected none there";
        }
    }
    bool edges = text.len > 0 && (text.at[0] == ' ' || text.at[text.len - 1] == ' ');
    return edges ? "starts or ends with a space; expected none there" : NULL;
}

const char *
config_check_text(enum config_row row, struct span text)
{
    const char *why = check_line(text);
    if (why != NULL) {
        return why;
    }
    switch (row) {
    case CONFIG_ROW_listen:
        return check_listen(text);
    case CONFIG_ROW_queue:
        return check_queue(text);
    case CONFIG_ROW_dedup:
        return check_dedup(text);
    case CONFIG_ROW_sink:
        return check_sink(text);
    default:
        return NULL;
    }
}

/* Each: the first must not be larger than the second. */
static const struct order {
    enum config_row small;
    enum config_row large;
    const char *why;
} orders[] = {
    {CONFIG_ROW_event_max_bytes, CONFIG_ROW_http_max_body, "an event must fit into a request"},
    {CONFIG_ROW_http_max_body, CONFIG_ROW_queue_mailbox_bytes,
     "a request must fit into one commit"},
    {CONFIG_ROW_http_max_body, CONFIG_ROW_http_max_inflight, "a request must fit into memory"},
};

static void
add_named(struct buf *out, const struct config *cfg, enum config_row row)
{
    buf_addf(out, "%s = ", config_settings[row].key);
    config_add_value(out, cfg, row);
    buf_add_text(out, " (");
    config_add_source(out, cfg, row);
    buf_add_text(out, ")");
}

static void
check_order(struct buf *errors, const struct config *cfg, const struct order *o)
{
    int64_t small = *(int64_t *)config_field(cfg, o->small);
    int64_t large = *(int64_t *)config_field(cfg, o->large);
    if (small <= large) {
        return;
    }
    add_named(errors, cfg, o->small);
    buf_add_text(errors, " is larger than ");
    add_named(errors, cfg, o->large);
    buf_addf(errors, "; expected at most that: %s\n", o->why);
}

static bool
writes_log(const struct config *cfg)
{
    return starts_with(span_of(cfg->sink), "log");
}

static void
check_log_threads(struct buf *errors, const struct config *cfg)
{
    if (!writes_log(cfg) || cfg->worker_threads == 1) {
        return;
    }
    add_named(errors, cfg, CONFIG_ROW_worker_threads);
    buf_add_text(errors, " with ");
    add_named(errors, cfg, CONFIG_ROW_sink);
    buf_add_text(errors, "; expected 1: two workers could write the same event at once\n");
}

void
config_check_rules(struct buf *errors, const struct config *cfg, const bool *bad)
{
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        if (!bad[orders[i].small] && !bad[orders[i].large]) {
            check_order(errors, cfg, &orders[i]);
        }
    }
    if (!bad[CONFIG_ROW_sink] && !bad[CONFIG_ROW_worker_threads]) {
        check_log_threads(errors, cfg);
    }
}

void
config_add_notes(struct buf *out, const struct config *cfg)
{
    if (strcmp(cfg->dedup, "none") == 0 && writes_log(cfg)) {
        buf_add_text(out, "# note: with dedup = none the log sink writes an event at least once, "
                          "not exactly once\n");
    }
}
