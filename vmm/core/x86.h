/* Architectural numbers that common code needs. AMD APM vol. 2; Intel SDM vol. 3. */
#pragma once

#include <vmm/types.h>

/* Exception vectors. */
enum {
    X86_DE = 0,
    X86_DB = 1,
    X86_BP = 3,
    X86_OF = 4,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_MC = 18,
};

#define X86_RFLAGS_FIXED UINT64_C(0x2)
#define X86_RFLAGS_TF    (UINT64_C(1) << 8)
#define X86_RFLAGS_IF    (UINT64_C(1) << 9)
#define X86_RFLAGS_NT    (UINT64_C(1) << 14)
#define X86_RFLAGS_RF    (UINT64_C(1) << 16)

#define X86_DR6_CAUSES UINT64_C(0xe00f) /* BT, BS, BD, B3-B0 */
#define X86_DR6_BS     (UINT64_C(1) << 14)

#define X86_CR0_PE       (UINT64_C(1) << 0)
#define X86_CR0_ET       (UINT64_C(1) << 4)
#define X86_CR0_NE       (UINT64_C(1) << 5)
#define X86_CR0_NW       (UINT64_C(1) << 29)
#define X86_CR0_CD       (UINT64_C(1) << 30)
#define X86_CR0_PG       (UINT64_C(1) << 31)
#define X86_CR0_WRITABLE UINT64_C(0xe005003f) /* PG CD NW AM WP NE ET TS EM MP PE */

#define X86_CR4_PAE     (UINT64_C(1) << 5)
#define X86_CR4_LA57    (UINT64_C(1) << 12)
#define X86_CR4_OSXSAVE (UINT64_C(1) << 18)
#define X86_CR4_PKE     (UINT64_C(1) << 22)

#define X86_EFER_SCE   (UINT64_C(1) << 0)
#define X86_EFER_LME   (UINT64_C(1) << 8)
#define X86_EFER_LMA   (UINT64_C(1) << 10)
#define X86_EFER_NXE   (UINT64_C(1) << 11)
#define X86_EFER_SVME  (UINT64_C(1) << 12)
#define X86_EFER_FFXSR (UINT64_C(1) << 14)

#define X86_XCR0_X87    (UINT64_C(1) << 0)
#define X86_XCR0_SSE    (UINT64_C(1) << 1)
#define X86_XCR0_AVX    (UINT64_C(1) << 2)
#define X86_XCR0_AVX512 (UINT64_C(7) << 5)

#define X86_PAT_RESET UINT64_C(0x0007040600070406)
