/* A 16550A UART: the guest's serial console on a character stream of the host.
 * Spec: National Semiconductor PC16550D data sheet.
 *
 * There is no baud rate: a byte written is sent at once, if the host's stream takes it, and typed
 * bytes wait in a queue behind the receiver's FIFO until the guest makes room, so that the line
 * never overruns. What the stream does not take stays in the transmitter, which is not empty then:
 * the guest waits as for a slow line, its vCPU does not. */
#include "core/bus.h"
#include "core/irq.h"
#include "core/timer.h"
#include "core/vm.h"
#include "dev/platform.h"

enum vuart_register {
    REG_DATA, /* RBR, THR; DLL when DLAB */
    REG_IER,  /* DLM when DLAB */
    REG_IIR,  /* FCR when written */
    REG_LCR,
    REG_MCR,
    REG_LSR,
    REG_MSR,
    REG_SCR,
    REG_COUNT,
};

#define IER_VALID    0x0f
#define IER_RECEIVED 0x01
#define IER_TRANSMIT 0x02
#define IER_LINE     0x04
#define IER_MODEM    0x08

#define IIR_NONE     0x01
#define IIR_LINE     0x06
#define IIR_RECEIVED 0x04
#define IIR_TIMEOUT  0x0c
#define IIR_TRANSMIT 0x02
#define IIR_MODEM    0x00
#define IIR_FIFO     0xc0

#define FCR_ENABLE        0x01
#define FCR_CLEAR_RECEIVE 0x02

#define LCR_BREAK 0x40
#define LCR_DLAB  0x80

#define MCR_VALID 0x1f
#define MCR_DTR   0x01
#define MCR_RTS   0x02
#define MCR_OUT1  0x04
#define MCR_OUT2  0x08 /* the PC gates the interrupt with it */
#define MCR_LOOP  0x10

#define LSR_READY     0x01
#define LSR_OVERRUN   0x02
#define LSR_ERRORS    0x1e
#define LSR_FRAMING   0x08
#define LSR_BREAK     0x10
#define LSR_THR_EMPTY 0x20
#define LSR_IDLE      0x40

#define MSR_DELTA 0x0f
#define MSR_CTS   0x10
#define MSR_DSR   0x20
#define MSR_RI    0x40
#define MSR_DCD   0x80

#define FIFO_SIZE  16
#define QUEUE_SIZE 16384 /* power of two */

#define RETRY_NS 1000000 /* until a stream that was full is tried again */

static const uint8_t trigger_table[4] = {1, 4, 8, 14};

struct vuart {
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
    uint8_t divisor[2];
    uint8_t transmit_pending; /* THR empty interrupt: not yet seen in IIR */
    uint8_t fifo[FIFO_SIZE];
    uint8_t fifo_first, fifo_count;
    uint16_t fifo_breaks; /* which of the FIFO's bytes stand for breaks */
    uint8_t sent[FIFO_SIZE];
    uint8_t sent_count; /* bytes that the stream has not taken yet */
    uint32_t queue_first, queue_count;
    uint32_t break_after;      /* bytes of the queue before a break, and one; 0: none */
    uint8_t queue[QUEUE_SIZE]; /* typed, not yet in the FIFO */
    struct vmm_timer *retry;
    void *stream;
    bool lost; /* said so already */
};

/* --- interrupts ------------------------------------------------------------------------------- */

static bool fifo_enabled(const struct vuart *u)
{
    return (u->fcr & FCR_ENABLE) != 0;
}

/* By priority: data sheet table IV. The four character times after which a FIFO below its trigger
 * level is announced have always passed, since characters take no time here. */
static uint8_t interrupt_id(const struct vuart *u)
{
    unsigned trigger = fifo_enabled(u) ? trigger_table[u->fcr >> 6] : 1;

    if ((u->ier & IER_LINE) != 0 && (u->lsr & LSR_ERRORS) != 0) {
        return IIR_LINE;
    }
    if ((u->ier & IER_RECEIVED) != 0 && u->fifo_count != 0) {
        return u->fifo_count >= trigger ? IIR_RECEIVED : IIR_TIMEOUT;
    }
    if ((u->ier & IER_TRANSMIT) != 0 && u->transmit_pending) {
        return IIR_TRANSMIT;
    }
    if ((u->ier & IER_MODEM) != 0 && (u->msr & MSR_DELTA) != 0) {
        return IIR_MODEM;
    }
    return IIR_NONE;
}

