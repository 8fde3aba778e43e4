/* histogram.h - durations, counted in buckets of less than 1 % width (after HdrHistogram).
 * Bounds:   fixed memory, 0 ns to 18 minutes; longer counts as the longest.
 * Threads:  one owner. */
#ifndef WEIR_HISTOGRAM_H
#define WEIR_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_BITS 40 /* 2^40 ns */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t total;
    int64_t max_ns; /* exact */
    uint64_t count[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, int64_t ns);
/* The least bucket bound that `share` (0 … 1) of the values do not exceed; 0 without values. */
int64_t histogram_at(const struct histogram *h, double share);

#endif
