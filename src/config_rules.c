/* config_rules.c - what values may be beyond type and range, and the rules between them. */
#include "config_parts.h"

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
    return config_check_address(row, text);
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
has_scheme(const char *url, const char *scheme)
{
    size_t len = strlen(scheme);
    return strncmp(url, scheme, len) == 0 && (url[len] == '\0' || url[len] == ':');
}

static bool
writes_log(const struct config *cfg)
{
    return has_scheme(cfg->sink, "log");
}

/* Only Redis claims an id for one of them. */
static void
check_log_threads(struct buf *errors, const struct config *cfg)
{
    if (!writes_log(cfg) || cfg->worker_threads == 1 || has_scheme(cfg->dedup, "redis")) {
        return;
    }
    add_named(errors, cfg, CONFIG_ROW_worker_threads);
    buf_add_text(errors, " with ");
    add_named(errors, cfg, CONFIG_ROW_sink);
    buf_add_text(errors,
                 "; expected 1, or a Redis as dedup: two workers could write the same event "
                 "at once\n");
}

static bool
sends_nest(const struct config *cfg)
{
    return strcmp(cfg->amqp_format, "nest") == 0;
}

static void
check_nest(struct buf *errors, struct config *cfg)
{
    if (!sends_nest(cfg) || cfg->amqp_envelope == 1) {
        return;
    }
    if (cfg->source[CONFIG_ROW_amqp_envelope] == CONFIG_FROM_DEFAULT) {
        cfg->amqp_envelope = 1;
        return;
    }
    add_named(errors, cfg, CONFIG_ROW_amqp_envelope);
    buf_add_text(errors, " with ");
    add_named(errors, cfg, CONFIG_ROW_amqp_format);
    buf_add_text(errors, "; expected 1: the older service reads one event a message\n");
}

void
config_check_rules(struct buf *errors, struct config *cfg, const bool *bad)
{
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        if (!bad[orders[i].small] && !bad[orders[i].large]) {
            check_order(errors, cfg, &orders[i]);
        }
    }
    if (!bad[CONFIG_ROW_sink] && !bad[CONFIG_ROW_worker_threads] && !bad[CONFIG_ROW_dedup]) {
        check_log_threads(errors, cfg);
    }
    if (!bad[CONFIG_ROW_amqp_format] && !bad[CONFIG_ROW_amqp_envelope]) {
        check_nest(errors, cfg);
    }
}

void
config_add_notes(struct buf *out, const struct config *cfg)
{
    bool apart = !has_scheme(cfg->queue, "local");
    if (strcmp(cfg->dedup, "none") == 0 && writes_log(cfg)) {
        buf_add_text(out, "# note: with dedup = none the log sink writes an event at least once, "
                          "not exactly once\n");
    }
    if (apart && writes_log(cfg) && has_scheme(cfg->dedup, "local")) {
        buf_add_text(out,
                     "# note: with dedup = local each worker process knows only the ids that "
                     "it processed itself: two of them can write the same event to their logs; "
                     "a Redis as dedup makes that rare\n");
    }
    if (apart && has_scheme(cfg->sink, "local")) {
        buf_add_text(out, "# note: with sink = local each worker process stores in its own data "
                          "folder: two of them can store the same event; PostgreSQL as sink "
                          "prevents it\n");
    }
    if (sends_nest(cfg)) {
        buf_add_text(out, "# note: with amqp.format = nest each event travels alone: "
                          "amqp.envelope is 1\n");
    }
}
