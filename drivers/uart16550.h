/* The host's first serial port (COM1), 115200 8N1: the node's console line.
 * Threading: any context but NMI, except where said.
 * Spec: National Semiconductor PC16550D, "Registers". */
#pragma once

#include "base/types.h"

/* Set the line up; false: no UART answers, and everything else does nothing. */
bool uart_init_early(void);

struct uart_client {
    void (*received)(const char *s, size_t len); /* bytes from the line; interrupt context */
    /* Up to max bytes to send, 0 when there are none; any context, interrupts off. */
    size_t (*pull)(char *out, size_t max);
    void (*sent)(void);    /* some of it went out; interrupt context */
    void (*drained)(void); /* all there was to pull is sent; interrupt context */
};

/* Receive and transmit by interrupt from here on. The client is kept, not copied.
 * Errors: -ENODEV no UART; what nk_irq_attach() says. */
int uart_init(const struct uart_client *client) NK_MUST_CHECK;

void uart_transmit_kick(void);        /* there is something to pull */
void uart_transmit_flush(size_t max); /* returns when the line took all, or max bytes and a bit */

/* Straight to the line, with no lock: early boot and panics, one CPU at a time. */
void uart_write_polled(const char *s, size_t len);

struct uart_stats {
    uint64_t received, sent, overruns; /* bytes; overruns: times the hardware lost some */
};
void uart_get_stats(struct uart_stats *out);
