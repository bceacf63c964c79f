/* A VM's life: every transition of its state is in this file.
 *
 *   CREATED --start--> RUNNING <--pause/resume--> PAUSED
 *                         |  stop, power-off: STOPPED; triple fault and the like: CRASHED
 *   STOPPED, CRASHED --start--> RUNNING
 *   CREATED, STOPPED, CRASHED --restore--> PAUSED
 *
 * The vCPU threads exist from start until the next start or destroy, and end by themselves when
 * the VM ends. Whatever needs all of them to stand still happens at the gate. */
#include "core/vm.h"

#include "core/checkpoint.h"
#include "core/fpu.h"
#include "load/load.h"

static uint32_t load(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store(uint32_t *p, uint32_t value)
{
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);
}

/* --- the gate --------------------------------------------------------------------------------- */

static void wake_threads(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpu[i]->thread != NULL) {
            vm->ops->thread_wake(vm->host, vm->vcpu[i]->thread);
        }
    }
}

static void wake_waiter(struct vm *vm)
{
    vm->ops->lock(vm->host, &vm->control);
    if (vm->gate_waiter != NULL) {
        vm->ops->thread_wake(vm->host, vm->gate_waiter);
    }
    vm->ops->unlock(vm->host, &vm->control);
}

static void set_waiter(struct vm *vm, struct vmm_thread *waiter)
{
    vm->ops->lock(vm->host, &vm->control);
    vm->gate_waiter = waiter;
    vm->ops->unlock(vm->host, &vm->control);
}

/* Have all vCPU threads look at what is asked for: those in the guest, in HLT and at the gate. */
static void call_to_gate(struct vm *vm, uint32_t request)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vmm_vcpu_request(vm->vcpu[i], request);
    }
    wake_threads(vm);
}

static void set_state(struct vm *vm, enum vm_state state)
{
    store(&vm->state, state);
    vm->ops->vm_event(vm->host, vm->config.cookie, (int)state, (int)vmm_vm_reason(vm));
}

/* The first reason counts. False: it was not the first. */
static bool request_end(struct vm *vm, enum vm_reason reason)
{
    uint32_t none = VM_REASON_NONE;
    bool first = __atomic_compare_exchange_n(&vm->reason, &none, reason, false, __ATOMIC_SEQ_CST,
                                             __ATOMIC_SEQ_CST);

    store(&vm->ending, 1);
    call_to_gate(vm, VMM_REQ_STOP);
    return first;
}

/* Guest time and the guests' TSC begin at zero, where they stand while the VM is paused. */
static int power_on(struct vm *vm, struct vmm_error *err)
{
    vm->clock_base_cycles = vm->ops->cycles(vm->host);
    vm->clock_paused_at = vmm_vm_state(vm) == VM_PAUSED ? vm->clock_base_cycles : 0;
    vm->tsc_offset = -vm->clock_base_cycles;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vmm_vcpu_reset(vm->vcpu[i]);
    }
    vmm_devices_reset(vm);
    return vmm_load(vm, err);
}

/* A guest that does nothing else does not fill the log: a line a second says how many. */
static void log_reset(struct vm *vm)
{
    uint64_t now = vm->ops->cycles(vm->host);

    vm->resets_unsaid++;
    if (now < vm->reset_said_next) {
        return;
    }
    if (vm->resets_unsaid == 1) {
        vmm_vm_log(vm, VMM_LOG_INFO, "reset");
    } else {
        vmm_vm_log(vm, VMM_LOG_INFO, "reset, %u times", vm->resets_unsaid);
    }
    vm->resets_unsaid = 0;
    vm->reset_said_next = now + vm->ops->cycles_khz * 1000;
}

/* By vCPU 0's thread, all others being at the gate. RAM keeps its contents, as a PC's does. */
static void carry_out_reset(struct vm *vm)
{
    struct vmm_error err;

    log_reset(vm);
    if (power_on(vm, &err) != 0) {
        vmm_vm_log(vm, VMM_LOG_ERROR, "the guest cannot be loaded again: %s", err.text);
        request_end(vm, VM_REASON_HOST_ERROR);
    }
    store(&vm->reset_wanted, 0);
    wake_threads(vm);
    wake_waiter(vm);
}

static void come_to_gate(struct vm *vm)
{
    if (__atomic_add_fetch(&vm->vcpus_at_gate, 1, __ATOMIC_SEQ_CST) == vm->vcpu_count) {
        vm->ops->thread_wake(vm->host, vm->vcpu[0]->thread);
        wake_waiter(vm);
    }
}

static bool is_open(const struct vm *vm)
{
    return load(&vm->reset_wanted) == 0 && load(&vm->paused) == 0;
}

