#include "tests/lib/conform_list.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double conform_floor(const char *type)
{
    if (strcmp(type, "F32") == 0) return 1e-6;
    return strcmp(type, "F16") == 0 ? 1e-5 : 1e-3;
}

static bool add_cases(struct conform_list *l, const char *family, char *types)
{
    char *save = NULL;
    for (char *t = strtok_r(types, ",", &save); t;
         t = strtok_r(NULL, ",", &save)) {
        if (l->n == CONFORM_CASES_MAX) return false;
        struct conform_case *c = &l->cases[l->n++];
        c->floor = conform_floor(t);
        const int n = snprintf(c->name, sizeof c->name, "%s-%s", family, t);
        if (n < 0 || (size_t)n >= sizeof c->name) return false;
        for (char *p = c->name; *p; p++) *p = (char)tolower((unsigned char)*p);
    }
    return true;
}

bool conform_list_read(struct conform_list *out)
{
    FILE *f = fopen("tests/golden/conformance.list", "r");
    char line[1024];
    bool ok = f != NULL;
    out->n = 0;
    while (ok && fgets(line, sizeof line, f)) {
        if (line[0] == '#' || line[0] == '\n') continue;
        /* family, margin, types, ... */
        char *save = NULL;
        const char *family = strtok_r(line, " \t\n", &save);
        (void)strtok_r(NULL, " \t\n", &save);
        char *types = strtok_r(NULL, " \t\n", &save);
        ok = family && types && add_cases(out, family, types);
    }
    if (f) fclose(f);
    return ok;
}

bool conform_list_has(const struct conform_list *l, const char *family,
                      const char *type)
{
    char name[CONFORM_NAME_BYTES];
    snprintf(name, sizeof name, "%s-%s", family, type);
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->cases[i].name, name) == 0) return true;
    }
    return false;
}

enum status conform_load(struct oracle_file *out, const char *name,
                         const char *model_path, struct error *err)
{
    const char *records = getenv("POTLUCK_CONFORMANCE");
    char path[512];
    uint64_t hash = 0;
    struct oracle_file f;
    snprintf(path, sizeof path, "%s/%s.json",
             records ? records : "tests/golden/oracle", name);
    enum status st = oracle_load(&f, path, err);
    if (st != ST_OK) return st;
    st = gen_model_write(&f.recipe, model_path, err);
    if (st == ST_OK) st = gen_file_hash(model_path, &hash, err);
    if (st == ST_OK && hash != f.hash) {
        st = error_set(err, ST_INVALID,
                       "%s: the generator makes another file than was "
                       "recorded (run tests/golden/record_conformance.sh)",
                       name);
    }
    if (st != ST_OK) {
        oracle_fini(&f);
        return st;
    }
    *out = f;
    return ST_OK;
}
