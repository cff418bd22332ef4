/*
 * A table by the text of a row's key; a lock over it, since operators ask from another thread. The file has a line a row:
 *
 *	day TAB domain TAB policy TAB host TAB count TAB count ...   (of each result, in the order of the enum)
 */
#include "backend/delivery/tls_report.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backend/delivery/kept_file.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/table.h"
#include "common/proto/dns_name.h"

#define DAY_S 86400
#define KEY_MAX (2 * DNS_NAME_MOST + 64)
#define REPORT_ROWS_MOST 1000 /* of one domain and day */

struct row {
	struct tls_report_row r;
	char key[];
};

struct tls_report {
	struct loop *loop;
	pthread_mutex_t lock;
	struct table *table;
	struct kept_file *file;
	int64_t today;
};

static const char *const policy_words[] = {
	[TLS_REPORT_NONE] = "no-policy-found", [TLS_REPORT_TLSA] = "tlsa", [TLS_REPORT_STS] = "sts"};
static const char *const result_words[] = {[TLS_REPORT_SUCCESS] = "success",
	[TLS_REPORT_NO_STARTTLS] = "starttls-not-supported",
	[TLS_REPORT_WRONG_NAME] = "certificate-host-mismatch",
	[TLS_REPORT_EXPIRED] = "certificate-expired",
	[TLS_REPORT_UNTRUSTED] = "certificate-not-trusted",
	[TLS_REPORT_FAILURE] = "validation-failure",
	[TLS_REPORT_TLSA_INVALID] = "tlsa-invalid",
	[TLS_REPORT_DNSSEC_INVALID] = "dnssec-invalid",
	[TLS_REPORT_DANE_REQUIRED] = "dane-required",
	[TLS_REPORT_STS_FETCH] = "sts-policy-fetch-error",
	[TLS_REPORT_STS_INVALID] = "sts-policy-invalid",
	[TLS_REPORT_STS_WEBPKI] = "sts-webpki-invalid"};

const char *tls_report_policy_word(enum tls_report_policy policy)
{
	return policy_words[policy];
}

const char *tls_report_result_word(enum tls_report_result result)
{
	return result_words[result];
}

void tls_report_day_text(int64_t day, char text[16])
{
	time_t t = (time_t)(day * DAY_S);
	struct tm tm = {0};

	gmtime_r(&t, &tm);
	strftime(text, 16, "%Y-%m-%d", &tm);
}

int tls_report_day_parse(const char *text, int64_t *day_out)
{
	struct slice s = slice_str(text);
	struct tm tm = {0};
	uint32_t y, m, d;
	char back[16];

	if (s.len != 10 || s.p[4] != '-' || s.p[7] != '-' || num_parse_u32(slice_sub(s, 0, 4), &y) ||
		num_parse_u32(slice_sub(s, 5, 2), &m) || num_parse_u32(slice_sub(s, 8, 2), &d))
		return ERR_SYNTAX;
	tm.tm_year = (int)y - 1900;
	tm.tm_mon = (int)m - 1;
	tm.tm_mday = (int)d;
	*day_out = (int64_t)timegm(&tm) / DAY_S;
	tls_report_day_text(*day_out, back);
	return strcmp(back, text) == 0 ? 0 : ERR_SYNTAX;
}

/* ---- rows ---- */

static void free_row(struct row *row)
{
	free((char *)(uintptr_t)row->r.domain);
	free((char *)(uintptr_t)row->r.host);
	free(row);
}

static void drop_before(struct tls_report *r, int64_t day)
{
	struct slice key;
	size_t at = 0;
	void *value;

	while (table_next(r->table, &at, &key, &value)) {
		struct row *row = value;

		if (row->r.day >= day)
			continue;
		(void)table_remove(r->table, key);
		free_row(row);
	}
}

/* NULL: there are too many. */
static struct row *find_row(struct tls_report *r, int64_t day, const char *domain,
	enum tls_report_policy policy, const char *host)
{
	char key[KEY_MAX];
	int n = snprintf(
		key, sizeof(key), "%lld\t%s\t%s\t%s", (long long)day, domain, policy_words[policy], host);
	struct row *row;

	if (n < 0 || (size_t)n >= sizeof(key))
		return NULL;
	row = table_get(r->table, slice_of(key, (size_t)n));
	if (row || table_count(r->table) >= TLS_REPORT_ROWS_MOST)
		return row;
	row = xcalloc(1, sizeof(*row) + (size_t)n + 1);
	memcpy(row->key, key, (size_t)n + 1);
	row->r.day = day;
	row->r.domain = xstrdup(domain);
	row->r.host = xstrdup(host);
	row->r.policy = policy;
	(void)table_put(r->table, slice_of(row->key, (size_t)n), row);
	return row;
}

