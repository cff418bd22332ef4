/*
 * An arena: many small allocations, freed as a whole. It has a limit that counts every byte handed out, and
 * returns NULL beyond it, so that memory before login is capped. One thread at a time.
 */
#pragma once

#include "common/base/slice.h"

struct arena_block;

struct arena {
	struct arena_block *blocks;
	char *next;
	size_t left;
	size_t used;  /* bytes handed out since the last reset */
	size_t limit; /* 0: none */
};

void arena_init(struct arena *a, size_t limit);
/* Frees everything. */
void arena_deinit(struct arena *a);
/* Forgets everything handed out; keeps one block of memory for the next round. */
void arena_reset(struct arena *a);

/* Overwrites all of its memory, then resets: secrets were in it. */
void arena_wipe(struct arena *a);

/* Aligned for any type, not zeroed; NULL beyond the limit or without memory. */
void *arena_alloc(struct arena *a, size_t size);
/* Zeroed, count * size checked; NULL as above. */
void *arena_calloc(struct arena *a, size_t count, size_t size);
/* Copies; p is NULL beyond the limit (and len 0). A NUL follows the copy. */
struct slice arena_copy(struct arena *a, struct slice s);
char *arena_copy_str(struct arena *a, struct slice s);

/* Tests only: the n-th following allocation of any arena of this thread fails; 0 switches it off. */
void arena_fail_after(unsigned n);
