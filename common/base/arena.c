/*
 * Blocks in a list, the newest first; allocation moves a pointer in it. Small first block, since most sessions
 * need little; a large request gets a block of its own.
 */
#include "common/base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#include "common/base/secret.h"

#define ARENA_FIRST 1000
#define ARENA_MOST 65000

struct arena_block {
	struct arena_block *older;
	size_t size;
	max_align_t data[];
};

static _Thread_local unsigned fail_after;

void arena_fail_after(unsigned n)
{
	fail_after = n;
}

void arena_init(struct arena *a, size_t limit)
{
	*a = (struct arena){.limit = limit};
}

static void free_from(struct arena_block *block)
{
	while (block) {
		struct arena_block *older = block->older;

		free(block);
		block = older;
	}
}

void arena_deinit(struct arena *a)
{
	free_from(a->blocks);
	arena_init(a, a->limit);
}

void arena_reset(struct arena *a)
{
	a->used = 0;
	if (!a->blocks)
		return;
	free_from(a->blocks->older);
	a->blocks->older = NULL;
	a->next = (char *)a->blocks->data;
	a->left = a->blocks->size;
}

void arena_wipe(struct arena *a)
{
	for (struct arena_block *block = a->blocks; block; block = block->older)
		secret_wipe(block->data, block->size);
	arena_reset(a);
}

static int add_block(struct arena *a, size_t need)
{
	size_t size = a->blocks ? a->blocks->size * 2 : ARENA_FIRST;
	struct arena_block *block;

	if (size > ARENA_MOST)
		size = ARENA_MOST;
	if (size < need)
		size = need;
	block = malloc(sizeof(*block) + size);
	if (!block)
		return -1;
	block->older = a->blocks;
	block->size = size;
	a->blocks = block;
	a->next = (char *)block->data;
	a->left = size;
	return 0;
}

void *arena_alloc(struct arena *a, size_t size)
{
	const size_t align = alignof(max_align_t);
	void *p;

	if (fail_after && --fail_after == 0)
		return NULL;
	if (size > SIZE_MAX / 4)
		return NULL;
	size = (size + align - 1) / align * align;
	if (size == 0)
		size = align;
	if (a->limit && size > a->limit - (a->used < a->limit ? a->used : a->limit))
		return NULL;
	if (size > a->left && add_block(a, size) < 0)
		return NULL;
	p = a->next;
	a->next += size;
	a->left -= size;
	a->used += size;
	return p;
}

void *arena_calloc(struct arena *a, size_t count, size_t size)
{
	void *p;

	if (size && count > SIZE_MAX / size)
		return NULL;
	p = arena_alloc(a, count * size);
	if (p)
		memset(p, 0, count * size);
	return p;
}

char *arena_copy_str(struct arena *a, struct slice s)
{
	char *copy = arena_alloc(a, s.len + 1);

	if (!copy)
		return NULL;
	if (s.len)
		memcpy(copy, s.p, s.len);
	copy[s.len] = '\0';
	return copy;
}

struct slice arena_copy(struct arena *a, struct slice s)
{
	char *copy = arena_copy_str(a, s);

	return copy ? (struct slice){copy, s.len} : (struct slice){NULL, 0};
}
