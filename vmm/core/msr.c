/* MSR policy. See msr.h. */
#include "core/msr.h"

#include "core/cpuid.h"
#include "core/irq.h"
#include "core/vm.h"
#include "core/x86.h"
#include "para/para.h"

#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_COUNT 0x100

#define MISC_ENABLE_RESET UINT64_C(1) /* fast strings */
#define HWCR_TSC_FREQ_SEL (UINT64_C(1) << 24)
#define DE_CFG_LFENCE     (UINT64_C(1) << 1)
#define VM_CR_LOCK_SVMDIS UINT64_C(0x18)
#define MTRR_CAP          UINT64_C(0x508) /* 8 variable, fixed ranges, write combining */
#define MTRR_DEF_ENABLED  UINT64_C(0x800)
#define MTRR_DEF_FIXED    UINT64_C(0x400)
#define MTRR_WB           6

struct row;
typedef bool (*read_fn)(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value);
typedef bool (*write_fn)(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value);

struct row {
    uint32_t first, count;
    read_fn read;   /* NULL: #GP */
    write_fn write; /* NULL: #GP */
    uint64_t value; /* for read_constant */
};

static bool read_constant(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)v;
    (void)msr;
    *value = row->value;
    return true;
}

/* Real hardware has a use for it that a guest has not. */
static bool write_ignored(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)v;
    (void)row;
    (void)msr;
    (void)value;
    return true;
}

static bool read_tsc(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = v->ops->cycles(v->host) + v->tsc_offset;
    return true;
}

static void move_tsc(struct vcpu *v, uint64_t delta)
{
    v->tsc_adjust += delta;
    v->tsc_offset += delta;
    v->backend->set_tsc_offset(v, v->tsc_offset);
    vlapic_tsc_changed(v);
    vmm_para_tsc_changed(v);
}

static bool write_tsc(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    move_tsc(v, value - (v->ops->cycles(v->host) + v->tsc_offset));
    return true;
}

static bool read_tsc_adjust(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = v->tsc_adjust;
    return true;
}

static bool write_tsc_adjust(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    if (value != v->tsc_adjust) {
        move_tsc(v, value - v->tsc_adjust);
    }
    return true;
}

static bool read_tsc_aux(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = v->tsc_aux;
    return true;
}

static bool write_tsc_aux(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    if (value > UINT32_MAX) {
        return false;
    }
    v->tsc_aux = (uint32_t)value;
    return true;
}

static bool read_apic_base(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = vlapic_base_read(v);
    return true;
}

static bool write_apic_base(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    return vlapic_base_write(v, value);
}

static bool read_deadline(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = vlapic_deadline_read(v);
    return true;
}

static bool write_deadline(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    vlapic_deadline_write(v, value);
    return true;
}

static bool read_x2apic(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    return vlapic_msr_read(v, msr, value);
}

static bool write_x2apic(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    return vlapic_msr_write(v, msr, value);
}

static bool read_para(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    return vmm_para_msr_read(v, msr, value);
}

static bool write_para(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    return vmm_para_msr_write(v, msr, &value);
}

static bool read_efer(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = v->backend->get_sysreg(v, VMM_EFER);
    return true;
}

/* APM vol. 2 section 3.1.7: LME may not change under paging; LMA follows LME and PG alone. */
static bool write_efer(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    uint64_t old = v->backend->get_sysreg(v, VMM_EFER);

    (void)row;
    (void)msr;
    if ((value & ~vmm_cpuid_efer_allowed(v->vm->cpuid)) != 0) {
        return false;
    }
    if (((value ^ old) & X86_EFER_LME) != 0 &&
        (v->backend->get_sysreg(v, VMM_CR0) & X86_CR0_PG) != 0) {
        return false;
    }
    v->backend->set_sysreg(v, VMM_EFER, (value & ~X86_EFER_LMA) | (old & X86_EFER_LMA));
    return true;
}

/* Memory types of PAT and MTRR: UC, WC, WT, WP, WB; PAT alone has UC- (7). */
static bool memory_type_valid(uint8_t type, bool pat)
{
    return type <= 1 || (type >= 4 && type <= (pat ? 7 : 6));
}

static bool read_pat(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = v->backend->get_sysreg(v, VMM_MSR_PAT);
    return true;
}

static bool write_pat(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!memory_type_valid((uint8_t)(value >> shift), true)) {
            return false;
        }
    }
    v->backend->set_sysreg(v, VMM_MSR_PAT, value);
    return true;
}

/* MTRRs are kept for the guest to read back; nested paging decides the memory types. */
static uint64_t *mtrr_fixed(struct vcpu *v, uint32_t msr)
{
    switch (msr) {
    case 0x250:
        return &v->mtrr_fixed[0];
    case 0x258:
    case 0x259:
        return &v->mtrr_fixed[1 + msr - 0x258];
    default:
        return &v->mtrr_fixed[3 + msr - 0x268];
    }
}

