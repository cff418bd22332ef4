/*
 * Compiler attributes and the one assertion that stays in release builds.
 */
#pragma once

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NORETURN __attribute__((noreturn))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Ends the program with place and expression. For our own mistakes only: no input may ever reach it. */
NORETURN void require_failed(const char *file, int line, const char *expression);

#define require(expression)                                                                                  \
	do {                                                                                                 \
		if (!(expression))                                                                           \
			require_failed(__FILE__, __LINE__, #expression);                                     \
	} while (0)
