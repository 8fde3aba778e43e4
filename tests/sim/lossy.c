#include "lossy.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define FILES_MAX 16

struct image {
    unsigned char *at;
    size_t len;
    size_t cap;
};

/* Written, or cut (bytes NULL) to the length `offset`, since the last sync. */
struct change {
    struct change *next;
    size_t offset;
    size_t len;
    unsigned char *bytes;
};

struct disk_file {
    char path[256];
    bool named;   /* its name is durable */
    bool removed; /* and the folder was not synced since */
    struct image synced;
    struct change *first, **last;
};

static struct {
    pthread_mutex_t lock;
    struct lossy_plan plan;
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    struct disk_file files[FILES_MAX];
    unsigned n;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct lossy_file {
    sqlite3_file base;
    struct disk_file *of; /* NULL: not followed (temporary) */
    sqlite3_file *real;   /* lies behind this struct */
    bool syncs_folder;    /* at its first sync, as SQLite's own VFS does for a new journal or WAL */
};

static void
must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

static uint64_t
next_random(void)
{
    uint64_t z = (disk.plan.seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* --- images --- */

/* Longer: filled with zeros, as a file system does. */
static void
image_resize(struct image *m, size_t len)
{
    if (len > m->cap) {
        m->cap = len * 2;
        m->at = realloc(m->at, m->cap);
        must(m->at != NULL, "image");
    }
    if (len > m->len) {
        memset(m->at + m->len, 0, len - m->len);
    }
    m->len = len;
}

static void
image_put(struct image *m, size_t offset, const unsigned char *bytes, size_t len)
{
    if (offset + len > m->len) {
        image_resize(m, offset + len);
    }
    memcpy(m->at + offset, bytes, len);
}

static void
image_apply(struct image *m, const struct change *c)
{
    if (c->bytes == NULL) {
        image_resize(m, c->offset);
    } else {
        image_put(m, c->offset, c->bytes, c->len);
    }
}

/* Each sector of the change reaches the disk, or not. */
static void
image_apply_in_part(struct image *m, const struct change *c, unsigned per_four)
{
    if (c->bytes == NULL) {
        if (next_random() % 4 < per_four) {
            image_resize(m, c->offset);
        }
        return;
    }
    for (size_t at = 0; at < c->len;) {
        size_t part = SECTOR - (c->offset + at) % SECTOR;
        part = part < c->len - at ? part : c->len - at;
        if (next_random() % 4 < per_four) {
            image_put(m, c->offset + at, c->bytes + at, part);
        }
        at += part;
    }
}

/* --- files, under the lock --- */

static void
drop_changes(struct disk_file *f)
{
    while (f->first != NULL) {
        struct change *c = f->first;
        f->first = c->next;
        free(c->bytes);
        free(c);
    }
    f->last = &f->first;
}

static void
add_change(struct disk_file *f, size_t offset, const void *bytes, size_t len)
{
    struct change *c = calloc(1, sizeof *c);
    must(c != NULL, "change");
    c->offset = offset;
    if (bytes != NULL) {
        c->len = len;
        c->bytes = malloc(len + 1);
        must(c->bytes != NULL, "change");
        memcpy(c->bytes, bytes, len);
    }
    *f->last = c;
    f->last = &c->next;
}

static void
load_synced(struct disk_file *f)
{
    int fd = open(f->path, O_RDONLY);
    if (fd < 0) {
        return;
    }
    f->named = true;
    off_t len = lseek(fd, 0, SEEK_END);
    image_resize(&f->synced, (size_t)len);
    must(pread(fd, f->synced.at, (size_t)len, 0) == len, "load");
    close(fd);
}

static struct disk_file *
find_file(const char *path)
{
    for (unsigned i = 0; i < disk.n; i++) {
        if (strcmp(disk.files[i].path, path) == 0) {
            return &disk.files[i];
        }
    }
    return NULL;
}

/* What is on the disk when a file is first seen counts as synced. */
static struct disk_file *
follow(const char *path)
{
    struct disk_file *f = find_file(path);
    if (f == NULL) {
        must(disk.n < FILES_MAX && strlen(path) < sizeof f->path, "follow");
        f = &disk.files[disk.n++];
        *f = (struct disk_file){.last = NULL};
        f->last = &f->first;
        snprintf(f->path, sizeof f->path, "%s", path);
        load_synced(f);
    }
    return f;
}

static void
forget(struct disk_file *f)
{
    drop_changes(f);
    image_resize(&f->synced, 0);
    f->named = false;
    f->removed = false;
}

/* Names that are there stay, names that were removed are gone. All files lie in one folder. */
static void
sync_folder(void)
{
    for (unsigned i = 0; i < disk.n; i++) {
        if (disk.files[i].removed) {
            forget(&disk.files[i]);
        } else if (access(disk.files[i].path, F_OK) == 0) {
            disk.files[i].named = true;
        }
    }
}

/* --- the power fails --- */

static void
put_on_disk(const struct disk_file *f, const struct image *m)
{
    int fd = open(f->path, O_WRONLY | O_CREAT, 0644);
    must(fd >= 0 && ftruncate(fd, 0) == 0, "put");
    for (size_t at = 0; at < m->len;) {
        ssize_t n = pwrite(fd, m->at + at, m->len - at, (off_t)at);
        must(n > 0, "put");
        at += (size_t)n;
    }
    close(fd);
}

static void
lose_file(struct disk_file *f)
{
    if (f->removed && next_random() % 2 == 0) {
        unlink(f->path);
        return;
    }
    unsigned per_four = (unsigned)(next_random() % 5);
    for (const struct change *c = f->first; c != NULL; c = c->next) {
        image_apply_in_part(&f->synced, c, per_four);
    }
    if (!f->named && next_random() % 2 == 0) {
        unlink(f->path);
    } else {
        put_on_disk(f, &f->synced);
    }
}

static void
spoil_shared_memory(const struct disk_file *f)
{
    char path[300];
    unsigned char rubbish[4096];
    snprintf(path, sizeof path, "%s-shm", f->path);
    int fd = open(path, O_WRONLY);
    if (fd >= 0) {
        for (size_t i = 0; i < sizeof rubbish; i++) {
            rubbish[i] = (unsigned char)next_random();
        }
        must(pwrite(fd, rubbish, sizeof rubbish, 0) == sizeof rubbish, "spoil");
        close(fd);
    }
}

/* The lock is kept: nobody writes any more. */
static void
lose_power(void)
{
    for (unsigned i = 0; i < disk.n; i++) {
        lose_file(&disk.files[i]);
        spoil_shared_memory(&disk.files[i]);
    }
    _exit(disk.plan.exit_code);
}

static void
begin_operation(void)
{
    pthread_mutex_lock(&disk.lock);
    if (disk.plan.counts->operations++ == disk.plan.countdown) {
        lose_power();
    }
}

static void
end_operation(void)
{
    pthread_mutex_unlock(&disk.lock);
}

/* --- SQLite's file methods --- */

static struct lossy_file *
of(sqlite3_file *file)
{
    return (struct lossy_file *)file;
}

static sqlite3_file *
real(sqlite3_file *file)
{
    return of(file)->real;
}

static int
lossy_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int
lossy_read(sqlite3_file *file, void *to, int len, sqlite3_int64 offset)
{
    return real(file)->pMethods->xRead(real(file), to, len, offset);
}

static bool
is_wal(const struct disk_file *f)
{
    size_t n = strlen(f->path);
    return n > 4 && strcmp(f->path + n - 4, "-wal") == 0;
}

static int
lossy_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 offset)
{
    begin_operation();
    int rc = real(file)->pMethods->xWrite(real(file), bytes, len, offset);
    if (of(file)->of != NULL) {
        disk.plan.counts->wal_restarts += offset == 0 && is_wal(of(file)->of);
        add_change(of(file)->of, (size_t)offset, bytes, (size_t)len);
    }
    end_operation();
    return rc;
}

static int
lossy_truncate(sqlite3_file *file, sqlite3_int64 len)
{
    begin_operation();
    int rc = real(file)->pMethods->xTruncate(real(file), len);
    if (of(file)->of != NULL) {
        add_change(of(file)->of, (size_t)len, NULL, 0);
    }
    end_operation();
    return rc;
}

static int
lossy_sync(sqlite3_file *file, int flags)
{
    struct disk_file *f = of(file)->of;
    (void)flags;
    begin_operation();
    if (f != NULL && !(disk.plan.forgets_wal && is_wal(f))) {
        for (const struct change *c = f->first; c != NULL; c = c->next) {
            image_apply(&f->synced, c);
        }
        drop_changes(f);
    }
    if (of(file)->syncs_folder) {
        sync_folder();
        of(file)->syncs_folder = false;
    }
    end_operation();
    return SQLITE_OK;
}

static int
lossy_file_size(sqlite3_file *file, sqlite3_int64 *out)
{
    return real(file)->pMethods->xFileSize(real(file), out);
}

static int
lossy_lock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xLock(real(file), level);
}

static int
lossy_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int
lossy_check_lock(sqlite3_file *file, int *out)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), out);
}