static void update_irq(struct vdev *dev)
{
    const struct vuart *u = dev->state;
    /* In loopback mode OUT2 feeds the modem status and not the pin. */
    bool gate = (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

    vmm_irq_set(dev->vm, PLATFORM_COM1_IRQ, gate && interrupt_id(u) != IIR_NONE);
}

/* --- receiver --------------------------------------------------------------------------------- */

/* The marks of the byte that is next to be read: data sheet table II, LSR bits 3 and 4. */
static void fifo_look(struct vuart *u)
{
    if (u->fifo_count != 0 && (u->fifo_breaks >> u->fifo_first & 1) != 0) {
        u->fifo_breaks &= (uint16_t) ~(1u << u->fifo_first);
        u->lsr |= LSR_BREAK | LSR_FRAMING;
    }
}

static void fifo_put(struct vuart *u, uint8_t byte, bool is_break)
{
    unsigned at = (u->fifo_first + u->fifo_count) % FIFO_SIZE;

    if (u->fifo_count == (fifo_enabled(u) ? FIFO_SIZE : 1)) {
        u->lsr |= LSR_OVERRUN;
        if (!fifo_enabled(u)) { /* without FIFOs the new character replaces the old */
            u->fifo[u->fifo_first] = byte;
        }
        return;
    }
    u->fifo[at] = byte;
    u->fifo_breaks = (uint16_t)((u->fifo_breaks & ~(1u << at)) | (unsigned)is_break << at);
    u->fifo_count++;
    u->lsr |= LSR_READY;
    if (u->fifo_count == 1) {
        fifo_look(u);
    }
}

static void fifo_clear(struct vuart *u)
{
    u->fifo_first = 0;
    u->fifo_count = 0;
    u->fifo_breaks = 0;
    u->lsr &= (uint8_t)~LSR_READY;
}

static void queue_take(struct vuart *u)
{
    if (u->break_after != 0 && --u->break_after == 0) {
        fifo_put(u, 0, true); /* a break is received as a zero with its mark */
        return;
    }
    fifo_put(u, u->queue[u->queue_first], false);
    u->queue_first = (u->queue_first + 1) % QUEUE_SIZE;
    u->queue_count--;
}

/* Let typed bytes in as far as there is room; the loop cuts the receiver off from the line. */
static void fifo_fill(struct vuart *u)
{
    unsigned room = fifo_enabled(u) ? FIFO_SIZE : 1;

    while ((u->mcr & MCR_LOOP) == 0 && (u->queue_count != 0 || u->break_after != 0) &&
           u->fifo_count < room) {
        queue_take(u);
    }
}

/* The host's thread that has the user's bytes. */
static void vuart_input(void *arg, const char *bytes, size_t count)
{
    struct vdev *dev = arg;
    struct vuart *u = dev->state;
    size_t taken;

    dev->vm->ops->lock(dev->vm->host, &dev->lock);
    for (taken = 0; taken < count && u->queue_count < QUEUE_SIZE; taken++) {
        u->queue[(u->queue_first + u->queue_count) % QUEUE_SIZE] = (uint8_t)bytes[taken];
        u->queue_count++;
    }
    fifo_fill(u);
    update_irq(dev);
    if (taken < count && !u->lost) {
        u->lost = true;
        vmm_vm_log(dev->vm, VMM_LOG_WARN, "console input lost: the guest reads none of it");
    }
    dev->vm->ops->unlock(dev->vm->host, &dev->lock);
}

/* Behind what was typed before it. */
static void vuart_break(void *arg)
{
    struct vdev *dev = arg;
    struct vuart *u = dev->state;

    dev->vm->ops->lock(dev->vm->host, &dev->lock);
    if (u->break_after == 0) { /* two that are not apart are one */
        u->break_after = u->queue_count + 1;
    }
    fifo_fill(u);
    update_irq(dev);
    dev->vm->ops->unlock(dev->vm->host, &dev->lock);
}

static uint8_t read_data(struct vdev *dev)
{
    struct vuart *u = dev->state;
    uint8_t byte = 0;

    if (u->fifo_count != 0) {
        byte = u->fifo[u->fifo_first];
        u->fifo_first = (u->fifo_first + 1) % FIFO_SIZE;
        u->fifo_count--;
        fifo_look(u);
        fifo_fill(u);
        if (u->fifo_count == 0) {
            u->lsr &= (uint8_t)~LSR_READY;
        }
        update_irq(dev);
    }
    return byte;
}

/* --- transmitter ------------------------------------------------------------------------------ */

/* The register emptied: an edge of its own, even if the last one was not looked at yet. */
static void transmitter_empty(struct vdev *dev)
{
    struct vuart *u = dev->state;

    if ((u->ier & IER_TRANSMIT) != 0 && u->transmit_pending) {
        vmm_irq_set(dev->vm, PLATFORM_COM1_IRQ, false);
    }
    u->transmit_pending = 1;
    if ((u->ier & IER_TRANSMIT) != 0 || (u->mcr & MCR_LOOP) != 0) {
        update_irq(dev);
    }
}

static void retry_soon(struct vdev *dev)
{
    const struct vuart *u = dev->state;

    vmm_timer_arm(u->retry, vmm_clock_ns(dev->vm) + RETRY_NS);
}

/* Bytes beyond the FIFO are lost, as the data sheet has it; the guest was told that it is full. */
static void hold_back(struct vdev *dev, uint8_t byte)
{
    struct vuart *u = dev->state;

    if (u->sent_count < (fifo_enabled(u) ? FIFO_SIZE : 1)) {
        u->sent[u->sent_count++] = byte;
    }
    u->lsr &= (uint8_t) ~(LSR_THR_EMPTY | LSR_IDLE);
    u->transmit_pending = 0;
    update_irq(dev);
    retry_soon(dev);
}

static void vuart_retry(struct vdev *dev, void *arg)
{
    struct vuart *u = dev->state;
    size_t taken;

    (void)arg;
    if (u->sent_count == 0 || u->stream == NULL) {
        return;
    }
    taken =
        dev->vm->ops->chars->write(dev->vm->host, u->stream, (const char *)u->sent, u->sent_count);
    u->sent_count -= (uint8_t)taken;
    __builtin_memmove(u->sent, u->sent + taken, u->sent_count);
    if (u->sent_count != 0) {
        retry_soon(dev);
        return;
    }
    u->lsr |= LSR_THR_EMPTY | LSR_IDLE;
    transmitter_empty(dev);
}

static void write_data(struct vdev *dev, uint8_t byte)
{
    struct vuart *u = dev->state;
    char c = (char)byte;

    if ((u->mcr & MCR_LOOP) != 0) {
        fifo_put(u, byte, false);
    } else if (u->stream != NULL &&
               (u->sent_count != 0 ||
                dev->vm->ops->chars->write(dev->vm->host, u->stream, &c, 1) == 0)) {
        hold_back(dev, byte);
        return;
    }
    transmitter_empty(dev);
}

/* --- modem lines ------------------------------------------------------------------------------ */

/* The other side is always there; in loopback the own outputs come back (data sheet, MCR bit 4). */
static uint8_t modem_inputs(const struct vuart *u)
{
    if ((u->mcr & MCR_LOOP) == 0) {
        return MSR_CTS | MSR_DSR | MSR_DCD;
    }
    return (uint8_t)(((u->mcr & MCR_RTS) != 0 ? MSR_CTS : 0) |
                     ((u->mcr & MCR_DTR) != 0 ? MSR_DSR : 0) |
                     ((u->mcr & MCR_OUT1) != 0 ? MSR_RI : 0) |
                     ((u->mcr & MCR_OUT2) != 0 ? MSR_DCD : 0));
}

static void update_modem(struct vuart *u)
{
    uint8_t old = u->msr & (uint8_t)~MSR_DELTA, now = modem_inputs(u);
    uint8_t changed = old ^ now;
    /* RI is noticed when it ends only. */
    uint8_t delta = (uint8_t)((changed & ~MSR_RI) | (changed & old & MSR_RI)) >> 4;

    u->msr = (uint8_t)(now | (u->msr & MSR_DELTA) | delta);
}

/* --- registers -------------------------------------------------------------------------------- */

static void write_ier(struct vuart *u, uint8_t value)
{
    /* Enabling the interrupt while the register is empty raises it (data sheet 8.7.1). */
    if ((value & ~u->ier & IER_TRANSMIT) != 0 && u->sent_count == 0) {
        u->transmit_pending = 1;
    }
    u->ier = value & IER_VALID;
}

static void write_fcr(struct vuart *u, uint8_t value)
{
    if (((u->fcr ^ value) & FCR_ENABLE) != 0 || (value & FCR_CLEAR_RECEIVE) != 0) {
        fifo_clear(u);
    }
    u->fcr = (value & FCR_ENABLE) != 0 ? value & (0xc0 | FCR_ENABLE | 0x08) : 0;
    fifo_fill(u);
}

static void write_register(struct vdev *dev, unsigned reg, uint8_t value)
{
    struct vuart *u = dev->state;

    switch (reg) {
    case REG_IER:
        write_ier(u, value);
        break;
    case REG_IIR:
        write_fcr(u, value);
        break;
    case REG_LCR:
        if ((value & ~u->lcr & LCR_BREAK) != 0 && (u->mcr & MCR_LOOP) != 0) {
            fifo_put(u, 0, true);
        }
        u->lcr = value;
        break;
    case REG_MCR:
        u->mcr = value & MCR_VALID;
        update_modem(u);
        fifo_fill(u);
        break;
    case REG_SCR:
        u->scr = value;
        break;
    default: /* LSR, MSR: read only */
        break;
    }
    update_irq(dev);
}

static uint8_t read_iir(struct vdev *dev)
{
    struct vuart *u = dev->state;
    uint8_t id = interrupt_id(u);

    if (id == IIR_TRANSMIT) { /* reading it is its acknowledgement */
        u->transmit_pending = 0;
        update_irq(dev);
    }
    return id | (fifo_enabled(u) ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct vdev *dev)
{
    struct vuart *u = dev->state;
    uint8_t value = u->lsr;

    if ((value & LSR_ERRORS) != 0) {
        u->lsr &= (uint8_t)~LSR_ERRORS;
        update_irq(dev);
    }
    return value;
}

static uint8_t read_msr(struct vdev *dev)
{
    struct vuart *u = dev->state;
    uint8_t value = u->msr;

    if ((value & MSR_DELTA) != 0) {
        u->msr &= (uint8_t)~MSR_DELTA;
        update_irq(dev);
    }
    return value;
}

static uint8_t read_register(struct vdev *dev, unsigned reg)
{
    const struct vuart *u = dev->state;

    switch (reg) {
    case REG_DATA:
        return read_data(dev);
    case REG_IER:
        return u->ier;
    case REG_IIR:
        return read_iir(dev);
    case REG_LCR:
        return u->lcr;
    case REG_MCR:
        return u->mcr;
    case REG_LSR:
        return read_lsr(dev);
    case REG_MSR:
        return read_msr(dev);
    default:
        return u->scr;
    }
}

static void vuart_access(struct vdev *dev, struct vdev_access *a)
{
    struct vuart *u = dev->state;
    bool divisor = (u->lcr & LCR_DLAB) != 0 && a->offset <= REG_IER;

    if (divisor) {
        if (a->write) {
            u->divisor[a->offset] = (uint8_t)a->value;
        } else {
            a->value = u->divisor[a->offset];
        }
    } else if (!a->write) {
        a->value = read_register(dev, (unsigned)a->offset);
    } else if (a->offset == REG_DATA) {
        write_data(dev, (uint8_t)a->value);
    } else {
        write_register(dev, (unsigned)a->offset, (uint8_t)a->value);
    }
}

/* --- class ------------------------------------------------------------------------------------ */

static void vuart_reset(struct vdev *dev)
{
    struct vuart *u = dev->state;

    u->ier = 0;
    u->fcr = 0;
    u->lcr = 0;
    u->mcr = 0;
    u->scr = 0;
    u->lsr = LSR_THR_EMPTY | LSR_IDLE;
    u->sent_count = 0;
    u->msr = modem_inputs(u);
    u->transmit_pending = 0;
    u->divisor[0] = 1; /* 115200, as firmware sets it */
    u->divisor[1] = 0;
    fifo_clear(u);
    update_irq(dev);
}

static int vuart_create(struct vdev *dev)
{
    struct vuart *u = dev->state;
    struct vm *vm = dev->vm;
    const struct vmm_char_receiver receiver = {vuart_input, vuart_break, dev};
    int error = vmm_timer_create(dev, vuart_retry, NULL, &u->retry);

    if (error == 0 && vm->ops->chars != NULL) {
        error = vm->ops->chars->open(vm->host, vm->config.name, &receiver, &u->stream);
    }
    if (error != 0) {
        return error;
    }
    vm->console_stream = u->stream;
    return vdev_claim_bytes(dev, PLATFORM_COM1, REG_COUNT, vuart_access);
}

static void vuart_destroy(struct vdev *dev)
{
    struct vuart *u = dev->state;

    if (u->stream != NULL) {
        dev->vm->ops->chars->close(dev->vm->host, u->stream);
        dev->vm->console_stream = NULL;
    }
    vmm_timer_destroy(u->retry);
}

static int vuart_save(struct vdev *dev, struct vdev_stream *out)
{
    return out->transfer(out, vdev_state(dev), offsetof(struct vuart, retry));
}

static int vuart_load(struct vdev *dev, struct vdev_stream *in)
{
    struct vuart *u = dev->state;
    int error = in->transfer(in, u, offsetof(struct vuart, retry));

    u->fifo_first %= FIFO_SIZE;
    u->queue_first %= QUEUE_SIZE;
    if (error == 0 && (u->fifo_count > FIFO_SIZE || u->queue_count > QUEUE_SIZE ||
                       u->sent_count > FIFO_SIZE || u->break_after > u->queue_count + 1)) {
        error = -VMM_EINVAL;
    }
    if (error != 0) { /* nothing that the device cannot hold, even so */
        fifo_clear(u);
        u->queue_count = u->break_after = u->sent_count = 0;
    }
    if (u->sent_count != 0) {
        vmm_timer_run_soon(u->retry); /* when everything is loaded */
    }
    return error;
}

const struct vdev_class vuart_class = {
    .name = "vuart",
    .state_size = sizeof(struct vuart),
    .version = 2,
    .create = vuart_create,
    .reset = vuart_reset,
    .destroy = vuart_destroy,
    .save = vuart_save,
    .load = vuart_load,
};
