/* SATA disks behind an AHCI controller. One command at a time for each disk: when one fails, there
 * are no others to issue anew. Spec: Serial ATA AHCI 1.3.1; ATA8-ACS. */

#include "drivers/ahci.h"

#include <string.h>

#include "base/errno.h"
#include "base/layout.h"
#include "base/platform.h"
#include "drivers/block.h"
#include "kernel/irq.h"
#include "kernel/time.h"
#include "mm/slab.h"
#include "sched/thread.h"

enum hba_register {
    HBA_CAP = 0x00,
    HBA_GHC = 0x04,
    HBA_IS = 0x08,
    HBA_PORTS = 0x0c,
    HBA_CAP2 = 0x24,
    HBA_BOHC = 0x28,
};
#define CAP_64BIT      (1u << 31)
#define CAP2_HANDOFF   (1u << 0)
#define BOHC_BIOS_OWNS (1u << 0)
#define BOHC_OS_OWNS   (1u << 1)
#define GHC_IRQ        (1u << 1)
#define GHC_AHCI       (1u << 31)

enum port_register { /* from PORT_BASE + PORT_SIZE * number */
                     PORT_LIST = 0x00,
                     PORT_FIS = 0x08,
                     PORT_IS = 0x10,
                     PORT_IE = 0x14,
                     PORT_CMD = 0x18,
                     PORT_TFD = 0x20,
                     PORT_SIG = 0x24,
                     PORT_SSTS = 0x28,
                     PORT_SCTL = 0x2c,
                     PORT_SERR = 0x30,
                     PORT_CI = 0x38,
};
#define PORT_BASE     0x100
#define PORT_SIZE     0x80
#define PORTS_MAX     32
#define IS_ERRORS     (15u << 27) /* interface, bus data, bus, task file */
#define IE_ALL        (IS_ERRORS | 0x7fu)
#define CMD_START     (1u << 0)
#define CMD_SPIN_UP   (1u << 1)
#define CMD_POWER     (1u << 2)
#define CMD_FIS       (1u << 4)
#define CMD_FIS_RUNS  (1u << 14)
#define CMD_LIST_RUNS (1u << 15)
#define TFD_ERROR     (1u << 0)
#define TFD_BUSY      (0x88u) /* BSY, DRQ */
#define SSTS_DETECT   0xfu
#define SSTS_PRESENT  3u
#define SCTL_COMRESET 1u
#define SIGNATURE_ATA 0x101u

/* The page of a port. */
#define LIST_AT     0x000 /* 1 KiB */
#define FIS_AT      0x400 /* 256 bytes */
#define TABLE_AT    0x500
#define IDENTIFY_AT 0x600

#define FIS_WORDS         5
#define FIS_HOST_TO_DISK  0x27
#define FIS_COMMAND       0x80
#define HEADER_WRITE      (1u << 6)
#define HEADER_ONE_REGION (1u << 16)
#define REGION_AT         0x80

#define ATA_IDENTIFY  0xec
#define ATA_READ      0x25 /* READ DMA EXT */
#define ATA_WRITE     0x35
#define ATA_FLUSH     0xea
#define ATA_LBA_MODE  0x40
#define REQUEST_BYTES NK_MIB(1) /* a region holds 4 MiB */

#define WORD_FEATURES       83
#define FEATURE_48BIT       (1u << 10)
#define WORD_SECTORS        100
#define WORD_SECTOR_FORMAT  106
#define FORMAT_VALID_MASK   0xc000u
#define FORMAT_VALID        0x4000u
#define FORMAT_LONG_SECTORS 0x1000u
#define WORD_SECTOR_WORDS   117

#define STOP_MS     500
#define LINK_MS     1000
#define IDENTIFY_MS 5000
#define RESTART_US  1000 /* with the lock held */

struct ahci_header {
    uint32_t flags, transferred;
    uint64_t table;
    uint32_t reserved[4];
};

struct ahci_region {
    uint64_t address;
    uint32_t reserved, last; /* last byte's offset */
};

struct ahci_port {
    struct nk_block_device block;
    struct ahci *hba;
    volatile uint8_t *registers;
    char *page;
    struct nk_block_request *request; /* under way */
};

struct ahci {
    struct pci_function *f;
    volatile uint8_t *registers;
    struct ahci_port *port[PORTS_MAX];
    bool stuck; /* a port does not stop: the controller may not reach memory any more */
};

static uint32_t hba_read(const struct ahci *a, enum hba_register r)
{
    return *(volatile uint32_t *)(a->registers + r);
}

static void hba_write(const struct ahci *a, enum hba_register r, uint32_t value)
{
    *(volatile uint32_t *)(a->registers + r) = value;
}

static bool is_there(const struct ahci *a)
{
    uint32_t control = hba_read(a, HBA_GHC);
    return (control & GHC_AHCI) != 0 && control != UINT32_MAX;
}

