/* bench_report.h - what the bench measured, for people or as one JSON object. */
#ifndef WEIR_BENCH_REPORT_H
#define WEIR_BENCH_REPORT_H

#include "cmd/bench_load.h"

struct bench_stored { /* --end-to-end */
    bool asked;
    bool complete;    /* false: the deadline passed before all accepted events were settled */
    uint64_t settled; /* processed, duplicate or dead */
    int64_t total_ns; /* from the first send until all were settled */
    int64_t rest_ns;  /* from the last answer until all were settled */
};

void bench_report(const struct load_plan *plan, const struct load_result *r,
                  const struct bench_stored *stored, const char *url, bool json);

#endif