static int
lossy_control(sqlite3_file *file, int op, void *arg)
{
    return real(file)->pMethods->xFileControl(real(file), op, arg);
}

static int
lossy_sector_size(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int
lossy_characteristics(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int
lossy_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return real(file)->pMethods->xShmMap(real(file), page, size, extend, out);
}

static int
lossy_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real(file)->pMethods->xShmLock(real(file), offset, n, flags);
}

static void
lossy_shm_barrier(sqlite3_file *file)
{
    real(file)->pMethods->xShmBarrier(real(file));
}

static int
lossy_shm_unmap(sqlite3_file *file, int remove_it)
{
    return real(file)->pMethods->xShmUnmap(real(file), remove_it);
}

/* Version 2: no memory-mapped reading and writing past this VFS. */
static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = lossy_close,
    .xRead = lossy_read,
    .xWrite = lossy_write,
    .xTruncate = lossy_truncate,
    .xSync = lossy_sync,
    .xFileSize = lossy_file_size,
    .xLock = lossy_lock,
    .xUnlock = lossy_unlock,
    .xCheckReservedLock = lossy_check_lock,
    .xFileControl = lossy_control,
    .xSectorSize = lossy_sector_size,
    .xDeviceCharacteristics = lossy_characteristics,
    .xShmMap = lossy_shm_map,
    .xShmLock = lossy_shm_lock,
    .xShmBarrier = lossy_shm_barrier,
    .xShmUnmap = lossy_shm_unmap,
};

