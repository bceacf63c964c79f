/* Network devices of every driver the machine has; each is on a network of its own with QEMU's
 * gateway, which answers ARP. */
#include "drivers/net.h"

#include <string.h>

#include "base/errno.h"
#include "sched/sync.h"
#include "sched/thread.h"
#include "sched/timer.h"
#include "tests/kernel/ktest.h"
#include "tests/kernel/vanish.h"

#define MS UINT64_C(1000000)

#define SKIP_WITHOUT_NETWORK() KTEST_SKIP_UNLESS(nk_net_get(0) != NULL, "needs network devices")

/* RFC 826, for IPv4 on Ethernet. */
struct arp_frame {
    uint8_t to[6], from[6], type[2];
    uint8_t hardware[2], protocol[2], lengths[2], operation[2];
    uint8_t sender_mac[6], sender_ip[4], target_mac[6], target_ip[4];
};
_Static_assert(sizeof(struct arp_frame) == 42, "ARP layout");

static const uint8_t gateway[4] = {10, 0, 2, 2}, ours[4] = {10, 0, 2, 15};

static struct {
    struct arp_frame last;
    volatile unsigned count;
} replies;

static void receive(void *arg, const void *frame, size_t length)
{
    (void)arg;
    const struct arp_frame *a = frame;
    if (length >= sizeof(*a) && a->type[0] == 8 && a->type[1] == 6 && a->operation[1] == 2) {
        replies.last = *a;
        replies.count++;
    }
}

static struct arp_frame request(const struct nk_net_device *d)
{
    struct arp_frame a = {
        .to = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
        .type = {8, 6},
        .hardware = {0, 1},
        .protocol = {8, 0},
        .lengths = {6, 4},
        .operation = {0, 1},
    };
    memcpy(a.from, d->mac, 6);
    memcpy(a.sender_mac, d->mac, 6);
    memcpy(a.sender_ip, ours, 4);
    memcpy(a.target_ip, gateway, 4);
    return a;
}

static bool replies_come(unsigned count)
{
    for (unsigned ms = 0; ms < 10000 && replies.count < count; ms++) {
        nk_thread_sleep_ns(MS);
    }
    return replies.count >= count;
}

static bool asks_and_hears(struct nk_net_device *d)
{
    replies.count = 0;
    nk_net_set_receiver(d, receive, NULL);
    struct arp_frame a = request(d);
    bool ok = EXPECT_EQ(nk_net_send(d, &a, sizeof(a)), 0) && EXPECT(replies_come(1));
    nk_net_set_receiver(d, NULL, NULL);
    return ok && EXPECT_EQ(memcmp(replies.last.sender_ip, gateway, 4), 0) &&
           EXPECT_EQ(memcmp(replies.last.target_mac, d->mac, 6), 0);
}

KTEST(net_devices)
{
    SKIP_WITHOUT_NETWORK();
    struct nk_net_device *d;
    for (unsigned i = 0; (d = nk_net_get(i)) != NULL; i++) {
        EXPECT(nk_net_find(d->name) == d);
        EXPECT_EQ(d->mac[0], 0x52); /* QEMU's 52:54:00:12:34:xx */
        EXPECT_EQ(d->mac[1], 0x54);
        EXPECT(nk_net_link_up(d));
        struct arp_frame a = request(d);
        EXPECT_EQ(nk_net_send(d, &a, 13), -EINVAL);
        EXPECT_EQ(nk_net_send(d, &a, NK_NET_FRAME_MAX + 1), -EINVAL);
    }
}

KTEST(net_arp)
{
    SKIP_WITHOUT_NETWORK();
    struct nk_net_device *d;
    for (unsigned i = 0; (d = nk_net_get(i)) != NULL; i++) {
        EXPECT(asks_and_hears(d));
    }
}

#define FRAMES 500

/* The rings go round several times. */
KTEST(net_many_frames)
{
    SKIP_WITHOUT_NETWORK();
    struct nk_net_device *d;
    for (unsigned i = 0; (d = nk_net_get(i)) != NULL; i++) {
        struct arp_frame a = request(d);
        uint64_t timeout = d->timeout_ns;
        d->timeout_ns = 60000 * MS; /* the emulator may be slow, but it is not stuck */
        replies.count = 0;
        nk_net_set_receiver(d, receive, NULL);
        for (unsigned n = 0; n < FRAMES; n++) {
            while (nk_net_send(d, &a, sizeof(a)) == -EBUSY) {
                nk_thread_sleep_ns(MS);
            }
            if (n % 32 == 31) { /* so that the receive ring does not overflow */
                EXPECT(replies_come(n + 1));
            }
        }
        EXPECT(replies_come(FRAMES));
        nk_net_set_receiver(d, NULL, NULL);
        d->timeout_ns = timeout;
        EXPECT_EQ(d->stats.resets, 0);
    }
}

/* A device that takes no frames any more is reset, and then takes them again. */
KTEST(net_stuck_sender)
{
    SKIP_WITHOUT_NETWORK();
    struct nk_net_device *d;
    for (unsigned i = 0; (d = nk_net_get(i)) != NULL; i++) {
        struct arp_frame a = request(d);
        d->timeout_ns = 200 * MS;
        pci_disable(function_of(d->driver, d->irq), PCI_COMMAND_MASTER);
        unsigned busy = 0;
        uint64_t end = nk_now_ns() + 20000 * MS;
        while (d->stats.resets == 0 && nk_now_ns() < end) {
            int err = nk_net_send(d, &a, sizeof(a));
            EXPECT(err == 0 || err == -EBUSY);
            busy += err == -EBUSY;
            nk_thread_sleep_ns(MS);
        }
        EXPECT_GT(busy, 0);
        EXPECT_EQ(d->stats.resets, 1);
        EXPECT(asks_and_hears(d));
    }
}

/* The last test of the networks: there are none afterwards. */
KTEST(net_vanishes)
{
    SKIP_WITHOUT_NETWORK();
    struct nk_net_device *d;
    for (unsigned i = 0; (d = nk_net_get(i)) != NULL; i++) {
        struct arp_frame a = request(d);
        d->timeout_ns = 200 * MS;
        make_vanish(function_of(d->driver, d->irq));
        EXPECT(!nk_net_link_up(d));
        int err;
        uint64_t end = nk_now_ns() + 20000 * MS;
        do {
            err = nk_net_send(d, &a, sizeof(a));
            nk_thread_sleep_ns(MS);
        } while ((err == 0 || err == -EBUSY) && nk_now_ns() < end);
        EXPECT_EQ(err, -ENODEV);
        EXPECT(d->gone);
        EXPECT(!nk_net_link_up(d));
        EXPECT_EQ(nk_net_send(d, &a, sizeof(a)), -ENODEV);
    }
}
