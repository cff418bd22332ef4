/*
 * Dates: of header fields (RFC 5322 section 3.3 with obsolete forms), IMAP's internal dates and search dates
 * (RFC 3501 section 9). Pure arithmetic: no clock, no time zone of the machine.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

struct date {
	int64_t unix_s;    /* seconds since 1970, UTC */
	int32_t zone_min;  /* minutes east of Greenwich, as written */
	int32_t local_day; /* days since 1970 of the date as written: what SENTON and ON compare (no zone
			      applied) */
};

/* A Date field's value. ERR_SYNTAX when no date can be made out. */
MUST_CHECK int date_parse_rfc5322(struct slice text, struct date *date_out);
/* "17-Jul-1996 02:44:25 -0700" without quotes; a leading blank for the day's first digit is taken. */
MUST_CHECK int date_parse_internal(struct slice text, struct date *date_out);
/* "1-Feb-1994" without quotes: days since 1970. */
MUST_CHECK int date_parse_search(struct slice text, int32_t *day_out);

/* "Fri, 20 Nov 2026 12:30:00 +0000" */
void date_write_rfc5322(int64_t unix_s, int32_t zone_min, struct buf *out);
/* "20-Nov-2026 12:30:00 +0000" with a blank for the day's missing first digit, no quotes. */
void date_write_internal(int64_t unix_s, int32_t zone_min, struct buf *out);
/* Days since 1970 of a civil date (month 1-12), proleptic Gregorian. */
int64_t date_days(int year, int month, int day);
