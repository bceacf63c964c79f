/* VMCS fields. The four widths are distinct types, so that a field cannot be read or written as
 * what it is not. Spec: Intel SDM vol. 3 appendix B. */
#pragma once

#include <vmm/types.h>

typedef struct {
    uint32_t id;
} vmcs16_t;
typedef struct {
    uint32_t id;
} vmcs32_t;
typedef struct {
    uint32_t id;
} vmcs64_t;
typedef struct {
    uint32_t id;
} vmcsn_t; /* natural width */

#define VMCS_FIELD_LIST(F)                                                                         \
    F(16, VPID, 0x0000)                                                                            \
    F(16, POSTED_VECTOR, 0x0002)                                                                   \
    F(16, GUEST_ES, 0x0800)                                                                        \
    F(16, GUEST_CS, 0x0802)                                                                        \
    F(16, GUEST_SS, 0x0804)                                                                        \
    F(16, GUEST_DS, 0x0806)                                                                        \
    F(16, GUEST_FS, 0x0808)                                                                        \
    F(16, GUEST_GS, 0x080a)                                                                        \
    F(16, GUEST_LDTR, 0x080c)                                                                      \
    F(16, GUEST_TR, 0x080e)                                                                        \
    F(16, GUEST_INTR_STATUS, 0x0810)                                                               \
    F(16, PML_INDEX, 0x0812)                                                                       \
    F(16, HOST_ES, 0x0c00)                                                                         \
    F(16, HOST_CS, 0x0c02)                                                                         \
    F(16, HOST_SS, 0x0c04)                                                                         \
    F(16, HOST_DS, 0x0c06)                                                                         \
    F(16, HOST_FS, 0x0c08)                                                                         \
    F(16, HOST_GS, 0x0c0a)                                                                         \
    F(16, HOST_TR, 0x0c0c)                                                                         \
    F(64, MSR_BITMAP, 0x2004)                                                                      \
    F(64, PML_ADDRESS, 0x200e)                                                                     \
    F(64, TSC_OFFSET, 0x2010)                                                                      \
    F(64, VIRTUAL_APIC, 0x2012)                                                                    \
    F(64, APIC_ACCESS, 0x2014)                                                                     \
    F(64, POSTED_DESCRIPTOR, 0x2016)                                                               \
    F(64, EPT_POINTER, 0x201a)                                                                     \
    F(64, EOI_EXIT0, 0x201c)                                                                       \
    F(64, EOI_EXIT1, 0x201e)                                                                       \
    F(64, EOI_EXIT2, 0x2020)                                                                       \
    F(64, EOI_EXIT3, 0x2022)                                                                       \
    F(64, XSS_EXIT_BITMAP, 0x202c)                                                                 \
    F(64, GUEST_PHYSICAL, 0x2400)                                                                  \
    F(64, LINK_POINTER, 0x2800)                                                                    \
    F(64, GUEST_DEBUGCTL, 0x2802)                                                                  \
    F(64, GUEST_PAT, 0x2804)                                                                       \
    F(64, GUEST_EFER, 0x2806)                                                                      \
    F(64, GUEST_PDPTE0, 0x280a)                                                                    \
    F(64, GUEST_PDPTE1, 0x280c)                                                                    \
    F(64, GUEST_PDPTE2, 0x280e)                                                                    \
    F(64, GUEST_PDPTE3, 0x2810)                                                                    \
    F(64, HOST_PAT, 0x2c00)                                                                        \
    F(64, HOST_EFER, 0x2c02)                                                                       \
    F(32, PIN_CONTROLS, 0x4000)                                                                    \
    F(32, PROC_CONTROLS, 0x4002)                                                                   \
    F(32, EXCEPTION_BITMAP, 0x4004)                                                                \
    F(32, PF_ERROR_MASK, 0x4006)                                                                   \
    F(32, PF_ERROR_MATCH, 0x4008)                                                                  \
    F(32, CR3_TARGET_COUNT, 0x400a)                                                                \
    F(32, EXIT_CONTROLS, 0x400c)                                                                   \
    F(32, EXIT_MSR_STORE_COUNT, 0x400e)                                                            \
    F(32, EXIT_MSR_LOAD_COUNT, 0x4010)                                                             \
    F(32, ENTRY_CONTROLS, 0x4012)                                                                  \
    F(32, ENTRY_MSR_LOAD_COUNT, 0x4014)                                                            \
    F(32, ENTRY_INTR_INFO, 0x4016)                                                                 \
    F(32, ENTRY_ERROR_CODE, 0x4018)                                                                \
    F(32, ENTRY_INSN_LENGTH, 0x401a)                                                               \
    F(32, TPR_THRESHOLD, 0x401c)                                                                   \
    F(32, PROC2_CONTROLS, 0x401e)                                                                  \
    F(32, PLE_GAP, 0x4020)                                                                         \
    F(32, PLE_WINDOW, 0x4022)                                                                      \
    F(32, INSN_ERROR, 0x4400)                                                                      \
    F(32, EXIT_REASON, 0x4402)                                                                     \
    F(32, EXIT_INTR_INFO, 0x4404)                                                                  \
    F(32, EXIT_INTR_ERROR, 0x4406)                                                                 \
    F(32, IDT_VECTORING_INFO, 0x4408)                                                              \
    F(32, IDT_VECTORING_ERROR, 0x440a)                                                             \
    F(32, EXIT_INSN_LENGTH, 0x440c)                                                                \
    F(32, EXIT_INSN_INFO, 0x440e)                                                                  \
    F(32, GUEST_ES_LIMIT, 0x4800)                                                                  \
    F(32, GUEST_CS_LIMIT, 0x4802)                                                                  \
    F(32, GUEST_SS_LIMIT, 0x4804)                                                                  \
    F(32, GUEST_DS_LIMIT, 0x4806)                                                                  \
    F(32, GUEST_FS_LIMIT, 0x4808)                                                                  \
    F(32, GUEST_GS_LIMIT, 0x480a)                                                                  \
    F(32, GUEST_LDTR_LIMIT, 0x480c)                                                                \
    F(32, GUEST_TR_LIMIT, 0x480e)                                                                  \
    F(32, GUEST_GDTR_LIMIT, 0x4810)                                                                \
    F(32, GUEST_IDTR_LIMIT, 0x4812)                                                                \
    F(32, GUEST_ES_RIGHTS, 0x4814)                                                                 \
    F(32, GUEST_CS_RIGHTS, 0x4816)                                                                 \
    F(32, GUEST_SS_RIGHTS, 0x4818)                                                                 \
    F(32, GUEST_DS_RIGHTS, 0x481a)                                                                 \
    F(32, GUEST_FS_RIGHTS, 0x481c)                                                                 \
    F(32, GUEST_GS_RIGHTS, 0x481e)                                                                 \
    F(32, GUEST_LDTR_RIGHTS, 0x4820)                                                               \
    F(32, GUEST_TR_RIGHTS, 0x4822)                                                                 \
    F(32, GUEST_INTERRUPTIBILITY, 0x4824)                                                          \
    F(32, GUEST_ACTIVITY, 0x4826)                                                                  \
    F(32, GUEST_SYSENTER_CS, 0x482a)                                                               \
    F(32, PREEMPTION_TIMER, 0x482e)                                                                \
    F(32, HOST_SYSENTER_CS, 0x4c00)                                                                \
    F(n, CR0_MASK, 0x6000)                                                                         \
    F(n, CR4_MASK, 0x6002)                                                                         \
    F(n, CR0_SHADOW, 0x6004)                                                                       \
    F(n, CR4_SHADOW, 0x6006)                                                                       \
    F(n, EXIT_QUALIFICATION, 0x6400)                                                               \
    F(n, GUEST_LINEAR, 0x640a)                                                                     \
    F(n, GUEST_CR0, 0x6800)                                                                        \
    F(n, GUEST_CR3, 0x6802)                                                                        \
    F(n, GUEST_CR4, 0x6804)                                                                        \
    F(n, GUEST_ES_BASE, 0x6806)                                                                    \
    F(n, GUEST_CS_BASE, 0x6808)                                                                    \
    F(n, GUEST_SS_BASE, 0x680a)                                                                    \
    F(n, GUEST_DS_BASE, 0x680c)                                                                    \
    F(n, GUEST_FS_BASE, 0x680e)                                                                    \
    F(n, GUEST_GS_BASE, 0x6810)                                                                    \
    F(n, GUEST_LDTR_BASE, 0x6812)                                                                  \
    F(n, GUEST_TR_BASE, 0x6814)                                                                    \
    F(n, GUEST_GDTR_BASE, 0x6816)                                                                  \
    F(n, GUEST_IDTR_BASE, 0x6818)                                                                  \
    F(n, GUEST_DR7, 0x681a)                                                                        \
    F(n, GUEST_RSP, 0x681c)                                                                        \
    F(n, GUEST_RIP, 0x681e)                                                                        \
    F(n, GUEST_RFLAGS, 0x6820)                                                                     \
    F(n, GUEST_PENDING_DEBUG, 0x6822)                                                              \
    F(n, GUEST_SYSENTER_ESP, 0x6824)                                                               \
    F(n, GUEST_SYSENTER_EIP, 0x6826)                                                               \
    F(n, HOST_CR0, 0x6c00)                                                                         \
    F(n, HOST_CR3, 0x6c02)                                                                         \
    F(n, HOST_CR4, 0x6c04)                                                                         \
    F(n, HOST_FS_BASE, 0x6c06)                                                                     \
    F(n, HOST_GS_BASE, 0x6c08)                                                                     \
    F(n, HOST_TR_BASE, 0x6c0a)                                                                     \
    F(n, HOST_GDTR_BASE, 0x6c0c)                                                                   \
    F(n, HOST_IDTR_BASE, 0x6c0e)                                                                   \
    F(n, HOST_SYSENTER_ESP, 0x6c10)                                                                \
    F(n, HOST_SYSENTER_EIP, 0x6c12)                                                                \
    F(n, HOST_RSP, 0x6c14)                                                                         \
    F(n, HOST_RIP, 0x6c16)

