/* main.c - the potluck command: find the subcommand and run it. */
#include <stdio.h>
#include <string.h>

#include "client/commands.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"local", cmd_local,
     "complete a prompt with a model file, in this process"},
    {"inspect", cmd_inspect, "what a model file holds and the memory it needs"},
    {"tokenize", cmd_tokenize, "text to token ids"},
    {"detokenize", cmd_detokenize, "token ids to text"},
    {"perplexity", cmd_perplexity, "how well a model predicts a text"},
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

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_CODE_USAGE;
    }
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
    fprintf(stderr, "potluck: there is no command \"%s\"\n", argv[1]);
    usage(stderr);
    return EXIT_CODE_USAGE;
}
