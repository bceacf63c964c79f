/* The fuzz targets' corpora (tests/fuzz/corpus/<target>/), and some inputs of their own; and those
 * below another directory, if one is named. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fixture.h"

#define INPUT_MAX 65536
#define RANDOM    40 /* inputs for each target */

static const char *more; /* a directory with corpora */

static void run_file(const char *path, void (*target)(const uint8_t *data, size_t size))
{
    uint8_t *input = malloc(INPUT_MAX);
    FILE *file = fopen(path, "rb");
    size_t size;

    assert_non_null(input);
    assert_non_null(file);
    size = fread(input, 1, INPUT_MAX, file);
    fclose(file);
    input = realloc(input, size + 1); /* so that a read behind the end is seen */
    target(input, size);
    free(input);
}

static void run_corpus(const char *below, const char *name,
                       void (*target)(const uint8_t *data, size_t size))
{
    char directory[128], path[400];
    const struct dirent *entry;
    DIR *dir;

    snprintf(directory, sizeof(directory), "%s/%s", below, name);
    dir = opendir(directory);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
            run_file(path, target);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static void run_random(void (*target)(const uint8_t *data, size_t size))
{
    uint64_t state = 88172645463325252;

    for (unsigned i = 0; i < RANDOM; i++) {
        size_t size = i * 97;
        uint8_t *input = malloc(size + 1);

        assert_non_null(input);
        for (size_t at = 0; at < size; at++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            input[at] = (uint8_t)(state >> 20);
        }
        target(input, size);
        free(input);
    }
}

#define X(name)                                                                                    \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        run_corpus("tests/fuzz/corpus", #name, fuzz_##name);                                       \
        if (more != NULL) {                                                                        \
            run_corpus(more, #name, fuzz_##name);                                                  \
        }                                                                                          \
        run_random(fuzz_##name);                                                                   \
    }
FUZZ_TARGETS(X)
#undef X

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define X(name) cmocka_unit_test(name),
        FUZZ_TARGETS(X)
#undef X
    };

    more = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
