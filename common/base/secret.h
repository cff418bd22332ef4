/*
 * A secret owns bytes that are wiped when it goes, never logged, and compared in constant time.
 * A zeroed struct is an empty secret.
 */
#pragma once

#include "common/base/slice.h"

struct secret {
	char *data; /* NUL-terminated for C interfaces */
	size_t len;
};

/* Replaces the content by a copy. */
void secret_set(struct secret *s, struct slice value);
/* Wipes and frees the content; the secret is empty then. */
void secret_deinit(struct secret *s);
static inline struct slice secret_view(const struct secret *s)
{
	return slice_of(s->data, s->len);
}

/* Same length and bytes; time depends on the length of b alone. */
bool secret_is_equal(struct slice a, struct slice b);
/* Overwrites memory in a way that no compiler leaves out. */
void secret_wipe(void *p, size_t len);
