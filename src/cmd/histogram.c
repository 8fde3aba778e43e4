#include "cmd/histogram.h"

#define SUB ((uint64_t)1 << HISTOGRAM_SUB_BITS)

/* Below SUB each value has its bucket; above, every power of two is divided into SUB buckets. */
static unsigned
bucket_of(uint64_t value)
{
    if (value < SUB) {
        return (unsigned)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (unsigned)((shift << HISTOGRAM_SUB_BITS) + (value >> shift));
}

static int64_t
upper_bound(unsigned bucket)
{
    if (bucket < SUB) {
        return bucket;
    }
    unsigned shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t sub = bucket - (shift << HISTOGRAM_SUB_BITS);
    return (int64_t)(((sub + 1) << shift) - 1);
}

void
histogram_add(struct histogram *h, int64_t ns)
{
    int64_t longest = ((int64_t)1 << HISTOGRAM_BITS) - 1;
    int64_t value = ns < 0 ? 0 : ns > longest ? longest : ns;
    h->count[bucket_of((uint64_t)value)]++;
    h->total++;
    h->max_ns = value > h->max_ns ? value : h->max_ns;
}

int64_t
histogram_at(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->total + 0.5);
    uint64_t seen = 0;
    wanted = wanted == 0 ? 1 : wanted;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && h->total > 0; i++) {
        seen += h->count[i];
        if (seen >= wanted) {
            int64_t bound = upper_bound(i);
            return bound < h->max_ns ? bound : h->max_ns;
        }
    }
    return h->max_ns;
}
