#include "tests/lib/cli.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fake_http.h"
#include "tests/lib/gen_model.h"

#define FILE_MAX (256u << 20)

static char dir[3000];

void cli_begin(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%.2900s/potluck-cli-XXXXXX",
             tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
}

void cli_end(void)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] != '.') unlink(cli_path(e->d_name));
    }
    if (d) closedir(d);
    assert_int_equal(rmdir(dir), 0);
}

const char *cli_path(const char *name)
{
    static char paths[16][4096];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

void cli_model(const char *name, const char *preset,
               const char *const *settings)
{
    struct gen_model m;
    struct error err = {0};
    enum status st = gen_model_preset(&m, preset, &err);
    for (; st == ST_OK && *settings; settings++) {
        st = gen_model_set(&m, *settings, &err);
    }
    if (st == ST_OK) st = gen_model_write(&m, cli_path(name), &err);
    if (st != ST_OK) fail_msg("model %s: %s", name, err.text);
}

void cli_write(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(cli_path(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

struct buf cli_read(const char *path)
{
    struct buf b;
    buf_init(&b, FILE_MAX);
    assert_int_equal(buf_append(&b, "", 0), ST_OK);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be read", path);
    for (;;) {
        char *to;
        assert_int_equal(buf_reserve(&b, 65536, &to), ST_OK);
        const size_t n = fread(to, 1, 65536, f);
        b.len += n;
        b.data[b.len] = '\0';
        if (n == 0) break;
    }
    fclose(f);
    return b;
}

struct outcome cli_run(const struct command *with, const char *const *args)
{
    return cli_run_in(NULL, with, args);
}

struct outcome cli_run_in(const char *const *prefix, const struct command *with,
                          const char *const *args)
{
    char program[4096];
    const char *argv[64] = {0};
    size_t n = 0;
    for (size_t i = 0; prefix && prefix[i]; i++) argv[n++] = prefix[i];
    argv[n++] = built_program(program, "potluck");
    for (size_t i = 0; args[i]; i++) {
        assert_true(n + 1 < COUNT_OF(argv));
        argv[n++] = args[i];
    }
    struct command c = *with;
    c.argv = argv;
    struct outcome o;
    struct error err;
    fake_http_turn();
    if (run_command(&o, &c, &err) != ST_OK) fail_msg("%s", err.text);
    fake_http_turn();
    if (o.timed_out) {
        fail_msg("potluck %s did not end; stdout: %.200s; stderr: %.500s",
                 args[0] ? args[0] : "", o.out.data, o.err.data);
    }
    return o;
}

void cli_expect(struct outcome o, int code, const char *said)
{
    const bool right = *said ? strstr(o.err.data, said) != NULL : !o.err.len;
    if (o.code != code || !right) {
        fail_msg("exit code %d, wanted %d with \"%s\"; stdout: %.300s; "
                 "stderr: %.1000s",
                 o.code, code, said, o.out.data, o.err.data);
    }
    outcome_fini(&o);
}

void cli_expect_out(struct outcome o, int code, const char *out)
{
    if (o.code != code || strcmp(o.out.data, out) != 0) {
        fail_msg("exit code %d, wanted %d; stdout: \"%.500s\", wanted \"%s\"; "
                 "stderr: %.500s",
                 o.code, code, o.out.data, out, o.err.data);
    }
    outcome_fini(&o);
}

json_t *cli_json(struct outcome o, int code)
{
    json_error_t err = {0};
    /* jansson takes valid UTF-8 only, and nothing after the object */
    json_t *json = json_loadb(o.out.data, o.out.len, JSON_ALLOW_NUL, &err);
    if (o.code != code || !json || !json_is_object(json) ||
        o.out.data[o.out.len - 1] != '\n') {
        fail_msg("exit code %d, wanted %d and JSON (%s); stdout: \"%.500s\"; "
                 "stderr: %.500s",
                 o.code, code, err.text, o.out.data, o.err.data);
    }
    outcome_fini(&o);
    return json;
}

json_t *json_at(json_t *o, const char *path)
{
    char name[64];
    for (const char *p = path; o && *p; p += *p == '.') {
        const size_t n = strcspn(p, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        o = json_object_get(o, name);
        p += n;
    }
    if (!o) fail_msg("the JSON object has no %s", path);
    return o;
}

double number_at(json_t *o, const char *path)
{
    json_t *v = json_at(o, path);
    if (!json_is_number(v)) fail_msg("%s is not a number", path);
    return json_number_value(v);
}

const char *string_at(json_t *o, const char *path)
{
    json_t *v = json_at(o, path);
    if (!json_is_string(v)) fail_msg("%s is not a string", path);
    return json_string_value(v);
}