static uint32_t port_read(const struct ahci_port *p, enum port_register r)
{
    return *(volatile uint32_t *)(p->registers + r);
}

static void port_write(const struct ahci_port *p, enum port_register r, uint32_t value)
{
    *(volatile uint32_t *)(p->registers + r) = value;
}

static void port_write_address(const struct ahci_port *p, enum port_register r, const void *va)
{
    uint64_t pa = nk_va_to_pa(va).v;
    port_write(p, r, (uint32_t)pa);
    *(volatile uint32_t *)(p->registers + r + 4) = (uint32_t)(pa >> 32);
}

/* Thread context: until the bits under the mask have the value. */
static bool await(const struct ahci_port *p, enum port_register r, uint32_t mask, uint32_t value,
                  unsigned limit_ms)
{
    for (unsigned ms = 0; (port_read(p, r) & mask) != value; ms++) {
        if (ms == limit_ms) {
            return false;
        }
        nk_thread_sleep_ns(1000000);
    }
    return true;
}

static bool is_present(const struct ahci_port *p)
{
    return (port_read(p, PORT_SSTS) & SSTS_DETECT) == SSTS_PRESENT;
}

/* ---- commands */

static void put_command(struct ahci_port *p, uint8_t command, uint64_t sector, uint32_t count,
                        const void *data, uint32_t bytes, bool write)
{
    uint8_t *fis = (uint8_t *)p->page + TABLE_AT;
    struct ahci_region *region = (struct ahci_region *)(p->page + TABLE_AT + REGION_AT);
    memset(fis, 0, REGION_AT);
    fis[0] = FIS_HOST_TO_DISK;
    fis[1] = FIS_COMMAND;
    fis[2] = command;
    fis[7] = ATA_LBA_MODE;
    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = (uint8_t)(sector >> (8 * i));
        fis[8 + i] = (uint8_t)(sector >> (8 * i + 24));
    }
    fis[12] = (uint8_t)count;
    fis[13] = (uint8_t)(count >> 8);
    *region = (struct ahci_region){0};
    if (bytes != 0) {
        *region = (struct ahci_region){.address = nk_va_to_pa(data).v, .last = bytes - 1};
    }
    *(struct ahci_header *)(p->page + LIST_AT) = (struct ahci_header){
        .flags = FIS_WORDS | (write ? HEADER_WRITE : 0) | (bytes != 0 ? HEADER_ONE_REGION : 0),
        .table = nk_va_to_pa(fis).v,
    };
    __atomic_thread_fence(__ATOMIC_RELEASE);
    port_write(p, PORT_CI, 1);
}

/* Off and on again, as an error demands (6.2.2.1). Lock held, hence by spinning. */
static bool restart(const struct ahci_port *p)
{
    uint32_t command = port_read(p, PORT_CMD);
    port_write(p, PORT_CMD, command & ~CMD_START);
    for (unsigned us = 0; us < RESTART_US && (port_read(p, PORT_CMD) & CMD_LIST_RUNS); us++) {
        nk_udelay(1);
    }
    if ((port_read(p, PORT_CMD) & CMD_LIST_RUNS) || (port_read(p, PORT_TFD) & TFD_BUSY)) {
        return false;
    }
    port_write(p, PORT_SERR, UINT32_MAX);
    port_write(p, PORT_IS, UINT32_MAX);
    port_write(p, PORT_CMD, command | CMD_START);
    return true;
}

static struct ahci_port *of(struct nk_block_device *d)
{
    return NK_CONTAINER_OF(d, struct ahci_port, block);
}

static int start(struct nk_block_device *d, struct nk_block_request *r)
{
    static const uint8_t command_table[] = {
        [NK_BLOCK_READ] = ATA_READ,
        [NK_BLOCK_WRITE] = ATA_WRITE,
        [NK_BLOCK_FLUSH] = ATA_FLUSH,
    };
    struct ahci_port *p = of(d);
    if (p->request != NULL) {
        return -EBUSY;
    }
    if (!(port_read(p, PORT_CMD) & CMD_START) && !restart(p)) {
        return -EIO;
    }
    uint32_t bytes = r->op == NK_BLOCK_FLUSH ? 0 : r->count * d->sector_size;
    p->request = r;
    put_command(p, command_table[r->op], r->sector, r->count, r->buffer, bytes,
                r->op == NK_BLOCK_WRITE);
    return 0;
}

