/* Any bytes, cut in any way: the parser says the same, and touches nothing but what it was given. */
#include "../http_feed.h"

#include <stdint.h>

#define MAX_BODY 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
whole(void *data, size_t left)
{
    (void)data;
    return left;
}

static size_t
single(void *data, size_t left)
{
    (void)data;
    (void)left;
    return 1;
}

/* data: the state of a small generator. Mostly short pieces, now and then a long one. */
static size_t
scattered(void *data, size_t left)
{
    uint64_t *seed = data;
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    size_t len = (size_t)(*seed >> 33);
    return (*seed >> 60) < 2 ? len % left : len % 24;
}

static uint64_t
hash(const uint8_t *data, size_t size)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) {
        h = (h ^ data[i]) * 1099511628211u;
    }
    return h;
}

static void
check_same(const struct http_fed *want, struct http_fed got)
{
    assert(span_eq(buf_span(&want->text), buf_span(&got.text)));
    buf_fini(&got.text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = {(const char *)data, size};
    struct http_fed fed = http_feed(bytes, MAX_BODY, whole, NULL);
    check_same(&fed, http_feed(bytes, MAX_BODY, single, NULL));
    uint64_t seed = hash(data, size);
    for (int i = 0; i < 3; i++) {
        check_same(&fed, http_feed(bytes, MAX_BODY, scattered, &seed));
    }
    buf_fini(&fed.text);
    return 0;
}
