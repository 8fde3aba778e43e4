#include "lossy_disk.h"

#include <fcntl.h>
#include <pthread.h>
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
    struct disk_file files[FILES_MAX];
    unsigned n;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

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

/* --- files --- */

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

struct disk_file *
lossy_disk_follow(const char *path)
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

void
lossy_disk_sync_folder(void)
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

/* Inside: nobody else writes any more. */
static void
lose_power(void)
{
    for (unsigned i = 0; i < disk.n; i++) {
        lose_file(&disk.files[i]);
        spoil_shared_memory(&disk.files[i]);
    }
    disk.plan.end(disk.plan.exit_code);
}

/* --- operations --- */

void
lossy_disk_start(const struct lossy_plan *plan)
{
    disk.plan = *plan;
}

void
lossy_disk_enter(void)
{
    pthread_mutex_lock(&disk.lock);
}

void
lossy_disk_leave(void)
{
    pthread_mutex_unlock(&disk.lock);
}

void
lossy_disk_operation(void)
{
    if (disk.plan.counts->operations++ == disk.plan.countdown) {
        lose_power();
    }
}

static bool
is_wal(const struct disk_file *f)
{
    size_t n = strlen(f->path);
    return n > 4 && strcmp(f->path + n - 4, "-wal") == 0;
}

void
lossy_disk_write(struct disk_file *f, size_t offset, const void *bytes, size_t len)
{
    disk.plan.counts->wal_restarts += offset == 0 && is_wal(f);
    add_change(f, offset, bytes, len);
}

void
lossy_disk_cut(struct disk_file *f, size_t len)
{
    add_change(f, len, NULL, 0);
}

void
lossy_disk_sync(struct disk_file *f)
{
    if (disk.plan.forgets_wal && is_wal(f)) {
        return;
    }
    for (const struct change *c = f->first; c != NULL; c = c->next) {
        image_apply(&f->synced, c);
    }
    drop_changes(f);
}

void
lossy_disk_remove(const char *path)
{
    struct disk_file *f = find_file(path);
    if (f != NULL) {
        f->removed = true;
    }
}

/* What it held before may come back, but only as what it holds now. */
void
lossy_disk_opened(struct disk_file *f)
{
    if (f->removed) {
        f->removed = false;
        lossy_disk_cut(f, 0);
    }
}
