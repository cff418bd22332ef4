/*
 * User names as clients send them, brought to the one form in which maps, caches and logs know them. Once, at
 * the edge.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

#define AUTH_NAME_MOST 512 /* octets of a name as sent */

/*
 * NFC, lower case, domain as A-labels; a bare name gets "@default_domain" if that is not empty. The detail
 * ("+x") stays in it: the map decides. ERR_SYNTAX: empty, controls, ill-formed UTF-8, bad domain;
 * ERR_TOO_BIG. The name is the arena's.
 */
MUST_CHECK int auth_name_normalise(
	struct arena *a, struct slice name, struct slice default_domain, struct slice *name_out);
/* A name as some login command gave it: size, UTF-8, no controls, not empty. 0, ERR_SYNTAX, ERR_TOO_BIG. */
MUST_CHECK int auth_name_check(struct slice name);
/* Name and password as some login command gave them: sizes, UTF-8, no controls in the name, no NUL in the
 * password, neither empty. 0, ERR_SYNTAX, ERR_TOO_BIG. */
MUST_CHECK int auth_name_check_login(struct slice name, struct slice password);
