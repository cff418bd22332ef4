/*
 * The edge's half of names: limits first, then the one normal form of common/proto/address.
 */
#include "common/auth/auth_name.h"

#include <string.h>

#include "common/auth/password.h"
#include "common/proto/address.h"

/* "bare" and a domain in one piece of the arena. */
static struct slice with_domain(struct arena *a, struct slice name, struct slice domain)
{
	char *p = arena_alloc(a, name.len + 1 + domain.len);

	if (!p)
		return slice_of(NULL, 0);
	memcpy(p, name.p, name.len);
	p[name.len] = '@';
	memcpy(p + name.len + 1, domain.p, domain.len);
	return slice_of(p, name.len + 1 + domain.len);
}

int auth_name_normalise(
	struct arena *a, struct slice name, struct slice default_domain, struct slice *name_out)
{
	struct address_name normal;
	int error;

	if (name.len > AUTH_NAME_MOST)
		return ERR_TOO_BIG;
	if (!name.len || !slice_is_utf8(name) || slice_has_control(name))
		return ERR_SYNTAX;
	error = address_normalise_whole(a, name, &normal);
	if (error)
		return error;
	if (!normal.domain.len && default_domain.len) {
		struct slice joined = with_domain(a, name, default_domain);

		if (!joined.p)
			return ERR_TOO_BIG;
		error = address_normalise_whole(a, joined, &normal);
		if (error)
			return error;
	}
	*name_out = normal.full;
	return 0;
}

int auth_name_check(struct slice name)
{
	if (name.len > AUTH_NAME_MOST)
		return ERR_TOO_BIG;
	return name.len && slice_is_utf8(name) && !slice_has_control(name) ? 0 : ERR_SYNTAX;
}

int auth_name_check_login(struct slice name, struct slice password)
{
	int error = password.len > PASSWORD_MOST ? ERR_TOO_BIG : auth_name_check(name);

	if (error)
		return error;
	return password_is_acceptable(password) ? 0 : ERR_SYNTAX;
}
