/* PCI configuration mechanism 1, a bus with the bridges of a 440FX and PIIX board, functions that
 * other devices put on it, and the reset control register that lies among the mechanism's ports.
 * Spec: PCI Local Bus 3.0 section 3.2.2.3.2; Intel 82441FX and 82371AB data sheets. */
#include "core/bus.h"
#include "core/vm.h"
#include "dev/platform.h"
#include "dev/vpci_message.h"

#define PORT           0xcf8
#define PORTS          8
#define OFFSET_DATA    4
#define OFFSET_RESET   (PLATFORM_RESET_PORT - PORT)
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_VALID  0x80fffffcu
#define CONFIG_SIZE    VPCI_CONFIG_SIZE
#define RESET_CPU      0x04 /* a rising edge resets */
#define RESET_VALID    0x0e

#define CONFIG_VENDOR    0x00
#define CONFIG_COMMAND   0x04
#define CONFIG_CLASS     0x08 /* with the revision below */
#define CONFIG_STATUS    0x06
#define CONFIG_HEADER    0x0e
#define CONFIG_BAR       0x10
#define CONFIG_SUBSYSTEM 0x2c
#define CONFIG_POINTER   0x34
#define CONFIG_IRQ_LINE  0x3c
#define CONFIG_IRQ_PIN   0x3d
#define HEADER_MULTI     0x80
#define COMMAND_IO       0x01
#define COMMAND_MEMORY   0x02
#define COMMAND_MASTER   0x04
#define COMMAND_SERR     0x0100
#define COMMAND_NO_INTX  0x0400
#define STATUS_INTX      0x08
#define STATUS_LIST      0x10 /* of capabilities */

#define BRIDGE_PAM     0x59 /* to 0x5f: shadowing of ROM areas; stored, not obeyed */
#define BRIDGE_SMRAM   0x72
#define ISA_ROUTE      0x60 /* to 0x63: PIRQA..PIRQD */
#define ISA_ROUTE_OFF  0x80
#define PM_BASE        0x40
#define PM_SMM         0x5b /* of DEVACTB: bits 31 to 24 */
#define PM_SMM_ENABLED 0x02 /* a firmware has set SMM up: the next one need not, there is none */
#define PM_BASE_ENABLE 0x80
#define BAR_IO         0x01

#define FUNCTIONS_MAX 8
#define FIRST_SLOT    2
#define PIRQS         4
#define PIRQ_GSI      16 /* PIRQA; the DSDT says which pin goes where */

enum vpci_board { BRIDGE, ISA, PM, FUNCTION_COUNT };

struct vpci_identity {
    uint16_t devfn, vendor, device;
    uint32_t class; /* and revision */
    uint16_t command;
    uint8_t header;
};

static const struct vpci_identity identity_table[FUNCTION_COUNT] = {
    [BRIDGE] = {0x00, 0x8086, 0x1237, 0x06000002, COMMAND_MEMORY | COMMAND_MASTER, 0},
    [ISA] = {0x08, 0x8086, 0x7000, 0x06010000, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER,
             HEADER_MULTI},
    [PM] = {0x0b, 0x8086, 0x7113, 0x06800003, COMMAND_IO, 0},
};

/* Bytes that a guest can change, and which bits. There are no base address registers. */
static const struct {
    uint8_t function, first, last, bits;
} writable_table[] = {
    {BRIDGE, CONFIG_COMMAND + 1, CONFIG_COMMAND + 1, COMMAND_SERR >> 8},
    {BRIDGE, BRIDGE_PAM, BRIDGE_PAM + 6, 0x33},
    {BRIDGE, BRIDGE_SMRAM, BRIDGE_SMRAM, 0x78},
    {ISA, ISA_ROUTE, ISA_ROUTE + 3, 0x8f},
    {PM, CONFIG_COMMAND, CONFIG_COMMAND, COMMAND_IO},
    {PM, CONFIG_IRQ_LINE, CONFIG_IRQ_LINE, 0xff},
    {PM, PM_BASE, PM_BASE, 0xc0}, /* kept, but the ports do not move */
    {PM, PM_BASE + 1, PM_BASE + 1, 0xff},
};

struct vpci {
    uint32_t address;
    uint8_t reset_control;
    uint8_t config[FUNCTION_COUNT][CONFIG_SIZE];
    struct vpci_function *function[FUNCTIONS_MAX]; /* in the slots from FIRST_SLOT on */
    struct vmm_lock interrupt_lock;                /* protects: the lines that the pins drive */
    uint32_t driven;                               /* GSIs that pins assert now */
};

/* The function that the address register selects, -1: none is there. */
static int selected(const struct vpci *p)
{
    if ((p->address & ADDRESS_ENABLE) == 0) {
        return -1;
    }
    for (int i = 0; i < FUNCTION_COUNT; i++) {
        if (identity_table[i].devfn == (p->address >> 8 & 0xffff)) {
            return i;
        }
    }
    return -1;
}

