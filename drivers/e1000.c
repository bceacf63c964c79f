/* Intel's 8254x and 82574L Ethernet controllers, with the descriptors that both know.
 * Spec: Intel "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual"
 * (317453) and "82574 GbE Controller Family Datasheet" (317694); sections are of the first. */

#include "drivers/e1000.h"

#include <string.h>

#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "drivers/net.h"
#include "kernel/irq.h"
#include "mm/slab.h"
#include "sched/thread.h"

enum e1000_register { /* section 13.4 */
                      REG_CTRL = 0x0000,
                      REG_STATUS = 0x0008,
                      REG_ICR = 0x00c0,
                      REG_IMS = 0x00d0,
                      REG_IMC = 0x00d8,
                      REG_RCTL = 0x0100,
                      REG_TCTL = 0x0400,
                      REG_TIPG = 0x0410,
                      REG_RDBAL = 0x2800,
                      REG_RDBAH = 0x2804,
                      REG_RDLEN = 0x2808,
                      REG_RDH = 0x2810,
                      REG_RDT = 0x2818,
                      REG_TDBAL = 0x3800,
                      REG_TDBAH = 0x3804,
                      REG_TDLEN = 0x3808,
                      REG_TDH = 0x3810,
                      REG_TDT = 0x3818,
                      REG_MTA = 0x5200,
                      REG_RAL = 0x5400,
                      REG_RAH = 0x5404,
};
#define CTRL_SPEED_AUTO  (1u << 5)
#define CTRL_LINK_UP     (1u << 6)
#define CTRL_RESET       (1u << 26)
#define STATUS_LINK_UP   (1u << 1)
#define RCTL_ENABLE      (1u << 1)
#define RCTL_BROADCAST   (1u << 15) /* and buffers of 2048 bytes */
#define RCTL_STRIP_CRC   (1u << 26)
#define TCTL_ENABLE      (1u << 1)
#define TCTL_PAD_SHORT   (1u << 3)
#define TCTL_COLLISIONS  (0x0fu << 4 | 0x40u << 12) /* section 13.4.33, full duplex */
#define TIPG_DEFAULT     0x0060200au                /* section 13.4.34 */
#define RAH_VALID        (1u << 31)
#define IRQ_LINK         (1u << 2)
#define IRQ_RECEIVE_LOW  (1u << 4)
#define IRQ_RECEIVE_FULL (1u << 6)
#define IRQ_RECEIVED     (1u << 7)
#define IRQ_WANTED       (IRQ_LINK | IRQ_RECEIVE_LOW | IRQ_RECEIVE_FULL | IRQ_RECEIVED)
#define MTA_WORDS        128
#define REGISTERS_BYTES  0x20000

#define RING         64 /* descriptors for each direction; their bytes are a multiple of 128 */
#define BUFFER_BYTES 2048

#define DONE           1 /* in both kinds of status */
#define RECEIVE_LAST   2
#define SEND_LAST      1
#define SEND_ADD_CRC   2
#define SEND_REPORT    8
#define RESET_TRIES    100
#define RESET_INTERVAL 1000000 /* ns */

struct receive_descriptor { /* section 3.2.3 */
    uint64_t address;
    uint16_t length, checksum;
    uint8_t status, errors;
    uint16_t special;
};

struct send_descriptor { /* section 3.3.3 */
    uint64_t address;
    uint16_t length;
    uint8_t checksum_offset, command, status, checksum_start;
    uint16_t special;
};

struct e1000 {
    struct nk_net_device net;
    struct pci_function *f;
    volatile uint8_t *registers;
    volatile struct receive_descriptor *receive;
    volatile struct send_descriptor *send;
    char *receive_buffers, *send_buffers;
    unsigned receive_next, send_next, send_oldest; /* free running but for the masks */
};

static uint32_t read_reg(const struct e1000 *e, enum e1000_register r)
{
    return *(volatile uint32_t *)(e->registers + r);
}

static void write_reg(const struct e1000 *e, enum e1000_register r, uint32_t value)
{
    *(volatile uint32_t *)(e->registers + r) = value;
}

static struct e1000 *of(struct nk_net_device *d)
{
    return NK_CONTAINER_OF(d, struct e1000, net);
}

