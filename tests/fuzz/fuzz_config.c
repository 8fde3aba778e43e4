/* Any bytes as weir.conf: never a crash, every refusal says why, and what loads prints in a form
 * that loads again to the same values. */
#include "config.h"

#include "config_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Reads a file in memory, which has no name but in /proc. */
static enum err
load(struct config *cfg, struct buf *errors, const void *bytes, size_t len)
{
    char name[48];
    int fd = memfd_create("weir.conf", 0);
    if (fd < 0 || write(fd, bytes, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) != 0) {
        abort();
    }
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    char *argv[] = {"--config", name};
    char *envp[] = {NULL};
    int argc = 2;
    enum err e = config_load(cfg, &argc, argv, envp, errors);
    close(fd);
    return e;
}

static bool
is_text(unsigned row)
{
    enum config_type type = config_settings[row].type;
    return type == CONFIG_TEXT || type == CONFIG_CHOICE;
}

static void
assert_same(const struct config *a, const struct config *b)
{
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        const void *left = config_field(a, row);
        const void *right = config_field(b, row);
        bool same = is_text(row) ? strcmp(*(char *const *)left, *(char *const *)right) == 0
                                 : *(const int64_t *)left == *(const int64_t *)right;
        if (!same) {
            abort();
        }
    }
}

static void
load_again(const struct config *cfg)
{
    struct config again;
    struct buf printed;
    struct buf errors;
    buf_init(&printed, 0);
    buf_init(&errors, 0);
    config_print(&printed, cfg);
    if (!buf_ok(&printed) || load(&again, &errors, printed.at, printed.len) != OK) {
        abort();
    }
    bool masked = memmem(printed.at, printed.len, "***", 3) != NULL;
    if (!masked) {
        assert_same(cfg, &again);
    }
    config_free(&again);
    buf_fini(&printed);
    buf_fini(&errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct config cfg;
    struct buf errors;
    buf_init(&errors, 0);
    enum err e = load(&cfg, &errors, bytes, len);
    if (e == OK) {
        load_again(&cfg);
    } else if (e != ERR_CONFIG || errors.len == 0 || errors.at[errors.len - 1] != '\n') {
        abort();
    }
    config_free(&cfg);
    buf_fini(&errors);
    return 0;
}
