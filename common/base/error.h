/*
 * The one error enum. Functions that can fail return 0 or one of these; codes of errno and of foreign
 * libraries are translated in the file that calls the library.
 */
#pragma once

enum error {
	ERR_OK = 0,
	ERR_MORE = -1,         /* more input is needed */
	ERR_SYNTAX = -2,       /* input breaks its grammar */
	ERR_TOO_BIG = -3,      /* a limit with a name was reached */
	ERR_NOT_FOUND = -4,    /* definitely absent */
	ERR_EXISTS = -5,       /* is there already */
	ERR_DENIED = -6,       /* not allowed, or wrong credential */
	ERR_NOT_NOW = -7,      /* cannot say or do it now: never shown or stored as "no" */
	ERR_TIMEOUT = -8,      /* a deadline passed */
	ERR_CLOSED = -9,       /* the other side ended */
	ERR_IO = -10,          /* the system failed us */
	ERR_TLS = -11,         /* handshake or verification failed */
	ERR_FULL = -12,        /* quota, disk or map is full */
	ERR_CORRUPT = -13,     /* own data is damaged */
	ERR_CONFIG = -14,      /* configuration cannot work */
	ERR_CANCELLED = -15,   /* the owner gave up */
	ERR_UNSUPPORTED = -16, /* a known thing that this end does not do */
	ERR_FORBIDDEN = -17    /* there, and known to the asker, who lacks a right on it */
};

/* The fixed English text of an error; never NULL. */
const char *error_text(int error);

/* Translates errno's value. */
int error_from_errno(int errno_value);