#define F(width, name, encoding) static const vmcs##width##_t VMCS_##name = {encoding};
VMCS_FIELD_LIST(F)
#undef F

/* The bare encodings, for constant tables: a const object is no constant to every compiler. */
enum vmcs_id {
#define F(width, name, encoding) VMCS_ID_##name = (encoding),
    VMCS_FIELD_LIST(F)
#undef F
};

static inline uint64_t vmcs_read_id(uint32_t id)
{
    uint64_t value;

    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)id) : "cc");
    return value;
}

/* A field that the processor may not have: 0 then. */
static inline uint64_t vmcs_read_if_there(uint32_t id)
{
    uint64_t value = 0;

    __asm__ volatile("vmread %1, %0" : "+r"(value) : "r"((uint64_t)id) : "cc");
    return value;
}

static inline void vmcs_write_id(uint32_t id, uint64_t value)
{
    __asm__ volatile("vmwrite %0, %1" ::"r"(value), "r"((uint64_t)id) : "cc");
}

#define VMCS_ACCESS(width, type)                                                                   \
    static inline type vmcs_read##width(vmcs##width##_t field)                                     \
    {                                                                                              \
        return (type)vmcs_read_id(field.id);                                                       \
    }                                                                                              \
    static inline void vmcs_write##width(vmcs##width##_t field, type value)                        \
    {                                                                                              \
        vmcs_write_id(field.id, value);                                                            \
    }