static bool read_mtrr_fixed(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    *value = *mtrr_fixed(v, msr);
    return true;
}

static bool write_mtrr_fixed(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!memory_type_valid((uint8_t)(value >> shift), false)) {
            return false;
        }
    }
    *mtrr_fixed(v, msr) = value;
    return true;
}

static bool read_mtrr_variable(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    *value = v->mtrr_var[msr - row->first];
    return true;
}

static bool write_mtrr_variable(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    bool is_base = (msr & 1) == 0;

    if (is_base && !memory_type_valid((uint8_t)value, false)) {
        return false;
    }
    v->mtrr_var[msr - row->first] = value;
    return true;
}

static bool read_mtrr_default(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = v->mtrr_def_type;
    return true;
}

static bool write_mtrr_default(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    if ((value & ~(MTRR_DEF_ENABLED | MTRR_DEF_FIXED | 0xff)) != 0 ||
        !memory_type_valid((uint8_t)value, false)) {
        return false;
    }
    v->mtrr_def_type = value;
    return true;
}

static bool read_misc_enable(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = v->misc_enable;
    return true;
}

static bool write_misc_enable(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    v->misc_enable = value;
    return true;
}

/* No branch records or single-step on branches: only "all off" is a value. */
static bool write_debugctl(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)v;
    (void)row;
    (void)msr;
    return value == 0;
}

/* No supervisor states: XSAVES finds what XSAVEC finds. */
static bool read_xss(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t *value)
{
    (void)row;
    (void)msr;
    *value = 0;
    return vmm_cpuid_has_xsaves(v->vm->cpuid);
}

static bool write_xss(struct vcpu *v, const struct row *row, uint32_t msr, uint64_t value)
{
    (void)row;
    (void)msr;
    return value == 0 && vmm_cpuid_has_xsaves(v->vm->cpuid);
}

/* Sorted: a binary search finds what the index of low numbers does not have. */
static const struct row row_table[] = {
    {0, 1, NULL, NULL, 0}, /* stands for all that are not here */
    {0x10, 1, read_tsc, write_tsc, 0},
    {0x1b, 1, read_apic_base, write_apic_base, 0},
    {0x3b, 1, read_tsc_adjust, write_tsc_adjust, 0},
    {0x79, 1, NULL, write_ignored, 0},          /* BIOS_UPDT_TRIG */
    {0x8b, 1, read_constant, write_ignored, 0}, /* PATCH_LEVEL, BIOS_SIGN_ID */
    {0xce, 1, read_constant, NULL, 0},          /* PLATFORM_INFO */
    {0xfe, 1, read_constant, NULL, MTRR_CAP},
    {0x179, 1, read_constant, NULL, 0},          /* MCG_CAP: no banks */
    {0x17a, 1, read_constant, write_ignored, 0}, /* MCG_STATUS */
    {0x1a0, 1, read_misc_enable, write_misc_enable, 0},
    {0x1d9, 1, read_constant, write_debugctl, 0}, /* DEBUGCTL */
    {0x1db, 4, read_constant, write_ignored, 0},  /* last branch and exception records */
    {0x200, 16, read_mtrr_variable, write_mtrr_variable, 0},
    {0x250, 1, read_mtrr_fixed, write_mtrr_fixed, 0},
    {0x258, 2, read_mtrr_fixed, write_mtrr_fixed, 0},
    {0x268, 8, read_mtrr_fixed, write_mtrr_fixed, 0},
    {0x277, 1, read_pat, write_pat, 0},
    {0x2ff, 1, read_mtrr_default, write_mtrr_default, 0},
    {0x6e0, 1, read_deadline, write_deadline, 0},
    {MSR_X2APIC_FIRST, MSR_X2APIC_COUNT, read_x2apic, write_x2apic, 0},
    {0xda0, 1, read_xss, write_xss, 0},
    {VMM_PARA_MSR_FIRST, VMM_PARA_MSR_COUNT, read_para, write_para, 0},
    {0xc0000080, 1, read_efer, write_efer, 0},
    {0xc0000103, 1, read_tsc_aux, write_tsc_aux, 0},
    {0xc0010000, 8, read_constant, write_ignored, 0}, /* PERF_CTL0 .., PERF_CTR0 ..: idle */
    {0xc0010010, 1, read_constant, write_ignored, 0}, /* SYSCFG */
    {0xc0010015, 1, read_constant, write_ignored, HWCR_TSC_FREQ_SEL}, /* HWCR */
    {0xc001001a, 1, read_constant, write_ignored, 0},                 /* TOP_MEM */
    {0xc001001d, 1, read_constant, write_ignored, 0},                 /* TOP_MEM2 */
    {0xc001001f, 2, read_constant, write_ignored, 0},                 /* NB_CFG, PATCH_LOADER */
    {0xc0010055, 1, read_constant, write_ignored, 0},                 /* INT_PENDING */
    {0xc0010058, 1, read_constant, write_ignored, 0},                 /* MMIO_CONF_BASE */
    {0xc0010112, 2, read_constant, write_ignored, 0},                 /* SMM_ADDR, SMM_MASK */
    {0xc0010114, 1, read_constant, NULL, VM_CR_LOCK_SVMDIS},
    {0xc0011020, 9, read_constant, write_ignored, 0},             /* LS_CFG, IC_CFG, DC_CFG .. */
    {0xc0011029, 1, read_constant, write_ignored, DE_CFG_LFENCE}, /* DE_CFG */
    {0xc001102a, 3, read_constant, write_ignored, 0},             /* BU_CFG2 .. */
};