static void reap(struct nk_block_device *d)
{
    struct ahci_port *p = of(d);
    uint32_t cause = port_read(p, PORT_IS);
    port_write(p, PORT_IS, cause);
    if (p->request == NULL || !is_present(p)) {
        return; /* of a disk that has gone, the deadline will tell */
    }
    bool failed = (cause & IS_ERRORS) != 0 || (port_read(p, PORT_TFD) & TFD_ERROR) != 0;
    if (failed || !(port_read(p, PORT_CI) & 1)) {
        struct nk_block_request *r = p->request;
        p->request = NULL;
        if (failed && !restart(p)) {
            nk_warn("ahci: %s does not stop after an error", d->name);
        }
        block_finish(d, r, failed ? -EIO : 0);
    }
}

/* ---- ports */

static bool stop(const struct ahci_port *p)
{
    port_write(p, PORT_CMD, port_read(p, PORT_CMD) & ~CMD_START);
    if (!await(p, PORT_CMD, CMD_LIST_RUNS, 0, STOP_MS)) {
        return false;
    }
    port_write(p, PORT_CMD, port_read(p, PORT_CMD) & ~CMD_FIS);
    return await(p, PORT_CMD, CMD_FIS_RUNS, 0, STOP_MS);
}

/* From a stopped port to one that takes commands. */
static int run(const struct ahci_port *p, bool comreset)
{
    port_write_address(p, PORT_LIST, p->page + LIST_AT);
    port_write_address(p, PORT_FIS, p->page + FIS_AT);
    uint32_t command = port_read(p, PORT_CMD) | CMD_FIS | CMD_SPIN_UP | CMD_POWER;
    port_write(p, PORT_CMD, command);
    if (comreset) {
        port_write(p, PORT_SCTL, SCTL_COMRESET);
        nk_thread_sleep_ns(1000000); /* at least (10.4.2) */
        port_write(p, PORT_SCTL, 0);
    }
    if (!await(p, PORT_SSTS, SSTS_DETECT, SSTS_PRESENT, comreset ? LINK_MS : 0)) {
        return -ENODEV;
    }
    port_write(p, PORT_SERR, UINT32_MAX);
    port_write(p, PORT_IS, UINT32_MAX);
    if (!await(p, PORT_TFD, TFD_BUSY, 0, LINK_MS)) {
        return -EIO;
    }
    port_write(p, PORT_CMD, command | CMD_START);
    port_write(p, PORT_IE, IE_ALL);
    return 0;
}

static int reset(struct nk_block_device *d)
{
    struct ahci_port *p = of(d);
    struct ahci *a = p->hba;
    p->request = NULL;
    if (a->stuck || !is_there(a)) {
        return -ENODEV;
    }
    if (!stop(p)) { /* the only way left to keep it out of memory; other disks go with it */
        a->stuck = true;
        pci_disable(a->f, PCI_COMMAND_MASTER);
        return -EIO;
    }
    pci_enable(a->f, PCI_COMMAND_MASTER);
    return run(p, true);
}

static const struct nk_block_ops ops = {start, reap, reset};

static int read_identity(struct ahci_port *p)
{
    const uint16_t *word = (const uint16_t *)(p->page + IDENTIFY_AT);
    put_command(p, ATA_IDENTIFY, 0, 0, word, 512, false);
    if (!await(p, PORT_CI, 1, 0, IDENTIFY_MS) || (port_read(p, PORT_TFD) & TFD_ERROR)) {
        return -EIO;
    }
    if (!(word[WORD_FEATURES] & FEATURE_48BIT)) {
        return -ENOTSUP;
    }
    for (unsigned i = 0; i < 4; i++) {
        p->block.sector_count |= (uint64_t)word[WORD_SECTORS + i] << (16 * i);
    }
    uint32_t format = word[WORD_SECTOR_FORMAT];
    p->block.sector_size = 512;
    if ((format & FORMAT_VALID_MASK) == FORMAT_VALID && (format & FORMAT_LONG_SECTORS)) {
        p->block.sector_size =
            2 * (word[WORD_SECTOR_WORDS] | (uint32_t)word[WORD_SECTOR_WORDS + 1] << 16);
    }
    if (p->block.sector_size < 512 || p->block.sector_size > NK_PAGE_SIZE) {
        return -ENOTSUP;
    }
    p->block.request_sectors_max = (uint32_t)(REQUEST_BYTES / p->block.sector_size);
    return 0;
}

static int bring_up(struct ahci_port *p, unsigned number)
{
    block_init(&p->block, "ahci", &ops);
    if (!stop(p)) {
        return -EIO;
    }
    int err = run(p, false);
    if (err == 0) {
        err = port_read(p, PORT_SIG) == SIGNATURE_ATA ? read_identity(p) : -ENODEV;
    }
    if (err == 0) {
        p->block.irq = p->hba->f->irq[0];
        __atomic_store_n(&p->hba->port[number], p, __ATOMIC_RELEASE); /* for the interrupt */
        err = block_register(&p->block, "sd");
    }
    if (err != 0) {
        port_write(p, PORT_IE, 0);
        if (!stop(p)) { /* its memory cannot be given back */
            nk_warn("ahci: a port does not stop");
            p->page = NULL;
        }
    }
    return err;
}

