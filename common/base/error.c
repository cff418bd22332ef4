/* Names of errors, and errno's translation. */
#include "common/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/attr.h"

static const char *const texts[] = {
	[-ERR_OK] = "ok",
	[-ERR_MORE] = "more input needed",
	[-ERR_SYNTAX] = "syntax error",
	[-ERR_TOO_BIG] = "too big",
	[-ERR_NOT_FOUND] = "not found",
	[-ERR_EXISTS] = "exists already",
	[-ERR_DENIED] = "denied",
	[-ERR_NOT_NOW] = "not now",
	[-ERR_TIMEOUT] = "timed out",
	[-ERR_CLOSED] = "closed by the other side",
	[-ERR_IO] = "input/output error",
	[-ERR_TLS] = "TLS failed",
	[-ERR_FULL] = "full",
	[-ERR_CORRUPT] = "damaged data",
	[-ERR_CONFIG] = "configuration error",
	[-ERR_CANCELLED] = "cancelled",
	[-ERR_UNSUPPORTED] = "not supported",
	[-ERR_FORBIDDEN] = "no right to that",
};
_Static_assert(ARRAY_LEN(texts) == -ERR_FORBIDDEN + 1, "a text for every error");

const char *error_text(int error)
{
	if (error > 0 || -error >= (int)ARRAY_LEN(texts))
		return "unknown error";
	return texts[-error];
}

int error_from_errno(int errno_value)
{
	switch (errno_value) {
	case 0:
		return ERR_OK;
	case ENOENT:
	case ENOTDIR:
		return ERR_NOT_FOUND;
	case EEXIST:
	case EADDRINUSE:
		return ERR_EXISTS;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case EAGAIN:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return ERR_NOT_NOW;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case ECONNRESET:
	case EPIPE:
	case ECONNABORTED:
		return ERR_CLOSED;
	case EAFNOSUPPORT:
		return ERR_UNSUPPORTED;
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	default:
		return ERR_IO;
	}
}

void require_failed(const char *file, int line, const char *expression)
{
	fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expression);
	fflush(stderr);
	abort();
}
