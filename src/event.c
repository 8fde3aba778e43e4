#include "event.h"

#include "buf.h"
#include "event_check.h"
#include "json.h"

#include <assert.h>
#include <stdlib.h>

const char *
event_state_name(enum event_state s)
{
    static const char *const names[] = {
#define X(name, text) [EVENT_##name] = text,
        EVENT_STATES(X)
#undef X
    };
    return names[s];
}

struct event *
event_new(struct span id, struct span type, struct span timestamp, struct span payload)
{
    assert(id.len <= EVENT_ID_MAX && type.len <= EVENT_TYPE_MAX && timestamp.len <= EVENT_TIME_MAX);
    assert(payload.len <= UINT32_MAX);
    size_t size = sizeof(struct event) + id.len + type.len + timestamp.len + payload.len;
    struct event *ev = malloc(size);
    if (ev == NULL) {
        return NULL;
    }
    *ev = (struct event){
        .mail.bytes = size,
        .payload_len = (uint32_t)payload.len,
        .id_len = (uint16_t)id.len,
        .type_len = (uint16_t)type.len,
        .time_len = (uint16_t)timestamp.len,
    };
    char *at = ev->bytes;
    const struct span parts[] = {id, type, timestamp, payload};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].len > 0) {
            memcpy(at, parts[i].at, parts[i].len);
        }
        at += parts[i].len;
    }
    return ev;
}

void
event_free(struct event *ev)
{
    free(ev);
}

void
event_write_json(struct buf *out, const struct event *ev, struct span extra)
{
    buf_add_text(out, "{\"event_id\":");
    buf_add_json_string(out, event_id(ev));
    buf_add_text(out, ",\"type\":");
    buf_add_json_string(out, event_type(ev));
    buf_add_text(out, ",\"timestamp\":");
    buf_add_json_string(out, event_timestamp(ev));
    buf_add_text(out, ",\"payload\":");
    buf_add_span(out, event_payload(ev));
    buf_add_span(out, extra);
    buf_add_text(out, "}");
}

void
event_write_json_line(struct buf *out, const struct event *ev, struct span extra)
{
    size_t from = out->len;
    event_write_json(out, ev, extra);
    /* inside a JSON string a line break is escaped: those that are left are white space */
    for (size_t i = from; i < out->len; i++) {
        if (out->at[i] == '\n' || out->at[i] == '\r') {
            out->at[i] = ' ';
        }
    }
    buf_add_text(out, "\n");
}

struct event_parser {
    struct json_reader *reader;
    size_t max_event_bytes;
    bool stopped;
    struct event_errors errors; /* of the item that is being read */
};

struct event_parser *
event_parser_open(size_t max_event_bytes)
{
    struct event_parser *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return NULL;
    }
    p->max_event_bytes = max_event_bytes;
    p->reader = json_open();
    if (p->reader == NULL) {
        event_parser_close(p);
        return NULL;
    }
    return p;
}

void
event_parser_close(struct event_parser *p)
{
    if (p != NULL) {
        json_close(p->reader);
        free(p);
    }
}

void
event_parser_stop(struct event_parser *p)
{
    p->stopped = true;
}

/* A body on its way through the parser. */
struct reading {
    struct event_parser *p;
    const char *at; /* what is still to be read */
    const char *end;
    const char *line_start; /* up to here lines were counted */
    size_t line;            /* its number, from 1 */
    size_t index;           /* of the next item */
    struct event_errors *whole;
    event_on_item *on_item;
    void *data;
};

static const struct span whole_event = {NULL, 0};

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
skip_space(struct reading *r)
{
    while (r->at < r->end && is_space(*r->at)) {
        r->at++;
    }
}

static struct span
trim(struct span s)
{
    while (s.len > 0 && is_space(s.at[0])) {
        s.at++;
        s.len--;
    }
    while (s.len > 0 && is_space(s.at[s.len - 1])) {
        s.len--;
    }
    return s;
}

static bool
has_bom(struct span s)
{
    return s.len >= 3 && memcmp(s.at, "\xEF\xBB\xBF", 3) == 0;
}

/* The line of a place, in r->line, and its column. Places only grow, so that each line is counted
 * once. */
static size_t
locate(struct reading *r, const char *place)
{
    size_t left = (size_t)(place - r->line_start);
    for (const char *lf; (lf = memchr(r->line_start, '\n', left)) != NULL;) {
        left -= (size_t)(lf + 1 - r->line_start);
        r->line_start = lf + 1;
        r->line++;
    }
    return left + 1;
}

