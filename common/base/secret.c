/* explicit_bzero and a comparison without early exit. */
#include "common/base/secret.h"

#include <stdlib.h>

#include "common/base/mem.h"

void secret_wipe(void *p, size_t len)
{
	if (p && len)
		explicit_bzero(p, len);
}

void secret_set(struct secret *s, struct slice value)
{
	char *copy = xmemdup0(value.p, value.len);

	secret_deinit(s);
	s->data = copy;
	s->len = value.len;
}

void secret_deinit(struct secret *s)
{
	secret_wipe(s->data, s->len);
	free(s->data);
	*s = (struct secret){0};
}

bool secret_is_equal(struct slice a, struct slice b)
{
	volatile unsigned char difference = (unsigned char)(a.len != b.len);

	for (size_t i = 0; i < b.len; i++)
		difference |= (unsigned char)((a.len ? a.p[i % a.len] : 0) ^ b.p[i]);
	return difference == 0;
}
