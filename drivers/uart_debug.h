/* The host's second serial port (COM2), 115200 8N1: a debugger's line, polled.
 * Threading: one CPU at a time; any context.
 * Spec: National Semiconductor PC16550D, "Registers". */
#pragma once

#include "base/types.h"

bool uart_debug_init(void); /* false: no UART answers */

/* From here on `received` is called in interrupt context with each byte that comes.
 * Errors: what nk_irq_attach() says. */
int uart_debug_listen(void (*received)(uint8_t byte)) NK_MUST_CHECK;

void uart_debug_put(uint8_t byte);
uint8_t uart_debug_get(void);  /* waits */
bool uart_debug_waiting(void); /* a byte can be got */
