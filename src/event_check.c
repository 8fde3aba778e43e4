#include "event_check.h"

#include "clock.h"

#include <stdarg.h>
#include <stdio.h>

/* Says what is wrong with a value of the right type, and notes it in *out where nothing is. */
typedef void check_member(const struct json_member *m, struct span *out,
                          struct event_errors *errors);

static check_member check_word, check_timestamp, check_payload;

static const struct rule {
    struct span name;
    enum json_type type;
    size_t max;    /* bytes */
    size_t offset; /* of its span in struct event_fields */
    check_member *check;
} rules[] = {
    {SPAN("event_id"), JSON_STRING, EVENT_ID_MAX, offsetof(struct event_fields, id), check_word},
    {SPAN("type"), JSON_STRING, EVENT_TYPE_MAX, offsetof(struct event_fields, type), check_word},
    {SPAN("timestamp"), JSON_STRING, EVENT_TIME_MAX, offsetof(struct event_fields, timestamp),
     check_timestamp},
    {SPAN("payload"), JSON_OBJECT, 0, offsetof(struct event_fields, payload), check_payload},
};
#define RULES (sizeof rules / sizeof *rules)

/* RFC 6901: ~ is written ~0 and / is written ~1. A name that does not fit is cut between two
 * characters. */
static void
write_pointer(char *out, size_t size, struct span name)
{
    size_t n = 0;
    size_t whole = 0; /* length up to which only whole characters stand */
    out[n++] = '/';
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if ((c & 0xC0) != 0x80) {
            whole = n;
        }
        if (n + 3 > size) {
            n = whole;
            break;
        }
        if (c == '~' || c == '/') {
            out[n++] = '~';
            c = c == '~' ? '0' : '1';
        }
        out[n++] = c == '\0' ? '?' : (char)c;
    }
    out[n] = '\0';
}

void
event_errors_add(struct event_errors *errors, struct span member, const char *fmt, ...)
{
    if (errors->n == EVENT_ERRORS_MAX) {
        return;
    }
    struct event_error *e = &errors->item[errors->n++];
    if (member.at == NULL) {
        e->pointer[0] = '\0';
    } else {
        write_pointer(e->pointer, sizeof e->pointer, member);
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->detail, sizeof e->detail, fmt, args);
    va_end(args);
}

static const char *
type_name(enum json_type t)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",       [JSON_BOOL] = "a boolean", [JSON_NUMBER] = "a number",
        [JSON_STRING] = "a string", [JSON_ARRAY] = "an array", [JSON_OBJECT] = "an object",
    };
    return names[t];
}

static bool
has_control(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c < 0x20 || c == 0x7F) {
            return true;
        }
    }
    return false;
}

static void
check_word(const struct json_member *m, struct span *out, struct event_errors *errors)
{
    if (has_control(m->text)) {
        event_errors_add(errors, m->name, "has a control character; none is allowed");
        return;
    }
    *out = m->text;
}

static void
check_timestamp(const struct json_member *m, struct span *out, struct event_errors *errors)
{
    int64_t ms;
    const char *wrong = clock_parse_rfc3339(m->text, &ms);
    if (wrong != NULL) {
        event_errors_add(errors, m->name, "%s", wrong);
        return;
    }
    *out = m->text;
}

static void
check_payload(const struct json_member *m, struct span *out, struct event_errors *errors)
{
    if (m->depth + 1 > EVENT_DEPTH_MAX) {
        event_errors_add(errors, m->name,
                         "is nested %u levels deep; at most %d, the event's own included",
                         m->depth + 1, EVENT_DEPTH_MAX);
        return;
    }
    *out = m->text;
}

static const struct rule *
rule_of(struct span name)
{
    for (size_t i = 0; i < RULES; i++) {
        if (span_eq(rules[i].name, name)) {
            return &rules[i];
        }
    }
    return NULL;
}

static void
check_value(const struct rule *rule, const struct json_member *m, struct span *out,
            struct event_errors *errors)
{
    if (m->type != rule->type) {
        event_errors_add(errors, m->name, "is %s; expected %s", type_name(m->type),
                         type_name(rule->type));
    } else if (rule->max != 0 && m->text.len == 0) {
        event_errors_add(errors, m->name, "is empty; expected 1 to %zu bytes", rule->max);
    } else if (rule->max != 0 && m->text.len > rule->max) {
        event_errors_add(errors, m->name, "is %zu bytes long; expected 1 to %zu", m->text.len,
                         rule->max);
    } else {
        rule->check(m, out, errors);
    }
}

void
event_check(struct json_reader *r, struct event_fields *out, struct event_errors *errors)
{
    unsigned seen = 0;
    struct json_member m;
    while (json_next(r, &m)) {
        const struct rule *rule = rule_of(m.name);
        if (rule == NULL) {
            event_errors_add(errors, m.name,
                             "unknown member; expected only event_id, type, timestamp, payload");
            continue;
        }
        unsigned bit = 1U << (rule - rules);
        if (seen & bit) {
            event_errors_add(errors, m.name, "is given more than once");
            continue;
        }
        seen |= bit;
        check_value(rule, &m, (struct span *)((char *)out + rule->offset), errors);
    }
    for (size_t i = 0; i < RULES; i++) {
        if (!(seen & 1U << i)) {
            event_errors_add(errors, rules[i].name, "is missing; expected %s",
                             type_name(rules[i].type));
        }
    }
}
