/* Inside boot/rom: the other CPUs, and what caches do. */
#pragma once

#include "base/types.h"

/* Start all CPUs once: they are counted, get the boot CPU's memory types, and halt. */
void cpus_start(void);

unsigned cpus_count(void);
unsigned cpus_apic_id(unsigned i);
