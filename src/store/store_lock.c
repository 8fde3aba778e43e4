#include "store/store_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new name is durable only when its folder is synced: without this the whole store could be gone after a power loss. */
static enum err
sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return ERR_IO;
    }
    int rc = fsync(fd);
    close(fd);
    return rc == 0 ? OK : ERR_IO;
}

static enum err
make_folder(const char *folder, char *why, size_t why_size)
{
    if (mkdir(folder, 0700) == 0) {
        char parent[1100];
        snprintf(parent, sizeof parent, "%s/..", folder);
        return sync_folder(parent);
    }
    if (errno == EEXIST) {
        return OK;
    }
    snprintf(why, why_size, "cannot make the data folder %s: %s", folder, strerror(errno));
    return ERR_CONFIG;
}

static void
read_holder(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

static void
write_holder(int fd)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) {
        /* only for people: the lock itself is held all the same */
    }
}

enum err
store_lock_take(int *fd, const char *folder, char *why, size_t why_size)
{
    char path[1100];
    enum err e = make_folder(folder, why, why_size);
    if (e != OK) {
        return e;
    }
    snprintf(path, sizeof path, "%s/lock", folder);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) {
        snprintf(why, why_size, "cannot use the data folder %s: %s", folder, strerror(errno));
        return ERR_CONFIG;
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        char holder[32];
        read_holder(*fd, holder, sizeof holder);
        snprintf(why, why_size,
                 "the data folder %s is in use by another weir (process %s); stop it, or name "
                 "another folder with --data",
                 folder, holder[0] != '\0' ? holder : "unknown");
        close(*fd);
        *fd = -1;
        return ERR_UNAVAILABLE;
    }
    write_holder(*fd);
    return OK;
}

void
store_lock_drop(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}
