/* http_parse.c - the parser object: where the bytes are, and how far.
 * Happy path: head and body lie whole in one input; the request points into it, nothing is copied.
 * Otherwise:  before HTTP_MORE is said, what is needed is copied: the head into `saved`, the body
 *             into `body`. `base` is where the head is now.
 * Invariant:  a decision is made at a byte, never at the end of an input. */
#include "api/http_parse.h"
#include "api/http_head.h"

#include <assert.h>
#include <stdlib.h>

#define BODY_FIRST 16384 /* bytes reserved for a body of which little has come */

enum phase { AT_START, AT_HEAD, AT_BODY, AT_CHUNKS, AT_REQUEST, AT_FAULT };

enum empty_line { NOT_SEEN, CR_SEEN, SEEN };

struct http_parser {
    size_t max_body;
    enum phase phase;
    enum empty_line empty_line; /* before the request line: one is tolerated */
    enum http_fault fault;
    const char *base; /* the head's first byte once it is complete: in the input or in saved */
    struct buf saved;
    struct buf body;
    struct http_head head;
    struct http_chunks chunks;
    struct http_request request;
};

static const struct {
    int status;
    const char *text;
} faults[] = {
#define X(code, status, text) {status, text},
    HTTP_FAULT_MAP(X)
#undef X
};

static const char no_body[BUF_SLACK];

struct http_parser *
http_parser_open(size_t max_body)
{
    struct http_parser *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return NULL;
    }
    p->max_body = max_body;
    buf_init(&p->saved, HTTP_HEAD_MAX);
    buf_init(&p->body, max_body);
    return p;
}

void
http_parser_close(struct http_parser *p)
{
    if (p == NULL) {
        return;
    }
    buf_fini(&p->saved);
    buf_fini(&p->body);
    free(p);
}

static void
skip(struct span *in, size_t len)
{
    *in = (struct span){in->at + len, in->len - len};
}

static enum http_parse_result
fail(struct http_parser *p, enum http_fault fault)
{
    p->phase = AT_FAULT;
    p->fault = fault;
    return HTTP_ERROR;
}

static enum http_method
method_of(struct span name)
{
    if (span_eq(name, SPAN("POST"))) {
        return HTTP_POST;
    }
    if (span_eq(name, SPAN("GET"))) {
        return HTTP_GET;
    }
    return span_eq(name, SPAN("HEAD")) ? HTTP_HEAD : HTTP_OTHER;
}

/* Fills in what points into the head, from where the head is now. */
static void
point_request(struct http_parser *p)
{
    const struct http_head *h = &p->head;
    struct http_request *r = &p->request;
    r->method_name = (struct span){p->base, h->method_len};
    r->path = (struct span){p->base + h->path_at, h->path_len};
    if (h->path_len == 0) {
        r->path = SPAN("/");
    }
    r->query = (struct span){p->base + h->query_at, h->query_len};
    r->fields = (struct span){p->base + h->fields_at, h->fields_len};
}

/* Copies the head out of the input if that is where it is. False: out of memory. */
static bool
save_head(struct http_parser *p)
{
    if (p->saved.len > 0) {
        return true;
    }
    buf_add(&p->saved, p->base, p->head.scan_at);
    if (!buf_ok(&p->saved)) {
        return false;
    }
    p->base = p->saved.at;
    point_request(p);
    return true;
}

/* The escapes were checked with the request line; decoded, the path is shorter. */
static void
unescape_path(struct http_parser *p)
{
    char *path = p->saved.at + p->head.path_at;
    size_t len = p->head.path_len;
    p->head.path_len = (uint16_t)http_unescape(path, len, (struct span){path, len}, false);
    point_request(p);
}

static enum http_parse_result
end_request(struct http_parser *p, struct span body)
{
    p->request.body = body.len > 0 ? body : (struct span){no_body, 0};
    p->phase = AT_REQUEST;
    return HTTP_REQUEST;
}

/* The head is complete and at base. */
static enum http_parse_result
end_head(struct http_parser *p)
{
    const struct http_head *h = &p->head;
    enum http_fault fault = http_field_check(h, p->max_body);
    if (fault != FAULT_NONE) {
        return fail(p, fault);
    }
    point_request(p);
    if (h->path_escaped) {
        if (!save_head(p)) {
            return fail(p, FAULT_MEMORY);
        }
        unescape_path(p);
    }
    struct http_request *r = &p->request;
    r->method = method_of(r->method_name);
    r->version = h->version;
    r->keep_alive = !h->close && (h->version == 1 || h->keep_alive);
    r->expect_continue = h->expect_continue && h->version == 1;
    r->has_length = h->has_length || h->has_coding;
    r->body_expected = h->content_length;
    r->body = (struct span){no_body, 0};
    if (h->chunked) {
        p->phase = AT_CHUNKS;
        p->chunks.room = p->max_body;
        return HTTP_HEADERS;
    }
    if (h->content_length == 0) {
        return end_request(p, r->body);
    }
    p->phase = AT_BODY;
    return HTTP_HEADERS;
}

