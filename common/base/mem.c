/* malloc that ends the program instead of failing: see mem.h for what may use it. */
#include "common/base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/attr.h"

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