static void free_port(struct ahci_port *p)
{
    if (p != NULL) {
        kfree(p->page);
        kfree(p);
    }
}

static struct ahci_port *make_port(struct ahci *a, unsigned number)
{
    struct ahci_port *p = kzalloc(sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->hba = a;
    p->registers = a->registers + PORT_BASE + PORT_SIZE * number;
    p->page = kmalloc_aligned(NK_PAGE_SIZE, NK_PAGE_SIZE);
    if (p->page == NULL) {
        free_port(p);
        return NULL;
    }
    memset(p->page, 0, NK_PAGE_SIZE);
    return p;
}

static void open_port(struct ahci_port *p, unsigned number)
{
    int err = bring_up(p, number);
    if (err != 0 && err != -ENODEV) {
        nk_warn("ahci: the disk at port %u cannot be used (error %d)", number, err);
    }
    if (p->hba->port[number] == NULL) { /* else the interrupt handler may be at it */
        free_port(p);
    }
}

/* Memory for all of them before the first is used: a disk is never missing for want of it. */
static int open_ports(struct ahci *a)
{
    struct ahci_port *port[PORTS_MAX] = {NULL};
    uint32_t ports = hba_read(a, HBA_PORTS);
    int err = 0;
    for (unsigned i = 0; i < PORTS_MAX && err == 0; i++) {
        if (ports & 1u << i) {
            port[i] = make_port(a, i);
            err = port[i] == NULL ? -ENOMEM : 0;
        }
    }
    for (unsigned i = 0; i < PORTS_MAX; i++) {
        if (err != 0) {
            free_port(port[i]);
        } else if (port[i] != NULL) {
            open_port(port[i], i);
        }
    }
    return err;
}

static bool interrupt(void *arg)
{
    struct ahci *a = arg;
    uint32_t cause = hba_read(a, HBA_IS);
    if (cause == UINT32_MAX && !is_there(a)) {
        return false;
    }
    for (uint32_t left = cause; left != 0; left &= left - 1) {
        unsigned number = (unsigned)__builtin_ctz(left);
        struct ahci_port *p = __atomic_load_n(&a->port[number], __ATOMIC_ACQUIRE);
        if (p != NULL) {
            block_service(&p->block);
        } else { /* still being identified, by polling */
            *(volatile uint32_t *)(a->registers + PORT_BASE + PORT_SIZE * number + PORT_IS) =
                UINT32_MAX;
        }
    }
    hba_write(a, HBA_IS, cause); /* after the ports' own: they keep it up */
    return cause != 0;
}

/* 10.6.3; a controller that firmware does not hold has no such register. */
static void take_from_firmware(const struct ahci *a)
{
    if (!(hba_read(a, HBA_CAP2) & CAP2_HANDOFF)) {
        return;
    }
    hba_write(a, HBA_BOHC, hba_read(a, HBA_BOHC) | BOHC_OS_OWNS);
    for (unsigned ms = 0; ms < 25 && (hba_read(a, HBA_BOHC) & BOHC_BIOS_OWNS); ms++) {
        nk_thread_sleep_ns(1000000);
    }
}

static int open_controller(struct ahci *a)
{
    pci_enable(a->f, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    a->registers = pci_map_bar(a->f, 5);
    if (a->registers == NULL) {
        return -ENOTSUP;
    }
    take_from_firmware(a);
    hba_write(a, HBA_GHC, hba_read(a, HBA_GHC) | GHC_AHCI);
    if (!(hba_read(a, HBA_CAP) & CAP_64BIT)) {
        return -ENOTSUP; /* it does not reach all memory */
    }
    int err = pci_irq_open(a->f, 1, PCI_IRQ_MSI | PCI_IRQ_INTX);
    if (err == 0) {
        err = nk_irq_attach(a->f->irq[0], "ahci", interrupt, a);
    }
    return err;
}

int ahci_probe(struct pci_function *f)
{
    struct ahci *a = kzalloc(sizeof(*a));
    if (a == NULL) {
        return -ENOMEM;
    }
    a->f = f;
    int err = open_controller(a);
    if (err == 0) {
        hba_write(a, HBA_IS, UINT32_MAX);
        hba_write(a, HBA_GHC, hba_read(a, HBA_GHC) | GHC_IRQ);
        err = open_ports(a);
        if (err != 0) {
            hba_write(a, HBA_GHC, hba_read(a, HBA_GHC) & ~GHC_IRQ);
            nk_irq_detach(f->irq[0], interrupt, a);
        }
    }
    if (err != 0) {
        pci_disable(f, PCI_COMMAND_MASTER);
        pci_irq_close(f);
        kfree(a);
    }
    return err;
}