/* Who closes the gate does so first and counts then; who leaves, the other way round. So nobody
 * goes on whom the other takes to stand here. False: it has been closed again. */
static bool leave_gate(struct vm *vm)
{
    __atomic_sub_fetch(&vm->vcpus_at_gate, 1, __ATOMIC_SEQ_CST);
    if (!is_open(vm)) {
        come_to_gate(vm);
        return false;
    }
    return true;
}

bool vmm_vm_gate(struct vcpu *v)
{
    struct vm *vm = v->vm;

    come_to_gate(vm);
    while (load(&vm->ending) == 0) {
        if (load(&v->fpu_job) != VMM_FPU_IDLE) {
            vmm_fpu_carry_out(v);
            wake_waiter(vm);
            continue;
        }
        if (load(&vm->reset_wanted) != 0 && v->id == 0 &&
            load(&vm->vcpus_at_gate) == vm->vcpu_count) {
            carry_out_reset(vm);
            continue;
        }
        if (is_open(vm)) {
            if (!leave_gate(vm)) {
                continue;
            }
            /* A reset may have changed it, and only the thread itself can. */
            vm->ops->thread_set_xcr0(vm->host, v->xcr0);
            return true;
        }
        if (vmm_vcpu_leave(v, VMM_AWAY)) {
            vm->ops->thread_park(vm->host);
            vmm_vcpu_return(v);
        }
    }
    __atomic_sub_fetch(&vm->vcpus_at_gate, 1, __ATOMIC_SEQ_CST);
    return false;
}

void vmm_vm_thread_done(struct vcpu *v)
{
    struct vm *vm = v->vm;
    enum vm_reason reason;
    enum vm_state state;

    while (!vmm_vcpu_leave(v, VMM_AWAY)) {
    }
    if (__atomic_sub_fetch(&vm->vcpus_running, 1, __ATOMIC_SEQ_CST) != 1) {
        return;
    }
    reason = vmm_vm_reason(vm);
    state = reason == VM_REASON_POWER_OFF || reason == VM_REASON_EXIT || reason == VM_REASON_STOPPED
                ? VM_STOPPED
                : VM_CRASHED;
    vm->clock_paused_at = vm->ops->cycles(vm->host);
    vmm_vm_log(vm, VMM_LOG_DEBUG, "%s: %s", vmm_state_name(state), vmm_reason_name(reason));
    set_state(vm, state);
    store(&vm->vcpus_running, 0);
    wake_waiter(vm);
}

/* --- what the guest and its handlers ask for -------------------------------------------------- */

bool vmm_vm_end(struct vcpu *v, int reason)
{
    return request_end(v->vm, (enum vm_reason)reason);
}

void vmm_request_power_off(struct vm *vm)
{
    request_end(vm, VM_REASON_POWER_OFF);
}

/* The first code counts, as the first reason does: the write before the exchange that decides. */
void vmm_request_exit(struct vm *vm, uint32_t code)
{
    if (load(&vm->ending) == 0) {
        store(&vm->exit_code, code);
        request_end(vm, VM_REASON_EXIT);
    }
}

void vmm_request_reset(struct vm *vm)
{
    if (__atomic_exchange_n(&vm->reset_wanted, 1, __ATOMIC_SEQ_CST) == 0) {
        call_to_gate(vm, VMM_REQ_PAUSE);
    }
}

/* --- control ---------------------------------------------------------------------------------- */

static bool all_at_gate(struct vm *vm)
{
    return load(&vm->vcpus_at_gate) == vm->vcpu_count && load(&vm->reset_wanted) == 0;
}

static bool all_fpu_done(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (load(&vm->vcpu[i]->fpu_job) != VMM_FPU_IDLE) {
            return false;
        }
    }
    return true;
}

static bool all_done(struct vm *vm)
{
    return load(&vm->vcpus_running) == 0;
}

/* Sleep until it is so, or all vCPU threads have ended. */
static void wait_for(struct vm *vm, bool (*condition)(struct vm *vm))
{
    set_waiter(vm, vm->ops->thread_current(vm->host));
    while (!condition(vm) && !all_done(vm)) {
        vm->ops->thread_park(vm->host);
    }
    set_waiter(vm, NULL); /* after this nobody wakes a thread that may be gone */
}

static bool alive(struct vm *vm)
{
    enum vm_state state = vmm_vm_state(vm);

    return state == VM_RUNNING || state == VM_PAUSED;
}

static void join_threads(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[i];

        if (v->thread != NULL) {
            int error = vm->ops->thread_join(vm->host, v->thread);

            vmm_assert(vm->vmm, error == 0);
            v->thread = NULL;
        }
    }
}