static void
explain(struct reading *r, struct span text, struct event_errors *errors)
{
    size_t offset = 0;
    const char *wrong = json_explain(text, &offset);
    size_t column = locate(r, text.at + offset);
    event_errors_add(errors, whole_event, "is not JSON at line %zu, column %zu: %s", r->line,
                     column, wrong != NULL ? wrong : "cannot be read");
}

/* ERR_INVALID: not JSON, and *errors says why. Else the errors, if any, are of the event only. */
static enum err
read_item(struct reading *r, struct span text, struct event_fields *out,
          struct event_errors *errors)
{
    struct event_parser *p = r->p;
    if (text.len > p->max_event_bytes) {
        errors->too_large = true;
        event_errors_add(errors, whole_event, "is %zu bytes; an event has at most %zu", text.len,
                         p->max_event_bytes);
        return OK;
    }
    enum json_type top;
    switch (json_read(p->reader, text, &top)) {
    case JSON_OK:
        break;
    case JSON_NO_MEMORY:
        return ERR_NOMEM;
    case JSON_TOO_DEEP:
        event_errors_add(errors, whole_event, "is nested more than %d levels deep",
                         EVENT_DEPTH_MAX);
        return OK;
    case JSON_BAD_UTF8:
        explain(r, text, errors);
        return OK;
    case JSON_BAD_SYNTAX:
        explain(r, text, errors);
        return ERR_INVALID;
    }
    if (top != JSON_OBJECT) {
        event_errors_add(errors, whole_event, "expected an event, which is a JSON object");
        return OK;
    }
    event_check(p->reader, out, errors);
    return OK;
}

static void
report(struct reading *r, struct event *ev, struct span id)
{
    r->on_item(r->data, r->index++, ev, id, ev == NULL ? &r->p->errors : NULL);
}

/* Reads one item and reports it. ERR_INVALID: not JSON; then it was not reported. */
static enum err
take_item(struct reading *r, struct span text)
{
    struct event_fields f = {0};
    struct event_errors *errors = &r->p->errors;
    errors->n = 0;
    errors->too_large = false;
    enum err e = read_item(r, text, &f, errors);
    if (e != OK) {
        return e;
    }
    struct event *ev = NULL;
    if (errors->n == 0) {
        ev = event_new(f.id, f.type, f.timestamp, f.payload);
        if (ev == NULL) {
            return ERR_NOMEM;
        }
    }
    report(r, ev, f.id);
    return OK;
}

static enum err
fail_whole(struct reading *r, const char *detail)
{
    event_errors_add(r->whole, whole_event, "%s", detail);
    return ERR_INVALID;
}

static enum err
fail_here(struct reading *r, const char *expected)
{
    size_t column = locate(r, r->at);
    event_errors_add(r->whole, whole_event, "is not JSON at line %zu, column %zu: %s", r->line,
                     column, expected);
    return ERR_INVALID;
}

/* The end of a string that begins at `at`, or NULL: a quote ends it unless an odd number of
 * backslashes stands before. */
static const char *
string_end(const char *at, const char *end)
{
    const char *from = at + 1;
    for (const char *q = from; q < end; q++) {
        q = memchr(q, '"', (size_t)(end - q));
        if (q == NULL) {
            return NULL;
        }
        const char *slash = q;
        while (slash > from && slash[-1] == '\\') {
            slash--;
        }
        if ((q - slash) % 2 == 0) {
            return q + 1;
        }
    }
    return NULL;
}

/* The end of the array's item that begins at `at`, or NULL where it has none. Only finds the end:
 * json_read checks what is inside. */
static const char *
item_end(const char *at, const char *end)
{
    size_t depth = 0;
    while (at != NULL && at < end) {
        switch (*at) {
        case '"':
            at = string_end(at, end);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (depth == 0) {
                return at;
            }
            if (--depth == 0) {
                return at + 1;
            }
            break;
        case ',':
            if (depth == 0) {
                return at;
            }
            break;
        default:
            break;
        }
        at++;
    }
    return NULL;
}

static enum err
parse_array_item(struct reading *r)
{
    const char *stop = item_end(r->at, r->end);
    if (stop == NULL) {
        return fail_here(r, "an event or the array is not closed");
    }
    struct span item = trim((struct span){r->at, (size_t)(stop - r->at)});
    if (item.len == 0) {
        return fail_here(r, "expected an event");
    }
    enum err e = take_item(r, item);
    if (e == ERR_INVALID) {
        event_errors_add(r->whole, whole_event, "item %zu %s", r->index,
                         r->p->errors.item[0].detail);
    }
    r->at = stop;
    return e;
}

