/*
 * What became of TLS towards the domains that mail is sent to, counted by day, domain, policy and host, as reports of RFC 8460 want it.
 * Bounded; kept over restarts in a file. Counting is its loop's; reading may be done by any thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/net/loop.h"

#define TLS_REPORT_ROWS_MOST 20000 /* what comes beyond is not counted; the oldest day goes first */
#define TLS_REPORT_DAYS 8          /* that are kept, today among them */

enum tls_report_policy {
	TLS_REPORT_NONE,
	TLS_REPORT_TLSA,
	TLS_REPORT_STS
};

/* RFC 8460 section 4.3. */
enum tls_report_result {
	TLS_REPORT_SUCCESS,
	TLS_REPORT_NO_STARTTLS,
	TLS_REPORT_WRONG_NAME,
	TLS_REPORT_EXPIRED,
	TLS_REPORT_UNTRUSTED,
	TLS_REPORT_FAILURE,
	TLS_REPORT_TLSA_INVALID,
	TLS_REPORT_DNSSEC_INVALID,
	TLS_REPORT_DANE_REQUIRED,
	TLS_REPORT_STS_FETCH,
	TLS_REPORT_STS_INVALID,
	TLS_REPORT_STS_WEBPKI
};
#define TLS_REPORT_RESULTS (TLS_REPORT_STS_WEBPKI + 1)

struct tls_report;

/* path: its file; NULL: nothing is kept over a restart. */
struct tls_report *tls_report_new(struct loop *loop, const char *path);
void tls_report_end(struct tls_report *r);   /* on the loop */
void tls_report_free(struct tls_report **r); /* after that */

/* One session with a host; host "" where none was reached. */
void tls_report_count(struct tls_report *r, const char *domain, enum tls_report_policy policy,
	const char *host, enum tls_report_result result);

struct tls_report_row {
	int64_t day; /* days since 1970, UTC */
	const char *domain, *host;
	enum tls_report_policy policy;
	uint64_t counts[TLS_REPORT_RESULTS];
};
/* "tlsa", "sts", "no-policy-found"; "starttls-not-supported" and so on. */
const char *tls_report_policy_word(enum tls_report_policy policy);
const char *tls_report_result_word(enum tls_report_result result);
/* "2026-11-27" */
void tls_report_day_text(int64_t day, char text[16]);
MUST_CHECK int tls_report_day_parse(const char *text, int64_t *day_out);

/* All rows, sorted by day, domain, policy, host; at most `most` of those of that domain (NULL: all) and day (-1: all). Texts are views of
 * the copy, which tls_report_rows_free() frees. Any thread. */
struct tls_report_rows {
	size_t count;
	bool is_cut;
	struct tls_report_row *rows;
};
void tls_report_rows(
	struct tls_report *r, const char *domain, int64_t day, size_t most, struct tls_report_rows *rows_out);
void tls_report_rows_free(struct tls_report_rows *rows);
/* The report of one domain and day, JSON of RFC 8460 section 4.4. organization: our name. ERR_NOT_FOUND: nothing was counted. */
MUST_CHECK int tls_report_json(
	struct tls_report *r, const char *organization, const char *domain, int64_t day, struct buf *out);
