/* The framebuffer console's letters: 5 by 7 dots in a cell of 8 by 16 pixels, each dot one pixel
 * wide and two high. */
#pragma once

#include "base/types.h"

#define FONT_WIDTH  8
#define FONT_HEIGHT 16

/* The pixels of a line of the letter's cell, the leftmost in bit 7. */
uint8_t font_line(char c, unsigned line);
