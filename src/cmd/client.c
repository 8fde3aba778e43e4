#include "cmd/client.h"

#include "cmd/scan.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_MS 5000L
#define ANSWER_TIMEOUT_MS 60000L

struct client {
    CURL *curl;
    struct curl_slist *headers; /* of the last POST */
    char *base;                 /* scheme and authority, without a slash at the end */
    char error[CURL_ERROR_SIZE];
};

void
client_answer_fini(struct client_answer *a)
{
    buf_fini(&a->body);
}

static size_t
on_body(char *bytes, size_t size, size_t n, void *data)
{
    struct buf *body = data;
    buf_add(body, bytes, size * n);
    return buf_ok(body) ? size * n : 0;
}

static enum err
set_address(struct client *c, const char *url, char why[CLIENT_WHY_MAX])
{
    if (strncmp(url, "unix:/", 6) == 0) {
        if (curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, url + 5) != CURLE_OK) {
            return ERR_NOMEM;
        }
        c->base = strdup("http://localhost");
        return c->base == NULL ? ERR_NOMEM : OK;
    }
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        snprintf(why, CLIENT_WHY_MAX, "\"%.160s\": expected http://host:port or unix:/path", url);
        return ERR_CONFIG;
    }
    c->base = strdup(url);
    if (c->base == NULL) {
        return ERR_NOMEM;
    }
    for (size_t n = strlen(c->base); n > 0 && c->base[n - 1] == '/'; n--) {
        c->base[n - 1] = '\0';
    }
    return OK;
}

static enum err
set_options(struct client *c)
{
    CURL *curl = c->curl;
    bool ok = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
              /* an http_proxy for the web must not see events that go to this machine */
              curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS) == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ANSWER_TIMEOUT_MS) == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, c->error) == CURLE_OK &&
              curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
    return ok ? OK : ERR_NOMEM;
}

enum err
client_open(struct client **out, const char *url, char why[CLIENT_WHY_MAX])
{
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        snprintf(why, CLIENT_WHY_MAX, "%s", err_text(ERR_NOMEM));
        return ERR_NOMEM;
    }
    snprintf(why, CLIENT_WHY_MAX, "%s", err_text(ERR_NOMEM));
    enum err e = ERR_NOMEM;
    c->curl = curl_easy_init();
    if (c->curl == NULL) {
        goto fail;
    }
    e = set_options(c);
    if (e != OK) {
        goto fail;
    }
    e = set_address(c, url, why);
    if (e != OK) {
        goto fail;
    }
    why[0] = '\0';
    *out = c;
    return OK;
fail:
    client_close(c);
    return e;
}

void
client_close(struct client *c)
{
    if (c == NULL) {
        return;
    }
    curl_slist_free_all(c->headers);
    curl_easy_cleanup(c->curl);
    free(c->base);
    free(c);
}

/* The URL and where the answer goes. */
static enum err
set_request(struct client *c, struct client_answer *a, const char *path)
{
    a->status = 0;
    a->retry_after_s = 0;
    a->why[0] = '\0';
    a->body.limit = CLIENT_ANSWER_MAX;
    buf_reset(&a->body);
    struct buf url;
    buf_init(&url, 0);
    buf_add_text(&url, c->base);
    buf_add(&url, path, strlen(path) + 1);
    bool ok = buf_ok(&url) && curl_easy_setopt(c->curl, CURLOPT_URL, url.at) == CURLE_OK &&
              curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &a->body) == CURLE_OK;
    buf_fini(&url);
    return ok ? OK : ERR_NOMEM;
}

static enum err
perform(struct client *c, struct client_answer *a)
{
    c->error[0] = '\0';
    CURLcode code = curl_easy_perform(c->curl);
    if (code != CURLE_OK) {
        const char *text = c->error[0] != '\0' ? c->error : curl_easy_strerror(code);
        snprintf(a->why, sizeof a->why, "%s", text);
        return code == CURLE_OUT_OF_MEMORY ? ERR_NOMEM : ERR_UNAVAILABLE;
    }
    curl_off_t after = 0;
    if (curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &a->status) != CURLE_OK ||
        curl_easy_getinfo(c->curl, CURLINFO_RETRY_AFTER, &after) != CURLE_OK) {
        return ERR_MISUSE;
    }
    a->retry_after_s = after > 0 && after < 3600 ? (long)after : 0;
    return OK;
}

enum err
client_get(struct client *c, struct client_answer *a, const char *path)
{
    enum err e = set_request(c, a, path);
    if (e != OK || curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL) != CURLE_OK ||
        curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L) != CURLE_OK) {
        return ERR_NOMEM;
    }
    return perform(c, a);
}

/* "Expect:" takes away curl's own Expect: 100-continue, which costs a round trip a batch. */
static enum err
set_headers(struct client *c, const char *content_type)
{
    char type[96];
    snprintf(type, sizeof type, "Content-Type: %s", content_type);
    struct curl_slist *first = curl_slist_append(NULL, type);
    struct curl_slist *both = first == NULL ? NULL : curl_slist_append(first, "Expect:");
    if (both == NULL || curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, both) != CURLE_OK) {
        curl_slist_free_all(first);
        return ERR_NOMEM;
    }
    curl_slist_free_all(c->headers);
    c->headers = both;
    return OK;
}

enum err
client_post(struct client *c, struct client_answer *a, const char *path, const char *content_type,
            struct span body)
{
    enum err e = set_request(c, a, path);
    if (e == OK) {
        e = set_headers(c, content_type);
    }
    if (e != OK || curl_easy_setopt(c->curl, CURLOPT_POST, 1L) != CURLE_OK ||
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len) != CURLE_OK ||
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body.at) != CURLE_OK) {
        return ERR_NOMEM;
    }
    return perform(c, a);
}

void
client_add_encoded(struct buf *path, struct span text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    for (size_t i = 0; i < text.len; i++) {
        if (memchr(plain, text.at[i], sizeof plain - 1) != NULL) {
            buf_add(path, text.at + i, 1);
        } else {
            buf_addf(path, "%%%02X", (unsigned char)text.at[i]);
        }
    }
}

void
client_add_query(struct buf *path, const char *name, const char *value)
{
    if (value == NULL) {
        return;
    }
    bool first = path->len == 0 || memchr(path->at, '?', path->len) == NULL;
    buf_addf(path, "%c%s=", first ? '?' : '&', name);
    client_add_encoded(path, span_of(value));
}

void
client_print_problem(const char *what, const struct client_answer *a)
{
    if (a->status == 0) {
        fprintf(stderr, "weir: %s: %s\n", what, a->why);
        return;
    }
    struct span body = buf_span(&a->body);
    struct buf detail;
    buf_init(&detail, 0);
    scan_text(&detail, scan_member(body, "detail"));
    fprintf(stderr, "weir: %s: %ld %.*s\n", what, a->status, SPAN_FMT(buf_span(&detail)));
    struct span rest = scan_member(body, "errors");
    for (struct span item = scan_item(&rest); item.at != NULL; item = scan_item(&rest)) {
        buf_reset(&detail);
        scan_text(&detail, scan_member(item, "pointer"));
        buf_add_text(&detail, ": ");
        scan_text(&detail, scan_member(item, "detail"));
        fprintf(stderr, "  %.*s\n", SPAN_FMT(buf_span(&detail)));
    }
    buf_fini(&detail);
}