void tls_report_count(struct tls_report *r, const char *domain, enum tls_report_policy policy,
	const char *host, enum tls_report_result result)
{
	int64_t day = clock_wall_s() / DAY_S;
	struct row *row;

	pthread_mutex_lock(&r->lock);
	if (day != r->today) {
		r->today = day;
		drop_before(r, day - TLS_REPORT_DAYS + 1);
	}
	row = find_row(r, day, domain, policy, host);
	if (row)
		row->r.counts[result]++;
	pthread_mutex_unlock(&r->lock);
	if (row && r->file)
		kept_file_changed(r->file);
}

/* ---- the file ---- */

static void write_text(void *arg, struct buf *out)
{
	struct tls_report *r = arg;
	struct slice key;
	size_t at = 0;
	void *value;

	pthread_mutex_lock(&r->lock);
	while (table_next(r->table, &at, &key, &value)) {
		const struct row *row = value;

		buf_add_slice(out, key);
		for (size_t i = 0; i < TLS_REPORT_RESULTS; i++)
			buf_printf(out, "\t%llu", (unsigned long long)row->r.counts[i]);
		buf_add_char(out, '\n');
	}
	pthread_mutex_unlock(&r->lock);
}

static struct slice next_field(struct slice *rest, char separator)
{
	ptrdiff_t end = slice_find(*rest, separator);
	struct slice field = slice_sub(*rest, 0, end < 0 ? rest->len : (size_t)end);

	*rest = slice_from(*rest, end < 0 ? rest->len : (size_t)end + 1);
	return field;
}

/* A line that is no row of ours is passed over. */
static void read_line(struct tls_report *r, struct slice line)
{
	struct slice day = next_field(&line, '\t'), domain = next_field(&line, '\t'),
		     policy = next_field(&line, '\t');
	struct slice host = next_field(&line, '\t');
	uint64_t number, counts[TLS_REPORT_RESULTS];
	char *domain_text, *host_text;
	size_t which = 0;
	struct row *row;

	while (which < ARRAY_LEN(policy_words) && !slice_is_str(policy, policy_words[which]))
		which++;
	if (num_parse_u64(day, &number) || number > INT32_MAX || which == ARRAY_LEN(policy_words) ||
		!dns_name_is_host(domain) || (host.len && !dns_name_is_host(host)))
		return;
	for (size_t i = 0; i < TLS_REPORT_RESULTS; i++)
		if (num_parse_u64(next_field(&line, '\t'), &counts[i]))
			return;
	domain_text = slice_copy_str(domain);
	host_text = slice_copy_str(host);
	row = find_row(r, (int64_t)number, domain_text, (enum tls_report_policy)which, host_text);
	if (row)
		memcpy(row->r.counts, counts, sizeof(counts));
	free(domain_text);
	free(host_text);
}

/* ---- life ---- */

struct tls_report *tls_report_new(struct loop *loop, const char *path)
{
	struct tls_report *r = xcalloc(1, sizeof(*r));
	struct buf text = {0};
	struct slice rest;

	r->loop = loop;
	pthread_mutex_init(&r->lock, NULL);
	r->table = table_new();
	if (!path)
		return r;
	r->file = kept_file_new(loop, "tls-report", path, write_text, r);
	kept_file_read(r->file, &text);
	rest = buf_view(&text);
	while (rest.len)
		read_line(r, next_field(&rest, '\n'));
	buf_deinit(&text);
	return r;
}

void tls_report_end(struct tls_report *r)
{
	if (r->file)
		kept_file_end(r->file);
}

