/* Types and error numbers of the VMM library. Freestanding: needs the compiler's headers only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest-physical, guest-virtual (linear) and host-physical addresses. Mixing them does not compile;
 * a host virtual address is a pointer. */
typedef struct {
    uint64_t v;
} gpa_t;
typedef struct {
    uint64_t v;
} gva_t;
typedef struct {
    uint64_t v;
} hpa_t;

#define VMM_GPA(x) ((gpa_t){(uint64_t)(x)})
#define VMM_GVA(x) ((gva_t){(uint64_t)(x)})
#define VMM_HPA(x) ((hpa_t){(uint64_t)(x)})

/* Errors are returned negative. Values as on Linux and newlib. */
enum vmm_errno {
    VMM_EPERM = 1,
    VMM_ENOENT = 2,
    VMM_EIO = 5,
    VMM_E2BIG = 7,
    VMM_EAGAIN = 11,
    VMM_ENOMEM = 12,
    VMM_EFAULT = 14,
    VMM_EBUSY = 16,
    VMM_EEXIST = 17,
    VMM_ENODEV = 19,
    VMM_EINVAL = 22,
    VMM_ENOSPC = 28,
    VMM_ERANGE = 34,
    VMM_ENOTSUP = 95,
};

#define VMM_MUST_CHECK                      __attribute__((warn_unused_result))
#define VMM_PRINTF(fmt, a)                  __attribute__((format(printf, fmt, a)))
#define VMM_NORETURN                        __attribute__((noreturn))
#define VMM_ARRAY_COUNT(a)                  (sizeof(a) / sizeof((a)[0]))
#define VMM_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define vmm_likely(x)                       __builtin_expect(!!(x), 1)
#define vmm_unlikely(x)                     __builtin_expect(!!(x), 0)

#define VMM_PAGE_SIZE UINT64_C(4096)
#define VMM_KIB(n)    ((uint64_t)(n) << 10)
#define VMM_MIB(n)    ((uint64_t)(n) << 20)
#define VMM_GIB(n)    ((uint64_t)(n) << 30)

#define VMM_NAME_MAX  32
#define VMM_VCPUS_MAX 64

/* One clear line about what went wrong: what, where, why. Filled by calls that take one. */
struct vmm_error {
    char text[256];
};
