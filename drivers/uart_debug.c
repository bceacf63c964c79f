#include "drivers/uart_debug.h"

#include "base/x86.h"
#include "kernel/irq.h"

#define COM2_PORT 0x2f8
#define COM2_IRQ  3

enum reg {
    REG_DATA = 0,
    REG_IER = 1,
    REG_FCR = 2,
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_SCR = 7
};

#define IER_RECEIVE    0x01
#define FCR_ENABLE     0x07 /* and both FIFOs cleared */
#define LCR_8N1        0x03
#define LCR_DLAB       0x80
#define MCR_ALL        0x0b /* DTR, RTS, and OUT2, which gates the interrupt line on a PC */
#define LSR_DATA       0x01
#define LSR_THR_EMPTY  0x20
#define LSR_NOBODY     0xff /* no UART answers any more */
#define DIVISOR_115200 1

static void (*notify)(uint8_t byte);

static uint8_t read_reg(enum reg reg)
{
    return x86_inb((uint16_t)(COM2_PORT + reg));
}

static void write_reg(enum reg reg, uint8_t v)
{
    x86_outb((uint16_t)(COM2_PORT + reg), v);
}

bool uart_debug_init(void)
{
    write_reg(REG_SCR, 0xa5);
    if (read_reg(REG_SCR) != 0xa5) {
        return false;
    }
    write_reg(REG_IER, 0);
    write_reg(REG_LCR, LCR_DLAB);
    write_reg(REG_DATA, DIVISOR_115200);
    write_reg(REG_IER, 0);
    write_reg(REG_LCR, LCR_8N1);
    write_reg(REG_FCR, FCR_ENABLE);
    write_reg(REG_MCR, MCR_ALL);
    return true;
}

static bool interrupt(void *arg)
{
    (void)arg;
    while (uart_debug_waiting()) {
        notify(uart_debug_get());
    }
    return true;
}

int uart_debug_listen(void (*received)(uint8_t byte))
{
    notify = received;
    int err = nk_irq_attach(COM2_IRQ, "com2 (gdb)", interrupt, NULL);
    if (err == 0) {
        write_reg(REG_IER, IER_RECEIVE);
    }
    return err;
}

void uart_debug_put(uint8_t byte)
{
    while (!(read_reg(REG_LSR) & LSR_THR_EMPTY)) {
        x86_pause();
    }
    write_reg(REG_DATA, byte);
}

bool uart_debug_waiting(void)
{
    uint8_t lsr = read_reg(REG_LSR);
    return lsr != LSR_NOBODY && (lsr & LSR_DATA);
}

uint8_t uart_debug_get(void)
{
    while (!uart_debug_waiting()) {
        x86_pause();
    }
    return read_reg(REG_DATA);
}