static void write_byte(struct vpci *p, unsigned function, unsigned at, uint8_t value)
{
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(writable_table); i++) {
        if (writable_table[i].function == function && at >= writable_table[i].first &&
            at <= writable_table[i].last) {
            uint8_t bits = writable_table[i].bits;

            p->config[function][at] = (uint8_t)((p->config[function][at] & ~bits) | (value & bits));
        }
    }
}

static struct vpci_function *selected_function(const struct vpci *p)
{
    for (unsigned i = 0; (p->address & ADDRESS_ENABLE) != 0 && i < FUNCTIONS_MAX; i++) {
        if (p->function[i] != NULL && p->function[i]->devfn == (p->address >> 8 & 0xffff)) {
            return p->function[i];
        }
    }
    return NULL;
}

/* --- interrupts of functions -------------------------------------------------------------------
 */

/* Pin INTA of a slot, as boards wire it. */
static unsigned pirq_of(const struct vpci_function *f)
{
    return (unsigned)(f->devfn >> 3) % PIRQS;
}

static bool pin_is_high(const struct vpci_function *f)
{
    return f != NULL && __atomic_load_n(&f->asserted, __ATOMIC_SEQ_CST) != 0 &&
           (vpci_get(f->config, CONFIG_COMMAND, 2) & COMMAND_NO_INTX) == 0 && !vpci_messages_on(f);
}

/* Each PIRQ drives its IOAPIC input and, where the ISA bridge routes it, a line of the PICs. */
static void drive_lines(struct vdev *dev)
{
    struct vpci *p = vdev_state(dev);
    struct vm *vm = dev->vm;
    uint32_t wanted = 0, changed;

    vm->ops->lock(vm->host, &p->interrupt_lock);
    for (unsigned i = 0; i < FUNCTIONS_MAX; i++) {
        if (pin_is_high(p->function[i])) {
            unsigned pirq = pirq_of(p->function[i]);
            uint8_t route = p->config[ISA][ISA_ROUTE + pirq];

            wanted |= 1u << (PIRQ_GSI + pirq);
            wanted |= (route & ISA_ROUTE_OFF) == 0 ? 1u << (route & 15) : 0;
        }
    }
    changed = wanted ^ p->driven;
    p->driven = wanted;
    for (; changed != 0; changed &= changed - 1) {
        unsigned gsi = (unsigned)__builtin_ctz(changed);

        vmm_irq_set(vm, gsi, (wanted >> gsi & 1) != 0);
    }
    vm->ops->unlock(vm->host, &p->interrupt_lock);
}

void vpci_interrupt(struct vpci_function *f, bool asserted)
{
    if (__atomic_exchange_n(&f->asserted, asserted, __ATOMIC_SEQ_CST) != asserted) {
        drive_lines(f->dev->vm->pci);
    }
}

/* --- functions' ranges -------------------------------------------------------------------------
 */

/* Where the guest wants the range now; 0: nowhere. */
static uint64_t bar_wanted(const struct vpci_function *f, unsigned i)
{
    bool decodes = (vpci_get(f->config, CONFIG_COMMAND, 2) & COMMAND_MEMORY) != 0;

    return decodes ? vpci_get(f->config, CONFIG_BAR + 4 * i, 4) : 0;
}

/* What cannot be claimed because something else is there answers nowhere; and one that cannot be
 * given up for lack of memory stays until the next write. */
static void map_bars(struct vpci_function *f)
{
    for (unsigned i = 0; i < VPCI_BARS; i++) {
        uint64_t wanted = bar_wanted(f, i);

        if (f->bar[i].size == 0 || wanted == f->mapped[i] ||
            (f->mapped[i] != 0 && vdev_unclaim(f->dev, VDEV_MMIO, f->mapped[i]) != 0)) {
            continue;
        }
        f->mapped[i] = 0;
        if (wanted != 0 &&
            vdev_claim_quietly(f->dev, VDEV_MMIO, wanted, f->bar[i].size, f->bar[i].fn) == 0) {
            f->mapped[i] = wanted;
        }
    }
}

static void function_write(struct vpci_function *f, unsigned at, const struct vdev_access *a)
{
    bool messages = vpci_messages_on(f);

    vpci_messages_write_config(f, at, a);
    if (at < VPCI_CAPABILITIES) {
        map_bars(f);
    } else if (f->config_access != NULL) {
        f->config_access(f, at, a->size, true);
    }
    if (at < VPCI_CAPABILITIES || vpci_messages_on(f) != messages) {
        drive_lines(f->dev->vm->pci);
    }
}

