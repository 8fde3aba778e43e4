/* disk.c - how long one write+fdatasync of 4 KiB takes here: what a 202 costs at least.
 * Usage: disk FOLDER [WRITES]   prints p50 and p99 in milliseconds as JSON
 * Writes over and over into one file that was written before, so that no size changes. */
#include "clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 1024
#define WRITES_MAX 100000

static int
compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int
fail(const char *what)
{
    perror(what);
    return 1;
}

static int
prepare(const char *path)
{
    static char page[PAGE];
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    memset(page, 'x', sizeof page);
    for (int i = 0; fd >= 0 && i < PAGES; i++) {
        if (write(fd, page, sizeof page) != PAGE) {
            close(fd);
            return -1;
        }
    }
    if (fd >= 0 && fsync(fd) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int
measure(int fd, int64_t *took, int writes)
{
    static char page[PAGE];
    for (int i = 0; i < writes; i++) {
        memset(page, 'a' + i % 26, sizeof page);
        int64_t began = clock_mono_ns();
        if (pwrite(fd, page, sizeof page, (off_t)(i % PAGES) * PAGE) != PAGE ||
            fdatasync(fd) != 0) {
            return fail("disk: write");
        }
        took[i] = clock_mono_ns() - began;
    }
    qsort(took, (size_t)writes, sizeof *took, compare);
    printf("{\"writes\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", writes,
           (double)took[writes / 2] / 1e6, (double)took[writes * 99 / 100] / 1e6);
    return 0;
}

int
main(int argc, char **argv)
{
    static int64_t took[WRITES_MAX];
    char path[4096];
    int writes = argc > 2 ? atoi(argv[2]) : 2000;
    if (argc < 2 || writes < 1 || writes > WRITES_MAX) {
        fprintf(stderr, "usage: disk FOLDER [WRITES]\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/disk-probe", argv[1]);
    int fd = prepare(path);
    if (fd < 0) {
        return fail(path);
    }
    int code = measure(fd, took, writes);
    close(fd);
    unlink(path);
    return code;
}
