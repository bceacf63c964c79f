/* See retire.h.
 *
 * Why no vCPU is missed: a retirement makes the thing unreachable, then advances the generation,
 * then sets VMM_REQ_FLUSH in every vCPU, then looks whether they have passed. A vCPU that is away
 * says so first and looks for the request then; one that comes back says so first and looks then.
 * All of these are sequentially consistent, so either the vCPU sees the request before it uses what
 * it remembers, or it is seen to be active and its passing is waited for. */
#include "core/retire.h"

#include "core/emulate.h"
#include "core/vm.h"

static void ask_to_pass(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[i];

        __atomic_or_fetch(&v->requests, VMM_REQ_FLUSH, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&v->in_guest, __ATOMIC_SEQ_CST) != 0) {
            int cpu = __atomic_load_n(&v->running_cpu, __ATOMIC_RELAXED);

            v->ops->cpu_kick(v->host, (unsigned)cpu);
        }
    }
}

/* The generation up to which every vCPU has passed. */
static uint64_t passed_by_all(struct vm *vm)
{
    uint64_t passed = UINT64_MAX;

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = vm->vcpu[i];

        if (__atomic_load_n(&v->parked, __ATOMIC_SEQ_CST) == VMM_ACTIVE) {
            uint64_t seen = __atomic_load_n(&v->passed, __ATOMIC_SEQ_CST);

            passed = seen < passed ? seen : passed;
        }
    }
    return passed;
}

/* Take what may be released off the list, and wake who waits. */
static struct vmm_retired *collect(struct vm *vm)
{
    struct vmm_memory *m = &vm->memory;
    struct vmm_retired **link = &m->retired, *ready = NULL;
    uint64_t passed;

    vm->ops->lock(vm->host, &m->lock);
    passed = passed_by_all(vm);
    if (m->waiter != NULL) {
        vm->ops->thread_wake(vm->host, m->waiter);
    }
    if (__atomic_load_n(&m->readers, __ATOMIC_SEQ_CST) != 0) {
        passed = 0;
    }
    while (*link != NULL) {
        struct vmm_retired *r = *link;

        if (r->generation > passed) {
            link = &r->next;
            continue;
        }
        __atomic_store_n(link, r->next, __ATOMIC_RELAXED);
        r->next = ready;
        ready = r;
    }
    vm->ops->unlock(vm->host, &m->lock);
    return ready;
}

static void release_list(struct vm *vm, struct vmm_retired *list)
{
    while (list != NULL) {
        struct vmm_retired *next = list->next;

        list->release(vm, list);
        list = next;
    }
}

static uint64_t begin_generation(struct vm *vm)
{
    return __atomic_add_fetch(&vm->nested.flush_generation, 1, __ATOMIC_SEQ_CST);
}

void vmm_retire(struct vm *vm, struct vmm_retired *r,
                void (*release)(struct vm *vm, struct vmm_retired *r))
{
    struct vmm_memory *m = &vm->memory;

    r->release = release;
    r->generation = begin_generation(vm);
    ask_to_pass(vm);
    vm->ops->lock(vm->host, &m->lock);
    r->next = m->retired;
    __atomic_store_n(&m->retired, r, __ATOMIC_SEQ_CST); /* vmm_reader_leave() looks without lock */
    vm->ops->unlock(vm->host, &m->lock);
    release_list(vm, collect(vm));
}

void vmm_forget_soon(struct vm *vm)
{
    begin_generation(vm);
    ask_to_pass(vm);
}

static void set_waiter(struct vm *vm, struct vmm_thread *waiter)
{
    vm->ops->lock(vm->host, &vm->memory.lock);
    vm->memory.waiter = waiter;
    vm->ops->unlock(vm->host, &vm->memory.lock);
}

void vmm_quiesce(struct vm *vm)
{
    uint64_t generation = begin_generation(vm);

    ask_to_pass(vm);
    set_waiter(vm, vm->ops->thread_current(vm->host));
    while (passed_by_all(vm) < generation) {
        vm->ops->thread_park(vm->host);
    }
    set_waiter(vm, NULL);
}

void vmm_vcpu_pass(struct vcpu *v)
{
    uint64_t generation = __atomic_load_n(&v->vm->nested.flush_generation, __ATOMIC_SEQ_CST);

    vmm_decode_flush(v);
    v->device_page = UINT64_MAX;
    v->leaf = NULL;
    v->pio.last = v->mmio.last = &vmm_no_range;
    __atomic_store_n(&v->passed, generation, __ATOMIC_SEQ_CST);
    release_list(v->vm, collect(v->vm));
}

bool vmm_vcpu_leave(struct vcpu *v, uint32_t presence)
{
    __atomic_store_n(&v->parked, presence, __ATOMIC_SEQ_CST);
    if ((__atomic_load_n(&v->requests, __ATOMIC_SEQ_CST) & VMM_REQ_FLUSH) == 0) {
        return true;
    }
    vmm_vcpu_return(v);
    return false;
}

void vmm_vcpu_return(struct vcpu *v)
{
    uint32_t requests;

    __atomic_store_n(&v->parked, VMM_ACTIVE, __ATOMIC_SEQ_CST);
    requests = __atomic_fetch_and(&v->requests, ~(uint32_t)VMM_REQ_FLUSH, __ATOMIC_SEQ_CST);
    if ((requests & VMM_REQ_FLUSH) != 0) {
        vmm_vcpu_pass(v);
    }
}

void vmm_reader_enter(struct vm *vm)
{
    __atomic_add_fetch(&vm->memory.readers, 1, __ATOMIC_SEQ_CST);
}

void vmm_reader_leave(struct vm *vm)
{
    __atomic_sub_fetch(&vm->memory.readers, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&vm->memory.retired, __ATOMIC_SEQ_CST) != NULL) {
        release_list(vm, collect(vm));
    }
}

void vmm_retired_release(struct vm *vm)
{
    struct vmm_retired *list = vm->memory.retired;

    vm->memory.retired = NULL;
    release_list(vm, list);
}
