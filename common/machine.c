#include "common/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t machine_memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    uint64_t kib = 0;
    while (f && fgets(line, sizeof line, f)) {
        static const char key[] = "MemAvailable:";
        if (strncmp(line, key, sizeof key - 1) != 0) continue;
        kib = strtoull(line + sizeof key - 1, NULL, 10);
    }
    if (f) fclose(f);
    return kib * 1024;
}

void machine_name(char name[MACHINE_HOST_MAX + 1], const char *otherwise)
{
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') {
        snprintf(host, sizeof host, "%s", otherwise);
    }
    snprintf(name, MACHINE_HOST_MAX + 1, "%.*s", MACHINE_HOST_MAX, host);
}

enum status machine_address(const char *text, char host[MACHINE_HOST_MAX + 1],
                            uint32_t *port, struct error *err)
{
    const char *colon = strrchr(text, ':');
    const size_t n = colon ? (size_t)(colon - text) : strlen(text);
    unsigned long number = *port;
    if (colon) {
        char *end;
        number = strtoul(colon + 1, &end, 10);
        if (colon[1] < '0' || colon[1] > '9' || *end != '\0') {
            number = UINT32_MAX;
        }
    }
    if (n == 0 || n > MACHINE_HOST_MAX || number > UINT16_MAX) {
        return error_set(err, ST_USAGE, "%.100s: ADDRESS or ADDRESS:PORT",
                         text);
    }
    memcpy(host, text, n);
    host[n] = '\0';
    *port = (uint32_t)number;
    return ST_OK;
}
