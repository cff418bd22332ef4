/* malloc that ends the program instead of failing: see mem.h for what may use it. */
#include "common/base/mem.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/attr.h"

/*
 * glibc raises its threshold for mmap to the largest block freed so far: after one password hash (19 MiB) every
 * thread's arena would keep as much for ever. A threshold that is set stays. LMDB's lists (2 MiB) stay below it.
 */
#define MMAP_FROM (4 * 1024 * 1024)

void mem_init(void)
{
	mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
	mallopt(M_TRIM_THRESHOLD, MMAP_FROM);
}

void *xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	require(p);
	return p;
}

void *xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	require(p);
	return p;
}

void *xreallocarray(void *p, size_t count, size_t size)
{
	require(size == 0 || count <= SIZE_MAX / size);
	size *= count;
	p = realloc(p, size ? size : 1);
	require(p);
	return p;
}

char *xmemdup0(const void *p, size_t len)
{
	char *copy = xmalloc(len + 1);

	if (len)
		memcpy(copy, p, len);
	copy[len] = '\0';
	return copy;
}

char *xstrdup(const char *s)
{
	return xmemdup0(s, strlen(s));
}
