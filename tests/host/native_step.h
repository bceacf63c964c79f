/* Runs whatever instruction begins with some bytes on the processor that runs the tests: one step,
 * and what became of registers, or the exception. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vector.h"

struct native_state {
    uint64_t gpr[16]; /* RSP too */
    uint64_t rflags;
    uint64_t length; /* how far RIP has gone */
    struct test_vector_file vector;
    int vector_number; /* of the exception, -1: none */
    bool page_fault;   /* #PF, wherever */
};

void native_step_create(void);
/* Has the processor AVX, and does the system let us use it? Else state.vector.ymm's upper halves
 * mean nothing. */
bool native_has_avx(void);
/* code: 16 bytes. */
void native_step(const uint8_t *code, struct native_state *s);