/* The threads come to the gate first and wait there until all of them exist. */
static int create_threads(struct vm *vm, struct vmm_error *err)
{
    char name[VMM_NAME_MAX + 8];

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[i];
        int error;

        vmm_format(vm->vmm, name, sizeof(name), "%s/%u", vm->config.name, i);
        /* What a reset or a checkpoint left of the guest's own requests stays. */
        __atomic_and_fetch(&v->requests, ~(uint32_t)VMM_REQ_STOP, __ATOMIC_SEQ_CST);
        __atomic_or_fetch(&v->requests, VMM_REQ_PAUSE, __ATOMIC_SEQ_CST);
        error = vm->ops->thread_create(vm->host, name, v->cpu, vmm_vcpu_thread, v, &v->thread);
        if (error != 0) {
            v->thread = NULL;
            return vmm_fail(vm->vmm, err, -error, "%s: no thread for vCPU %u", vm->config.name, i);
        }
    }
    store(&vm->vcpus_running, vm->vcpu_count + 1);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        int error = vm->ops->thread_run(vm->host, vm->vcpu[i]->thread);
        vmm_assert(vm->vmm, error == 0); /* it is new */
    }
    return 0;
}

int vmm_vm_start(struct vm *vm, struct vmm_error *err)
{
    int error;

    vmm_control_enter(vm);
    if (alive(vm)) {
        return vmm_control_leave(vm, vmm_fail(vm->vmm, err, VMM_EBUSY, "%s: it is %s already",
                                              vm->config.name, vmm_state_name(vmm_vm_state(vm))));
    }
    join_threads(vm);
    store(&vm->ending, 0);
    store(&vm->reset_wanted, 0);
    store(&vm->paused, 1);
    error = power_on(vm, err);
    if (error == 0) {
        error = create_threads(vm, err);
    }
    if (error != 0) {
        join_threads(vm);
        return vmm_control_leave(vm, error);
    }
    store(&vm->reason, VM_REASON_NONE);
    set_state(vm, VM_RUNNING);
    vmm_vm_go_on(vm);
    return vmm_control_leave(vm, 0);
}

int vmm_vm_add_device(struct vm *vm, const struct vdev_class *cls, struct vdev **out)
{
    struct vdev *dev;
    int error;

    vmm_control_enter(vm);
    error = alive(vm) ? -VMM_EBUSY : vdev_create(vm, cls, &dev);
    if (error == 0) {
        vm->ops->lock(vm->host, &dev->lock);
        cls->reset(dev);
        vm->ops->unlock(vm->host, &dev->lock);
        *out = dev;
    }
    return vmm_control_leave(vm, error);
}

/* From here to resume_locked() a control call has its turn. */
bool vmm_vm_hold(struct vm *vm)
{
    if (vmm_vm_state(vm) != VM_RUNNING) {
        return false;
    }
    store(&vm->paused, 1);
    call_to_gate(vm, VMM_REQ_PAUSE);
    wait_for(vm, all_at_gate);
    return !all_done(vm);
}

void vmm_vm_go_on(struct vm *vm)
{
    store(&vm->paused, 0);
    wake_threads(vm);
}

static int pause_locked(struct vm *vm)
{
    if (!vmm_vm_hold(vm)) {
        return -VMM_EINVAL;
    }
    vm->clock_paused_at = vm->ops->cycles(vm->host);
    set_state(vm, VM_PAUSED);
    return 0;
}

/* Neither the guest's clock nor its TSC has seen the pause. */
static int resume_locked(struct vm *vm)
{
    uint64_t pause;

    if (vmm_vm_state(vm) != VM_PAUSED) {
        return -VMM_EINVAL;
    }
    pause = vm->ops->cycles(vm->host) - vm->clock_paused_at;
    vm->clock_base_cycles += pause;
    vm->clock_paused_at = 0;
    vm->tsc_offset -= pause;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[i];

        v->tsc_offset -= pause;
        v->backend->set_tsc_offset(v, v->tsc_offset);
        vmm_vcpu_request(v, VMM_REQ_TIMER);
    }
    set_state(vm, VM_RUNNING);
    vmm_vm_go_on(vm);
    return 0;
}

int vmm_vm_pause(struct vm *vm)
{
    vmm_control_enter(vm);
    return vmm_control_leave(vm, pause_locked(vm));
}

int vmm_vm_resume(struct vm *vm)
{
    vmm_control_enter(vm);
    return vmm_control_leave(vm, resume_locked(vm));
}

/* Have every vCPU's thread, which is at the gate, move its extended state. */
static void fpu_job(struct vm *vm, enum vmm_fpu_job job)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        store(&vm->vcpu[i]->fpu_job, job);
    }
    wake_threads(vm);
    wait_for(vm, all_fpu_done);
}

