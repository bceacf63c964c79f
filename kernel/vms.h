/* The node's virtual machines: the library's one instance and the VMs made from manifests.
 *
 * Threading: thread context. Whoever uses a struct vm holds the lock from the look-up to the end,
 * so that nobody destroys it meanwhile. */
#pragma once

#include <vmm/vm.h>
#include "base/types.h"

/* Switch hardware virtualisation on; says in the log what there is, or why there is none. */
void vms_init(void);
struct vmm *vms_instance(void); /* NULL: no hardware virtualisation */
const char *vms_why_none(void); /* one line, when there is no instance */

void vms_lock(void);
void vms_unlock(void);

/* Lock held; the calling thread owns FPU state (the manifest's numbers are doubles).
 * On failure err has one line that names the file and the reason. Errors: the library's. */
int vms_create(const char *manifest, struct vm **out, struct vmm_error *err) NK_MUST_CHECK;
int vms_destroy(struct vm *vm) NK_MUST_CHECK; /* -VMM_EBUSY while it is running or paused */
int vms_kill(struct vm *vm) NK_MUST_CHECK;    /* stops it first if need be */

/* The boot module that it was made from; valid as long as the VM. */
const char *vms_manifest(const struct vm *vm);

/* Create and start a VM for every boot module vms/<name>.json, in their order, and bring the last
 * one's console to the front. What fails is one line in the log. */
void vms_autostart(void);

/* Take note of VMs that end: log it, give the console back, power the node off when its
 * manifest says so. May be called with the lock held.
 * vms_events_wait() blocks until there may be something to note. */
void vms_handle_events(void);
void vms_events_wait(void);