VMCS_ACCESS(16, uint16_t)
VMCS_ACCESS(32, uint32_t)
VMCS_ACCESS(64, uint64_t)
VMCS_ACCESS(n, uint64_t)
#undef VMCS_ACCESS

/* Pin-based controls, table 25-5. */
#define PIN_INTR         (UINT32_C(1) << 0)
#define PIN_NMI          (UINT32_C(1) << 3)
#define PIN_VIRTUAL_NMIS (UINT32_C(1) << 5)
#define PIN_TIMER        (UINT32_C(1) << 6)
#define PIN_POSTED       (UINT32_C(1) << 7)

/* Processor-based controls, table 25-6. */
#define PROC_INTR_WINDOW (UINT32_C(1) << 2)
#define PROC_TSC_OFFSET  (UINT32_C(1) << 3)
#define PROC_HLT         (UINT32_C(1) << 7)
#define PROC_MWAIT       (UINT32_C(1) << 10)
#define PROC_RDPMC       (UINT32_C(1) << 11)
#define PROC_CR3_LOAD    (UINT32_C(1) << 15)
#define PROC_CR3_STORE   (UINT32_C(1) << 16)
#define PROC_CR8_LOAD    (UINT32_C(1) << 19)
#define PROC_CR8_STORE   (UINT32_C(1) << 20)
#define PROC_TPR_SHADOW  (UINT32_C(1) << 21)
#define PROC_NMI_WINDOW  (UINT32_C(1) << 22)
#define PROC_MOV_DR      (UINT32_C(1) << 23)
#define PROC_IO          (UINT32_C(1) << 24)
#define PROC_MSR_BITMAPS (UINT32_C(1) << 28)
#define PROC_MONITOR     (UINT32_C(1) << 29)
#define PROC_SECONDARY   (UINT32_C(1) << 31)

