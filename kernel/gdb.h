/* The remote stub for gdb on the second serial port (HACKING.md, "Debug"). While gdb has control,
 * every CPU stands still. Command line: gdb=com2 listens, gdb=wait also stops the boot for gdb.
 * Spec: GDB manual, appendix E "Remote Serial Protocol". */
#pragma once

#include "base/types.h"

/* Once the page tables and exceptions are there; waits here when asked to. */
void gdb_init(void);
void gdb_listen(void); /* from here on gdb can interrupt; once device interrupts work */
