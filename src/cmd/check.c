/* check.c - weir check: the effective configuration and where each value comes from. */
#include "cmd/cmd.h"

#include "cmd/print.h"
#include "cmd/settings.h"

int
cmd_check(int argc, char **argv, char *const *envp)
{
    struct config cfg;
    int code = settings_load(&cfg, argc, argv, envp);
    if (code != 0) {
        return code;
    }
    struct buf text;
    buf_init(&text, 0);
    config_print(&text, &cfg);
    config_free(&cfg);
    return print_and_free(&text);
}
