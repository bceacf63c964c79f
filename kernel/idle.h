/* What a CPU does that has nothing to do: MWAIT where there is a monitor, HLT elsewhere.
 * Spec: Intel SDM vol. 3 section 9.10.4, AMD APM vol. 3 "MONITOR", "MWAIT". */
#pragma once

/* Chooses; `idle=mwait` and `idle=hlt` on the command line override what CPUID leaf 5 says. */
void idle_init(void);

/* With all CPUs there: does a store wake one of them? Else all of them halt. */
void idle_check(void);