static int checkpoint_paused(struct vm *vm, struct vdev_stream *out, struct vmm_error *err)
{
    int error = vmm_fpu_alloc(vm);

    if (error != 0) {
        return vmm_fail(vm->vmm, err, -error, "%s: no memory for a checkpoint", vm->config.name);
    }
    fpu_job(vm, VMM_FPU_SAVE);
    error = vmm_checkpoint_write(vm, out, err);
    vmm_fpu_free(vm);
    return error;
}

int vmm_vm_checkpoint(struct vm *vm, struct vdev_stream *out, struct vmm_error *err)
{
    bool was_running;
    int error;

    vmm_control_enter(vm);
    was_running = vmm_vm_state(vm) == VM_RUNNING;
    if ((was_running && pause_locked(vm) != 0) || vmm_vm_state(vm) != VM_PAUSED) {
        return vmm_control_leave(vm, vmm_fail(vm->vmm, err, VMM_EINVAL,
                                              "%s: it is %s, there is nothing to write",
                                              vm->config.name, vmm_state_name(vmm_vm_state(vm))));
    }
    error = checkpoint_paused(vm, out, err);
    if (was_running) {
        int resumed = resume_locked(vm);

        vmm_assert(vm->vmm, resumed == 0); /* nobody else had a turn */
    }
    return vmm_control_leave(vm, error);
}

static int restore_stopped(struct vm *vm, struct vdev_stream *in, struct vmm_error *err)
{
    int error;

    store(&vm->ending, 0);
    store(&vm->reset_wanted, 0);
    store(&vm->paused, 1);
    error = vmm_checkpoint_read(vm, in, err);
    if (error == 0) {
        error = create_threads(vm, err);
    }
    if (error != 0) {
        join_threads(vm);
        return error;
    }
    store(&vm->reason, VM_REASON_NONE);
    fpu_job(vm, VMM_FPU_LOAD);
    set_state(vm, VM_PAUSED);
    return 0;
}

int vmm_vm_restore(struct vm *vm, struct vdev_stream *in, struct vmm_error *err)
{
    int error;

    vmm_control_enter(vm);
    if (alive(vm)) {
        return vmm_control_leave(vm,
                                 vmm_fail(vm->vmm, err, VMM_EBUSY, "%s: it is %s, stop it first",
                                          vm->config.name, vmm_state_name(vmm_vm_state(vm))));
    }
    join_threads(vm);
    error = vmm_fpu_alloc(vm);
    if (error != 0) {
        return vmm_control_leave(
            vm, vmm_fail(vm->vmm, err, -error, "%s: no memory for a restore", vm->config.name));
    }
    error = restore_stopped(vm, in, err);
    vmm_fpu_free(vm);
    return vmm_control_leave(vm, error);
}

int vmm_vm_reset(struct vm *vm)
{
    vmm_control_enter(vm);
    if (!alive(vm)) {
        return vmm_control_leave(vm, -VMM_EINVAL);
    }
    vmm_request_reset(vm);
    if (vmm_vm_state(vm) == VM_PAUSED) {
        wait_for(vm, all_at_gate); /* or the next control call would find it half done */
    }
    return vmm_control_leave(vm, 0);
}

int vmm_vm_inject_nmi(struct vm *vm, unsigned vcpu)
{
    vmm_control_enter(vm);
    if (!alive(vm) || vcpu >= vm->vcpu_count) {
        return vmm_control_leave(vm, -VMM_EINVAL);
    }
    vmm_vcpu_request(vm->vcpu[vcpu], VMM_REQ_NMI);
    return vmm_control_leave(vm, 0);
}

int vmm_vm_stop(struct vm *vm)
{
    vmm_control_enter(vm);
    if (!alive(vm)) {
        return vmm_control_leave(vm, -VMM_EINVAL);
    }
    request_end(vm, VM_REASON_STOPPED);
    wait_for(vm, all_done);
    return vmm_control_leave(vm, 0);
}

int vmm_vm_kill(struct vm *vm)
{
    int error = vmm_vm_stop(vm);

    /* -VMM_EINVAL: there was nothing to stop, or it has just ended by itself. */
    return error == 0 || error == -VMM_EINVAL ? vmm_vm_destroy(vm) : error;
}

/* The devices go first: after that no timer and no stream can wake a vCPU's thread. */
int vmm_vm_destroy(struct vm *vm)
{
    vmm_control_enter(vm);
    if (alive(vm)) {
        return vmm_control_leave(vm, -VMM_EBUSY);
    }
    vmm_list_remove(vm);
    vmm_devices_destroy(vm);
    join_threads(vm);
    vmm_vm_release(vm);
    return 0;
}
