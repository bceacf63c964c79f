/* Whose turn it is to control a VM: one call at a time, in the order they came. They sleep, so the
 * lock only guards the turn. */
#include "core/vm.h"

/* On the stack of a thread whose turn has not come. */
struct vmm_control_waiter {
    struct vmm_control_waiter *next;
    struct vmm_thread *thread;
    bool mine; /* it has come */
};

/* False: it waits in the queue for who has the turn now. */
static bool take_turn(struct vm *vm, struct vmm_control_waiter *w)
{
    struct vmm_control_waiter **link = &vm->control_queue;

    vm->ops->lock(vm->host, &vm->control);
    w->mine = !vm->control_busy;
    vm->control_busy = true;
    while (!w->mine && *link != NULL) {
        link = &(*link)->next;
    }
    if (!w->mine) {
        *link = w;
    }
    vm->ops->unlock(vm->host, &vm->control);
    return w->mine;
}

static bool turn_has_come(struct vm *vm, const struct vmm_control_waiter *w)
{
    bool mine;

    vm->ops->lock(vm->host, &vm->control);
    mine = w->mine;
    vm->ops->unlock(vm->host, &vm->control);
    return mine;
}

void vmm_control_enter(struct vm *vm)
{
    struct vmm_control_waiter w = {.thread = vm->ops->thread_current(vm->host)};

    if (!take_turn(vm, &w)) {
        while (!turn_has_come(vm, &w)) {
            vm->ops->thread_park(vm->host);
        }
    }
    vmm_reader_enter(vm);
}

int vmm_control_leave(struct vm *vm, int result)
{
    struct vmm_control_waiter *next;

    vmm_reader_leave(vm);
    vm->ops->lock(vm->host, &vm->control);
    next = vm->control_queue;
    if (next != NULL) {
        vm->control_queue = next->next;
        next->mine = true;
        vm->ops->thread_wake(vm->host, next->thread); /* it cannot be gone before the unlock */
    } else {
        vm->control_busy = false;
    }
    vm->ops->unlock(vm->host, &vm->control);
    return result;
}
