/*
 * Heap helpers for small sizes that we choose ourselves: they never return NULL, they end the program.
 * A size that an outsider chooses goes through a limit first.
 */
#pragma once

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
/* Resizes to count * size bytes, the product checked. */
void *xreallocarray(void *p, size_t count, size_t size);
char *xstrdup(const char *s);
/* Once, first of all in a program with threads: large blocks go back to the system when they are freed. */
void mem_init(void);
/* Copies len bytes and adds a NUL. */
char *xmemdup0(const void *p, size_t len);
