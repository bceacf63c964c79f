/* What an administrator wants to know of the node, in the boot log. */
#pragma once

/* Boot road, command line, CPUs, memory per NUMA node, modules: one line each.
 * Context: thread, after SMP start. */
void report_node(void);
