/* A kernel to be started: an ELF image whose segments name physical addresses.
 * Spec: System V ABI chapter 5 "Program Loading". */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct elf_plan {
    uint64_t base, end; /* physical: all of its memory, below 4 GiB and not below 1 MiB */
    uint32_t entry;     /* physical */
};

/* Check an image, which may be anything. Returns NULL, or what is wrong with it. */
const char *elf_check(const void *image, size_t size, struct elf_plan *out);

/* Put the segments of a checked image to `at`, which stands for physical address plan->base. */
void elf_place(const void *image, const struct elf_plan *plan, void *at);
