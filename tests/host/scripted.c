#include "scripted.h"

#include <stdlib.h>
#include <string.h>
#include "core/x86.h"

#define ARENA       VMM_MIB(48)
#define RAM         VMM_MIB(16)
#define SETUP_BYTES 1024 /* boot sector and one of setup */
#define IMAGE_BYTES 4096

static uint8_t kernel[SETUP_BYTES + IMAGE_BYTES];

static void put(unsigned offset, unsigned size, uint64_t value)
{
    memcpy(kernel + offset, &value, size);
}

/* The least that the Linux boot protocol asks for. */
static void make_kernel(void)
{
    put(0x1f1, 1, 1);
    put(0x1f4, 4, IMAGE_BYTES / 16);
    put(0x1fe, 2, 0xaa55);
    put(0x200, 2, 0x66eb);
    put(0x202, 4, 0x53726448);
    put(0x206, 2, 0x20f);
    put(0x211, 1, 1);
    put(0x22c, 4, 0x7fffffff);
    put(0x230, 4, 0x200000);
    put(0x234, 1, 1);
    put(0x236, 2, 0x3);
    put(0x238, 4, 2047);
    put(0x258, 8, 0x200000);
    put(0x260, 4, 0x100000);
}

struct scripted *scripted_host(unsigned vcpu_count)
{
    struct scripted *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    make_kernel();
    m->host = posix_host_create(ARENA, 4, POSIX_CLOCK_VIRTUAL);
    posix_host_ops(m->host)->xcr0_supported = X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX;
    posix_host_add_file(m->host, SCRIPTED_KERNEL, kernel, sizeof(kernel));
    assert_int_equal(vmm_create(posix_host_ops(m->host), m->host, &m->vmm, &m->err), 0);
    strcpy(m->config.name, "test");
    strcpy(m->config.kernel_path, SCRIPTED_KERNEL);
    m->config.vcpu_count = vcpu_count;
    m->config.mem_bytes = RAM;
    m->config.node = -1;
    m->config.cookie = m;
    for (unsigned i = 0; i < VMM_VCPUS_MAX; i++) {
        m->config.cpu[i] = -1;
    }
    return m;
}

struct scripted *scripted_create(unsigned vcpu_count)
{
    struct scripted *m = scripted_host(vcpu_count);

    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    m->vcpu = m->vm->vcpu[0];
    for (unsigned i = 0; i < vcpu_count; i++) {
        vmm_vcpu_reset(m->vm->vcpu[i]);
    }
    return m;
}

void scripted_destroy(struct scripted *m)
{
    if (m->vm != NULL) {
        assert_int_equal(vmm_vm_destroy(m->vm), 0);
    }
    assert_int_equal(vmm_destroy(m->vmm), 0);
    assert_int_equal(posix_host_destroy(m->host), 0);
    free(m);
}

static void follow_script(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    struct scripted *m = arg;

    if (*m->step == NULL) {
        vmm_request_power_off(v->vm);
        e->kind = VMM_EXIT_intr;
        return;
    }
    (*m->step++)(v, e);
}

void scripted_enter(struct scripted *m, mock_script_fn script, void *arg)
{
    m->vm->state = VM_RUNNING;
    m->vm->reason = VM_REASON_NONE;
    m->vm->ending = m->vm->reset_wanted = m->vm->paused = 0;
    m->vm->vcpus_running = 2;           /* it, and the end to come */
    m->vcpu->requests &= VMM_REQ_FLUSH; /* memory may have changed since */
    mock_set_script(m->vcpu, script, arg);
    vmm_vcpu_thread(m->vcpu);
}

void scripted_run(struct scripted *m, void (*const *step)(struct vcpu *v, struct vmm_exit *e))
{
    m->step = step;
    scripted_enter(m, follow_script, m);
    assert_ptr_equal(*m->step, NULL); /* all steps were taken */
}

enum vmm_action scripted_exit(struct scripted *m, struct vmm_exit *e)
{
    static const vmm_exit_handler handler_table[] = {
#define X(name) [VMM_EXIT_##name] = vmm_handle_##name,
        VMM_EXIT_LIST(X)
#undef X
    };

    m->vcpu->rip = 0x1000;
    m->vcpu->event.valid = false;
    return handler_table[e->kind](m->vcpu, e);
}

bool scripted_rdmsr(struct scripted *m, uint32_t msr, uint64_t *value)
{
    struct vmm_exit e = {.kind = VMM_EXIT_msr_read, .insn_length = 2};
    struct vcpu *v = m->vcpu;
    bool faults;

    v->gpr[VMM_RCX] = msr;
    assert_int_equal(scripted_exit(m, &e), VMM_CONTINUE);
    faults = v->event.valid;
    assert_true(!faults || v->event.vector == X86_GP);
    v->event.valid = false;
    *value = faults ? 0 : v->gpr[VMM_RDX] << 32 | v->gpr[VMM_RAX];
    return !faults;
}
