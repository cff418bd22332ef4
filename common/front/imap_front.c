/*
 * One command at a time: parsed into the front's arena, looked up in the table, answered, forgotten. A login keeps the
 * arena (its tag, its credentials) until it is answered.
 */
#include "common/front/imap_front.h"

#include "common/base/mem.h"
#include "common/front/dialogue.h"
#include "common/proto/imap_parse.h"
#include "common/proto/imap_write.h"

#define TAG_MOST 128
#define ID_VALUE_MOST 1024 /* RFC 2971 section 3.3 */

struct imap_front {
	struct front front; /* first */
	struct imap_parse parse;
	bool is_reading; /* parse holds a begun command */
};

/* Nobody has shown who he is: what fits FRONT_MEMORY_MOST together with the input; the second where tickets are shown. */
#define LIMITS(line_most)                                                                                    \
	{                                                                                                    \
		.line = (line_most), .command = (line_most) + 1024, .literal = FRONT_PASSWORD_MOST,          \
		.literal_total = 2 * FRONT_PASSWORD_MOST, .literals = 4, .args = 8,                          \
		.nodes = 70, /* ID has 30 pairs at most (RFC 2971 section 3.3) */                            \
			.depth = 2, .skip = 64 * 1024, .nonsync = IMAP_LITERALS_MINUS                        \
	}
static const struct imap_parse_limits limits[] = {
	LIMITS(DIALOGUE_INPUT_MOST), LIMITS(DIALOGUE_TICKET_INPUT_MOST)};

static const struct {
	const char *code;
	const char *text;
} results[FRONT_RESULTS] = {
	/* RFC 5530 section 3 */
	[FRONT_OK] = {"", ""},
	[FRONT_WRONG] = {"[AUTHENTICATIONFAILED]", "Authentication failed."},
	[FRONT_NOT_NOW] = {"[UNAVAILABLE]", "Temporarily unavailable, try again later."},
	[FRONT_NO_ACCOUNT] = {"[AUTHORIZATIONFAILED]", "There is no mailbox here that this user may use."},
	[FRONT_NOT_PERMITTED] = {"[AUTHORIZATIONFAILED]", "This user may not do that."},
	[FRONT_IN_USE] = {"[INUSE]", "The mailbox is in use."},
	[FRONT_UNSERVED] = {"[AUTHENTICATIONFAILED]", "Authentication failed."},
	[FRONT_LIMIT] = {"[LIMIT]", "Too many sessions of this user."},
};

static const char *const byes[DIALOGUE_BYE_TEXTS] = {
	[DIALOGUE_BYE_TIMEOUT] = "Silent for too long.",
	[DIALOGUE_BYE_WRONG_COMMANDS] = "Too many wrong commands.",
	[DIALOGUE_BYE_FAILED_LOGINS] = "Too many failed logins.",
	[DIALOGUE_BYE_TOO_BIG] = "Line or literal too long.",
};

static struct imap_front *imap_of(struct front *f)
{
	return container_of(f, struct imap_front, front);
}

static void say(struct front *f, const char *status_and_text)
{
	if (f->tag.len)
		conn_write(f->conn, f->tag);
	else
		conn_write(f->conn, SLICE_LIT("*"));
	conn_write(f->conn, SLICE_LIT(" "));
	conn_write_str(f->conn, status_and_text);
	conn_write(f->conn, SLICE_LIT("\r\n"));
}

/* The words of CAPABILITY, as they stand now. */
static void add_capabilities(struct front *f, struct buf *out)
{
	const char *offered[SASL_MECHANISM_COUNT + 1];
	bool is_secure = conn_is_secure(f->conn);

	buf_add_str(out, "IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID");
	if (f->service->capabilities[0]) {
		buf_add_char(out, ' ');
		buf_add_str(out, f->service->capabilities);
	}
	if (f->service->tls && !is_secure)
		buf_add_str(out, " STARTTLS");
	if (!dialogue_takes_passwords(f))
		buf_add_str(out, " LOGINDISABLED");
	(void)dialogue_offered(f, offered);
	for (const char *const *m = offered; *m; m++) {
		buf_add_str(out, " AUTH=");
		buf_add_str(out, *m);
	}
}

