/* Two 8259A interrupt controllers in cascade, with the edge/level registers of the PIIX.
 * Spec: Intel 8259A data sheet; Intel 82371AB (PIIX4) data sheet, "Interrupt Controller". */
#include "dev/vpic.h"

#include "core/irq.h"
#include "core/vm.h"

#define MASTER_PORT   0x20
#define SLAVE_PORT    0xa0
#define ELCR_PORT     0x4d0
#define CASCADE_LINE  2
#define SPURIOUS_LINE 7
#define ELCR_MASTER   0xf8 /* lines 0, 1 and 2 are always edge */
#define ELCR_SLAVE    0xde /* so are 8 and 13 */

#define ICW1_INIT      0x10
#define ICW1_SINGLE    0x02
#define ICW1_NEED_ICW4 0x01
#define ICW4_NESTED    0x10
#define ICW4_AUTO_EOI  0x02
#define OCW3_SELECT    0x08
#define OCW3_POLL      0x04
#define POLL_REQUEST   0x80

enum vpic_step { STEP_READY, STEP_ICW2, STEP_ICW3, STEP_ICW4 };

struct vpic_chip {
    uint8_t irr, isr, imr;
    uint8_t line; /* levels of the inputs */
    uint8_t elcr;
    uint8_t base;   /* vector of input 0 */
    uint8_t lowest; /* the input of lowest priority */
    uint8_t step;   /* enum vpic_step: the initialisation word that comes next */
    uint8_t icw1;
    uint8_t auto_eoi, rotate_on_auto_eoi, nested, special_mask;
    uint8_t poll, read_isr; /* what the next read gives */
};

struct vpic {
    struct vpic_chip chip[2];
};

static struct vpic *vpic_of(struct vm *vm)
{
    return vm->pic->state;
}

/* --- priorities ------------------------------------------------------------------------------- */

/* The input of highest priority in the set, -1: it is empty. */
static int chip_first(const struct vpic_chip *c, uint8_t set)
{
    unsigned highest = (c->lowest + 1u) & 7;
    unsigned rotated = ((unsigned)set << 8 | set) >> highest;

    return set == 0 ? -1 : (int)(((unsigned)__builtin_ctz(rotated) + highest) & 7);
}

static unsigned chip_rank(const struct vpic_chip *c, int input)
{
    return (unsigned)(input - c->lowest - 1) & 7;
}

/* The input whose interrupt the chip asks for, -1: none. */
static inline int chip_request(const struct vpic_chip *c)
{
    uint8_t asking = c->irr & (uint8_t)~c->imr;
    uint8_t blocking = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
    int request, serviced;

    if (vmm_likely(asking == 0)) {
        return -1;
    }
    request = chip_first(c, asking);
    if (c->nested) { /* a further request of the slave passes the one in service */
        blocking &= (uint8_t) ~(1 << CASCADE_LINE);
    }
    serviced = chip_first(c, blocking);
    return serviced < 0 || chip_rank(c, request) < chip_rank(c, serviced) ? request : -1;
}

static void chip_set_line(struct vpic_chip *c, unsigned input, bool level)
{
    uint8_t bit = (uint8_t)(1 << input);

    if (!level) {
        c->irr &= (uint8_t)~bit; /* an edge whose line falls before INTA is lost */
        c->line &= (uint8_t)~bit;
    } else {
        if ((c->elcr & bit) != 0 || (c->line & bit) == 0) {
            c->irr |= bit;
        }
        c->line |= bit;
    }
}

static void vpic_update(struct vm *vm)
{
    struct vpic *p = vpic_of(vm);
    struct vpic_chip *master = &p->chip[0];
    bool slave = chip_request(&p->chip[1]) >= 0;
    uint8_t cascade = 1 << CASCADE_LINE;

    bool output;

    /* The slave's INT drops between its requests, so the master sees an edge for each. */
    master->irr = slave ? master->irr | cascade : master->irr & (uint8_t)~cascade;
    master->line = slave ? master->line | cascade : master->line & (uint8_t)~cascade;
    output = chip_request(master) >= 0;
    if (output != vm->irq->pic_output) {
        vmm_irq_pic_output(vm, output);
    }
}

static void chip_eoi(struct vpic_chip *c, int input, bool rotate)
{
    if (input >= 0) {
        c->isr &= (uint8_t) ~(1 << input);
        if (rotate) {
            c->lowest = (uint8_t)input;
        }
    }
}

/* The chip's part of an INTA cycle. Returns the input, SPURIOUS_LINE if nothing asks any more. */
static unsigned chip_acknowledge(struct vpic_chip *c)
{
    int input = chip_request(c);
    uint8_t bit;

    if (input < 0) {
        return SPURIOUS_LINE;
    }
    bit = (uint8_t)(1 << input);
    if ((c->elcr & bit) == 0) {
        c->irr &= (uint8_t)~bit;
    }
    c->isr |= bit;
    if (c->auto_eoi) {
        chip_eoi(c, input, c->rotate_on_auto_eoi);
    }
    return (unsigned)input;
}

