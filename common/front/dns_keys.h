/*
 * Where both programs ask the DNS (common/net/dns.h): the keys, and the start.
 */
#pragma once

#include "common/conf/conf.h"

/* Rows of the section "". */
extern const struct conf_key dns_keys[];
/* For the programs' checks: what the rows cannot say, by conf_error(). */
void dns_keys_check(struct conf *conf);
/* Before the loops start. ERR_CONFIG with the reason in why. */
MUST_CHECK int dns_keys_init(const struct conf *conf, struct buf *why);