/* Secondary ones, table 25-7. */
#define PROC2_APIC_ACCESS  (UINT32_C(1) << 0)
#define PROC2_EPT          (UINT32_C(1) << 1)
#define PROC2_RDTSCP       (UINT32_C(1) << 3)
#define PROC2_X2APIC       (UINT32_C(1) << 4)
#define PROC2_VPID         (UINT32_C(1) << 5)
#define PROC2_WBINVD       (UINT32_C(1) << 6)
#define PROC2_UNRESTRICTED (UINT32_C(1) << 7)
#define PROC2_APIC_REGS    (UINT32_C(1) << 8)
#define PROC2_VIRTUAL_INTR (UINT32_C(1) << 9)
#define PROC2_PAUSE_LOOP   (UINT32_C(1) << 10)
#define PROC2_INVPCID      (UINT32_C(1) << 12)
#define PROC2_PML          (UINT32_C(1) << 17)
#define PROC2_XSAVES       (UINT32_C(1) << 20)

/* Exit controls, table 25-13. */
#define EXIT_SAVE_DEBUG (UINT32_C(1) << 2)
#define EXIT_HOST_64    (UINT32_C(1) << 9)
#define EXIT_ACK_INTR   (UINT32_C(1) << 15)
#define EXIT_LOAD_PAT   (UINT32_C(1) << 19)
#define EXIT_SAVE_EFER  (UINT32_C(1) << 20)
#define EXIT_LOAD_EFER  (UINT32_C(1) << 21)

/* Entry controls, table 25-15. */
#define ENTRY_LOAD_DEBUG (UINT32_C(1) << 2)
#define ENTRY_IA32E      (UINT32_C(1) << 9)
#define ENTRY_LOAD_PAT   (UINT32_C(1) << 14)
#define ENTRY_LOAD_EFER  (UINT32_C(1) << 15)

/* Entry interruption information, table 25-17; exit and IDT-vectoring information are alike. */
#define INTR_INFO_TYPE_SHIFT 8
#define INTR_INFO_HAS_ERROR  (UINT32_C(1) << 11)
#define INTR_INFO_UNBLOCKED  (UINT32_C(1) << 12) /* exit: an IRET had unblocked NMIs */
#define INTR_INFO_VALID      (UINT32_C(1) << 31)

enum vmx_intr_type {
    INTR_TYPE_EXTERNAL = 0,
    INTR_TYPE_NMI = 2,
    INTR_TYPE_EXCEPTION = 3,
    INTR_TYPE_SOFTWARE = 4,
    INTR_TYPE_PRIVILEGED = 5, /* INT1 */
    INTR_TYPE_SOFT_EXCEPTION = 6,
};

/* Interruptibility, table 25-3. */
#define BLOCKED_STI    UINT32_C(1)
#define BLOCKED_MOV_SS UINT32_C(2)
#define BLOCKED_NMI    UINT32_C(8)
#define BLOCKED_SHADOW (BLOCKED_STI | BLOCKED_MOV_SS)

/* Of the pending debug exceptions: one that is a breakpoint's is enabled. */
#define PENDING_BREAKPOINT (UINT64_C(1) << 12)

/* Access rights, table 25-2. */
#define RIGHTS_UNUSABLE (UINT32_C(1) << 16)

#define EXIT_REASON_ENTRY_FAILED (UINT32_C(1) << 31)
#define EXIT_REASON_COUNT        65

/* Basic exit reasons that code names; appendix C has all. */
enum vmx_exit_reason {
    EXIT_EXCEPTION_NMI = 0,
    EXIT_EXTERNAL_INTERRUPT = 1,
    EXIT_TRIPLE_FAULT = 2,
    EXIT_INTR_WINDOW = 7,
    EXIT_NMI_WINDOW = 8,
    EXIT_TASK_SWITCH = 9,
    EXIT_CPUID = 10,
    EXIT_GETSEC = 11,
    EXIT_HLT = 12,
    EXIT_INVD = 13,
    EXIT_RDPMC = 15,
    EXIT_VMCALL = 18,
    EXIT_VMCLEAR = 19,
    EXIT_VMXON = 27,
    EXIT_CR = 28,
    EXIT_DR = 29,
    EXIT_IO = 30,
    EXIT_RDMSR = 31,
    EXIT_WRMSR = 32,
    EXIT_GUEST_STATE = 33,
    EXIT_MSR_LOADING = 34,
    EXIT_MWAIT = 36,
    EXIT_MONITOR = 39,
    EXIT_PAUSE = 40,
    EXIT_APIC_ACCESS = 44,
    EXIT_EOI = 45,
    EXIT_EPT_VIOLATION = 48,
    EXIT_EPT_MISCONFIGURATION = 49,
    EXIT_INVEPT = 50,
    EXIT_TIMER = 52,
    EXIT_INVVPID = 53,
    EXIT_WBINVD = 54,
    EXIT_XSETBV = 55,
    EXIT_APIC_WRITE = 56,
    EXIT_VMFUNC = 59,
    EXIT_PML_FULL = 62,
    EXIT_XSAVES = 63,
    EXIT_XRSTORS = 64,
};