/* --- for the fabric --------------------------------------------------------------------------- */

static void vpic_lock(struct vm *vm)
{
    vm->ops->lock(vm->host, &vm->pic->lock);
}

static void vpic_unlock(struct vm *vm)
{
    vm->ops->unlock(vm->host, &vm->pic->lock);
}

void vpic_set_line(struct vm *vm, unsigned irq, bool level)
{
    vpic_lock(vm);
    chip_set_line(&vpic_of(vm)->chip[irq / 8], irq % 8, level);
    vpic_update(vm);
    vpic_unlock(vm);
}

uint8_t vpic_acknowledge(struct vm *vm)
{
    struct vpic *p = vpic_of(vm);
    uint8_t vector;
    unsigned input;

    vpic_lock(vm);
    input = chip_acknowledge(&p->chip[0]);
    vector = (uint8_t)(p->chip[0].base + input);
    if (input == CASCADE_LINE) {
        vector = (uint8_t)(p->chip[1].base + chip_acknowledge(&p->chip[1]));
    }
    vpic_update(vm);
    vpic_unlock(vm);
    return vector;
}

static uint8_t chip_peek(const struct vpic_chip *c)
{
    int input = chip_request(c);

    return (uint8_t)(input < 0 ? SPURIOUS_LINE : input);
}

uint8_t vpic_peek(struct vm *vm)
{
    struct vpic *p = vpic_of(vm);
    uint8_t input, vector;

    vpic_lock(vm);
    input = chip_peek(&p->chip[0]);
    vector = input == CASCADE_LINE ? (uint8_t)(p->chip[1].base + chip_peek(&p->chip[1]))
                                   : (uint8_t)(p->chip[0].base + input);
    vpic_unlock(vm);
    return vector;
}

bool vpic_masked(struct vm *vm, unsigned irq)
{
    const struct vpic *p = vpic_of(vm);
    uint8_t slave = irq < 8 ? 0 : __atomic_load_n(&p->chip[0].imr, __ATOMIC_RELAXED);

    return (__atomic_load_n(&p->chip[irq / 8].imr, __ATOMIC_RELAXED) >> (irq % 8) & 1) != 0 ||
           (slave >> CASCADE_LINE & 1) != 0;
}

bool vpic_pending(struct vm *vm, unsigned irq)
{
    return (__atomic_load_n(&vpic_of(vm)->chip[irq / 8].irr, __ATOMIC_RELAXED) >> (irq % 8) & 1) !=
           0;
}

/* --- registers -------------------------------------------------------------------------------- */

/* ICW1 begins initialisation: data sheet, "Initialization Command Words". */
static void chip_icw1(struct vpic_chip *c, uint8_t value)
{
    c->icw1 = value;
    c->step = STEP_ICW2;
    c->imr = 0;
    c->isr = 0;
    c->irr = c->line & c->elcr; /* the edge sense circuit is reset */
    c->lowest = 7;
    c->special_mask = 0;
    c->read_isr = 0;
    c->poll = 0;
    c->rotate_on_auto_eoi = 0;
    if ((value & ICW1_NEED_ICW4) == 0) {
        c->auto_eoi = 0;
        c->nested = 0;
    }
}

static void chip_ocw2(struct vpic_chip *c, uint8_t value)
{
    int level = value & 7;
    uint8_t unmasked = c->special_mask ? c->isr & ~c->imr : c->isr;

    switch (value >> 5) {
    case 0: /* rotate in automatic EOI mode: clear */
    case 4: /* set */
        c->rotate_on_auto_eoi = value >> 7;
        break;
    case 1: /* non-specific EOI */
    case 5: /* the same, rotating */
        chip_eoi(c, chip_first(c, unmasked), value >> 7);
        break;
    case 3: /* specific EOI */
    case 7: /* the same, rotating */
        chip_eoi(c, level, value >> 7);
        break;
    case 6:
        c->lowest = (uint8_t)level;
        break;
    default: /* 2: no operation */
        break;
    }
}

static void chip_ocw3(struct vpic_chip *c, uint8_t value)
{
    c->poll = (value & OCW3_POLL) != 0;
    if ((value & 2) != 0) {
        c->read_isr = value & 1;
    }
    if ((value & 0x40) != 0) {
        c->special_mask = value >> 5 & 1;
    }
}

static void chip_write_command(struct vpic_chip *c, uint8_t value)
{
    if ((value & ICW1_INIT) != 0) {
        chip_icw1(c, value);
    } else if ((value & OCW3_SELECT) != 0) {
        chip_ocw3(c, value);
    } else {
        chip_ocw2(c, value);
    }
}

