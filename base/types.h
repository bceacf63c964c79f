/* Types, attributes and small macros that every folder of the kernel uses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A physical address. Its own type, so that it cannot be dereferenced or mixed with a pointer. */
typedef struct {
    uint64_t v;
} pa_t;

#define NK_PA(x) ((pa_t){(uint64_t)(x)})

#define NK_MUST_CHECK     __attribute__((warn_unused_result))
#define NK_NORETURN       __attribute__((noreturn))
#define NK_PRINTF(fmt, a) __attribute__((format(printf, fmt, a)))
#define NK_ALIGNED(n)     __attribute__((aligned(n)))
#define NK_PACKED         __attribute__((packed))
#define NK_NOINLINE       __attribute__((noinline))
#define NK_ALWAYS_INLINE  inline __attribute__((always_inline))
#define nk_likely(x)      __builtin_expect(!!(x), 1)
#define nk_unlikely(x)    __builtin_expect(!!(x), 0)

#define NK_ARRAY_COUNT(a)                  (sizeof(a) / sizeof((a)[0]))
#define NK_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define NK_KIB(n)                          ((uint64_t)(n) << 10)
#define NK_MIB(n)                          ((uint64_t)(n) << 20)
#define NK_GIB(n)                          ((uint64_t)(n) << 30)

#define NK_PAGE_SHIFT 12
#define NK_PAGE_SIZE  (UINT64_C(1) << NK_PAGE_SHIFT)

static inline uint64_t nk_align_down(uint64_t x, uint64_t align)
{
    return x & ~(align - 1);
}

static inline uint64_t nk_align_up(uint64_t x, uint64_t align)
{
    return (x + align - 1) & ~(align - 1);
}
