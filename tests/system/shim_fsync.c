/* shim_fsync.c - preloaded by system tests: makes a disk fail or be slow while a file says so.
 * SHIM_SUFFIX names the files it is about (by the end of their path), SHIM_SENTINEL the file whose
 * first word is the order; without that file everything passes through:
 *   eio      fsync, fdatasync and writes fail with EIO
 *   syncerr  only fsync and fdatasync do
 *   enospc   writes fail with ENOSPC
 *   skip     fsync and fdatasync do nothing and say that they did
 *   sleepN   fsync and fdatasync take N milliseconds longer */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static bool
is_about(int fd)
{
    const char *suffix = getenv("SHIM_SUFFIX");
    char link[64];
    char path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0 || suffix == NULL || (size_t)n < strlen(suffix)) {
        return false;
    }
    path[n] = '\0';
    return strcmp(path + n - strlen(suffix), suffix) == 0;
}

/* False: no order now. */
static bool
read_order(int fd, char *order, size_t size)
{
    int saved = errno;
    const char *sentinel = getenv("SHIM_SENTINEL");
    order[0] = '\0';
    if (sentinel != NULL && is_about(fd)) {
        int f = (int)syscall(SYS_openat, AT_FDCWD, sentinel, O_RDONLY | O_CLOEXEC, 0);
        if (f >= 0) {
            ssize_t n = syscall(SYS_read, f, order, size - 1);
            order[n > 0 ? n : 0] = '\0';
            order[strcspn(order, " \n")] = '\0';
            syscall(SYS_close, f);
        }
    }
    errno = saved;
    return order[0] != '\0';
}

static int
sync_by_order(int fd, long number)
{
    char order[32];
    if (read_order(fd, order, sizeof order)) {
        if (strcmp(order, "eio") == 0 || strcmp(order, "syncerr") == 0) {
            errno = EIO;
            return -1;
        }
        if (strcmp(order, "skip") == 0) {
            return 0;
        }
        if (strncmp(order, "sleep", 5) == 0) {
            long ms = atol(order + 5);
            struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
            nanosleep(&t, NULL);
        }
    }
    return (int)syscall(number, fd);
}

static bool
write_fails(int fd)
{
    char order[32];
    if (!read_order(fd, order, sizeof order)) {
        return false;
    }
    bool eio = strcmp(order, "eio") == 0;
    if (eio || strcmp(order, "enospc") == 0) {
        errno = eio ? EIO : ENOSPC;
        return true;
    }
    return false;
}

int
fsync(int fd)
{
    return sync_by_order(fd, SYS_fsync);
}

int
fdatasync(int fd)
{
    return sync_by_order(fd, SYS_fdatasync);
}

ssize_t
write(int fd, const void *at, size_t n)
{
    return write_fails(fd) ? -1 : syscall(SYS_write, fd, at, n);
}

ssize_t
writev(int fd, const struct iovec *v, int n)
{
    return write_fails(fd) ? -1 : syscall(SYS_writev, fd, v, n);
}

ssize_t
pwrite(int fd, const void *at, size_t n, off_t offset)
{
    return write_fails(fd) ? -1 : syscall(SYS_pwrite64, fd, at, n, offset);
}

ssize_t
pwrite64(int fd, const void *at, size_t n, off64_t offset)
{
    return write_fails(fd) ? -1 : syscall(SYS_pwrite64, fd, at, n, offset);
}
