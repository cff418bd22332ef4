/*
 * What sasl.c (sessions) and sasl_library.c (the library, once a process) share. Not for others.
 */
#pragma once

#include <sasl/sasl.h>

#include "common/auth/sasl.h"
#include "common/crypto/digest.h"

struct sasl_row {
	const char *name;
	const char *base;   /* as the library calls it: without -PLUS; NULL: not the library's */
	const char *plugin; /* how the plug-in's file name begins; NULL: built in, or ours */
	unsigned traits;
	enum digest_kind digest; /* SASL_WANTS_KEYS */
	bool nul; /* a client's message may hold a NUL; elsewhere the library would end a name there */
	bool server_first; /* an initial response makes no sense */
};

/* NULL: none. Any case of letters. */
const struct sasl_row *sasl_library_row(struct slice name);
const char *sasl_library_host(void);
/* Of this process: salts of users who are not there are made with it. 32 octets. */
struct slice sasl_library_key(void);

/* What the library finds when it asks for a user's password, during one step; this thread's. Texts are borrowed; NULL: none. */
void sasl_library_set_secret(const char *clear, const char *keys);