static void take_back_sent(struct e1000 *e)
{
    while (e->send_oldest != e->send_next && (e->send[e->send_oldest % RING].status & DONE)) {
        e->send_oldest++;
    }
}

/* A full ring would look like an empty one to the device: one descriptor stays unused. */
static int send(struct nk_net_device *d, const void *frame, size_t length)
{
    struct e1000 *e = of(d);
    take_back_sent(e);
    if (e->send_next - e->send_oldest == RING - 1) {
        return -EBUSY;
    }
    unsigned at = e->send_next % RING;
    volatile struct send_descriptor *s = &e->send[at];
    memcpy(e->send_buffers + at * BUFFER_BYTES, frame, length);
    s->length = (uint16_t)length;
    s->status = 0;
    s->command = SEND_LAST | SEND_ADD_CRC | SEND_REPORT;
    e->send_next++;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    write_reg(e, REG_TDT, e->send_next % RING);
    return 0;
}

static void reap(struct nk_net_device *d)
{
    struct e1000 *e = of(d);
    volatile struct receive_descriptor *r;
    while ((r = &e->receive[e->receive_next % RING])->status & DONE) {
        unsigned at = e->receive_next % RING;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if ((r->status & RECEIVE_LAST) && r->errors == 0 && r->length <= BUFFER_BYTES) {
            net_received(d, e->receive_buffers + at * BUFFER_BYTES, r->length);
        } else {
            d->stats.errors++;
        }
        r->status = 0;
        e->receive_next++;
        write_reg(e, REG_RDT, at); /* the last one the device may use */
    }
    take_back_sent(e);
}

static bool link_up(struct nk_net_device *d)
{
    uint32_t status = read_reg(of(d), REG_STATUS);
    return status != UINT32_MAX && (status & STATUS_LINK_UP) != 0;
}

static void set_ring(const struct e1000 *e, enum e1000_register base, const volatile void *ring)
{
    uint64_t pa = nk_va_to_pa((const void *)ring).v;
    write_reg(e, base, (uint32_t)pa);
    write_reg(e, base + (REG_RDBAH - REG_RDBAL), (uint32_t)(pa >> 32));
    write_reg(e, base + (REG_RDLEN - REG_RDBAL), RING * sizeof(struct send_descriptor));
    write_reg(e, base + (REG_RDH - REG_RDBAL), 0);
    write_reg(e, base + (REG_RDT - REG_RDBAL), 0);
}

static void fill_rings(struct e1000 *e)
{
    e->receive_next = e->send_next = e->send_oldest = 0;
    for (unsigned i = 0; i < RING; i++) {
        e->receive[i].address = nk_va_to_pa(e->receive_buffers + i * BUFFER_BYTES).v;
        e->receive[i].status = 0;
        e->send[i].address = nk_va_to_pa(e->send_buffers + i * BUFFER_BYTES).v;
        e->send[i].status = 0;
    }
}

/* The reset stops all DMA (if it does not come about, the bus does) and reads the MAC address from
 * the EEPROM anew (section 14.3). */
static int reset_device(struct e1000 *e)
{
    write_reg(e, REG_IMC, UINT32_MAX);
    write_reg(e, REG_CTRL, read_reg(e, REG_CTRL) | CTRL_RESET);
    for (unsigned i = 0; i < RESET_TRIES; i++) {
        nk_thread_sleep_ns(RESET_INTERVAL); /* no access for 1 us at least */
        uint32_t control = read_reg(e, REG_CTRL);
        if (control != UINT32_MAX && !(control & CTRL_RESET)) {
            write_reg(e, REG_IMC, UINT32_MAX);
            if (read_reg(e, REG_RAH) & RAH_VALID) {
                return 0;
            }
            break;
        }
    }
    pci_disable(e->f, PCI_COMMAND_MASTER);
    return -EIO;
}

