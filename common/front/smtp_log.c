/* Milliseconds of the loop's clock, taken by smtp_front where a phase begins. */
#include "common/front/smtp_log.h"

#include <stdio.h>

#include "common/base/log.h"
#include "common/front/smtp_session.h"

struct delays {
	uint64_t ms[4];
};

/* From one phase's begin to the next one's, or to now; 0 for what has not begun. */
static void measure(const struct smtp_front *f, struct delays *d)
{
	uint64_t now = loop_now_ms(f->loop);
	const uint64_t at[5] = {f->mail_ms, f->data_ms, f->body_ms, f->end_ms, now};

	*d = (struct delays){0};
	for (unsigned i = 0; i < 4; i++) {
		uint64_t next = at[i + 1] ? at[i + 1] : now;

		if (at[i] && next > at[i])
			d->ms[i] = next - at[i];
	}
}

static const char *status_of(const struct smtp_answer *answer, enum smtp_log_end end)
{
	if (answer->code / 100 == 2)
		return end == SMTP_LOG_ACCEPTED ? "accepted" : "sent";
	return answer->code / 100 == 4 ? "deferred" : "rejected";
}

static void write_line(const struct smtp_front *f, struct slice from, struct slice to, const char *relay,
	const struct smtp_answer *answer, enum smtp_log_end end)
{
	char class[] = {(char)('0' + answer->code / 100 % 10), '.', '0', '.', '0', '\0'};
	struct slice dsn = answer->enhanced.len ? answer->enhanced : slice_str(class);
	const char *text = conn_tls_text(f->conn);
	char tls[80];
	struct delays d;

	measure(f, &d);
	snprintf(tls, sizeof(tls), "%s", text && *text ? text : "none");
	for (char *blank = tls; (blank = strchr(blank, ' ')) != NULL;)
		*blank = '/';
	log_write(LOG_INFO, f->service->name,
		"%s: from=<%.*s> to=<%.*s> relay=%s delay=%u.%03u/%u.%03u/%u.%03u/%u.%03u tls=%s dsn=%.*s "
		"status=%s (%.*s)",
		f->session, SLICE_ARG(from), SLICE_ARG(to), relay, (unsigned)(d.ms[0] / 1000),
		(unsigned)(d.ms[0] % 1000), (unsigned)(d.ms[1] / 1000), (unsigned)(d.ms[1] % 1000),
		(unsigned)(d.ms[2] / 1000), (unsigned)(d.ms[2] % 1000), (unsigned)(d.ms[3] / 1000),
		(unsigned)(d.ms[3] % 1000), tls, SLICE_ARG(dsn), status_of(answer, end),
		SLICE_ARG(answer->text));
}

void smtp_log_recipient(struct smtp_front *f, struct slice to, const char *relay,
	const struct smtp_answer *answer, enum smtp_log_end end)
{
	if (log_is_on(LOG_INFO))
		write_line(f, slice_str(f->sender ? f->sender : ""), to, relay, answer, end);
}

void smtp_log_sender(struct smtp_front *f, struct slice from, const struct smtp_answer *answer)
{
	if (log_is_on(LOG_INFO))
		write_line(f, from, SLICE_LIT(""), "none", answer, SMTP_LOG_REFUSED);
}
