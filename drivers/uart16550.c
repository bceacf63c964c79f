#include "drivers/uart16550.h"

#include <errno.h>

#include "base/spinlock.h"
#include "base/x86.h"
#include "kernel/irq.h"

#define COM1_PORT 0x3f8
#define COM1_IRQ  4

enum reg {
    REG_DATA = 0, /* RBR, THR; divisor low with LCR.DLAB */
    REG_IER = 1,  /* divisor high with LCR.DLAB */
    REG_IIR = 2,
    REG_FCR = 2,
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCR = 7,
};

#define IER_RECEIVE    0x01
#define IER_TRANSMIT   0x02
#define IIR_NONE       0x01
#define FCR_ENABLE     0x01
#define FCR_CLEAR      0x06 /* both FIFOs */
#define FCR_TRIGGER_8  0x80
#define LCR_8N1        0x03
#define LCR_DLAB       0x80
#define MCR_DTR_RTS    0x03
#define MCR_OUT2       0x08 /* gates the interrupt line on a PC */
#define LSR_DATA       0x01
#define LSR_OVERRUN    0x02
#define LSR_THR_EMPTY  0x20
#define LSR_ALL_EMPTY  0x40
#define FIFO_BYTES     16
#define DIVISOR_115200 1
#define POLL_SPIN_MAX  1000000u /* a dead line must not stop a panic */
#define IRQ_ROUNDS_MAX 64       /* an IIR stuck at "pending" must not stop the node */

static struct {
    struct nk_spinlock lock; /* the registers' order of access, stats; never taken by writers */
    bool present;
    bool sending; /* atomic: the transmitter's interrupt will come and pull what there is */
    const struct uart_client *client;
    struct uart_stats stats;
} uart = {.lock = NK_SPINLOCK_INIT(NK_RANK_LOG)};

static uint8_t uart_read(enum reg reg)
{
    return x86_inb((uint16_t)(COM1_PORT + reg));
}

static void uart_write(enum reg reg, uint8_t v)
{
    x86_outb((uint16_t)(COM1_PORT + reg), v);
}

bool uart_init_early(void)
{
    uart_write(REG_SCR, 0x5a);
    if (uart_read(REG_SCR) != 0x5a) {
        return false;
    }
    uart_write(REG_IER, 0);
    uart_write(REG_LCR, LCR_DLAB);
    uart_write(REG_DATA, DIVISOR_115200);
    uart_write(REG_IER, 0);
    uart_write(REG_LCR, LCR_8N1);
    uart_write(REG_FCR, FCR_ENABLE | FCR_CLEAR | FCR_TRIGGER_8);
    uart_write(REG_MCR, MCR_DTR_RTS | MCR_OUT2);
    uart.present = true;
    return true;
}

static void wait_for(uint8_t lsr_bit)
{
    for (unsigned i = 0; i < POLL_SPIN_MAX && !(uart_read(REG_LSR) & lsr_bit); i++) {
        x86_pause();
    }
}

void uart_write_polled(const char *s, size_t len)
{
    for (size_t i = 0; uart.present && i < len; i++) {
        wait_for(LSR_THR_EMPTY);
        uart_write(REG_DATA, (uint8_t)s[i]);
    }
}

/* One FIFO's worth into the empty transmitter; false when there was nothing. Lock held. */
static bool fill_transmitter(void)
{
    char bytes[FIFO_BYTES];
    size_t count = uart.client->pull(bytes, sizeof(bytes));
    for (size_t i = 0; i < count; i++) {
        uart_write(REG_DATA, (uint8_t)bytes[i]);
    }
    uart.stats.sent += count;
    return count != 0;
}

/* What the receiver holds, up to max; reading LSR also clears its error bits. Lock held. */
static size_t drain_receiver(char *out, size_t max)
{
    size_t count = 0;
    while (count < max) {
        uint8_t lsr = uart_read(REG_LSR);
        uart.stats.overruns += (lsr & LSR_OVERRUN) != 0;
        if (!(lsr & LSR_DATA)) {
            break;
        }
        out[count++] = (char)uart_read(REG_DATA);
    }
    uart.stats.received += count;
    return count;
}

/* The transmitter's part of an interrupt; true when there is nothing left to send. Lock held. */
static bool serve_transmitter(void)
{
    if (!__atomic_load_n(&uart.sending, __ATOMIC_RELAXED) ||
        !(uart_read(REG_LSR) & LSR_THR_EMPTY) || fill_transmitter()) {
        return false;
    }
    /* A writer looks at `sending` after it has put its bytes: either it sees false here and kicks,
     * or the second look at the bytes finds them. */
    __atomic_store_n(&uart.sending, false, __ATOMIC_SEQ_CST);
    if (!fill_transmitter()) {
        return true;
    }
    __atomic_store_n(&uart.sending, true, __ATOMIC_SEQ_CST);
    return false;
}

/* Serve what the line has for us once; false: nothing. */
static bool serve(void)
{
    char bytes[2 * FIFO_BYTES];
    nk_spinlock_acquire(&uart.lock);
    if (uart_read(REG_IIR) & IIR_NONE) {
        nk_spinlock_release(&uart.lock);
        return false;
    }
    size_t count = drain_receiver(bytes, sizeof(bytes));
    bool drained = serve_transmitter();
    nk_spinlock_release(&uart.lock);
    if (count) {
        uart.client->received(bytes, count);
    }
    uart.client->sent();
    if (drained) {
        uart.client->drained();
    }
    return true;
}

/* Causes that are up make a new edge: dropping their enable bits drops the line. */
static void raise_line_again(void)
{
    uart_write(REG_IER, IER_RECEIVE);
    uart_write(REG_IER, IER_RECEIVE | IER_TRANSMIT);
}

/* The line is an edge on ISA: a cause that stays up gives no second one, so all must be served. */
static bool uart_interrupt(void *arg)
{
    (void)arg;
    unsigned rounds = 0;
    while (rounds < IRQ_ROUNDS_MAX && serve()) {
        rounds++;
    }
    if (rounds == IRQ_ROUNDS_MAX) {
        uart_write(REG_IER, 0);
        raise_line_again(); /* others have the CPU until then */
    }
    /* An edge may be left over whose cause was served before: nothing to do is not an error. */
    return true;
}

int uart_init(const struct uart_client *client)
{
    if (!uart.present) {
        return -ENODEV;
    }
    uart.client = client;
    int err = nk_irq_attach(COM1_IRQ, "com1", uart_interrupt, NULL);
    if (err < 0) {
        return err;
    }
    raise_line_again();
    return 0;
}

void uart_transmit_kick(void)
{
    /* Enabling the interrupt while the transmitter is empty raises it at once; the bytes themselves
     * then go out on the CPU that serves the line, not on the writer's. Two kicks at a time are one
     * interrupt too many, no more. */
    if (uart.present && !__atomic_exchange_n(&uart.sending, true, __ATOMIC_SEQ_CST)) {
        raise_line_again();
    }
}

void uart_transmit_flush(size_t max)
{
    bool more = uart.present && uart.client;
    for (size_t sent = 0; more && sent < max; sent += FIFO_BYTES) {
        uint64_t flags = nk_spin_lock_irqsave(&uart.lock);
        wait_for(LSR_THR_EMPTY);
        more = fill_transmitter();
        nk_spin_unlock_irqrestore(&uart.lock, flags);
    }
    if (uart.present) {
        wait_for(LSR_ALL_EMPTY);
    }
}

void uart_get_stats(struct uart_stats *out)
{
    *out = uart.stats;
}