static void greet(struct front *f)
{
	struct buf *out = conn_output(f->conn);

	buf_add_str(out, "* OK [CAPABILITY ");
	add_capabilities(f, out);
	buf_add_str(out, "] ");
	if (f->service->host[0]) {
		buf_add_str(out, f->service->host);
		buf_add_char(out, ' ');
	}
	buf_add_str(out, "Mailtier ready.\r\n");
	conn_written(f->conn);
}

static void say_result(struct front *f, enum front_result result)
{
	conn_write(f->conn, f->tag);
	conn_printf(f->conn, " NO %s %s\r\n", results[result].code, results[result].text);
}

static void say_bye(struct front *f, enum dialogue_bye bye)
{
	conn_printf(f->conn, "* BYE %s\r\n", byes[bye]);
}

static void say_challenge(struct front *f, struct slice base64)
{
	conn_write(f->conn, SLICE_LIT("+ "));
	conn_write(f->conn, base64);
	conn_write(f->conn, SLICE_LIT("\r\n"));
}

static void say_sasl_failed(struct front *f, int err)
{
	if (err == ERR_CANCELLED)
		say(f, "BAD Authentication cancelled.");
	else if (err == ERR_UNSUPPORTED)
		say(f, "NO [CANNOT] This mechanism is not offered.");
	else if (err == ERR_NOT_NOW)
		say(f, "NO [UNAVAILABLE] Temporarily unavailable, try again later.");
	else
		say(f, "BAD Invalid authentication data.");
}

static void reset(struct front *f)
{
	imap_of(f)->is_reading = false;
	f->tag = (struct slice){0};
}

/* ---- commands ---- */

static bool cmd_capability(struct front *f, const struct imap_command *c)
{
	struct buf *out;

	if (c->count)
		return false;
	out = conn_output(f->conn);
	buf_add_str(out, "* CAPABILITY ");
	add_capabilities(f, out);
	buf_add_str(out, "\r\n");
	conn_written(f->conn);
	say(f, "OK Capability completed.");
	return true;
}

static bool cmd_noop(struct front *f, const struct imap_command *c)
{
	if (c->count)
		return false;
	say(f, "OK NOOP completed.");
	return true;
}

static bool cmd_logout(struct front *f, const struct imap_command *c)
{
	if (c->count)
		return false;
	conn_write_str(f->conn, "* BYE Logging out.\r\n");
	say(f, "OK Logout completed.");
	dialogue_end(f);
	return true;
}

/* One field of ID from a trusted proxy; fields that we do not know are for others. */
static int told_field(struct front *f, struct slice name, struct slice value)
{
	static const struct {
		const char *name;
		int (*told)(struct front *f, struct slice value);
	} fields[] = {
		{"x-originating-ip", dialogue_told_client_host},
		{"x-originating-port", dialogue_told_client_port},
		{"x-connected-ip", dialogue_told_local_host},
		{"x-connected-port", dialogue_told_local_port},
		{"x-session-id", dialogue_told_session},
		{"x-client-transport", dialogue_told_transport},
	};

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (slice_is_str_nocase(name, fields[i].name))
			return fields[i].told(f, value);
	}
	return 0;
}

/* The one field that everybody may tell. */
static int told_by_anybody(struct front *f, struct slice name, struct slice value)
{
	if (!f->service->counts_hops || !slice_is_str_nocase(name, "x-proxy-ttl"))
		return 0;
	return dialogue_told_ttl(f, value);
}

static bool is_id_value(const struct imap_arg *arg, struct slice *value_out)
{
	return imap_parse_nstring(arg, value_out) == 0 && value_out->len <= ID_VALUE_MOST;
}

