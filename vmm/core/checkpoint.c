/* Writing a checkpoint. See checkpoint.h. */
#include "core/checkpoint.h"

#include "core/clock.h"
#include "core/cpuid.h"
#include "core/fpu.h"
#include "core/vm.h"
#include "para/para.h"

#define SUM_SEED   UINT64_C(0x6f7274686f636f6e)
#define SUM_FACTOR UINT64_C(0x9e3779b97f4a7c15)

/* Each step maps old sums one to one to new ones, so that one wrong word cannot go unseen. */
uint64_t vmm_checksum(uint64_t sum, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;

    while (count > 0) {
        size_t part = count < sizeof(uint64_t) ? count : sizeof(uint64_t);
        uint64_t word = 0;

        __builtin_memcpy(&word, at, part);
        sum = (sum ^ word) * SUM_FACTOR;
        sum ^= sum >> 32;
        at += part;
        count -= part;
    }
    return sum;
}

uint64_t vmm_checksum_record(const struct checkpoint_record *r)
{
    return vmm_checksum(SUM_SEED, r, offsetof(struct checkpoint_record, sum));
}

int vmm_buffer_write(struct vdev_stream *s, void *bytes, size_t count)
{
    struct vmm_buffer *b = VMM_CONTAINER_OF(s, struct vmm_buffer, stream);

    if (b->bytes != NULL) {
        if (count > b->size - b->at) {
            return -VMM_EIO;
        }
        __builtin_memcpy(b->bytes + b->at, bytes, count);
    }
    b->at += count;
    return 0;
}

int vmm_buffer_read(struct vdev_stream *s, void *bytes, size_t count)
{
    struct vmm_buffer *b = VMM_CONTAINER_OF(s, struct vmm_buffer, stream);

    if (count > b->size - b->at) {
        return -VMM_EIO;
    }
    __builtin_memcpy(bytes, b->bytes + b->at, count);
    b->at += count;
    return 0;
}

static int put(struct vdev_stream *out, const void *bytes, size_t count)
{
    return out->transfer(out, (void *)bytes, count); /* a writer only reads it */
}

static int put_record(struct vdev_stream *out, enum checkpoint_kind kind, uint32_t index,
                      const void *payload, uint64_t length)
{
    struct checkpoint_record r = {.kind = kind, .index = index, .length = length};
    int error;

    r.sum = vmm_checksum(vmm_checksum_record(&r), payload, length);
    error = put(out, &r, sizeof(r));
    return error != 0 || length == 0 ? error : put(out, payload, length);
}

/* --- memory ----------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *page)
{
    const uint64_t *word = (const uint64_t *)page;

    for (unsigned i = 0; i < VMM_PAGE_SIZE / sizeof(*word); i++) {
        if (word[i] != 0) {
            return false;
        }
    }
    return true;
}

static int put_run(struct vdev_stream *out, uint64_t gpa, const uint8_t *pages, uint64_t bytes)
{
    struct checkpoint_record r = {.kind = CHECKPOINT_PAGES, .length = sizeof(gpa) + bytes};
    int error;

    r.sum = vmm_checksum(vmm_checksum_record(&r), &gpa, sizeof(gpa));
    r.sum = vmm_checksum(r.sum, pages, bytes);
    error = put(out, &r, sizeof(r));
    if (error == 0) {
        error = put(out, &gpa, sizeof(gpa));
    }
    return error == 0 ? put(out, pages, bytes) : error;
}

/* Contiguous pages of the host: runs of those that are not zero. */
static int put_pages(struct vdev_stream *out, uint64_t gpa, const uint8_t *pages, uint64_t bytes)
{
    uint64_t at = 0;
    int error = 0;

    while (error == 0 && at < bytes) {
        uint64_t end = at;

        while (end < bytes && end - at < CHECKPOINT_PAGES_MAX * VMM_PAGE_SIZE &&
               !is_zero(pages + end)) {
            end += VMM_PAGE_SIZE;
        }
        if (end > at) {
            error = put_run(out, gpa + at, pages + at, end - at);
        } else {
            end += VMM_PAGE_SIZE;
        }
        at = end;
    }
    return error;
}

static int put_region(struct vm *vm, struct vdev_stream *out, const struct vmm_region *r)
{
    uint64_t at = 0;
    int error = 0;

    while (error == 0 && at < r->size) {
        uint64_t part;
        const uint8_t *pages = vmm_memory_backed(vm, VMM_GPA(r->base.v + at), &part, &error);

        part = part < r->size - at ? part : r->size - at;
        if (pages != NULL) {
            error = put_pages(out, r->base.v + at, pages, part);
        }
        at += part;
    }
    return error;
}

static int put_memory(struct vm *vm, struct vdev_stream *out)
{
    const struct vmm_region *r;
    int error = 0;

    for (unsigned i = 0; error == 0 && (r = vmm_memory_region(vm, i)) != NULL; i++) {
        error = put_region(vm, out, r);
    }
    return error;
}

/* --- state ------------------------------------------------------------------------------------ */

