/* What this image was built from. */
#pragma once

extern const char nk_version[]; /* "v1.2-3-gabcdef0", or a bare commit */