/* RFC 2971 section 3.1: a list of pairs, or NIL. */
static bool cmd_id(struct front *f, const struct imap_command *c)
{
	const struct imap_arg *arg = c->args;
	bool is_trusted;

	if (c->count != 1)
		return false;
	is_trusted = arg->type == IMAP_ARG_LIST && dialogue_is_trusted(f);
	if (arg->type != IMAP_ARG_LIST && !imap_parse_is_word(arg, "NIL"))
		return false;
	for (const struct imap_arg *name = arg->first; name;) {
		struct slice key, value;

		if (!is_id_value(name, &key) || !name->next || !is_id_value(name->next, &value))
			return false;
		if (is_trusted && value.p && told_field(f, key, value) < 0)
			return false;
		if (value.p && told_by_anybody(f, key, value) < 0)
			return false;
		name = name->next->next;
	}
	conn_write_str(f->conn, "* ID (\"name\" \"Mailtier\")\r\n");
	say(f, "OK ID completed.");
	return true;
}

static bool cmd_starttls(struct front *f, const struct imap_command *c)
{
	if (c->count)
		return false;
	if (!f->service->tls || conn_is_tls(f->conn)) {
		say(f, conn_is_tls(f->conn) ? "BAD TLS is active already." : "BAD TLS is not offered here.");
		(void)dialogue_wrong_command(f);
		return true;
	}
	say(f, "OK Begin TLS negotiation now.");
	dialogue_start_tls(f);
	return true;
}

/* can: what is asked for is offered on this connection. */
static bool refuses(struct front *f, bool can)
{
	if (can)
		return false;
	if (conn_is_secure(f->conn))
		say(f, "NO [CANNOT] This way to log in is not offered.");
	else
		say(f, "NO [PRIVACYREQUIRED] Use TLS before you log in.");
	(void)dialogue_wrong_command(f);
	return true;
}

static bool refuses_passwords(struct front *f)
{
	return refuses(f, dialogue_takes_passwords(f));
}

static bool refuses_sasl(struct front *f)
{
	const char *offered[SASL_MECHANISM_COUNT + 1];

	return refuses(f, dialogue_offered(f, offered) > 0);
}

static bool cmd_login(struct front *f, const struct imap_command *c)
{
	struct front_credentials credentials = {.mechanism = "command"};

	if (c->count != 2 || imap_parse_astring(c->args, &credentials.authcid) < 0 ||
		imap_parse_astring(c->args->next, &credentials.password) < 0)
		return false;
	if (!refuses_passwords(f))
		dialogue_login(f, &credentials);
	return true;
}

static bool cmd_authenticate(struct front *f, const struct imap_command *c)
{
	struct slice mechanism, initial = {0};

	if (c->count < 1 || c->count > 2 || imap_parse_atom(c->args, &mechanism) < 0)
		return false;
	if (c->count == 2 && imap_parse_atom(c->args->next, &initial) < 0)
		return false;
	if (!refuses_sasl(f))
		dialogue_sasl_start(f, mechanism, initial);
	return true;
}

static const struct command {
	const char *name;
	/* false: arguments are wrong, nothing was said */
	bool (*run)(struct front *f, const struct imap_command *c);
	bool takes_literals;
} commands[] = {
	{"AUTHENTICATE", cmd_authenticate, false},
	{"CAPABILITY", cmd_capability, false},
	{"ID", cmd_id, true},
	{"LOGIN", cmd_login, true},
	{"LOGOUT", cmd_logout, false},
	{"NOOP", cmd_noop, false},
	{"STARTTLS", cmd_starttls, false},
};

static const struct command *find_command(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (slice_is_str(name, commands[i].name))
			return &commands[i];
	}
	return NULL;
}