static uint8_t status_of(const struct vpci_function *f)
{
    bool interrupts = __atomic_load_n(&f->asserted, __ATOMIC_SEQ_CST) != 0 && !vpci_messages_on(f);

    return (f->capability_last != 0 ? STATUS_LIST : 0) | (interrupts ? STATUS_INTX : 0);
}

static void function_access(struct vpci_function *f, unsigned at, struct vdev_access *a)
{
    if (a->write) {
        function_write(f, at, a);
        return;
    }
    if (at >= VPCI_CAPABILITIES && f->config_access != NULL) {
        f->config_access(f, at, a->size, false);
    }
    f->config[CONFIG_STATUS] = status_of(f);
    vpci_messages_fill_config(f);
    a->value = vpci_get(f->config, at, a->size);
}

static void function_reset(struct vpci_function *f)
{
    vpci_interrupt(f, false);
    vpci_messages_reset(f);
    map_bars(f);
}

unsigned vpci_add_capability(struct vpci_function *f, uint8_t id, unsigned size)
{
    unsigned at = f->capability_last != 0 ? f->capability_end : VPCI_CAPABILITIES;

    if (size > VPCI_CONFIG_SIZE - at) {
        return 0;
    }
    f->config[f->capability_last != 0 ? f->capability_last + 1u : CONFIG_POINTER] = (uint8_t)at;
    f->config[at] = id;
    f->capability_last = (uint16_t)at;
    f->capability_end = (uint16_t)(at + size);
    return at;
}

static void fill_config(struct vpci_function *f)
{
    vpci_put(f->config, CONFIG_VENDOR, f->vendor | (uint32_t)f->device << 16, 4);
    vpci_put(f->config, CONFIG_CLASS, f->class, 4);
    vpci_put(f->config, CONFIG_SUBSYSTEM, f->subsystem_vendor | (uint32_t)f->subsystem << 16, 4);
    f->config[CONFIG_IRQ_PIN] = 1;
    f->writable[CONFIG_IRQ_LINE] = 0xff;
    vpci_put(f->writable, CONFIG_COMMAND,
             COMMAND_MEMORY | COMMAND_MASTER | COMMAND_SERR | COMMAND_NO_INTX, 2);
    for (unsigned i = 0; i < VPCI_BARS; i++) {
        if (f->bar[i].size != 0) {
            vpci_put(f->writable, CONFIG_BAR + 4 * i, -f->bar[i].size, 4);
        }
    }
}

int vpci_add(struct vpci_function *f)
{
    struct vpci *p = vdev_state(f->dev->vm->pci);
    int error = vpci_messages_create(f);

    for (unsigned i = 0; error == 0 && i < FUNCTIONS_MAX; i++) {
        if (p->function[i] == NULL) {
            f->devfn = (uint16_t)((FIRST_SLOT + i) << 3);
            fill_config(f);
            f->dev->pci_function = p->function[i] = f;
            function_reset(f);
            return 0;
        }
    }
    return error != 0 ? error : -VMM_ENOSPC;
}

void vpci_remove(struct vpci_function *f)
{
    struct vdev *pci = f->dev->vm->pci;
    struct vpci *p = pci != NULL ? vdev_state(pci) : NULL;

    for (unsigned i = 0; p != NULL && i < FUNCTIONS_MAX; i++) {
        if (p->function[i] == f) {
            p->function[i] = NULL;
        }
    }
}

bool vmm_vm_pci_function(const struct vm *vm, unsigned i, struct vm_pci_function *out)
{
    const struct vpci *p = vdev_state(vm->pci);
    struct vpci_function *f = i < FUNCTIONS_MAX ? p->function[i] : NULL;

    if (f == NULL) {
        return false;
    }
    *out = (struct vm_pci_function){
        .name = f->dev->class->name,
        .slot = f->devfn >> 3,
        .vendor = f->vendor,
        .device = f->device,
    };
    vpci_messages_report(f, out);
    return true;
}

/* --- accesses ----------------------------------------------------------------------------------
 */

static void config_access(struct vdev *dev, struct vdev_access *a)
{
    struct vpci *p = vdev_state(dev);
    struct vpci_function *f = selected_function(p);
    int function = selected(p);
    unsigned at = (p->address & 0xfc) + (unsigned)a->offset - OFFSET_DATA;

    if (f != NULL) {
        function_access(f, at, a);
        return;
    }
    if (function < 0) {
        return; /* reads are all ones already: a master abort */
    }
    if (!a->write) {
        a->value = vpci_get(p->config[function], at, a->size);
        return;
    }
    for (unsigned i = 0; i < a->size; i++) {
        write_byte(p, (unsigned)function, at + i, (uint8_t)(a->value >> (8 * i)));
    }
    drive_lines(dev); /* the ISA bridge may route otherwise now */
}

