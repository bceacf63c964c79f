/* Device models: a class is a const table, an instance owns all its state.
 *
 * Threading: access, reset, save, load and timer callbacks run with the device's lock held, in a
 * vCPU's thread (exit context: no sleeping) or a control thread. A device calls downward only:
 * vmm_irq_*, vmm_timer_*, host streams. */
#pragma once

#include <vmm/types.h>

struct vm;
struct vcpu;
struct vdev;

enum vdev_space { VDEV_PIO, VDEV_MMIO };

struct vdev_access {
    uint64_t offset; /* from the start of the claimed range */
    uint64_t value;  /* written, or to be returned; reads start as all ones */
    uint8_t size;    /* bytes: 1, 2, 4 (PIO), 8 too (MMIO) */
    bool write;
    struct vcpu *vcpu; /* who does it; NULL: the host */
};

typedef void (*vdev_access_fn)(struct vdev *dev, struct vdev_access *a);

/* A byte stream for checkpoints (versioned by the class, no host pointers). Whoever makes one
 * embeds this in a struct of its own. */
struct vdev_stream {
    /* Write all of them, or read. Errors: -VMM_EIO, or what the stream's maker says. */
    int (*transfer)(struct vdev_stream *s, void *bytes, size_t count);
};

struct vdev_class {
    const char *name;
    size_t state_size;                 /* bytes of instance state, zeroed before create */
    uint32_t version;                  /* of the saved form */
    int (*create)(struct vdev *dev);   /* claim ranges; errors undo themselves through destroy */
    void (*reset)(struct vdev *dev);   /* power-on state */
    void (*destroy)(struct vdev *dev); /* its timers and streams; NULL: there are none */
    int (*save)(struct vdev *dev, struct vdev_stream *out);
    /* What it cannot hold is -VMM_EINVAL; reset() follows then. */
    int (*load)(struct vdev *dev, struct vdev_stream *in);
};

/* The instance's state, of the type its class declares. */
void *vdev_state(struct vdev *dev);
struct vm *vdev_vm(struct vdev *dev);

/* Claim a range of ports or guest-physical addresses; several per device. What nobody has claimed
 * reads as all ones. Errors: -VMM_EEXIST overlap (the log says with whom), -VMM_EINVAL it is empty
 * or wraps, -VMM_ENOMEM. */
int vdev_claim(struct vdev *dev, enum vdev_space space, uint64_t base, uint64_t length,
               vdev_access_fn fn) VMM_MUST_CHECK;

/* Interrupt lines by GSI (ISA lines 0..15 go to the PICs and, through the platform's override of
 * line 0, to the IOAPIC). Level: the line's new state. Context: any thread; takes chip locks. */
void vmm_irq_set(struct vm *vm, unsigned gsi, bool level);
void vmm_irq_pulse(struct vm *vm, unsigned gsi); /* an edge */

/* Guest time: nanoseconds since the VM's power-on, not counting pauses. */
uint64_t vmm_clock_ns(struct vm *vm);
/* UTC, nanoseconds since 1970. */
uint64_t vmm_wall_clock_ns(struct vm *vm);

/* One-shot timers in guest time. The callback runs with the device's lock held, in a vCPU's
 * thread (or the control thread that polls, in tests), and may re-arm. */
struct vmm_timer;
/* Errors: -VMM_ENOMEM. */
int vmm_timer_create(struct vdev *dev, void (*fn)(struct vdev *dev, void *arg), void *arg,
                     struct vmm_timer **out) VMM_MUST_CHECK;
void vmm_timer_arm(struct vmm_timer *t, uint64_t deadline_ns); /* absolute guest time */
void vmm_timer_cancel(struct vmm_timer *t);  /* the callback does not run after it */
void vmm_timer_destroy(struct vmm_timer *t); /* NULL: nothing */

/* What a device can ask of its machine; any thread, the device's lock may be held. Carried out when
 * the vCPUs have stopped. */
void vmm_request_power_off(struct vm *vm);
void vmm_request_reset(struct vm *vm);
void vmm_request_exit(struct vm *vm, uint32_t code); /* a power-off with a code */
