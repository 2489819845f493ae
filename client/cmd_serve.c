/* cmd_serve.c - potluck serve and join: become the daemon, which has its own
 * options and help. */
#include "client/commands.h"
#include "client/spawn.h"

static int become(const char *name, char **argv)
{
    struct error err;
    spawn_become(name, argv, &err);
    return fail(&err);
}

int cmd_serve(int argc, char **argv)
{
    (void)argc;
    return become("potluck-coordinator", argv);
}

int cmd_join(int argc, char **argv)
{
    (void)argc;
    return become("potluck-worker", argv);
}
