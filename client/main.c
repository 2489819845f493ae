/* main.c - the potluck command: find the subcommand and run it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", cmd_serve, "start a pool here: its coordinator"},
    {"join", cmd_join, "let this PC compute for a pool"},
    {"run", cmd_run, "complete a prompt on a pool"},
    {"status", cmd_status, "a pool's PCs, layers, memory, speed, queue"},
    {"keys", cmd_keys, "which PCs may join a pool"},
    {"demo", cmd_demo, "a pool of several workers on this machine"},
    {"local", cmd_local,
     "complete a prompt with a model file, in this process"},
    {"inspect", cmd_inspect, "what a model file holds and the memory it needs"},
    {"tokenize", cmd_tokenize, "text to token ids"},
    {"detokenize", cmd_detokenize, "token ids to text"},
    {"template", cmd_template, "messages to a prompt, by the model's template"},
    {"perplexity", cmd_perplexity, "how well a model predicts a text"},
    {"quantize", cmd_quantize, "a model file in smaller types"},
    {"plan", cmd_plan, "which PC would compute what, and how fast"},
    {"bench", cmd_bench, "prompt and answer speed on this machine"},
};

static void usage(FILE *to)
{
    fputs("potluck pools ordinary PCs into one host for a large language "
          "model.\n\nusage: potluck COMMAND [OPTIONS] ...\n\n",
          to);
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].help);
    }
    fputs("\npotluck COMMAND --help lists a command's options.\n", to);
}

/* Files must not get the numbers of standard streams that came closed: those
 * become ones that cannot be used, so that using them is an error. */
static void occupy_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
        const int got =
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        (void)got; /* the lowest free number: fd */
    }
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_CODE_USAGE;
    }
    /* `potluck help local` is `potluck local --help` */
    char help[] = "--help";
    char *asked[] = {argv[0], argv[argc - 1], help, NULL};
    if (argc == 3 && strcmp(argv[1], "help") == 0) argv = asked;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return EXIT_CODE_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("potluck 0.1 (numerics %d)\n", NUMERICS_VERSION);
        return EXIT_CODE_OK;
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "potluck: there is no command \"%s\"\n\n", argv[1]);
    usage(stderr);
    return EXIT_CODE_USAGE;
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    /* `potluck ... | head` ends quietly, whatever the parent process set */
    signal(SIGPIPE, SIG_DFL);
    int code = run(argc, argv);
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    /* a command that noticed has said so already */
    if (code == EXIT_CODE_OK) {
        struct error err;
        error_set(&err, ST_IO, "standard output: %s",
                  errno ? strerror(errno) : "not all could be written");
        code = fail(&err);
    }
    return code;
}
