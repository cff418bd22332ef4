/*
 * Keys that name mail domains, the same in both programs' checks.
 */
#pragma once

#include "common/conf/conf.h"

/* For the programs' checks: each of the list must be a domain in its normal form (address_normalise_domain()), else conf_error() at the key. */
void domain_keys_check(struct conf *conf, const char *section, const char *title, const char *key,
	const char *const *list, size_t count);
/* The same of a key of type CONF_STRING, which may be empty. */
void domain_keys_check_one(struct conf *conf, const char *section, const char *title, const char *key);
