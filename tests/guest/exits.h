/* The parts of the guest "exits". */
#pragma once

void exits_pio(void);
void exits_mmio(void);
void exits_prefix(void);
