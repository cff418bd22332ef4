/*
 * Short texts of a known kind in few octets, opened about as fast as they are copied: what stands in a dictionary, or in the text
 * before, is named by distance and length (LZ77), the rest is as it is. No entropy coding. Pure; any thread.
 *
 *	0lllllll                      l + 1 octets follow as they are
 *	1llllddd dddddddd [eeeeeeee]  l + 3 octets from a distance of d; l = 15: 18 + e
 *
 * Distances run back from the end of what is opened through its beginning into the dictionary, at most SQUEEZE_WINDOW.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/error.h"

#define SQUEEZE_WINDOW 2047
#define SQUEEZE_SLOTS 1024

/* A dictionary and where its strings are; what is most often in texts stands at its end. */
struct squeeze_dict {
	struct slice text;
	uint16_t at[SQUEEZE_SLOTS]; /* a position + 1; 0: none */
};

/* text: borrowed, at most SQUEEZE_WINDOW octets, the same for ever for what is to be opened. */
void squeeze_dict_init(struct squeeze_dict *dict, struct slice text);
/* Appends the text, squeezed: at most 1/128 and two octets longer than it is. Of a long one, the beginning is made shorter. No room: out fails. */
void squeeze(const struct squeeze_dict *dict, struct slice text, struct buf *out);
/* Appends the text of so many octets. ERR_CORRUPT: it is none; ERR_TOO_BIG: no room in out. Then nothing is appended. */
MUST_CHECK int squeeze_open(struct slice dict, struct slice squeezed, size_t len, struct buf *out);
