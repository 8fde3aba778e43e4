#include "cmd/bench_request.h"

#include "clock.h"

#include <stdio.h>
#include <stdlib.h>

#define ID_LEN 32
#define PAYLOAD_LEAST 14 /* {"message":""} */

/* splitmix64's finalizer: a bijection, so different numbers never give the same id. */
static uint64_t
mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void
put_hex(char *at, uint64_t value)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--) {
        at[i] = digits[value & 15];
        value >>= 4;
    }
}

static void
add_payload(struct buf *out, uint64_t bytes)
{
    static const char dflt[] = "Water issue";
    buf_add_text(out, "{\"message\":\"");
    if (bytes == 0) {
        buf_add_text(out, dflt);
    }
    for (uint64_t i = PAYLOAD_LEAST; i < bytes; i++) {
        buf_add(out, &dflt[i % 5], 1); /* letters only */
    }
    buf_add_text(out, "\"}");
}

/* Returns where the id stands. */
static size_t
add_event(struct buf *out, const struct load_plan *plan)
{
    char now[CLOCK_RFC3339_MAX];
    clock_format_rfc3339(now, clock_wall_ms());
    buf_add_text(out, "{\"event_id\":\"");
    size_t id_at = out->len;
    buf_addf(out, "%0*d\",\"type\":\"GRIEVANCE\",\"timestamp\":\"%s\",\"payload\":", ID_LEN, 0,
             now);
    add_payload(out, plan->payload_bytes);
    buf_add_text(out, plan->batch > 1 ? "}\n" : "}");
    return id_at;
}

static void
write_post(struct request *r, const struct load_plan *plan)
{
    struct buf one;
    buf_init(&one, 0);
    size_t id_at = add_event(&one, plan);
    buf_addf(&r->bytes,
             "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/%s\r\n"
             "Content-Length: %zu\r\n\r\n",
             plan->post, plan->target.host, plan->batch > 1 ? "x-ndjson" : "json",
             one.len * plan->batch);
    r->first_id = r->bytes.len + id_at;
    r->step = one.len;
    for (unsigned i = 0; i < plan->batch; i++) {
        buf_add_span(&r->bytes, buf_span(&one));
    }
    if (!buf_ok(&one)) {
        r->bytes.failed = true;
    }
    buf_fini(&one);
}

enum err
request_init(struct request *r, const struct load_plan *plan)
{
    *r = (struct request){.sequential = plan->sequential, .seed = plan->seed};
    buf_init(&r->bytes, 0);
    if (plan->get != NULL) {
        buf_addf(&r->bytes, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", plan->get, plan->target.host);
    } else {
        r->events = plan->batch;
        write_post(r, plan);
    }
    return buf_ok(&r->bytes) ? OK : ERR_NOMEM;
}

void
request_fini(struct request *r)
{
    buf_fini(&r->bytes);
}

void
request_renew(struct request *r)
{
    char *at = r->bytes.at + r->first_id;
    for (unsigned i = 0; i < r->events; i++, at += r->step) {
        uint64_t n = r->next++;
        put_hex(at, r->sequential ? r->seed : mix(r->seed + n * 0x9e3779b97f4a7c15u));
        put_hex(at + 16, r->sequential ? n : mix(~r->seed ^ n));
    }
}

/* The number of a Content-Length; false when it is none. */
static bool
read_length(struct span value, uint64_t *out)
{
    uint64_t n = 0;
    size_t i = 0;
    while (i < value.len && value.at[i] == ' ') {
        i++;
    }
    size_t first = i;
    for (; i < value.len && value.at[i] >= '0' && value.at[i] <= '9' && i < first + 15; i++) {
        n = n * 10 + (uint64_t)(value.at[i] - '0');
    }
    *out = n;
    return i > first && i == value.len;
}

static bool
take_name(struct span *line, const char *name, size_t len)
{
    if (line->len < len ||
        !span_eq_nocase((struct span){line->at, len}, (struct span){name, len})) {
        return false;
    }
    *line = (struct span){line->at + len, line->len - len};
    return true;
}
#define TAKE_NAME(line, name) take_name((line), (name), sizeof(name) - 1)

static bool
read_field(struct answer *a, struct span line, bool *sized)
{
    if (TAKE_NAME(&line, "content-length:")) {
        *sized = true;
        return read_length(line, &a->body_len);
    }
    if (TAKE_NAME(&line, "connection:")) {
        a->close = span_eq_nocase(line, SPAN(" close"));
    }
    return true;
}

enum answer_result
answer_read(struct answer *a, struct span in)
{
    *a = (struct answer){0};
    const char *end = memmem(in.at, in.len, "\r\n\r\n", 4);
    if (end == NULL) {
        return ANSWER_MORE;
    }
    a->head_len = (size_t)(end - in.at) + 4;
    if (a->head_len < 16 || memcmp(in.at, "HTTP/1.1 ", 9) != 0) {
        return ANSWER_BAD;
    }
    a->status = (in.at[9] - '0') * 100 + (in.at[10] - '0') * 10 + (in.at[11] - '0');
    if (a->status < 200 || a->status >= LOAD_STATUS_MAX) {
        return ANSWER_BAD;
    }
    bool sized = a->status == 204 || a->status == 304;
    const char *at = memchr(in.at, '\n', a->head_len);
    for (at++; at < end; at++) {
        const char *eol = memchr(at, '\r', (size_t)(end + 1 - at));
        if (eol == NULL || !read_field(a, (struct span){at, (size_t)(eol - at)}, &sized)) {
            return ANSWER_BAD;
        }
        at = eol + 1;
    }
    return sized ? ANSWER_OK : ANSWER_BAD;
}

int64_t
answer_count(struct span body, const char *name)
{
    size_t len = strlen(name);
    const char *at = memmem(body.at, body.len, name, len);
    if (at == NULL || at + len >= body.at + body.len) {
        return -1;
    }
    int64_t n = -1;
    for (at += len; at < body.at + body.len && *at >= '0' && *at <= '9' && n < INT32_MAX; at++) {
        n = (n < 0 ? 0 : n) * 10 + (*at - '0');
    }
    return n;
}
