/* One row a key; what they mean is smtp_front's. */
#include "common/front/smtp_settings.h"

const struct conf_key smtp_settings_keys[] = {
	{"smtp", "message-size", CONF_SIZE, CONF_RELOAD, "64M", 1024, UINT64_C(2) << 30, NULL,
		"Largest message", NULL},
	{"smtp", "recipients", CONF_INT, CONF_RELOAD, "1000", 100, 100000, NULL, "Recipients of one message",
		NULL},
	{"smtp", "errors", CONF_INT, CONF_RELOAD, "20", 1, 10000, NULL,
		"Refused commands after which a client is disconnected", NULL},
	{"smtp", "idle-commands", CONF_INT, CONF_RELOAD, "100", 1, 100000, NULL,
		"NOOP, RSET, VRFY and the like, without a message between them, after which a client is "
		"disconnected",
		NULL},
	{"smtp", "vrfy", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"Service smtp: VRFY says whether there is such an address, to everybody who may connect; "
		"each that there is not counts towards `errors`. Otherwise it is 252. EXPN is always 502",
		NULL},
	{"smtp", "hops", CONF_INT, CONF_RELOAD, "50", 1, 1000, NULL,
		"Received fields of a message; with more it goes in circles", NULL},
	{"smtp", "own-hops", CONF_INT, CONF_RELOAD, "10", 1, 1000, NULL,
		"Received fields that say `by` and our `host-name`: a message that has been here more often "
		"goes in circles",
		NULL},
	{"smtp", "bare-newline", CONF_ENUM, CONF_RELOAD, "normalise", 0, 0, "normalise reject",
		"A bare LF in a body becomes CRLF and a bare CR stays (or becomes CRLF towards foreign "
		"back-ends), or both are refused",
		NULL},
	{"smtp", "strict-pipelining", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Disconnect clients that send more before the answer to a command that must be the last of "
		"its group (HELO, EHLO, STARTTLS, AUTH, DATA; after HELO: any)",
		NULL},
	{"smtp", "banner-delay", CONF_DURATION, CONF_RELOAD, "0s", 0, 60000, NULL,
		"Service smtp: how long the greeting waits; clients that talk before it are disconnected",
		NULL},
	{"smtp", "command-timeout", CONF_DURATION, CONF_RELOAD, "5m", 1000, 3600000, NULL,
		"For a client's next command", NULL},
	{"smtp", "data-timeout", CONF_DURATION, CONF_RELOAD, "3m", 1000, 3600000, NULL,
		"Silence within a body", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

void smtp_settings_read(const struct conf *conf, bool is_submission, struct smtp_service *s)
{
	s->bare = conf_get_enum(conf, "smtp", NULL, "bare-newline") == 1 ? SMTP_BARE_REJECT
									 : SMTP_BARE_NORMALISE;
	s->is_strict = conf_get_bool(conf, "smtp", NULL, "strict-pipelining");
	s->limits.message_size = conf_get_size(conf, "smtp", NULL, "message-size");
	s->limits.recipients = (unsigned)conf_get_int(conf, "smtp", NULL, "recipients");
	s->limits.errors = (unsigned)conf_get_int(conf, "smtp", NULL, "errors");
	s->limits.idle_commands = (unsigned)conf_get_int(conf, "smtp", NULL, "idle-commands");
	s->verifies = !is_submission && conf_get_bool(conf, "smtp", NULL, "vrfy");
	s->limits.hops = (unsigned)conf_get_int(conf, "smtp", NULL, "hops");
	s->limits.own_hops = (unsigned)conf_get_int(conf, "smtp", NULL, "own-hops");
	s->limits.banner_ms = is_submission ? 0 : conf_get_duration(conf, "smtp", NULL, "banner-delay");
	s->limits.command_ms = conf_get_duration(conf, "smtp", NULL, "command-timeout");
	s->limits.data_ms = conf_get_duration(conf, "smtp", NULL, "data-timeout");
}