static void reset_access(struct vdev *dev, struct vdev_access *a)
{
    struct vpci *p = vdev_state(dev);

    if (!a->write) {
        a->value = p->reset_control;
        return;
    }
    if ((a->value & ~p->reset_control & RESET_CPU) != 0) {
        vmm_request_reset(dev->vm);
    }
    p->reset_control = a->value & RESET_VALID;
}

static void vpci_access(struct vdev *dev, struct vdev_access *a)
{
    struct vpci *p = vdev_state(dev);

    if (a->offset >= OFFSET_DATA) {
        config_access(dev, a);
    } else if (a->offset == 0 && a->size == 4) { /* the address register is a double word only */
        if (a->write) {
            p->address = (uint32_t)a->value & ADDRESS_VALID;
        } else {
            a->value = p->address;
        }
    } else if (a->offset == OFFSET_RESET && a->size == 1) {
        reset_access(dev, a);
    }
}

static void vpci_reset(struct vdev *dev)
{
    struct vpci *p = vdev_state(dev);

    p->address = 0;
    p->reset_control = 0;
    __builtin_memset(p->config, 0, sizeof(p->config));
    for (unsigned i = 0; i < FUNCTION_COUNT; i++) {
        const struct vpci_identity *id = &identity_table[i];

        vpci_put(p->config[i], CONFIG_VENDOR, id->vendor | (uint32_t)id->device << 16, 4);
        vpci_put(p->config[i], CONFIG_COMMAND, id->command, 2);
        vpci_put(p->config[i], CONFIG_CLASS, id->class, 4);
        p->config[i][CONFIG_HEADER] = id->header;
    }
    for (unsigned i = 0; i < 4; i++) {
        p->config[ISA][ISA_ROUTE + i] = ISA_ROUTE_OFF;
    }
    p->config[PM][CONFIG_IRQ_LINE] = PLATFORM_SCI_IRQ;
    p->config[PM][CONFIG_IRQ_PIN] = 1;
    vpci_put(p->config[PM], PM_BASE, PLATFORM_PM_BASE | BAR_IO, 4);
    p->config[PM][PM_SMM] = PM_SMM_ENABLED;
    p->config[PM][PM_BASE_ENABLE] = 1;
    p->driven = 0; /* the fabric has forgotten all lines */
    for (unsigned i = 0; i < FUNCTIONS_MAX; i++) {
        if (p->function[i] != NULL) {
            function_reset(p->function[i]);
        }
    }
}

static int vpci_create(struct vdev *dev)
{
    dev->vm->pci = dev;
    return vdev_claim(dev, VDEV_PIO, PORT, PORTS, vpci_access);
}

static void vpci_destroy(struct vdev *dev)
{
    dev->vm->pci = NULL;
}

static int transfer_function(struct vpci_function *f, struct vdev_stream *s)
{
    uint8_t config[VPCI_CONFIG_SIZE];
    int error;

    __builtin_memcpy(config, f->config, sizeof(config));
    error = s->transfer(s, config, sizeof(config));
    for (unsigned i = 0; error == 0 && i < sizeof(config); i++) {
        uint8_t bits = f->writable[i]; /* a stream cannot change what a guest cannot */

        f->config[i] = (uint8_t)((f->config[i] & ~bits) | (config[i] & bits));
    }
    if (error == 0) {
        error = s->transfer(s, &f->asserted, sizeof(f->asserted));
    }
    return error == 0 ? vpci_messages_transfer(f, s) : error;
}

static int vpci_transfer(struct vdev *dev, struct vdev_stream *s)
{
    struct vpci *p = vdev_state(dev);
    int error = s->transfer(s, &p->address, sizeof(p->address));

    if (error == 0) {
        error = s->transfer(s, &p->reset_control, sizeof(p->reset_control));
    }
    if (error == 0) {
        error = s->transfer(s, p->config, sizeof(p->config));
    }
    if (error == 0) {
        error = s->transfer(s, &p->driven, sizeof(p->driven));
    }
    for (unsigned i = 0; error == 0 && i < FUNCTIONS_MAX; i++) {
        error = p->function[i] != NULL ? transfer_function(p->function[i], s) : 0;
    }
    return error;
}

static int vpci_load(struct vdev *dev, struct vdev_stream *s)
{
    struct vpci *p = vdev_state(dev);
    int error = vpci_transfer(dev, s);

    for (unsigned i = 0; error == 0 && i < FUNCTIONS_MAX; i++) {
        if (p->function[i] != NULL) {
            vpci_messages_loaded(p->function[i]);
            map_bars(p->function[i]);
        }
    }
    return error;
}

const struct vdev_class vpci_class = {
    .name = "vpci",
    .state_size = sizeof(struct vpci),
    .version = 3,
    .create = vpci_create,
    .reset = vpci_reset,
    .destroy = vpci_destroy,
    .save = vpci_transfer,
    .load = vpci_load,
};
