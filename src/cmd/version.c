/* version.c - weir version. */
#include "cmd/cmd.h"

#include "cmd/print.h"

int
cmd_version(int argc, char **argv, char *const *envp)
{
    (void)envp;
    if (argc > 0) {
        fprintf(stderr, "weir version: \"%s\" is too much; expected no argument\n", argv[0]);
        return 2;
    }
    struct buf text;
    buf_init(&text, 0);
    buf_add_text(&text, "weir " WEIR_VERSION "\n");
    return print_and_free(&text);
}
