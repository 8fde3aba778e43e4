#include "api/route.h"

#include "api/problem.h"

#include <stdio.h>

enum { PARAM = 1, MUCH = 2 }; /* what follows the path is the parameter; large answers */

/* method, path, flags, handler. Add a route: one line. */
static const struct route {
    enum http_method method;
    struct span path;
    unsigned flags;
    route_handler *handler;
} routes[] = {
    {HTTP_POST, {"/events", 7}, 0, ingest_post},
    {HTTP_GET, {"/events", 7}, MUCH, query_list},
    {HTTP_GET, {"/events/", 8}, PARAM | MUCH, query_show},
    {HTTP_GET, {"/livez", 6}, 0, admin_livez},
    {HTTP_GET, {"/readyz", 7}, 0, admin_readyz},
    {HTTP_GET, {"/version", 8}, 0, admin_version},
    {HTTP_GET, {"/stats", 6}, 0, admin_stats},
    {HTTP_GET, {"/openapi.json", 13}, 0, admin_openapi},
};
#define ROUTES (sizeof routes / sizeof *routes)

/* Methods that HTTP defines and no route of ours has: 405, not 501. */
static const char *const other_methods[] = {"PUT",     "DELETE", "PATCH",
                                            "OPTIONS", "TRACE",  "CONNECT"};

static bool
is_known_method(const struct http_request *r)
{
    if (r->method != HTTP_OTHER) {
        return true;
    }
    for (size_t i = 0; i < sizeof other_methods / sizeof *other_methods; i++) {
        if (span_eq(r->method_name, span_of(other_methods[i]))) {
            return true;
        }
    }
    return false;
}

static bool
path_matches(const struct route *route, struct span path)
{
    if (!(route->flags & PARAM)) {
        return span_eq(route->path, path);
    }
    return path.len > route->path.len && memcmp(path.at, route->path.at, route->path.len) == 0;
}

/* POST bodies are events; ingest.c looks closer. */
static bool
is_events_type(const struct http_request *r)
{
    struct span type = http_request_field(r, "Content-Type");
    size_t len = 0;
    while (len < type.len && type.at[len] != ';' && type.at[len] != ' ' && type.at[len] != '\t') {
        len++;
    }
    type.len = len;
    return span_eq_nocase(type, SPAN("application/json")) ||
           span_eq_nocase(type, SPAN("application/x-ndjson"));
}

/* 0 and the route, or the status that refuses the request. */
static int
find(const struct route **out, const struct http_request *r)
{
    enum http_method method = r->method == HTTP_HEAD ? HTTP_GET : r->method;
    int status = is_known_method(r) ? 404 : 501;
    for (size_t i = 0; i < ROUTES && status != 501; i++) {
        if (!path_matches(&routes[i], r->path)) {
            continue;
        }
        status = 405;
        if (routes[i].method == method) {
            *out = &routes[i];
            return method == HTTP_POST && !r->has_length ? 411 : 0;
        }
    }
    return status;
}

int
route_check_head(const struct http_request *r)
{
    const struct route *route = NULL;
    int status = find(&route, r);
    return status == 0 && route->method == HTTP_POST && !is_events_type(r) ? 415 : status;
}

bool
route_answers_much(const struct http_request *r)
{
    const struct route *route = NULL;
    return find(&route, r) == 0 && (route->flags & MUCH);
}

static void
add_allow(struct exchange *x)
{
    char allow[64] = "";
    size_t len = 0;
    for (size_t i = 0; i < ROUTES; i++) {
        if (path_matches(&routes[i], x->request->path)) {
            const char *name = routes[i].method == HTTP_POST ? "POST" : "GET, HEAD";
            len += (size_t)snprintf(allow + len, sizeof allow - len, "%s%s", len > 0 ? ", " : "",
                                    name);
        }
    }
    exchange_header(x, "Allow", allow);
}

static const char *
refusal(int status)
{
    switch (status) {
    case 404:
        return "there is nothing at this path";
    case 405:
        return "this path does not have this method; see Allow";
    case 411:
        return "a POST needs Content-Length, or Transfer-Encoding: chunked";
    default:
        return "the method is not known here";
    }
}

void
route_dispatch(struct exchange *x)
{
    const struct route *route = NULL;
    int status = find(&route, x->request);
    if (status == 405) {
        add_allow(x);
    }
    if (status != 0) {
        problem_reply(x, status, refusal(status), NULL);
        return;
    }
    size_t skip = route->flags & PARAM ? route->path.len : x->request->path.len;
    x->param = (struct span){x->request->path.at + skip, x->request->path.len - skip};
    route->handler(x);
}
