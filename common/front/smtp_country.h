/*
 * The country of an address by a MaxMind database (libmaxminddb; GeoLite2-Country and its kin: `country.iso_code`). The file is looked
 * at again when it changes (by its name: replace it by rename). Any thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/front/smtp_facts.h"

struct smtp_country;

#define SMTP_COUNTRY_LOOK_MS 10000 /* how often the file is looked at, at most */

/* ERR_CONFIG with the reason in why. */
MUST_CHECK int smtp_country_open(const char *path, struct buf *why, struct smtp_country **country_out);
void smtp_country_close(struct smtp_country **country);
/* Sets facts->country and its state: KNOWN, NONE (not in the database), NOT_NOW (no database, or it is broken). */
void smtp_country_find(struct smtp_country *country, uint64_t now_ms, struct smtp_facts *facts);
