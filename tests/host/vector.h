/* The registers that a guest's vector instructions have in tests. */
#pragma once

#include "core/vector.h"

struct test_vector_file {
    struct vmm_vector ymm[16];
    uint64_t mm[8];
    uint32_t mxcsr;
    bool x87_waits, mmx_used;
};

extern struct test_vector_file vector_file;
