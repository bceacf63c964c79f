/* The kernel's virtual address space (docs/memory-map.md).
 * Spec: AMD APM vol. 2 "Long-Mode Page Translation" (48-bit canonical addresses). */
#pragma once

#include "base/types.h"

#define NK_DIRECT_BASE UINT64_C(0xffff800000000000) /* all physical memory, 64 TiB */
#define NK_STACKS_BASE UINT64_C(0xffffc00000000000) /* thread stacks with guard pages */
#define NK_MMIO_BASE   UINT64_C(0xffffd00000000000) /* device registers, uncached */
#define NK_NATIVE_BASE UINT64_C(0xffffe00000000000) /* heaps and stacks of applications */
#define NK_IMAGE_BASE  UINT64_C(0xffffffff80000000) /* kernel image: physical 0 maps here */
#define NK_IMAGE_LOAD  UINT64_C(0x100000)           /* physical load address, 1 MiB */

/* Code and data of applications, in reach of 32-bit relocations: the upper half of the top 2 GiB */
#define NK_NATIVE_IMAGES_BASE UINT64_C(0xffffffffc0000000)
#define NK_NATIVE_IMAGES_END  UINT64_C(0xfffffffffff00000)

/* Where other CPUs begin in real mode: a start-up IPI names a page below 1 MiB. */
#define NK_TRAMPOLINE_PA UINT64_C(0x8000)

static inline void *nk_pa_to_va(pa_t pa)
{
    return (void *)(pa.v + NK_DIRECT_BASE);
}

/* Valid for direct-map and kernel-image addresses. */
static inline pa_t nk_va_to_pa(const void *va)
{
    uint64_t v = (uint64_t)va;
    return (pa_t){v >= NK_IMAGE_BASE ? v - NK_IMAGE_BASE : v - NK_DIRECT_BASE};
}
