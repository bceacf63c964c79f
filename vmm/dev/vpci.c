/* PCI configuration mechanism 1, a bus with the bridges of a 440FX and PIIX board, and the reset
 * control register that lies among the mechanism's ports.
 * Spec: PCI Local Bus 3.0 section 3.2.2.3.2; Intel 82441FX and 82371AB data sheets. */
#include "core/bus.h"
#include "core/vm.h"
#include "dev/platform.h"

#define PORT           0xcf8
#define PORTS          8
#define OFFSET_DATA    4
#define OFFSET_RESET   (PLATFORM_RESET_PORT - PORT)
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_VALID  0x80fffffcu
#define CONFIG_SIZE    256
#define RESET_CPU      0x04 /* a rising edge resets */
#define RESET_VALID    0x0e

#define CONFIG_VENDOR   0x00
#define CONFIG_COMMAND  0x04
#define CONFIG_CLASS    0x08 /* with the revision below */
#define CONFIG_HEADER   0x0e
#define CONFIG_IRQ_LINE 0x3c
#define CONFIG_IRQ_PIN  0x3d
#define HEADER_MULTI    0x80
#define COMMAND_IO      0x01
#define COMMAND_MEMORY  0x02
#define COMMAND_MASTER  0x04
#define COMMAND_SERR    0x0100

#define BRIDGE_PAM     0x59 /* to 0x5f: shadowing of ROM areas; stored, not obeyed */
#define BRIDGE_SMRAM   0x72
#define ISA_ROUTE      0x60 /* to 0x63: PIRQA..PIRQD */
#define ISA_ROUTE_OFF  0x80
#define PM_BASE        0x40
#define PM_SMM         0x5b /* of DEVACTB: bits 31 to 24 */
#define PM_SMM_ENABLED 0x02 /* a firmware has set SMM up: the next one need not, there is none */
#define PM_BASE_ENABLE 0x80
#define BAR_IO         0x01

enum vpci_function { BRIDGE, ISA, PM, FUNCTION_COUNT };

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

static void config_access(struct vpci *p, struct vdev_access *a)
{
    int function = selected(p);
    unsigned at = (p->address & 0xfc) + (unsigned)a->offset - OFFSET_DATA;
    uint64_t value = 0;

    if (function < 0) {
        return; /* reads are all ones already: a master abort */
    }
    for (unsigned i = 0; i < a->size; i++) {
        if (a->write) {
            write_byte(p, (unsigned)function, at + i, (uint8_t)(a->value >> (8 * i)));
        } else {
            value |= (uint64_t)p->config[function][at + i] << (8 * i);
        }
    }
    a->value = value;
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
        config_access(p, a);
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

static void put(uint8_t *config, unsigned at, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        config[at + i] = (uint8_t)(value >> (8 * i));
    }
}

static void vpci_reset(struct vdev *dev)
{
    struct vpci *p = vdev_state(dev);

    *p = (struct vpci){0};
    for (unsigned i = 0; i < FUNCTION_COUNT; i++) {
        const struct vpci_identity *id = &identity_table[i];

        put(p->config[i], CONFIG_VENDOR, id->vendor | (uint32_t)id->device << 16, 4);
        put(p->config[i], CONFIG_COMMAND, id->command, 2);
        put(p->config[i], CONFIG_CLASS, id->class, 4);
        p->config[i][CONFIG_HEADER] = id->header;
    }
    for (unsigned i = 0; i < 4; i++) {
        p->config[ISA][ISA_ROUTE + i] = ISA_ROUTE_OFF;
    }
    p->config[PM][CONFIG_IRQ_LINE] = PLATFORM_SCI_IRQ;
    p->config[PM][CONFIG_IRQ_PIN] = 1;
    put(p->config[PM], PM_BASE, PLATFORM_PM_BASE | BAR_IO, 4);
    p->config[PM][PM_SMM] = PM_SMM_ENABLED;
    p->config[PM][PM_BASE_ENABLE] = 1;
}

static int vpci_create(struct vdev *dev)
{
    return vdev_claim(dev, VDEV_PIO, PORT, PORTS, vpci_access);
}

static int vpci_transfer(struct vdev *dev, struct vdev_stream *s)
{
    struct vpci *p = vdev_state(dev);
    int error = s->transfer(s, &p->address, sizeof(p->address));

    if (error == 0) {
        error = s->transfer(s, &p->reset_control, sizeof(p->reset_control));
    }
    return error != 0 ? error : s->transfer(s, p->config, sizeof(p->config));
}

const struct vdev_class vpci_class = {
    .name = "vpci",
    .state_size = sizeof(struct vpci),
    .version = 1,
    .create = vpci_create,
    .reset = vpci_reset,
    .save = vpci_transfer,
    .load = vpci_transfer,
};