static void run_command(struct front *f, struct imap_command *c)
{
	const struct command *command = find_command(c->name);

	f->tag = c->tag;
	if (c->tag.len > TAG_MOST) {
		f->tag = (struct slice){0};
		say(f, "BAD The tag is too long.");
	} else if (!command) {
		say(f, "BAD This command is not known before login.");
	} else if (command->run(f, c)) {
		return;
	} else {
		say(f, "BAD Wrong arguments.");
	}
	(void)dialogue_wrong_command(f);
}

static void run_literal(struct front *f, struct imap_parse *p)
{
	const struct command *command = find_command(p->command.name);

	if (!command || !command->takes_literals)
		imap_parse_refuse(p, "No literal is taken here");
	else if (imap_parse_hold(p) == 0 && p->literal.is_sync)
		conn_write_str(f->conn, "+ OK\r\n");
}

static void run_bad(struct front *f, struct imap_parse *p)
{
	struct buf *out;

	f->tag = p->command.tag.len <= TAG_MOST ? p->command.tag : (struct slice){0};
	out = conn_output(f->conn);
	if (f->tag.len)
		buf_add_slice(out, f->tag);
	else
		buf_add_char(out, '*');
	buf_add_str(out, " BAD ");
	imap_write_text(out, slice_str(p->reason));
	buf_add_str(out, ".\r\n");
	conn_written(f->conn);
	(void)dialogue_wrong_command(f);
}

/* After a command that is answered: its memory goes. While a login is under way it stays. */
static void forget_command(struct imap_front *i)
{
	if (i->front.state != FRONT_COMMAND)
		return;
	i->front.tag = (struct slice){0};
	arena_wipe(&i->front.arena);
}

static ssize_t take_sasl(struct front *f)
{
	struct slice line;
	ssize_t n = imap_parse_line(conn_input(f->conn), dialogue_line_most(f), &line);
	struct secret copy = {0};

	if (n <= 0)
		return n;
	secret_set(&copy, line);
	dialogue_consume_secret(f, (size_t)n);
	dialogue_sasl_line(f, secret_view(&copy));
	secret_deinit(&copy);
	return n;
}

static ssize_t take_command(struct imap_front *i)
{
	struct front *f = &i->front;
	enum imap_parse_event event;
	ssize_t n;

	/* Each announced literal is answered at once, and the parser asked again: a refused one may end the command. */
	do {
		n = imap_parse_feed(&i->parse, conn_input(f->conn), &event);
		if (n < 0)
			return n;
		if (n > 0)
			dialogue_consume_secret(f, (size_t)n);
		if (event == IMAP_PARSE_LITERAL)
			run_literal(f, &i->parse);
	} while (event == IMAP_PARSE_LITERAL);
	if (event == IMAP_PARSE_MORE)
		return n;
	i->is_reading = false;
	if (event == IMAP_PARSE_COMMAND)
		run_command(f, &i->parse.command);
	else
		run_bad(f, &i->parse);
	forget_command(i);
	return 1;
}

static ssize_t take(struct front *f)
{
	struct imap_front *i = imap_of(f);

	if (f->state == FRONT_SASL)
		return take_sasl(f);
	if (!i->is_reading) {
		if (dialogue_is_http(conn_input(f->conn))) {
			dialogue_drop(f, "HTTP on a mail port");
			return 1;
		}
		if (dialogue_may_be_http(conn_input(f->conn)))
			return 0;
		imap_parse_start(&i->parse, &limits[f->takes_tickets], &f->arena);
		i->is_reading = true;
	}
	return take_command(i);
}

static const struct dialogue_protocol protocol = {
	.sasl_service = "imap",
	.greet = greet,
	.take = take,
	.say_result = say_result,
	.say_bye = say_bye,
	.say_challenge = say_challenge,
	.say_sasl_failed = say_sasl_failed,
	.reset = reset,
};

void imap_front_start(struct front_service *service, struct conn *conn_take, unsigned flags)
{
	struct imap_front *i = xcalloc(1, sizeof(*i));

	dialogue_start(&i->front, &protocol, service, conn_take, flags);
}