static int put_machine(struct vm *vm, struct vdev_stream *out)
{
    struct saved_machine m = {
        .vcpu_count = vm->vcpu_count,
        .mem_bytes = vm->config.mem_bytes,
        .cpuid = vmm_cpuid_fingerprint(vm->cpuid),
        .cycles_khz = vm->ops->cycles_khz,
        .clock_cycles = vmm_clock_cycles(vm),
    };
    const struct vmm_region *r;

    for (; (r = vmm_memory_region(vm, m.region_count)) != NULL; m.region_count++) {
        m.region[m.region_count] = (struct saved_region){r->base.v, r->size, r->kind};
    }
    return put_record(out, CHECKPOINT_MACHINE, 0, &m, sizeof(m));
}

static void fill_registers(struct vcpu *v, struct saved_vcpu *s)
{
    __builtin_memcpy(s->gpr, v->gpr, sizeof(s->gpr));
    __builtin_memcpy(s->dr, v->dr, sizeof(s->dr));
    __builtin_memcpy(s->mtrr_fixed, v->mtrr_fixed, sizeof(s->mtrr_fixed));
    __builtin_memcpy(s->mtrr_var, v->mtrr_var, sizeof(s->mtrr_var));
    for (unsigned i = 0; i < VMM_SYSREG_COUNT; i++) {
        s->sysreg[i] = v->backend->get_sysreg(v, (enum vmm_sysreg)i);
    }
    for (unsigned i = 0; i < VMM_SEG_COUNT; i++) {
        struct vmm_segment_state state;

        v->backend->get_segment(v, (enum vmm_segment)i, &state);
        s->segment[i] =
            (struct saved_segment){state.base, state.limit, state.selector, state.attributes};
    }
}

static void fill_vcpu(struct vcpu *v, struct saved_vcpu *s)
{
    *s = (struct saved_vcpu){
        .rip = v->rip,
        .rflags = v->rflags,
        .tsc = v->vm->clock_paused_at + v->tsc_offset,
        .tsc_adjust = v->tsc_adjust,
        .misc_enable = v->misc_enable,
        .mtrr_def_type = v->mtrr_def_type,
        .xcr0 = v->xcr0,
        .tsc_aux = v->tsc_aux,
        .fpu_bytes = vmm_fpu_bytes(v->vm),
        .requests = __atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) & CHECKPOINT_REQUESTS,
        .event_valid = v->event.valid,
        .event_has_error = v->event.has_error,
        .event_type = v->event.type,
        .event_vector = v->event.vector,
        .event_error = v->event.error,
        .halted = v->halted != 0,
        .wait_sipi = v->wait_sipi,
        .sipi_vector = v->sipi_vector,
        .kicked = v->kicked,
        .nmi_pending = v->nmi_pending,
    };
    fill_registers(v, s);
}

static int save_vcpu(struct vm *vm, struct vdev_stream *out, uint32_t index)
{
    struct vcpu *v = vm->vcpu[index];
    struct saved_vcpu s;
    int error;

    v->backend->withdraw_event(v);
    fill_vcpu(v, &s);
    error = put(out, &s, sizeof(s));
    if (error == 0) {
        error = put(out, v->fpu, s.fpu_bytes);
    }
    return error == 0 ? vmm_para_save(v, out) : error;
}

static int save_devices(struct vm *vm, struct vdev_stream *out, uint32_t index)
{
    (void)index;
    return vmm_devices_save(vm, out);
}

/* By way of memory: the stream may sleep, which devices, asked under their locks, may not. */
static int put_state(struct vm *vm, struct vdev_stream *out, enum checkpoint_kind kind,
                     uint32_t index,
                     int (*save)(struct vm *vm, struct vdev_stream *out, uint32_t index))
{
    struct vmm_buffer b = {.stream.transfer = vmm_buffer_write};
    int error = save(vm, &b.stream, index);

    if (error != 0) {
        return error;
    }
    b.size = CHECKPOINT_ROUND(b.at);
    b.at = 0;
    b.bytes = vmm_vm_alloc(vm, b.size);
    if (b.bytes == NULL) {
        return -VMM_ENOMEM;
    }
    error = save(vm, &b.stream, index);
    if (error == 0) {
        error = put_record(out, kind, index, b.bytes, b.size);
    }
    vmm_vm_free(vm, b.bytes, b.size);
    return error;
}

int vmm_checkpoint_write(struct vm *vm, struct vdev_stream *out, struct vmm_error *err)
{
    const struct checkpoint_header h = {.magic = CHECKPOINT_MAGIC, .version = CHECKPOINT_VERSION};
    int error = put(out, &h, sizeof(h));

    if (error == 0) {
        error = put_machine(vm, out);
    }
    if (error == 0) {
        error = put_memory(vm, out);
    }
    if (error == 0) {
        error = put_state(vm, out, CHECKPOINT_DEVICES, 0, save_devices);
    }
    for (unsigned i = 0; error == 0 && i < vm->vcpu_count; i++) {
        error = put_state(vm, out, CHECKPOINT_VCPU, i, save_vcpu);
    }
    if (error == 0) {
        error = put_record(out, CHECKPOINT_END, 0, NULL, 0);
    }
    if (error != 0) {
        return vmm_fail(vm->vmm, err, -error, "%s: the checkpoint cannot be written: %s",
                        vm->config.name,
                        error == -VMM_ENOSPC   ? "no space for it"
                        : error == -VMM_ENOMEM ? "out of memory"
                                               : "its stream fails");
    }
    return 0;
}
