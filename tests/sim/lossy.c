/* lossy.c - every call goes on to the real VFS, and what it changes is told to the model. A sync only
 * the model sees: the test's disk need not wait for it. */
#include "lossy.h"

#include "lossy_disk.h"

#include <sqlite3.h>
#include <unistd.h>

static sqlite3_vfs our_vfs;
static sqlite3_vfs *real_vfs;

struct lossy_file {
    sqlite3_file base;
    struct disk_file *of; /* NULL: not followed (temporary) */
    sqlite3_file *real;   /* lies behind this struct */
    bool syncs_folder;    /* at its first sync, as SQLite's own VFS does for a new journal or WAL */
};

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

static int
lossy_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 offset)
{
    lossy_disk_enter();
    lossy_disk_operation();
    int rc = real(file)->pMethods->xWrite(real(file), bytes, len, offset);
    if (of(file)->of != NULL) {
        lossy_disk_write(of(file)->of, (size_t)offset, bytes, (size_t)len);
    }
    lossy_disk_leave();
    return rc;
}

static int
lossy_truncate(sqlite3_file *file, sqlite3_int64 len)
{
    lossy_disk_enter();
    lossy_disk_operation();
    int rc = real(file)->pMethods->xTruncate(real(file), len);
    if (of(file)->of != NULL) {
        lossy_disk_cut(of(file)->of, (size_t)len);
    }
    lossy_disk_leave();
    return rc;
}

static int
lossy_sync(sqlite3_file *file, int flags)
{
    struct disk_file *f = of(file)->of;
    (void)flags;
    lossy_disk_enter();
    lossy_disk_operation();
    if (f != NULL) {
        lossy_disk_sync(f);
    }
    if (of(file)->syncs_folder) {
        lossy_disk_sync_folder();
        of(file)->syncs_folder = false;
    }
    lossy_disk_leave();
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
    lossy_disk_enter();
    if (path != NULL && (flags & SQLITE_OPEN_DELETEONCLOSE) == 0) {
        f->of = lossy_disk_follow(path);
        f->syncs_folder =
            (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL)) != 0 && access(path, F_OK) != 0;
    }
    int rc = real_vfs->xOpen(real_vfs, path, f->real, flags, out_flags);
    if (rc == SQLITE_OK && f->of != NULL) {
        lossy_disk_opened(f->of);
    }
    lossy_disk_leave();
    f->base.pMethods = rc == SQLITE_OK ? &methods : NULL;
    return rc;
}

static int
lossy_delete(sqlite3_vfs *vfs, const char *path, int with_folder)
{
    (void)vfs;
    lossy_disk_enter();
    lossy_disk_operation();
    int rc = real_vfs->xDelete(real_vfs, path, with_folder);
    if (rc == SQLITE_OK) {
        lossy_disk_remove(path);
        if (with_folder) {
            lossy_disk_sync_folder();
        }
    }
    lossy_disk_leave();
    return rc;
}

bool
lossy_install(const struct lossy_plan *plan)
{
    lossy_disk_start(plan);
    sqlite3_initialize();
    real_vfs = sqlite3_vfs_find(NULL);
    our_vfs = *real_vfs;
    our_vfs.pNext = NULL;
    our_vfs.zName = "lossy";
    our_vfs.szOsFile += (int)sizeof(struct lossy_file);
    our_vfs.xOpen = lossy_open;
    our_vfs.xDelete = lossy_delete;
    return sqlite3_vfs_register(&our_vfs, 1) == SQLITE_OK;
}
