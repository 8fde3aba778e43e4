/* settings.h - the configuration of a command that takes settings and nothing else.
 * Threads:  the main thread. */
#ifndef WEIR_SETTINGS_H
#define WEIR_SETTINGS_H

#include "config.h"

/* Returns 0, or the exit code: then everything that is wrong was said on standard error, and *cfg
 * is empty. */
int settings_load(struct config *cfg, int argc, char **argv, char *const *envp);

#endif
