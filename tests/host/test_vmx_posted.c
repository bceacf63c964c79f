/* Posted interrupts of VMX: the descriptor, who is told, what comes back. The processor's part is
 * played. */
#include "core/irq.h"
#include "core/lapic_page.h"
#include "pc.h"
#include "vmx/vmx.h"

static unsigned posted_to, posts;
static struct fixture *f;
static struct vmx_vcpu x;
static struct vmx_posted d;
static struct vmm_host_ops ops;

static void cpu_post(void *host, unsigned cpu)
{
    (void)host;
    posted_to = cpu;
    posts++;
}

static void arrive(uint8_t vector)
{
    struct vlapic *a = vlapic_of(f->vcpu);

    __atomic_or_fetch(&a->irr[vector / 64], UINT64_C(1) << vector % 64, __ATOMIC_SEQ_CST);
}

/* A vCPU of VMX that is in the guest on CPU 3, and vector 0x41 arrives. */
static int setup(void **state)
{
    (void)state;
    f = pc_create(1);
    fixture_mmio_write(f, PLATFORM_LAPIC_BASE + 0xf0, 4, 0x1ff);
    ops = *f->vcpu->ops;
    ops.cpu_post = cpu_post;
    f->vcpu->ops = &ops;
    d = (struct vmx_posted){.control = 0};
    x = (struct vmx_vcpu){.posted = &d, .apicv = true};
    f->vcpu->requests = 0;
    f->vcpu->in_guest = 1;
    f->vcpu->running_cpu = 3;
    posts = 0;
    arrive(0x41);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

/* The back end's own state stands for the mock's while a function of VMX runs. */
static bool post(void)
{
    void *mock = f->vcpu->arch;
    bool done;

    f->vcpu->arch = &x;
    done = vmx_posted_post(f->vcpu);
    f->vcpu->arch = mock;
    return done;
}

static void requests_go_to_the_descriptor(void **state)
{
    (void)state;
    assert_true(post());
    assert_int_equal(d.requests[1], UINT64_C(1) << 1);
    assert_int_equal(d.control, 1);
    assert_int_equal(posts, 1);
    assert_int_equal(posted_to, 3);
    assert_false(vlapic_requested(vlapic_of(f->vcpu)));
    arrive(0x42); /* the first is still outstanding: no second notification */
    assert_true(post());
    assert_int_equal(d.requests[1], UINT64_C(3) << 1);
    assert_int_equal(posts, 1);
    f->vcpu->in_guest = 0;
    vmx_posted_collect(f->vcpu, &d); /* it leaves before the processor took them */
    assert_int_equal(d.control, 0);
    assert_int_equal(d.requests[1], 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x42);
    assert_int_equal(f->vcpu->requests, VMM_REQ_INTR);
}

static void one_who_has_left_gets_them_as_requests(void **state)
{
    (void)state;
    f->vcpu->in_guest = 0;
    assert_true(post());
    assert_int_equal(d.control, 0);
    assert_int_equal(vmm_irq_pending(f->vcpu), 0x41);
    assert_int_equal(f->vcpu->requests, VMM_REQ_INTR);
}

static void some_requests_want_an_exit(void **state)
{
    (void)state;
    f->vcpu->requests = VMM_REQ_NMI;
    assert_false(post());
    f->vcpu->requests = 0;
    vlapic_of(f->vcpu)->tmr[1] = UINT64_C(1) << 1; /* level: its EOI has to exit */
    assert_false(post());
    vlapic_of(f->vcpu)->tmr[1] = 0;
    x.apicv = false; /* its LAPIC is off */
    assert_false(post());
    x.apicv = true;
    x.posted = NULL; /* no such processor */
    assert_false(post());
    assert_int_equal(posts, 0);
    assert_true(vlapic_test(vlapic_of(f->vcpu)->irr, 0x41));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_go_to_the_descriptor),
        TEST(one_who_has_left_gets_them_as_requests),
        TEST(some_requests_want_an_exit),
    };

    return cmocka_run_group_tests_name("vmx_posted", tests, NULL, NULL);
}
