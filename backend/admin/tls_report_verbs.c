/* Both read a copy: counting goes on meanwhile. */
#include "backend/admin/tls_report_verbs.h"

#include "backend/delivery/tls_report.h"
#include "common/base/clock.h"

#define SHOW_MOST 1000
#define DAY_S 86400

/* --day, or else; false: answered. */
static bool read_day(
	struct admin *admin, struct control_request *request, int64_t otherwise, int64_t *day_out)
{
	const char *text = control_option(request, "day", 0);

	if (!admin->tls_report) { /* the program before has not ended yet */
		control_fail(request, ERR_NOT_NOW, "sending has not started");
		return false;
	}
	*day_out = otherwise;
	if (!text || tls_report_day_parse(text, day_out) == 0)
		return true;
	control_fail(request, ERR_SYNTAX, "%s is no day, such as 2026-11-27", text);
	return false;
}

static void add_row(struct control_request *request, const struct tls_report_row *row)
{
	char day[16];

	tls_report_day_text(row->day, day);
	control_row(request);
	control_add_str(request, "day", day);
	control_add_str(request, "policy-domain", row->domain);
	control_add_str(request, "policy-type", tls_report_policy_word(row->policy));
	control_add_str(request, "receiving-mx-hostname", row->host);
	control_add_int(request, "successful-session-count", (int64_t)row->counts[TLS_REPORT_SUCCESS]);
	for (size_t i = TLS_REPORT_SUCCESS + 1; i < TLS_REPORT_RESULTS; i++)
		if (row->counts[i])
			control_add_int(request, tls_report_result_word((enum tls_report_result)i),
				(int64_t)row->counts[i]);
}

static void show(void *arg, struct control_request *request)
{
	struct admin *admin = arg;
	const char *domain = control_arg_count(request) ? control_arg(request, 0) : NULL;
	struct tls_report_rows rows;
	int64_t day;

	if (!read_day(admin, request, -1, &day))
		return;
	tls_report_rows(admin->tls_report, domain, day, SHOW_MOST, &rows);
	for (size_t i = 0; i < rows.count; i++)
		add_row(request, &rows.rows[i]);
	control_result(request);
	if (rows.is_cut)
		control_add_bool(request, "more", true);
	tls_report_rows_free(&rows);
	control_done(request);
}

static void report(void *arg, struct control_request *request)
{
	struct admin *admin = arg;
	struct buf json = {0};
	int64_t day;

	if (!read_day(admin, request, clock_wall_s() / DAY_S, &day))
		return;
	if (tls_report_json(admin->tls_report, admin->host, control_arg(request, 0), day, &json) != 0) {
		control_fail(request, ERR_NOT_FOUND, "nothing was counted of that domain on that day");
	} else {
		control_result(request);
		control_add_slice(request, "report", buf_view(&json));
		control_done(request);
	}
	buf_deinit(&json);
}

static const struct control_verb verbs[] = {
	{"tlsrpt show", "[DOMAIN] [--day YYYY-MM-DD]",
		"what has become of TLS towards other domains, of the last days", show, 0, 1, "day=", 0},
	{"tlsrpt report", "DOMAIN [--day YYYY-MM-DD]",
		"the report of a domain and day (today), JSON of RFC 8460", report, 1, 1, "day=", 0},
};

void tls_report_verbs_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