static enum http_parse_result
read_head(struct http_parser *p, struct span *in)
{
    size_t had = p->saved.len;
    size_t room = HTTP_HEAD_MAX - had;
    struct span text = {in->at, in->len < room ? in->len : room};
    if (had > 0) {
        buf_add_span(&p->saved, text);
        if (!buf_ok(&p->saved)) {
            return fail(p, FAULT_MEMORY);
        }
        text = buf_span(&p->saved);
    }
    enum http_fault fault = http_head_read(&p->head, text);
    bool unfinished = fault == FAULT_NONE && !p->head.complete;
    size_t used = unfinished ? text.len : p->head.scan_at;
    skip(in, used - had);
    if (fault != FAULT_NONE) {
        return fail(p, fault);
    }
    if (unfinished) {
        buf_add(&p->saved, text.at, had > 0 ? 0 : used);
        return buf_ok(&p->saved) ? HTTP_MORE : fail(p, FAULT_MEMORY);
    }
    p->base = text.at;
    return end_head(p);
}

/* RFC 9112 2.2: an empty line before the request line is skipped; here one, not more. */
static enum http_parse_result
read_start(struct http_parser *p, struct span *in)
{
    while (in->len > 0 && p->empty_line != SEEN) {
        char byte = *in->at;
        if (p->empty_line == NOT_SEEN && byte != '\r') {
            break;
        }
        skip(in, 1);
        if (p->empty_line == CR_SEEN && byte != '\n') {
            return fail(p, FAULT_BARE_CR);
        }
        p->empty_line = p->empty_line == NOT_SEEN ? CR_SEEN : SEEN;
    }
    if (in->len == 0) {
        return HTTP_MORE;
    }
    p->phase = AT_HEAD;
    return read_head(p, in);
}

/* False: out of memory. What is reserved grows with what has come, whatever was promised. */
static bool
keep_body(struct http_parser *p, struct span part)
{
    size_t expected = (size_t)p->head.content_length;
    if (part.len == 0) {
        return true;
    }
    if (p->body.cap == 0) {
        p->body.limit = expected;
        if (buf_reserve(&p->body, expected < BODY_FIRST ? expected : BODY_FIRST) != OK) {
            return false;
        }
    }
    buf_add_span(&p->body, part);
    return buf_ok(&p->body);
}

static enum http_parse_result
read_body(struct http_parser *p, struct span *in)
{
    size_t need = (size_t)p->head.content_length - p->body.len;
    struct span part = {in->at, in->len < need ? in->len : need};
    if (p->body.len == 0 && part.len == need) {
        skip(in, need);
        return end_request(p, part);
    }
    if (!save_head(p) || !keep_body(p, part)) {
        return fail(p, FAULT_MEMORY);
    }
    skip(in, part.len);
    return part.len < need ? HTTP_MORE : end_request(p, buf_span(&p->body));
}

static enum http_parse_result
read_chunks(struct http_parser *p, struct span *in)
{
    enum http_fault fault = http_chunks_read(&p->chunks, &p->body, in);
    if (fault != FAULT_NONE) {
        return fail(p, fault);
    }
    if (p->chunks.state == CHUNK_END) {
        return end_request(p, buf_span(&p->body));
    }
    return save_head(p) ? HTTP_MORE : fail(p, FAULT_MEMORY);
}

static enum http_parse_result
stay_failed(struct http_parser *p, struct span *in)
{
    (void)in;
    return fail(p, p->fault);
}

enum http_parse_result
http_parse(struct http_parser *p, struct span *in)
{
    static enum http_parse_result (*const steps[])(struct http_parser *, struct span *) = {
        [AT_START] = read_start,   [AT_HEAD] = read_head,    [AT_BODY] = read_body,
        [AT_CHUNKS] = read_chunks, [AT_FAULT] = stay_failed,
    };
    assert(p->phase != AT_REQUEST); /* http_parser_next comes first */
    return steps[p->phase](p, in);
}

void
http_parser_next(struct http_parser *p)
{
    assert(p->phase == AT_REQUEST);
    buf_fini(&p->saved);
    buf_fini(&p->body);
    p->body.limit = p->max_body;
    p->head = (struct http_head){0};
    p->chunks = (struct http_chunks){0};
    p->request = (struct http_request){0};
    p->empty_line = NOT_SEEN;
    p->phase = AT_START;
}

const struct http_request *
http_parser_request(const struct http_parser *p)
{
    return &p->request;
}

int
http_parser_status(const struct http_parser *p)
{
    return faults[p->fault].status;
}

const char *
http_parser_error(const struct http_parser *p)
{
    return faults[p->fault].text;
}

bool
http_parser_idle(const struct http_parser *p)
{
    return p->phase == AT_START;
}

bool
http_parser_in_body(const struct http_parser *p)
{
    return p->phase == AT_BODY || p->phase == AT_CHUNKS;
}

uint64_t
http_parser_body_bytes(const struct http_parser *p)
{
    return p->body.cap;
}

struct span
http_request_field(const struct http_request *r, const char *name)
{
    struct span wanted = span_of(name);
    const char *end = r->fields.at + r->fields.len;
    for (const char *at = r->fields.at; at < end;) {
        const char *cr = memchr(at, '\r', (size_t)(end - at));
        size_t len = (size_t)(cr - at);
        bool is_wanted = len > wanted.len && at[wanted.len] == ':' &&
                         span_eq_nocase((struct span){at, wanted.len}, wanted);
        if (is_wanted) {
            return http_trim((struct span){at + wanted.len + 1, len - wanted.len - 1});
        }
        at = cr + 2;
    }
    return (struct span){NULL, 0};
}