static int set_up(struct e1000 *e)
{
    int err = reset_device(e);
    if (err != 0) {
        return err;
    }
    pci_enable(e->f, PCI_COMMAND_MASTER);
    fill_rings(e);
    for (unsigned i = 0; i < MTA_WORDS; i++) {
        *(volatile uint32_t *)(e->registers + REG_MTA + 4 * i) = 0;
    }
    set_ring(e, REG_RDBAL, e->receive);
    set_ring(e, REG_TDBAL, e->send);
    write_reg(e, REG_TIPG, TIPG_DEFAULT);
    write_reg(e, REG_TCTL, TCTL_ENABLE | TCTL_PAD_SHORT | TCTL_COLLISIONS);
    write_reg(e, REG_RCTL, RCTL_ENABLE | RCTL_BROADCAST | RCTL_STRIP_CRC);
    write_reg(e, REG_RDT, RING - 1);
    write_reg(e, REG_CTRL, read_reg(e, REG_CTRL) | CTRL_LINK_UP | CTRL_SPEED_AUTO);
    (void)read_reg(e, REG_ICR);
    write_reg(e, REG_IMS, IRQ_WANTED);
    return 0;
}

static int reset(struct nk_net_device *d)
{
    return set_up(of(d));
}

static const struct nk_net_ops ops = {send, reap, link_up, reset};

static bool interrupt(void *arg)
{
    struct e1000 *e = arg;
    uint32_t causes = read_reg(e, REG_ICR); /* reading acknowledges */
    if (causes == 0 || causes == UINT32_MAX) {
        return false; /* another device of the line; or this one is not there any more */
    }
    net_service(&e->net);
    return true;
}

static void read_mac(struct e1000 *e)
{
    uint64_t mac = read_reg(e, REG_RAL) | (uint64_t)read_reg(e, REG_RAH) << 32;
    for (unsigned i = 0; i < NK_NET_MAC_BYTES; i++) {
        e->net.mac[i] = (uint8_t)(mac >> (8 * i));
    }
}

static int allocate(struct e1000 *e)
{
    e->receive = kmalloc_aligned(RING * sizeof(*e->receive), NK_PAGE_SIZE);
    e->send = kmalloc_aligned(RING * sizeof(*e->send), NK_PAGE_SIZE);
    e->receive_buffers = kmalloc(RING * BUFFER_BYTES);
    e->send_buffers = kmalloc(RING * BUFFER_BYTES);
    if (e->receive == NULL || e->send == NULL || e->receive_buffers == NULL ||
        e->send_buffers == NULL) {
        return -ENOMEM;
    }
    memset((void *)e->receive, 0, RING * sizeof(*e->receive));
    memset((void *)e->send, 0, RING * sizeof(*e->send));
    return 0;
}

static int bring_up(struct e1000 *e)
{
    net_init(&e->net, "e1000", &ops);
    pci_enable(e->f, PCI_COMMAND_MEMORY);
    e->registers = pci_map_bar(e->f, 0);
    if (e->registers == NULL || e->f->bar[0].size < REGISTERS_BYTES) {
        return -ENOTSUP;
    }
    int err = allocate(e);
    if (err == 0) {
        err = reset_device(e); /* silent before the handler is there */
    }
    if (err == 0) {
        err = pci_irq_open(e->f, 1, PCI_IRQ_MSI | PCI_IRQ_INTX);
    }
    if (err != 0) {
        return err;
    }
    e->net.irq = e->f->irq[0];
    err = nk_irq_attach(e->net.irq, "e1000", interrupt, e);
    if (err != 0) {
        pci_irq_close(e->f);
        return err;
    }
    err = set_up(e);
    if (err == 0) {
        read_mac(e);
        err = net_register(&e->net);
    }
    if (err != 0) {
        write_reg(e, REG_IMC, UINT32_MAX);
        pci_disable(e->f, PCI_COMMAND_MASTER);
        nk_irq_detach(e->net.irq, interrupt, e);
        pci_irq_close(e->f);
    }
    return err;
}

int e1000_probe(struct pci_function *f)
{
    struct e1000 *e = kzalloc(sizeof(*e));
    if (e == NULL) {
        return -ENOMEM;
    }
    e->f = f;
    int err = bring_up(e);
    if (err != 0) {
        kfree((void *)e->receive);
        kfree((void *)e->send);
        kfree(e->receive_buffers);
        kfree(e->send_buffers);
        kfree(e);
    }
    return err;
}