void tls_report_free(struct tls_report **report)
{
	struct tls_report *r = *report;

	*report = NULL;
	if (!r)
		return;
	kept_file_free(&r->file);
	drop_before(r, INT64_MAX);
	table_free(&r->table);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- reading ---- */

static int compare(const void *a, const void *b)
{
	const struct tls_report_row *x = a, *y = b;
	int order = x->day < y->day ? -1 : x->day > y->day;

	if (!order)
		order = strcmp(x->domain, y->domain);
	if (!order)
		order = (int)x->policy - (int)y->policy;
	return order ? order : strcmp(x->host, y->host);
}

void tls_report_rows(
	struct tls_report *r, const char *domain, int64_t day, size_t most, struct tls_report_rows *rows_out)
{
	struct tls_report_rows rows = {0};
	struct slice key;
	size_t at = 0;
	void *value;

	pthread_mutex_lock(&r->lock);
	rows.rows = xcalloc(
		(table_count(r->table) < most ? table_count(r->table) : most) + 1, sizeof(*rows.rows));
	while (table_next(r->table, &at, &key, &value)) {
		const struct row *row = value;

		if ((domain && strcmp(row->r.domain, domain) != 0) || (day >= 0 && row->r.day != day))
			continue;
		if (rows.count == most) {
			rows.is_cut = true;
			break;
		}
		rows.rows[rows.count] = row->r;
		rows.rows[rows.count].domain = xstrdup(row->r.domain);
		rows.rows[rows.count].host = xstrdup(row->r.host);
		rows.count++;
	}
	pthread_mutex_unlock(&r->lock);
	qsort(rows.rows, rows.count, sizeof(*rows.rows), compare);
	*rows_out = rows;
}

void tls_report_rows_free(struct tls_report_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++) {
		free((char *)(uintptr_t)rows->rows[i].domain);
		free((char *)(uintptr_t)rows->rows[i].host);
	}
	free(rows->rows);
	*rows = (struct tls_report_rows){0};
}

/* Names of hosts need no escapes; what would is none, and is not shown. */
static void clean_name(const char *from, char to[DNS_NAME_MOST + 1])
{
	size_t n = 0;

	for (; *from && n < DNS_NAME_MOST; from++)
		to[n++] = *from > 32 && *from < 127 && *from != '"' && *from != '\\' ? *from : '?';
	to[n] = '\0';
}

static void add_details(struct buf *out, const struct tls_report_row *row, bool *is_first)
{
	for (size_t i = TLS_REPORT_SUCCESS + 1; i < TLS_REPORT_RESULTS; i++) {
		if (!row->counts[i])
			continue;
		buf_printf(out, "%s{\"result-type\":\"%s\"", *is_first ? "" : ",", result_words[i]);
		if (*row->host)
			buf_printf(out, ",\"receiving-mx-hostname\":\"%s\"", row->host);
		buf_printf(out, ",\"failed-session-count\":%llu}", (unsigned long long)row->counts[i]);
		*is_first = false;
	}
}

static void add_policy(struct buf *out, const char *domain, const struct tls_report_row *rows, size_t count)
{
	uint64_t good = 0, bad = 0;
	bool is_first = true;

	for (size_t n = 0; n < count; n++) {
		good += rows[n].counts[TLS_REPORT_SUCCESS];
		for (size_t i = TLS_REPORT_SUCCESS + 1; i < TLS_REPORT_RESULTS; i++)
			bad += rows[n].counts[i];
	}
	buf_printf(out,
		"{\"policy\":{\"policy-type\":\"%s\",\"policy-domain\":\"%s\"},\"summary\":{\"total-"
		"successful-session-count\":%llu,"
		"\"total-failure-session-count\":%llu}",
		policy_words[rows->policy], domain, (unsigned long long)good, (unsigned long long)bad);
	if (bad) {
		buf_add_str(out, ",\"failure-details\":[");
		for (size_t n = 0; n < count; n++)
			add_details(out, &rows[n], &is_first);
		buf_add_char(out, ']');
	}
	buf_add_char(out, '}');
}

int tls_report_json(
	struct tls_report *r, const char *organization, const char *domain, int64_t day, struct buf *out)
{
	struct tls_report_rows rows;
	char date[16], own[DNS_NAME_MOST + 1], name[DNS_NAME_MOST + 1];

	tls_report_rows(r, domain, day, REPORT_ROWS_MOST, &rows);
	if (!rows.count) {
		tls_report_rows_free(&rows);
		return ERR_NOT_FOUND;
	}
	tls_report_day_text(day, date);
	clean_name(organization, own);
	clean_name(domain, name);
	buf_printf(out,
		"{\"organization-name\":\"%s\",\"date-range\":{\"start-datetime\":\"%sT00:00:00Z\",\"end-"
		"datetime\":"
		"\"%sT23:59:59Z\"},\"contact-info\":\"postmaster@%s\",\"report-id\":\"%s_%s@%s\","
		"\"policies\":[",
		own, date, date, own, date, name, own);
	for (size_t i = 0, n; i < rows.count; i += n) {
		for (n = 1; i + n < rows.count && rows.rows[i + n].policy == rows.rows[i].policy; n++)
			;
		if (i)
			buf_add_char(out, ',');
		add_policy(out, name, &rows.rows[i], n);
	}
	buf_add_str(out, "]}");
	tls_report_rows_free(&rows);
	return 0;
}
