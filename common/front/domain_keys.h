/*
 * Keys that name mail domains, the same in both programs' checks.
 */
#pragma once

#include "common/conf/conf.h"

/* For the programs' checks: each of the list must be a domain in its normal form (address_normalise_domain(); capitals are taken), else conf_error() at the key. */
void domain_keys_check(struct conf *conf, const char *section, const char *title, const char *key,
	const char *const *list, size_t count);
/* Each must be a domain as people write it: capitals and other scripts are taken, and normalised where it is used. */
void domain_keys_check_any(struct conf *conf, const char *section, const char *title, const char *key);
/* Each must be the name of a host in ASCII; is_pattern: also *.example.com (CONF_LIST). */
void domain_keys_check_hosts(struct conf *conf, const char *section, const char *title, const char *key,
	const char *const *list, size_t count, bool is_pattern);
/* A key of type CONF_STRING, which may be empty. */
void domain_keys_check_host(struct conf *conf, const char *section, const char *title, const char *key);
/* As domain_keys_check(), of a key of type CONF_STRING, which may be empty. */
void domain_keys_check_one(struct conf *conf, const char *section, const char *title, const char *key);
