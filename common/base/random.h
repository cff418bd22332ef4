/*
 * Randomness of the kernel. Never fails: without it the program ends.
 */
#pragma once

#include <stddef.h>

void random_bytes(void *out, size_t len);
/* Fills text with len random characters of a-z and 2-7 (5 bits each) and a NUL: session and object ids. */
void random_id(char *text, size_t len);
