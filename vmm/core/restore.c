/* Reading a checkpoint, which may be of any origin: nothing in it is believed. See checkpoint.h. */
#include "core/checkpoint.h"
#include "core/clock.h"
#include "core/cpuid.h"
#include "core/emulate.h"
#include "core/fpu.h"
#include "core/irq.h"
#include "core/msr.h"
#include "core/vm.h"
#include "para/para.h"

#define MSR_PAT 0x277

struct reader {
    struct vm *vm;
    struct vdev_stream *in;
    struct vmm_error *err;
    struct checkpoint_record record; /* the one being read */
    uint64_t next_gpa;               /* up to here memory is as the checkpoint has it */
    unsigned added_count;            /* ROMs that the VM did not have before, */
    gpa_t added[VMM_REGIONS_MAX];    /* where they are */
};

static int refuse(struct reader *r, const char *why)
{
    return vmm_fail(r->vm->vmm, r->err, VMM_EINVAL, "%s: checkpoint: %s", r->vm->config.name, why);
}

static int get(struct reader *r, void *bytes, size_t count)
{
    int error = r->in->transfer(r->in, bytes, count);

    if (error == 0) {
        return 0;
    }
    return vmm_fail(r->vm->vmm, r->err, -error,
                    "%s: checkpoint: it ends too early, or cannot be read", r->vm->config.name);
}