void vmm_msr_reset(struct vcpu *v)
{
    v->misc_enable = MISC_ENABLE_RESET;
    v->mtrr_def_type = MTRR_DEF_ENABLED | MTRR_WB;
    __builtin_memset(v->mtrr_fixed, MTRR_WB, sizeof(v->mtrr_fixed));
    __builtin_memset(v->mtrr_var, 0, sizeof(v->mtrr_var));
}

static const struct row *row_search(uint32_t msr)
{
    unsigned low = 0;
    unsigned high = VMM_ARRAY_COUNT(row_table);

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct row *row = &row_table[middle];

        if (msr < row->first) {
            high = middle;
        } else if (msr - row->first >= row->count) {
            low = middle + 1;
        } else {
            return row;
        }
    }
    return &row_table[0];
}

void vmm_msr_create(struct vmm *vmm)
{
    for (uint32_t msr = 0; msr < VMM_MSR_INDEX_COUNT; msr++) {
        vmm->msr_index[msr] = (uint8_t)(row_search(msr) - row_table);
    }
}

/* The LAPIC's, the TSC's and the deadline are what guests use all the time. */
static const struct row *row_find(const struct vcpu *v, uint32_t msr)
{
    return vmm_likely(msr < VMM_MSR_INDEX_COUNT) ? &row_table[v->vm->vmm->msr_index[msr]]
                                                 : row_search(msr);
}

/* Guests probe; one line for each MSR is enough. */
static void note_once(struct vcpu *v, enum vmm_log_level level, const char *what, uint32_t msr,
                      const char *outcome)
{
    uint32_t hash = (msr ^ msr >> 8) & 0xff;
    uint64_t bit = UINT64_C(1) << (hash & 63);

    if ((__atomic_fetch_or(&v->vm->warned_msrs[hash >> 6], bit, __ATOMIC_RELAXED) & bit) == 0) {
        vmm_vm_log(v->vm, level, "vCPU %u: %s of MSR 0x%x %s at rip 0x%llx", v->id, what, msr,
                   outcome, (unsigned long long)v->rip);
    }
}

/* False: #GP. Unknown MSRs may be ignored, what a known one refuses is refused. */
static __attribute__((noinline)) bool pass_unknown(struct vcpu *v, const struct row *row,
                                                   const char *what, uint32_t msr)
{
    if (row == &row_table[0] && v->vm->config.ignore_unknown_msrs) {
        note_once(v, VMM_LOG_INFO, what, msr, "ignored");
        return true;
    }
    note_once(v, VMM_LOG_DEBUG, what, msr, "refused");
    return false;
}

static inline bool read_msr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct row *row = row_find(v, msr);

    *value = 0;
    return (vmm_likely(row->read != NULL) && vmm_likely(row->read(v, row, msr, value))) ||
           pass_unknown(v, row, "read", msr);
}

static inline bool write_msr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    const struct row *row = row_find(v, msr);

    return (vmm_likely(row->write != NULL) && vmm_likely(row->write(v, row, msr, value))) ||
           pass_unknown(v, row, "write", msr);
}

bool vmm_msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    return write_msr(v, msr, value);
}

enum vmm_action vmm_handle_msr_read(struct vcpu *v, struct vmm_exit *e)
{
    uint64_t value;

    if (!read_msr(v, (uint32_t)v->gpr[VMM_RCX], &value)) {
        vmm_inject_exception(v, X86_GP, true, 0);
        return VMM_CONTINUE;
    }
    if (vmm_skip_instruction(v, e)) {
        v->gpr[VMM_RAX] = (uint32_t)value;
        v->gpr[VMM_RDX] = value >> 32;
    }
    return VMM_CONTINUE;
}

enum vmm_action vmm_handle_msr_write(struct vcpu *v, struct vmm_exit *e)
{
    uint64_t value = v->gpr[VMM_RDX] << 32 | (uint32_t)v->gpr[VMM_RAX];

    if (!write_msr(v, (uint32_t)v->gpr[VMM_RCX], value)) {
        vmm_inject_exception(v, X86_GP, true, 0);
        return VMM_CONTINUE;
    }
    vmm_skip_instruction(v, e);
    return VMM_CONTINUE;
}
