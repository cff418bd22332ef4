/*
 * A frame: a piece of a message, compressed by zstd. Small ones refer to a dictionary that is part of the program; what was stored
 * before there was one is read as ever.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/slice.h"

/* A compressor, one thread's at a time. */
struct frame_press;
struct frame_press *frame_press_new(void);
void frame_press_free(struct frame_press **press);
/* Octets that a frame of so many may take. */
size_t frame_bound(size_t raw_len);
/* Compresses to room, which has frame_bound(raw.len) octets. ERR_NOT_NOW. */
MUST_CHECK int frame_pack(struct frame_press *press, struct slice raw, char *room, size_t *len_out);

/* Its opposite, one thread's at a time. NULL: no memory. */
struct frame_opener;
struct frame_opener *frame_opener_new(void);
void frame_opener_free(struct frame_opener **opener);
/* Exactly size octets to room. ERR_CORRUPT: that is not what the frame, whose octets may be anybody's, has. */
MUST_CHECK int frame_open(struct frame_opener *opener, struct slice frame, char *room, size_t size);
/* The length of the frame that a stream begins with. ERR_CORRUPT: with none. */
MUST_CHECK int frame_length(struct slice stream, size_t *len_out);
