#include "kernel/version.h"

const char nk_version[] = NK_VERSION; /* from the build: build/gen/version.h */
