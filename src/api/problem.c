#include "api/problem.h"

#include <stdio.h>

/* Of one problem: a detail and at most EVENT_ERRORS_MAX errors, escaped. */
#define PROBLEM_BYTES 32768

static const struct {
    int status;
    const char *text;
} statuses[] = {
    {200, "OK"},
    {202, "Accepted"},
    {400, "Bad Request"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {431, "Request Header Fields Too Large"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

const char *
http_status_text(int status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (statuses[i].status == status) {
            return statuses[i].text;
        }
    }
    return "Unknown";
}

void
problem_write_errors(struct buf *out, const struct event_errors *errors)
{
    buf_add_text(out, "\"errors\":[");
    for (size_t i = 0; i < errors->n; i++) {
        buf_add_text(out, i > 0 ? ",{\"pointer\":" : "{\"pointer\":");
        buf_add_json_string(out, span_of(errors->item[i].pointer));
        buf_add_text(out, ",\"detail\":");
        buf_add_json_string(out, span_of(errors->item[i].detail));
        buf_add_text(out, "}");
    }
    buf_add_text(out, "]");
}

void
problem_write(struct buf *out, int status, const char *detail, const struct event_errors *errors)
{
    buf_addf(out, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":",
             http_status_text(status), status);
    buf_add_json_string(out, span_of(detail));
    if (errors != NULL && errors->n > 0) {
        buf_add_text(out, ",");
        problem_write_errors(out, errors);
    }
    buf_add_text(out, "}");
}

void
problem_reply(struct exchange *x, int status, const char *detail, const struct event_errors *errors)
{
    struct buf body;
    buf_init(&body, PROBLEM_BYTES);
    problem_write(&body, status, detail, errors);
    if (!buf_ok(&body)) {
        buf_reset(&body); /* the status says the most of it */
    }
    exchange_reply(x, status, "application/problem+json", buf_span(&body));
    buf_fini(&body);
}

void
problem_reply_retry(struct exchange *x, const char *detail, unsigned retry_after_s)
{
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%u", retry_after_s);
    exchange_header(x, "Retry-After", seconds);
    problem_reply(x, 503, detail, NULL);
}
