/* Error numbers: newlib's, returned negative. */
#pragma once

#include <errno.h>
