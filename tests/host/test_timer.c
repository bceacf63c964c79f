/* Guest time and timers. */
#include "core/bus.h"
#include "core/clock.h"
#include "core/timer.h"
#include "pc.h"

#define KHZ POSIX_CYCLES_KHZ

struct probe {
    struct vmm_timer *timer[3];
    unsigned fired[3];
    uint64_t when[3];
    uint64_t again_ns; /* the callback arms its timer for now + this */
};

static void probe_fired(struct vdev *dev, void *arg)
{
    struct probe *p = vdev_state(dev);
    unsigned i = (unsigned)(uintptr_t)arg;

    p->fired[i]++;
    p->when[i] = vmm_clock_ns(vdev_vm(dev));
    if (p->again_ns != 0) {
        vmm_timer_arm(p->timer[i], p->when[i] + p->again_ns - 1);
    }
}

static int probe_create(struct vdev *dev)
{
    struct probe *p = vdev_state(dev);

    for (uintptr_t i = 0; i < 3; i++) {
        assert_int_equal(vmm_timer_create(dev, probe_fired, (void *)i, &p->timer[i]), 0);
    }
    return 0;
}

static void probe_destroy(struct vdev *dev)
{
    struct probe *p = vdev_state(dev);

    for (unsigned i = 0; i < 3; i++) {
        vmm_timer_destroy(p->timer[i]);
    }
}

static const struct vdev_class probe_class = {.name = "probe",
                                              .state_size = sizeof(struct probe),
                                              .create = probe_create,
                                              .destroy = probe_destroy};

static struct probe *make_probe(struct fixture *f)
{
    struct vdev *dev;

    assert_int_equal(vdev_create(f->vm, &probe_class, &dev), 0);
    return vdev_state(dev);
}

static void conversions_are_exact(void **state)
{
    const uint64_t year_cycles = KHZ * 1000 * 86400 * 365;

    (void)state;
    assert_int_equal(vmm_cycles_to_ns(KHZ, KHZ), 1000000);
    assert_int_equal(vmm_cycles_to_ns(KHZ * 1000 + 1, 3333333), 750000075);
    /* After a hundred years to the nanosecond. */
    assert_int_equal(vmm_cycles_to_ns(100 * year_cycles, KHZ),
                     UINT64_C(100) * 365 * 86400 * 1000000000);
    assert_int_equal(vmm_cycles_to_ns(100 * year_cycles + 5, KHZ),
                     UINT64_C(100) * 365 * 86400 * 1000000000 + 2);
    assert_int_equal(vmm_ns_to_cycles(UINT64_MAX, KHZ), UINT64_MAX); /* saturates */
    assert_int_equal(vmm_ticks_to_ns(1193182, 1193182), 1000000000);
}

/* A deadline in ns converted to cycles is the first cycle at which the clock shows it. */
static void deadlines_are_rounded_up(void **state)
{
    uint64_t ns = 1;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t khz = 1000003 + i * 3333;
        uint64_t cycles = vmm_ns_to_cycles(ns, khz);

        assert_true(vmm_cycles_to_ns(cycles, khz) >= ns);
        assert_true(cycles == 0 || vmm_cycles_to_ns(cycles - 1, khz) < ns);
        ns = ns * 1103515245 % 1000000000039 + 1;
    }
}

static void ticks_are_exact(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    uint64_t ticks = 1;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t at = vmm_ns_to_cycles(vmm_ticks_to_ns(ticks, 3579545), KHZ);

        f->vm->clock_paused_at = at; /* a clock that can be set */
        assert_int_equal(vmm_clock_ticks(f->vm, 3579545), ticks);
        f->vm->clock_paused_at = at - KHZ / 1000000 - 2; /* a nanosecond and some less */
        assert_int_equal(vmm_clock_ticks(f->vm, 3579545), ticks - 1);
        ticks += 1 + ticks / 50; /* to a year and more */
    }
    fixture_destroy(f);
}

static void timers_fire_in_order_at_their_time(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct probe *p = make_probe(f);

    (void)state;
    vmm_timer_arm(p->timer[0], 3000);
    vmm_timer_arm(p->timer[1], 1000);
    vmm_timer_arm(p->timer[2], 2000);
    pc_advance_ns(f, 999);
    assert_int_equal(p->fired[1], 0);
    pc_advance_ns(f, 1);
    assert_int_equal(p->fired[1], 1);
    assert_int_equal(p->fired[2], 0);
    pc_advance_ns(f, 5000);
    assert_int_equal(p->when[1], 1000);
    assert_int_equal(p->when[2], 2000);
    assert_int_equal(p->when[0], 3000);
    assert_int_equal(p->fired[0] + p->fired[1] + p->fired[2], 3);
    fixture_destroy(f);
}

static void arming_again_moves_and_cancel_ends(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct probe *p = make_probe(f);

    (void)state;
    vmm_timer_arm(p->timer[0], 1000);
    vmm_timer_arm(p->timer[0], 2000);
    vmm_timer_arm(p->timer[1], 1500);
    assert_true(vmm_timer_armed(p->timer[1]));
    vmm_timer_cancel(p->timer[1]);
    assert_false(vmm_timer_armed(p->timer[1]));
    pc_advance_ns(f, 1999);
    assert_int_equal(p->fired[0] + p->fired[1], 0);
    pc_advance_ns(f, 1);
    assert_int_equal(p->fired[0], 1);
    assert_false(posix_host_next_timer_ns(f->host, &(uint64_t){0}));
    fixture_destroy(f);
}

