/* Runs one instruction on the processor that runs the tests, to compare with the emulator. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct native_registers {
    uint64_t gpr[16]; /* RSP is not loaded */
    uint64_t rflags;
};

void native_create(void);
void native_run(const uint8_t *instruction, size_t length, struct native_registers *r);
