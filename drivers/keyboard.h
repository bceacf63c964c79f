/* The PS/2 keyboard behind the i8042 controller, as the bytes a serial terminal would send: letters
 * of the US layout, control characters, escape sequences for arrows and their neighbours.
 * Spec: IBM PS/2 "Keyboard and Auxiliary Device Controller"; scan code set 1. */
#pragma once

#include "base/types.h"

/* `typed` is called in interrupt context. Thread context. Errors: -ENODEV no controller or no
 * keyboard; what nk_irq_attach() says. */
int keyboard_init(void (*typed)(const char *s, size_t len)) NK_MUST_CHECK;

/* The bytes for one byte of scan code set 1; keeps the state of the modifiers. Returns how many. */
#define KEYBOARD_BYTES_MAX 4
size_t keyboard_decode(uint8_t code, char *out);