/* Where the back end ends the guest's run at the deadline: the host's timer is for sleep only. */
static void a_run_that_ends_itself_needs_no_host_timer(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct probe *p = make_probe(f);
    struct vcpu *v = f->vcpu;
    uint64_t ns;

    (void)state;
    v->ends_at_deadline = true;
    vmm_timer_arm(p->timer[0], 2000);
    assert_int_equal(v->deadline, f->vm->clock_base_cycles + vmm_ns_to_cycles(2000, KHZ));
    assert_false(posix_host_next_timer_ns(f->host, &ns));
    v->requests = 0;
    v->in_guest = 1; /* another thread's timer: it has to leave and look */
    vmm_timer_arm(p->timer[1], 1000);
    assert_int_equal(v->requests, VMM_REQ_INTR);
    v->in_guest = 0;
    v->requests = 0;

    vmm_timers_sleep(v);
    assert_true(posix_host_next_timer_ns(f->host, &ns));
    assert_int_equal(ns, 1000);
    vmm_timer_arm(p->timer[2], 500); /* for a sleeper, by the host's timer at once */
    assert_true(posix_host_next_timer_ns(f->host, &ns));
    assert_int_equal(ns, 500);
    vmm_timers_awake(v); /* for another reason */
    assert_false(posix_host_next_timer_ns(f->host, &ns));

    vmm_timers_sleep(v);
    pc_advance_ns(f, 1000);
    assert_int_equal(p->fired[1] + p->fired[2], 2);
    vmm_timers_awake(v);
    assert_int_equal(v->deadline, f->vm->clock_base_cycles + vmm_ns_to_cycles(2000, KHZ));
    vmm_timer_cancel(p->timer[0]);
    assert_int_equal(v->deadline, UINT64_MAX);
    fixture_destroy(f);
}

static void a_callback_that_arms_for_now_does_not_hold_the_loop(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct probe *p = make_probe(f);

    (void)state;
    p->again_ns = 1;
    vmm_timer_arm(p->timer[0], 0);
    vmm_timers_run(f->vcpu);
    assert_int_equal(p->fired[0], 1);
    assert_true(vmm_timer_armed(p->timer[0]));
    vmm_timer_cancel(p->timer[0]);
    fixture_destroy(f);
}

static void a_fired_host_timer_posts_a_request(void **state)
{
    struct fixture *f = fixture_create(0, 2);
    struct probe *p = make_probe(f);

    (void)state;
    vmm_timer_arm(p->timer[0], 1000);
    posix_host_advance_ns(f->host, 1000);
    assert_int_equal(p->fired[0], 0);
    assert_int_equal(f->vcpu->requests & VMM_REQ_TIMER, VMM_REQ_TIMER);
    assert_int_equal(f->vm->vcpu[1]->requests, 0);
    pc_settle(f);
    assert_int_equal(p->fired[0], 1);
    fixture_destroy(f);
}

static void run_soon_runs_once(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct probe *p = make_probe(f);

    (void)state;
    vmm_timer_arm(p->timer[0], 1000000);
    vmm_timer_run_soon(p->timer[0]);
    assert_int_equal(f->vcpu->requests & VMM_REQ_TIMER, VMM_REQ_TIMER);
    pc_settle(f);
    assert_int_equal(p->fired[0], 1);
    assert_false(posix_host_next_timer_ns(f->host, &(uint64_t){0})); /* nothing is left */
    pc_advance_ns(f, 2000000);
    assert_int_equal(p->fired[0], 1);
    fixture_destroy(f);
}

static void a_pause_stops_guest_time(void **state)
{
    struct fixture *f = fixture_create(0, 1);
    struct vm *vm = f->vm;
    struct probe *p = make_probe(f);

    (void)state;
    vmm_timer_arm(p->timer[0], 5000);
    pc_advance_ns(f, 1000);
    vm->clock_paused_at = vm->ops->cycles(vm->host);
    pc_advance_ns(f, 1000000);
    assert_int_equal(vmm_clock_ns(vm), 1000);
    assert_int_equal(p->fired[0], 0);
    vm->clock_base_cycles += vm->ops->cycles(vm->host) - vm->clock_paused_at;
    vm->clock_paused_at = 0;
    vmm_vcpu_request(f->vcpu, VMM_REQ_TIMER);
    pc_advance_ns(f, 3999);
    assert_int_equal(p->fired[0], 0);
    pc_advance_ns(f, 1);
    assert_int_equal(p->fired[0], 1);
    assert_int_equal(p->when[0], 5000);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(conversions_are_exact), cmocka_unit_test(deadlines_are_rounded_up),
             cmocka_unit_test(ticks_are_exact),
             cmocka_unit_test(timers_fire_in_order_at_their_time),
             cmocka_unit_test(arming_again_moves_and_cancel_ends),
             cmocka_unit_test(a_run_that_ends_itself_needs_no_host_timer),
             cmocka_unit_test(a_callback_that_arms_for_now_does_not_hold_the_loop),
             cmocka_unit_test(a_fired_host_timer_posts_a_request),
             cmocka_unit_test(run_soon_runs_once), cmocka_unit_test(a_pause_stops_guest_time))