static int
lossy_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out_flags)
{
    struct lossy_file *f = of(file);
    (void)vfs;
    *f = (struct lossy_file){.real = (sqlite3_file *)(f + 1)};
    pthread_mutex_lock(&disk.lock);
    if (path != NULL && (flags & SQLITE_OPEN_DELETEONCLOSE) == 0) {
        f->of = follow(path);
        f->syncs_folder =
            (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL)) != 0 && access(path, F_OK) != 0;
    }
    int rc = disk.real->xOpen(disk.real, path, f->real, flags, out_flags);
    if (rc == SQLITE_OK && f->of != NULL && f->of->removed) {
        f->of->removed = false; /* made anew: what it held may come back only as what it holds */
        add_change(f->of, 0, NULL, 0);
    }
    pthread_mutex_unlock(&disk.lock);
    f->base.pMethods = rc == SQLITE_OK ? &methods : NULL;
    return rc;
}

static int
lossy_delete(sqlite3_vfs *vfs, const char *path, int with_folder)
{
    (void)vfs;
    begin_operation();
    int rc = disk.real->xDelete(disk.real, path, with_folder);
    struct disk_file *f = find_file(path);
    if (rc == SQLITE_OK && f != NULL) {
        f->removed = true;
        if (with_folder) {
            sync_folder();
        }
    }
    end_operation();
    return rc;
}

bool
lossy_install(const struct lossy_plan *plan)
{
    disk.plan = *plan;
    sqlite3_initialize();
    disk.real = sqlite3_vfs_find(NULL);
    disk.vfs = *disk.real;
    disk.vfs.pNext = NULL;
    disk.vfs.zName = "lossy";
    disk.vfs.szOsFile += (int)sizeof(struct lossy_file);
    disk.vfs.xOpen = lossy_open;
    disk.vfs.xDelete = lossy_delete;
    return sqlite3_vfs_register(&disk.vfs, 1) == SQLITE_OK;
}