/* The header of the next record. */
static int next_record(struct reader *r)
{
    int error = get(r, &r->record, sizeof(r->record));

    if (error == 0 && r->record.kind != CHECKPOINT_PAGES &&
        r->record.length > CHECKPOINT_STATE_MAX) {
        return refuse(r, "a record is too long");
    }
    return error;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* Pages between two runs are zero. */
static int clear(struct reader *reader, uint64_t from, uint64_t to)
{
    struct vm *vm = reader->vm;
    const struct vmm_region *r;
    int error = 0;

    for (unsigned i = 0; error == 0 && (r = vmm_memory_region(vm, i)) != NULL; i++) {
        uint64_t at = from > r->base.v ? from : r->base.v;
        uint64_t end = r->base.v + r->size;

        end = to < end ? to : end;
        if (at < end) {
            error = vmm_memory_zero(vm, VMM_GPA(at), end - at);
        }
    }
    return error == 0 ? 0
                      : vmm_fail(vm->vmm, reader->err, -error, "%s: checkpoint: no memory",
                                 vm->config.name);
}

static int read_run(struct reader *r, uint64_t gpa, uint64_t count)
{
    uint64_t sum = vmm_checksum(vmm_checksum_record(&r->record), &gpa, sizeof(gpa));

    for (; count > 0; count--, gpa += VMM_PAGE_SIZE) {
        void *page = vmm_memory_ptr_write(r->vm, VMM_GPA(gpa), VMM_PAGE_SIZE);
        int error;

        if (page == NULL) {
            return vmm_fail(r->vm->vmm, r->err, VMM_EINVAL,
                            "%s: checkpoint: it has memory at 0x%llx, the VM has not, or no more",
                            r->vm->config.name, (unsigned long long)gpa);
        }
        error = get(r, page, VMM_PAGE_SIZE);
        if (error != 0) {
            return error;
        }
        sum = vmm_checksum(sum, page, VMM_PAGE_SIZE);
    }
    r->next_gpa = gpa;
    return sum == r->record.sum ? 0 : refuse(r, "a wrong checksum of memory");
}

static int read_pages(struct reader *r)
{
    uint64_t gpa, bytes = r->record.length - sizeof(gpa);
    int error;

    if (r->record.length < sizeof(gpa) || bytes % VMM_PAGE_SIZE != 0 || bytes == 0 ||
        bytes > CHECKPOINT_PAGES_MAX * VMM_PAGE_SIZE) {
        return refuse(r, "a record of memory has a length that cannot be");
    }
    error = get(r, &gpa, sizeof(gpa));
    if (error != 0) {
        return error;
    }
    if (gpa % VMM_PAGE_SIZE != 0 || gpa < r->next_gpa || gpa + bytes < gpa) {
        return refuse(r, "memory is out of order");
    }
    error = clear(r, r->next_gpa, gpa);
    return error == 0 ? read_run(r, gpa, bytes / VMM_PAGE_SIZE) : error;
}

/* --- the machine ------------------------------------------------------------------------------ */

static bool has_region(const struct vm *vm, const struct saved_region *s)
{
    const struct vmm_region *r;

    for (unsigned i = 0; (r = vmm_memory_region(vm, i)) != NULL; i++) {
        if (r->base.v == s->base && r->size == s->size && (uint64_t)r->kind == s->kind) {
            return true;
        }
    }
    return false;
}

/* A firmware's ROM is made when a VM starts, so a new one does not have it yet. */
static int match_regions(struct reader *r, const struct saved_machine *m)
{
    for (unsigned i = 0; i < m->region_count; i++) {
        const struct saved_region *s = &m->region[i];

        if (has_region(r->vm, s)) {
            continue;
        }
        if (s->kind != VMM_REGION_ROM || s->size > CHECKPOINT_ROM_MAX ||
            vmm_memory_add(r->vm, VMM_GPA(s->base), s->size, VMM_REGION_ROM) != 0) {
            return refuse(r, "its memory lies elsewhere than the VM's");
        }
        r->added[r->added_count++] = VMM_GPA(s->base);
    }
    return vmm_memory_region(r->vm, m->region_count) == NULL
               ? 0
               : refuse(r, "the VM has memory that it has not");
}

static bool rates_agree(uint64_t saved, uint64_t here)
{
    uint64_t apart = saved > here ? saved - here : here - saved;

    return saved != 0 && apart <= here / CHECKPOINT_KHZ_TOLERANCE;
}

/* The guest's clock stands where it stood. */
static void set_clock(struct vm *vm, const struct saved_machine *m)
{
    uint64_t now = vm->ops->cycles(vm->host);
    uint64_t ns = vmm_cycles_to_ns(m->clock_cycles, m->cycles_khz);

    vm->clock_base_cycles = now - vmm_ns_to_cycles(ns, vm->ops->cycles_khz);
    vm->clock_paused_at = now;
    vm->tsc_offset = -vm->clock_base_cycles;
}

static int load_machine(struct reader *r, struct vmm_buffer *b)
{
    struct vm *vm = r->vm;
    struct saved_machine m;

    if (b->size != sizeof(m) || vmm_buffer_read(&b->stream, &m, sizeof(m)) != 0) {
        return refuse(r, "its description of the machine has another length");
    }
    if (m.vcpu_count != vm->vcpu_count || m.mem_bytes != vm->config.mem_bytes) {
        return vmm_fail(vm->vmm, r->err, VMM_EINVAL,
                        "%s: checkpoint: it is of %u vCPUs and %llu MiB, the VM has %u and %llu",
                        vm->config.name, m.vcpu_count, (unsigned long long)(m.mem_bytes >> 20),
                        vm->vcpu_count, (unsigned long long)(vm->config.mem_bytes >> 20));
    }
    if (m.cpuid != vmm_cpuid_fingerprint(vm->cpuid)) {
        return refuse(r, "its processor has other features");
    }
    if (!rates_agree(m.cycles_khz, vm->ops->cycles_khz)) {
        return vmm_fail(vm->vmm, r->err, VMM_EINVAL,
                        "%s: checkpoint: its TSC ran at %llu kHz, here it is %llu", vm->config.name,
                        (unsigned long long)m.cycles_khz, (unsigned long long)vm->ops->cycles_khz);
    }
    if (m.region_count > VMM_REGIONS_MAX) {
        return refuse(r, "it has too many regions of memory");
    }
    set_clock(vm, &m);
    return match_regions(r, &m);
}

/* --- devices and vCPUs ------------------------------------------------------------------------ */

static int load_devices(struct reader *r, struct vmm_buffer *b)
{
    vmm_devices_reset(r->vm);
    return vmm_devices_load(r->vm, &b->stream) == 0 && CHECKPOINT_ROUND(b->at) == b->size
               ? 0
               : refuse(r, "a device's state is of another version, or impossible");
}

static bool canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* What the processor or the host could choke on; the rest of a bad state VMRUN and VM entries
 * refuse, and then it is this VM that ends. */
static bool registers_possible(const struct vcpu *v, const struct saved_vcpu *s)
{
    uint64_t cr0 = s->sysreg[VMM_CR0];
    bool paging = (cr0 & X86_CR0_PG) != 0;

    if (cr0 >> 32 != 0 || (paging && (cr0 & X86_CR0_PE) == 0) || s->sysreg[VMM_CR8] > 15 ||
        (s->sysreg[VMM_EFER] & ~vmm_cpuid_efer_allowed(v->vm->cpuid)) != 0 ||
        (s->sysreg[VMM_DR6] | s->sysreg[VMM_DR7] | s->sysreg[VMM_MSR_SFMASK]) >> 32 != 0) {
        return false;
    }
    return canonical(s->sysreg[VMM_MSR_LSTAR]) && canonical(s->sysreg[VMM_MSR_CSTAR]) &&
           canonical(s->sysreg[VMM_MSR_KERNEL_GS_BASE]) &&
           canonical(s->sysreg[VMM_MSR_SYSENTER_ESP]) && canonical(s->sysreg[VMM_MSR_SYSENTER_EIP]);
}

static bool event_possible(const struct saved_vcpu *s)
{
    switch (s->event_type) {
    case VMM_EVENT_INTR:
        return true;
    case VMM_EVENT_NMI:
        return s->event_vector == 2;
    case VMM_EVENT_EXCEPTION:
        return s->event_vector < 32;
    default:
        return false;
    }
}

static void set_registers(struct vcpu *v, const struct saved_vcpu *s)
{
    /* Mode first: PAE's entries are read from memory when CR3 and the others are there. */
    for (unsigned i = 0; i < VMM_SYSREG_COUNT; i++) {
        v->backend->set_sysreg(v, (enum vmm_sysreg)i, s->sysreg[i]);
    }
    for (unsigned i = 0; i < VMM_SEG_COUNT; i++) {
        const struct saved_segment *from = &s->segment[i];
        const struct vmm_segment_state state = {from->selector, from->attributes, from->limit,
                                                from->base};

        v->backend->set_segment(v, (enum vmm_segment)i, &state);
    }
    __builtin_memcpy(v->gpr, s->gpr, sizeof(v->gpr));
    __builtin_memcpy(v->dr, s->dr, sizeof(v->dr));
    v->rip = s->rip;
    v->rflags = s->rflags | X86_RFLAGS_FIXED;
    if ((s->sysreg[VMM_DR7] & 0xff) != 0) { /* armed: they must be in the processor */
        v->backend->dr_acquire(v);
    }
}

static void set_rest(struct vcpu *v, const struct saved_vcpu *s)
{
    v->tsc_offset = s->tsc - v->vm->clock_paused_at;
    v->backend->set_tsc_offset(v, v->tsc_offset);
    v->tsc_adjust = s->tsc_adjust;
    v->tsc_aux = s->tsc_aux;
    v->misc_enable = s->misc_enable;
    v->mtrr_def_type = s->mtrr_def_type;
    __builtin_memcpy(v->mtrr_fixed, s->mtrr_fixed, sizeof(v->mtrr_fixed));
    __builtin_memcpy(v->mtrr_var, s->mtrr_var, sizeof(v->mtrr_var));
    vmm_vcpu_set_xcr0(v, s->xcr0);
    v->event = (struct vmm_event){.valid = s->event_valid != 0,
                                  .has_error = s->event_has_error != 0,
                                  .type = s->event_type,
                                  .vector = s->event_vector,
                                  .error = s->event_error};
    v->halted = s->halted != 0;
    v->wait_sipi = s->wait_sipi != 0;
    v->sipi_vector = s->sipi_vector;
    v->kicked = s->kicked != 0;
    v->nmi_pending = s->nmi_pending != 0;
    /* Its thread looks at everything before it enters the guest. */
    __atomic_or_fetch(&v->requests,
                      (s->requests & CHECKPOINT_REQUESTS) | VMM_REQ_EVENT | VMM_REQ_INTR,
                      __ATOMIC_SEQ_CST);
}

static int load_vcpu(struct reader *r, struct vmm_buffer *b, struct vcpu *v)
{
    struct saved_vcpu s;

    if (vmm_buffer_read(&b->stream, &s, sizeof(s)) != 0 || s.fpu_bytes != vmm_fpu_bytes(r->vm) ||
        vmm_buffer_read(&b->stream, v->fpu, s.fpu_bytes) != 0) {
        return refuse(r, "a vCPU's state has another length");
    }
    vmm_vcpu_reset(v);
    vmm_decode_flush(v); /* what it knows of the guest's memory is no longer so */
    if (!registers_possible(v, &s) || !event_possible(&s) || !vmm_fpu_valid(r->vm, v->fpu) ||
        (s.xcr0 != X86_XCR0_X87 && !vmm_xcr0_valid(v, s.xcr0)) ||
        !vmm_msr_write(v, MSR_PAT, s.sysreg[VMM_MSR_PAT])) {
        return refuse(r, "a vCPU's registers have impossible values");
    }
    set_registers(v, &s);
    set_rest(v, &s);
    if (vmm_para_load(v, &b->stream) != 0 || CHECKPOINT_ROUND(b->at) != b->size) {
        return refuse(r, "a vCPU's paravirtual state is impossible");
    }
    vlapic_tsc_changed(v); /* its deadline is a value of the TSC that is back only now */
    return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int load_state(struct reader *r, struct vmm_buffer *b, enum checkpoint_kind kind,
                      unsigned index)
{
    int error = r->in->transfer(r->in, b->bytes, b->size);

    if (error != 0) {
        return refuse(r, "it ends too early, or cannot be read");
    }
    if (vmm_checksum(vmm_checksum_record(&r->record), b->bytes, b->size) != r->record.sum) {
        return refuse(r, "a wrong checksum");
    }
    switch (kind) {
    case CHECKPOINT_MACHINE:
        return load_machine(r, b);
    case CHECKPOINT_DEVICES:
        return load_devices(r, b);
    case CHECKPOINT_VCPU:
        return load_vcpu(r, b, r->vm->vcpu[index]);
    default:
        return 0;
    }
}

/* A record that must be this one, and whose header has been read. */
static int expect(struct reader *r, enum checkpoint_kind kind, unsigned index)
{
    struct vmm_buffer b = {.stream.transfer = vmm_buffer_read, .size = r->record.length};
    int error;

    if (r->record.kind != (uint32_t)kind || r->record.index != index) {
        return refuse(r, "its parts are not in order");
    }
    b.bytes = vmm_vm_alloc(r->vm, b.size + 1);
    if (b.bytes == NULL) {
        return vmm_fail(r->vm->vmm, r->err, VMM_ENOMEM, "%s: checkpoint: out of memory",
                        r->vm->config.name);
    }
    error = load_state(r, &b, kind, index);
    vmm_vm_free(r->vm, b.bytes, b.size + 1);
    return error;
}

static int read_next(struct reader *r, enum checkpoint_kind kind, unsigned index)
{
    int error = next_record(r);

    return error == 0 ? expect(r, kind, index) : error;
}

static int read_header(struct reader *r)
{
    struct checkpoint_header h;
    int error = get(r, &h, sizeof(h));

    if (error == 0 && h.magic != CHECKPOINT_MAGIC) {
        return refuse(r, "this is none");
    }
    if (error == 0 && h.version != CHECKPOINT_VERSION) {
        return vmm_fail(r->vm->vmm, r->err, VMM_EINVAL,
                        "%s: checkpoint: it has version %u, this library reads %u",
                        r->vm->config.name, h.version, CHECKPOINT_VERSION);
    }
    return error;
}

static int read_memory(struct reader *r)
{
    int error = next_record(r);

    while (error == 0 && r->record.kind == CHECKPOINT_PAGES) {
        error = read_pages(r);
        if (error == 0) {
            error = next_record(r);
        }
    }
    if (error == 0) {
        error = clear(r, r->next_gpa, UINT64_MAX);
    }
    return error;
}

static int read_all(struct reader *r)
{
    int error = read_header(r);

    if (error == 0) {
        error = read_next(r, CHECKPOINT_MACHINE, 0);
    }
    if (error == 0) {
        error = read_memory(r);
    }
    if (error == 0) {
        error = expect(r, CHECKPOINT_DEVICES, 0);
    }
    for (unsigned i = 0; error == 0 && i < r->vm->vcpu_count; i++) {
        error = read_next(r, CHECKPOINT_VCPU, i);
    }
    return error == 0 ? read_next(r, CHECKPOINT_END, 0) : error;
}

/* Of one that is refused no memory stays behind: the next would be of another machine. */
int vmm_checkpoint_read(struct vm *vm, struct vdev_stream *in, struct vmm_error *err)
{
    struct reader r = {.vm = vm, .in = in, .err = err};
    int error = read_all(&r);

    for (unsigned i = 0; error != 0 && i < r.added_count; i++) {
        (void)!vmm_memory_remove(vm, r.added[i]); /* without memory for that it stays */
    }
    return error;
}
