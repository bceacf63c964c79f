/* The virtual machine control block. Spec: AMD APM vol. 2 appendix B, tables B-1 and B-2; clean
 * bits: section 15.15.3.
 *
 * One line per field: name, offset, type, clean bit. It yields the member at its offset, the getter
 * vmcb_<name>() and the setter vmcb_set_<name>(), which cannot forget the clean bit. */
#pragma once

#include <vmm/types.h>

/* Clean bits: set, the processor may use what it cached of these fields at the last VMRUN. */
enum vmcb_clean {
    VMCB_CLEAN_INTERCEPTS = 1 << 0, /* and TSC offset */
    VMCB_CLEAN_IOPM = 1 << 1,       /* both permission maps' addresses */
    VMCB_CLEAN_ASID = 1 << 2,
    VMCB_CLEAN_TPR = 1 << 3, /* V_TPR, V_IRQ and what belongs to them */
    VMCB_CLEAN_NP = 1 << 4,  /* nCR3, gPAT */
    VMCB_CLEAN_CR = 1 << 5,  /* CR0, CR3, CR4, EFER */
    VMCB_CLEAN_DR = 1 << 6,
    VMCB_CLEAN_DT = 1 << 7,  /* GDT, IDT */
    VMCB_CLEAN_SEG = 1 << 8, /* CS, DS, SS, ES, CPL */
    VMCB_CLEAN_CR2 = 1 << 9,
    VMCB_CLEAN_ALL = 0x3ff,
    VMCB_CLEAN_NONE = 0, /* read from memory at every VMRUN or VMLOAD */
};

struct vmcb_segment {
    uint16_t selector;
    uint16_t attributes;
    uint32_t limit;
    uint64_t base;
};

#define VMCB_FIELDS(F)                                                                             \
    F(intercept_cr, 0x000, uint32_t, INTERCEPTS) /* reads in the low half, writes in the high */   \
    F(intercept_dr, 0x004, uint32_t, INTERCEPTS)                                                   \
    F(intercept_exceptions, 0x008, uint32_t, INTERCEPTS)                                           \
    F(intercept_misc1, 0x00c, uint32_t, INTERCEPTS)                                                \
    F(intercept_misc2, 0x010, uint32_t, INTERCEPTS)                                                \
    F(iopm_base, 0x040, uint64_t, IOPM)                                                            \
    F(msrpm_base, 0x048, uint64_t, IOPM)                                                           \
    F(tsc_offset, 0x050, uint64_t, INTERCEPTS)                                                     \
    F(asid, 0x058, uint32_t, ASID)                                                                 \
    F(tlb_control, 0x05c, uint32_t, NONE)                                                          \
    F(v_intr, 0x060, uint64_t, TPR)                                                                \
    F(int_shadow, 0x068, uint64_t, NONE)                                                           \
    F(exit_code, 0x070, uint64_t, NONE)                                                            \
    F(exit_info1, 0x078, uint64_t, NONE)                                                           \
    F(exit_info2, 0x080, uint64_t, NONE)                                                           \
    F(exit_int_info, 0x088, uint64_t, NONE)                                                        \
    F(np_control, 0x090, uint64_t, NP)                                                             \
    F(event_inj, 0x0a8, uint64_t, NONE)                                                            \
    F(n_cr3, 0x0b0, uint64_t, NP)                                                                  \
    F(clean, 0x0c0, uint32_t, NONE)                                                                \
    F(next_rip, 0x0c8, uint64_t, NONE)                                                             \
    F(insn_count, 0x0d0, uint8_t, NONE)                                                            \
    F(es, 0x400, struct vmcb_segment, SEG)                                                         \
    F(cs, 0x410, struct vmcb_segment, SEG)                                                         \
    F(ss, 0x420, struct vmcb_segment, SEG)                                                         \
    F(ds, 0x430, struct vmcb_segment, SEG)                                                         \
    F(fs, 0x440, struct vmcb_segment, NONE)                                                        \
    F(gs, 0x450, struct vmcb_segment, NONE)                                                        \
    F(gdtr, 0x460, struct vmcb_segment, DT)                                                        \
    F(ldtr, 0x470, struct vmcb_segment, NONE)                                                      \
    F(idtr, 0x480, struct vmcb_segment, DT)                                                        \
    F(tr, 0x490, struct vmcb_segment, NONE)                                                        \
    F(cpl, 0x4cb, uint8_t, SEG)                                                                    \
    F(efer, 0x4d0, uint64_t, CR)                                                                   \
    F(cr4, 0x548, uint64_t, CR)                                                                    \
    F(cr3, 0x550, uint64_t, CR)                                                                    \
    F(cr0, 0x558, uint64_t, CR)                                                                    \
    F(dr7, 0x560, uint64_t, DR)                                                                    \
    F(dr6, 0x568, uint64_t, DR)                                                                    \
    F(rflags, 0x570, uint64_t, NONE)                                                               \
    F(rip, 0x578, uint64_t, NONE)                                                                  \
    F(rsp, 0x5d8, uint64_t, NONE)                                                                  \
    F(rax, 0x5f8, uint64_t, NONE)                                                                  \
    F(star, 0x600, uint64_t, NONE)                                                                 \
    F(lstar, 0x608, uint64_t, NONE)                                                                \
    F(cstar, 0x610, uint64_t, NONE)                                                                \
    F(sfmask, 0x618, uint64_t, NONE)                                                               \
    F(kernel_gs_base, 0x620, uint64_t, NONE)                                                       \
    F(sysenter_cs, 0x628, uint64_t, NONE)                                                          \
    F(sysenter_esp, 0x630, uint64_t, NONE)                                                         \
    F(sysenter_eip, 0x638, uint64_t, NONE)                                                         \
    F(cr2, 0x640, uint64_t, CR2)                                                                   \
    F(g_pat, 0x668, uint64_t, NP)