static void chip_write_data(struct vpic_chip *c, uint8_t value)
{
    uint8_t last = (c->icw1 & ICW1_NEED_ICW4) != 0 ? STEP_ICW4 : STEP_READY;

    switch (c->step) {
    case STEP_ICW2:
        c->base = value & 0xf8;
        c->step = (c->icw1 & ICW1_SINGLE) != 0 ? last : STEP_ICW3;
        break;
    case STEP_ICW3: /* the cascade is wired: line 2 */
        c->step = last;
        break;
    case STEP_ICW4:
        c->nested = (value & ICW4_NESTED) != 0;
        c->auto_eoi = (value & ICW4_AUTO_EOI) != 0;
        c->step = STEP_READY;
        break;
    default: /* OCW1 */
        __atomic_store_n(&c->imr, value, __ATOMIC_RELAXED);
        break;
    }
}

static uint8_t chip_read(struct vpic_chip *c, unsigned port)
{
    if (c->poll) { /* a read that acts as INTA: data sheet, "Poll Command" */
        c->poll = 0;
        return chip_request(c) < 0 ? 0 : (uint8_t)(POLL_REQUEST | chip_acknowledge(c));
    }
    if (port == 1) {
        return c->imr;
    }
    return c->read_isr ? c->isr : c->irr;
}

static void chip_write(struct vdev *dev, struct vpic_chip *c, struct vdev_access *a)
{
    uint8_t imr = c->imr;

    if (a->offset == 0) {
        chip_write_command(c, (uint8_t)a->value);
    } else {
        chip_write_data(c, (uint8_t)a->value);
    }
    vpic_update(dev->vm);
    if ((imr & ~c->imr & 1) != 0) { /* of the slave's line 8 too: a look too many */
        vmm_irq_line0_unmasked(dev->vm);
    }
}

/* Systems write their masks again and again: what changes nothing is soon done. */
static void vpic_access_chip(struct vdev *dev, struct vpic_chip *c, struct vdev_access *a)
{
    uint8_t polled = c->poll;

    if (a->write) {
        if (a->offset == 0 || c->step != STEP_READY || c->imr != (uint8_t)a->value) {
            chip_write(dev, c, a);
        }
        return;
    }
    a->value = chip_read(c, (unsigned)a->offset);
    if (polled) {
        vpic_update(dev->vm);
    }
}

static void vpic_access_master(struct vdev *dev, struct vdev_access *a)
{
    vpic_access_chip(dev, &vpic_of(dev->vm)->chip[0], a);
}

static void vpic_access_slave(struct vdev *dev, struct vdev_access *a)
{
    vpic_access_chip(dev, &vpic_of(dev->vm)->chip[1], a);
}

static void vpic_access_elcr(struct vdev *dev, struct vdev_access *a)
{
    struct vpic_chip *c = &vpic_of(dev->vm)->chip[a->offset];

    if (!a->write) {
        a->value = c->elcr;
        return;
    }
    c->elcr = (uint8_t)a->value & (a->offset == 0 ? ELCR_MASTER : ELCR_SLAVE);
    c->irr |= c->line & c->elcr;
    vpic_update(dev->vm);
}

/* --- class ------------------------------------------------------------------------------------ */

static void vpic_reset(struct vdev *dev)
{
    struct vpic *p = vdev_state(dev);

    for (unsigned i = 0; i < 2; i++) {
        /* All masked until the guest says otherwise: firmware would have left them so. */
        p->chip[i] = (struct vpic_chip){.imr = 0xff, .lowest = 7, .base = i == 0 ? 0x08 : 0x70};
    }
    vpic_update(dev->vm);
}

static int vpic_create(struct vdev *dev)
{
    int error = vdev_claim_bytes(dev, MASTER_PORT, 2, vpic_access_master);

    if (error == 0) {
        error = vdev_claim_bytes(dev, SLAVE_PORT, 2, vpic_access_slave);
    }
    if (error == 0) {
        error = vdev_claim_bytes(dev, ELCR_PORT, 2, vpic_access_elcr);
    }
    if (error == 0) {
        dev->vm->pic = dev;
    }
    return error;
}

static int vpic_save(struct vdev *dev, struct vdev_stream *out)
{
    return out->transfer(out, vdev_state(dev), sizeof(struct vpic));
}

static int vpic_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vpic *p = vdev_state(dev);
    int error = in->transfer(in, p, sizeof(*p));

    for (unsigned i = 0; i < 2; i++) {
        p->chip[i].lowest &= 7;
    }
    if (error == 0) {
        vpic_update(dev->vm);
    }
    return error;
}

const struct vdev_class vpic_class = {
    .name = "vpic",
    .state_size = sizeof(struct vpic),
    .version = 1,
    .create = vpic_create,
    .reset = vpic_reset,
    .save = vpic_save,
    .load = vpic_load,
};