static enum err
parse_array(struct reading *r)
{
    r->at++;
    skip_space(r);
    bool more = !(r->at < r->end && *r->at == ']');
    while (more && !r->p->stopped) {
        enum err e = parse_array_item(r);
        if (e != OK) {
            return e;
        }
        skip_space(r);
        if (r->at == r->end || (*r->at != ',' && *r->at != ']')) {
            return fail_here(r, "expected a comma or ] after an event of the array");
        }
        more = *r->at == ',';
        if (more) {
            r->at++;
            skip_space(r);
        }
    }
    if (r->p->stopped) {
        return OK;
    }
    r->at++;
    skip_space(r);
    return r->at == r->end ? OK : fail_here(r, "expected nothing after the end of the array");
}

static enum err
parse_single(struct reading *r)
{
    enum err e = take_item(r, (struct span){r->at, (size_t)(r->end - r->at)});
    if (e == ERR_INVALID) {
        *r->whole = r->p->errors;
    }
    return e;
}

static enum err
parse_lines(struct reading *r)
{
    while (r->at < r->end && !r->p->stopped) {
        const char *stop = memchr(r->at, '\n', (size_t)(r->end - r->at));
        stop = stop == NULL ? r->end : stop;
        struct span line = trim((struct span){r->at, (size_t)(stop - r->at)});
        r->at = stop == r->end ? stop : stop + 1;
        if (line.len == 0) {
            continue;
        }
        enum err e = take_item(r, line);
        if (e == ERR_INVALID) {
            report(r, NULL, (struct span){0});
        } else if (e != OK) {
            return e;
        }
    }
    return OK;
}

enum err
event_parse_body(struct event_parser *p, struct span body, enum event_format format, bool *is_batch,
                 struct event_errors *whole, event_on_item *on_item, void *data)
{
    struct reading r = {.p = p, .whole = whole, .on_item = on_item, .data = data};
    r.line_start = body.at;
    r.line = 1;
    whole->n = 0;
    whole->too_large = false;
    p->stopped = false;
    body = trim(body);
    r.at = body.at;
    r.end = body.at + body.len;
    *is_batch = format == EVENT_FORMAT_NDJSON || (body.len > 0 && body.at[0] == '[');
    if (has_bom(body)) {
        return fail_whole(&r, "begins with a byte order mark; expected UTF-8 without one");
    }
    if (format == EVENT_FORMAT_NDJSON) {
        return parse_lines(&r);
    }
    if (body.len == 0) {
        return fail_whole(&r, "the body is empty; expected an event or an array of events");
    }
    if (body.at[0] != '{' && body.at[0] != '[') {
        return fail_whole(&r, "expected an event, which is a JSON object, or an array of events");
    }
    return *is_batch ? parse_array(&r) : parse_single(&r);
}

/* What stands around the event, beyond its own largest size. */
#define WRAPPER_MAX 4096

/* The member `data` of an object that the reader just read, if there is nothing else in it but the
 * pattern. */
static struct span
wrapped_data(struct json_reader *reader, struct span pattern)
{
    const struct span none = {0};
    struct span data = none;
    bool named = false;
    struct json_member m;
    while (json_next(reader, &m)) {
        if (!named && m.type == JSON_STRING && span_eq(m.name, SPAN("pattern")) &&
            span_eq(m.text, pattern)) {
            named = true;
        } else if (data.at == NULL && m.type == JSON_OBJECT && span_eq(m.name, SPAN("data"))) {
            data = m.text;
        } else {
            return none;
        }
    }
    return named ? data : none;
}

enum err
event_unwrap(struct event_parser *p, struct span *data, struct span body, struct span pattern)
{
    *data = (struct span){0};
    if (body.len > p->max_event_bytes + WRAPPER_MAX) {
        return OK;
    }
    enum json_type top;
    enum json_result result = json_read(p->reader, body, &top);
    if (result == JSON_OK) {
        *data = wrapped_data(p->reader, pattern);
    }
    return result == JSON_NO_MEMORY ? ERR_NOMEM : OK;
}

bool
event_is_ndjson(struct span body)
{
    body = trim(body);
    if (body.len == 0 || body.at[0] != '{' || memchr(body.at, '\n', body.len) == NULL) {
        return false;
    }
    const char *end = body.at + body.len;
    const char *stop = item_end(body.at, end);
    return stop != NULL && stop < end;
}