/* Every member is reached through a struct of its own that pads it to its offset. */
struct vmcb {
    union {
        uint8_t bytes[4096];
        struct {
            uint8_t pad_insn_bytes[0x0d1];
            uint8_t insn_bytes[15]; /* decode assists */
        } __attribute__((packed));
#define F(name, offset, type, clean_bit)                                                           \
    struct {                                                                                       \
        uint8_t pad_##name[offset];                                                                \
        type name;                                                                                 \
    } __attribute__((packed));
        VMCB_FIELDS(F)
#undef F
    };
};

_Static_assert(sizeof(struct vmcb) == 4096, "a VMCB is one page");

#define F(name, offset, type, clean_bit)                                                           \
    _Static_assert(offsetof(struct vmcb, name) == (offset), #name);                                \
    static inline type vmcb_##name(const struct vmcb *b)                                           \
    {                                                                                              \
        return b->name;                                                                            \
    }                                                                                              \
    static inline void vmcb_set_##name(struct vmcb *b, type value)                                 \
    {                                                                                              \
        b->name = value;                                                                           \
        if (VMCB_CLEAN_##clean_bit != VMCB_CLEAN_NONE) {                                           \
            b->clean &= ~(uint32_t)VMCB_CLEAN_##clean_bit;                                         \
        }                                                                                          \
    }
VMCB_FIELDS(F)
#undef F

/* intercept_cr, intercept_dr: bit n reads, bit 16 + n writes. */
#define VMCB_READ(n)  (UINT32_C(1) << (n))
#define VMCB_WRITE(n) (UINT32_C(1) << (16 + (n)))

/* intercept_misc1 */
#define VMCB_INTR      (UINT32_C(1) << 0)
#define VMCB_NMI       (UINT32_C(1) << 1)
#define VMCB_VINTR     (UINT32_C(1) << 4)
#define VMCB_RDPMC     (UINT32_C(1) << 15)
#define VMCB_CPUID     (UINT32_C(1) << 18)
#define VMCB_IRET      (UINT32_C(1) << 20)
#define VMCB_INVD      (UINT32_C(1) << 22)
#define VMCB_HLT       (UINT32_C(1) << 24)
#define VMCB_INVLPGA   (UINT32_C(1) << 26)
#define VMCB_IOIO_PROT (UINT32_C(1) << 27)
#define VMCB_MSR_PROT  (UINT32_C(1) << 28)
#define VMCB_SHUTDOWN  (UINT32_C(1) << 31)

/* intercept_misc2 */
#define VMCB_VMRUN       (UINT32_C(1) << 0)
#define VMCB_VMMCALL     (UINT32_C(1) << 1)
#define VMCB_VMLOAD      (UINT32_C(1) << 2)
#define VMCB_VMSAVE      (UINT32_C(1) << 3)
#define VMCB_STGI        (UINT32_C(1) << 4)
#define VMCB_CLGI        (UINT32_C(1) << 5)
#define VMCB_SKINIT      (UINT32_C(1) << 6)
#define VMCB_WBINVD      (UINT32_C(1) << 9)
#define VMCB_MONITOR     (UINT32_C(1) << 10)
#define VMCB_MWAIT       (UINT32_C(1) << 11)
#define VMCB_MWAIT_ARMED (UINT32_C(1) << 12)
#define VMCB_XSETBV      (UINT32_C(1) << 13)
#define VMCB_RDPRU       (UINT32_C(1) << 14)

/* tlb_control */
#define VMCB_TLB_KEEP       0
#define VMCB_TLB_FLUSH_ALL  1
#define VMCB_TLB_FLUSH_ASID 3 /* with FlushByAsid */

/* v_intr */
#define VMCB_V_TPR          UINT64_C(0xf)
#define VMCB_V_IRQ          (UINT64_C(1) << 8)
#define VMCB_V_PRIO_HIGHEST (UINT64_C(15) << 16)
#define VMCB_V_IGN_TPR      (UINT64_C(1) << 20)
#define VMCB_V_INTR_MASKING (UINT64_C(1) << 24)

/* event_inj, exit_int_info */
#define VMCB_EVENT_TYPE_SHIFT 8
#define VMCB_EVENT_SOFTWARE   4 /* type: INTn */
#define VMCB_EVENT_HAS_ERROR  (UINT64_C(1) << 11)
#define VMCB_EVENT_VALID      (UINT64_C(1) << 31)

/* exit_code: appendix C */
enum vmcb_exit {
    VMCB_EXIT_CR_READ = 0x00,
    VMCB_EXIT_CR_WRITE = 0x10,
    VMCB_EXIT_DR_READ = 0x20,
    VMCB_EXIT_DR_WRITE = 0x30,
    VMCB_EXIT_EXCEPTION = 0x40,
    VMCB_EXIT_INTR = 0x60,
    VMCB_EXIT_NMI = 0x61,
    VMCB_EXIT_VINTR = 0x64,
    VMCB_EXIT_RDPMC = 0x6f,
    VMCB_EXIT_CPUID = 0x72,
    VMCB_EXIT_IRET = 0x74,
    VMCB_EXIT_INVD = 0x76,
    VMCB_EXIT_HLT = 0x78,
    VMCB_EXIT_INVLPGA = 0x7a,
    VMCB_EXIT_IOIO = 0x7b,
    VMCB_EXIT_MSR = 0x7c,
    VMCB_EXIT_SHUTDOWN = 0x7f,
    VMCB_EXIT_VMRUN = 0x80,
    VMCB_EXIT_VMMCALL = 0x81,
    VMCB_EXIT_VMLOAD = 0x82,
    VMCB_EXIT_VMSAVE = 0x83,
    VMCB_EXIT_STGI = 0x84,
    VMCB_EXIT_CLGI = 0x85,
    VMCB_EXIT_SKINIT = 0x86,
    VMCB_EXIT_WBINVD = 0x89,
    VMCB_EXIT_MONITOR = 0x8a,
    VMCB_EXIT_MWAIT = 0x8b,
    VMCB_EXIT_MWAIT_ARMED = 0x8c,
    VMCB_EXIT_XSETBV = 0x8d,
    VMCB_EXIT_RDPRU = 0x8e,
    VMCB_EXIT_TABLE_END = 0x90,
    VMCB_EXIT_NPF = 0x400,
};
#define VMCB_EXIT_INVALID UINT32_MAX /* compare the low 32 bits: some report no more */
