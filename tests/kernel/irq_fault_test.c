/* Lines that misbehave, and handlers in threads; the device is QEMU's "edu". */
#include "base/percpu.h"
#include "kernel/irq.h"
#include "kernel/time.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/edu.h"
#include "tests/kernel/ktest.h"

#include <string.h>

static struct edu edu;
static struct nk_mutex mutex;
static volatile unsigned depth_in_thread;

static bool threaded(void *arg)
{
    depth_in_thread = this_cpu->irq_depth + nk_preempt_depth();
    nk_mutex_lock(&mutex); /* it may block */
    bool handled = edu_interrupt(arg);
    nk_mutex_unlock(&mutex);
    return handled;
}

static void check_thread(unsigned kind)
{
    struct nk_irq_thread *t;
    edu.count = 0;
    ASSERT_EQ(pci_irq_open(edu.f, 1, kind), 0);
    ASSERT_EQ(nk_irq_attach_thread(&t, edu.f->irq[0], "edu", threaded, &edu), 0);
    for (unsigned i = 1; i <= 20; i++) {
        edu_write(&edu, EDU_IRQ_RAISE, 1);
        ASSERT(edu_comes(&edu, i));
        EXPECT_EQ(depth_in_thread, 0);
    }
    nk_mutex_lock(&mutex);
    edu_write(&edu, EDU_IRQ_RAISE, 1);
    nk_thread_sleep_ns(10000000); /* the line is up meanwhile and does not hold the CPU */
    EXPECT_EQ(edu.count, 20);
    nk_mutex_unlock(&mutex);
    EXPECT(edu_comes(&edu, 21));
    nk_irq_detach_thread(t);
    pci_irq_close(edu.f);
}

KTEST(irq_thread)
{
    KTEST_SKIP_UNLESS(edu_open(&edu), "needs -device edu");
    nk_mutex_init(&mutex);
    check_thread(PCI_IRQ_INTX);
    check_thread(PCI_IRQ_MSI);
}

/* Reads until the line is masked, or some seconds have passed. */
static bool gets_masked(unsigned irq, struct nk_irq_info *info)
{
    uint64_t end = nk_now_ns() + UINT64_C(20000000000);
    do {
        nk_thread_sleep_ns(1000000);
    } while (nk_irq_get_info(irq, info) && !info->masked && nk_now_ns() < end);
    return info->masked;
}

KTEST(irq_unhandled)
{
    KTEST_SKIP_UNLESS(edu_open(&edu), "needs -device edu");
    struct nk_irq_info info;
    ASSERT_EQ(pci_irq_open(edu.f, 1, PCI_IRQ_INTX), 0);
    unsigned irq = edu.f->irq[0];
    ASSERT_EQ(nk_irq_attach(irq, "edu", edu_interrupt, &edu), 0);
    edu.acknowledges = edu.claims = false;
    edu_write(&edu, EDU_IRQ_RAISE, 1);
    EXPECT(gets_masked(irq, &info));
    EXPECT_GE(info.unhandled, 10000);
    EXPECT(info.reason != NULL);
    unsigned count = edu.count;
    nk_thread_sleep_ns(10000000);
    EXPECT_EQ(edu.count, count);

    edu.acknowledges = edu.claims = true; /* the fault is over, and somebody says so */
    nk_irq_unmask(irq);
    EXPECT(edu_comes(&edu, count + 1));
    ASSERT(nk_irq_get_info(irq, &info));
    EXPECT(info.reason == NULL);
    nk_irq_detach(irq, edu_interrupt, &edu);
    pci_irq_close(edu.f);
}

KTEST(irq_storm)
{
    KTEST_SKIP_UNLESS(edu_open(&edu), "needs -device edu");
    struct nk_irq_info info;
    ASSERT_EQ(pci_irq_open(edu.f, 1, PCI_IRQ_INTX), 0);
    unsigned irq = edu.f->irq[0];
    ASSERT_EQ(nk_irq_attach(irq, "edu", edu_interrupt, &edu), 0);
    edu.acknowledges = false;
    edu_write(&edu, EDU_IRQ_RAISE, 1);
    EXPECT(gets_masked(irq, &info));
    EXPECT_GE(info.storms, 1);
    EXPECT_STREQ(info.reason, "storm");
    unsigned count = edu.count;
    edu.acknowledges = true;
    EXPECT(edu_comes(&edu, count + 1)); /* the line is tried again by itself */
    nk_irq_detach(irq, edu_interrupt, &edu);
    pci_irq_close(edu.f);
}
