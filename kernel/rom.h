/* When our ROM's loader started the kernel: its record of which kernels work (boot/pack/slots.h).
 */
#pragma once

/* Tell the loader that this kernel got a node ready, and stop its watchdog; nothing to do on other
 * roads.
 * Context: once, by the thread that started the node. */
void rom_mark_good(void);
