/*
 * One line at a time: looked up in the table, answered, forgotten. The name of USER stays in the arena until PASS;
 * a login keeps the arena until it is answered.
 */
#include "common/front/pop3_front.h"

#include "common/base/mem.h"
#include "common/front/dialogue.h"
#include "common/proto/pop3_lang.h"
#include "common/proto/pop3_parse.h"

struct pop3_front {
	struct front front; /* first */
	struct slice user;  /* of USER, in the arena; NULL: none */
};

/* RFC 2449 section 8, RFC 3206 */
static const struct {
	const char *code;
	const char *text;
} results[FRONT_RESULTS] = {
	[FRONT_OK] = {"", ""},
	[FRONT_WRONG] = {"[AUTH]", "Authentication failed."},
	[FRONT_NOT_NOW] = {"[SYS/TEMP]", "Temporarily unavailable, try again later."},
	[FRONT_NO_ACCOUNT] = {"[SYS/PERM]", "There is no mailbox here that this user may use."},
	[FRONT_NOT_PERMITTED] = {"[AUTH]", "This user may not do that."},
	[FRONT_IN_USE] = {"[IN-USE]", "The mailbox is in use."},
	[FRONT_UNSERVED] = {"[AUTH]", "Authentication failed."},
	[FRONT_LIMIT] = {"[SYS/TEMP]", "Too many sessions of this user."},
};

static const char *const byes[DIALOGUE_BYE_TEXTS] = {
	[DIALOGUE_BYE_TIMEOUT] = "Silent for too long.",
	[DIALOGUE_BYE_WRONG_COMMANDS] = "Too many wrong commands.",
	[DIALOGUE_BYE_FAILED_LOGINS] = "Too many failed logins.",
	[DIALOGUE_BYE_TOO_BIG] = "Line too long.",
};

static struct pop3_front *pop3_of(struct front *f)
{
	return container_of(f, struct pop3_front, front);
}

static void say(struct front *f, const char *line)
{
	conn_write_str(f->conn, line);
	conn_write(f->conn, SLICE_LIT("\r\n"));
}

static void greet(struct front *f)
{
	struct buf *out = conn_output(f->conn);

	buf_add_str(out, dialogue_is_trusted(f) ? "+OK [XCLIENT] " : "+OK ");
	if (f->service->host[0]) {
		buf_add_str(out, f->service->host);
		buf_add_char(out, ' ');
	}
	buf_add_str(out, "Mailtier ready.\r\n");
	conn_written(f->conn);
}

static void say_result(struct front *f, enum front_result result)
{
	conn_printf(f->conn, "-ERR %s %s\r\n", results[result].code, results[result].text);
	pop3_of(f)->user = (struct slice){0};
}

static void say_bye(struct front *f, enum dialogue_bye bye)
{
	conn_printf(f->conn, "-ERR %s\r\n", byes[bye]);
}

static void say_challenge(struct front *f, struct slice base64)
{
	conn_write(f->conn, SLICE_LIT("+ "));
	conn_write(f->conn, base64);
	conn_write(f->conn, SLICE_LIT("\r\n"));
}

static void say_sasl_failed(struct front *f, int err)
{
	pop3_of(f)->user = (struct slice){0};
	if (err == ERR_CANCELLED)
		say(f, "-ERR Authentication cancelled.");
	else if (err == ERR_UNSUPPORTED)
		say(f, "-ERR This mechanism is not offered.");
	else if (err == ERR_NOT_NOW)
		say(f, "-ERR [SYS/TEMP] Temporarily unavailable, try again later.");
	else
		say(f, "-ERR Invalid authentication data.");
}

static void reset(struct front *f)
{
	pop3_of(f)->user = (struct slice){0};
}

/* ---- commands ---- */

/* A line of CAPA for each word: RFC 2449 section 5. */
static void add_words(struct buf *out, const char *words)
{
	struct slice rest = slice_str(words);

	while (rest.len) {
		ptrdiff_t blank = slice_find(rest, ' ');
		size_t len = blank < 0 ? rest.len : (size_t)blank;

		buf_add_slice(out, slice_sub(rest, 0, len));
		buf_add_str(out, "\r\n");
		rest = slice_from(rest, len + 1);
	}
}

static bool cmd_capa(struct front *f, const struct pop3_command *c)
{
	const char *offered[SASL_MECHANISM_COUNT + 1];
	struct buf *out;

	if (c->count)
		return false;
	out = conn_output(f->conn);
	buf_add_str(out, "+OK\r\n");
	add_words(out, f->service->capabilities);
	buf_add_str(out, "RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n" POP3_LANG_CAPABILITIES);
	if (f->service->tls && !conn_is_secure(f->conn))
		buf_add_str(out, "STLS\r\n");
	if (dialogue_takes_passwords(f))
		buf_add_str(out, "USER\r\n");
	if (dialogue_offered(f, offered)) {
		buf_add_str(out, "SASL");
		for (const char *const *m = offered; *m; m++) {
			buf_add_char(out, ' ');
			buf_add_str(out, *m);
		}
		buf_add_str(out, "\r\n");
	}
	if (dialogue_is_trusted(f))
		buf_add_str(out, "XCLIENT\r\n");
	else if (f->service->counts_hops)
		buf_add_str(out, "XCLIENT TTL\r\n");
	buf_add_str(out, ".\r\n");
	conn_written(f->conn);
	return true;
}

static bool cmd_noop(struct front *f, const struct pop3_command *c)
{
	if (c->count)
		return false;
	say(f, "+OK");
	return true;
}

static bool cmd_quit(struct front *f, const struct pop3_command *c)
{
	if (c->count)
		return false;
	say(f, "+OK Bye.");
	dialogue_end(f);
	return true;
}

static bool cmd_stls(struct front *f, const struct pop3_command *c)
{
	if (c->count)
		return false;
	if (f->is_utf8) { /* RFC 6856 section 2.1 */
		say(f, "-ERR TLS is to be begun before UTF8.");
		(void)dialogue_wrong_command(f);
		return true;
	}
	if (!f->service->tls || conn_is_tls(f->conn)) {
		say(f, conn_is_tls(f->conn) ? "-ERR TLS is active already."
					    : "-ERR TLS is not offered here.");
		(void)dialogue_wrong_command(f);
		return true;
	}
	say(f, "+OK Begin TLS negotiation now.");
	dialogue_start_tls(f);
	return true;
}

/* RFC 6856 section 2.1: the tier hears of it with the login. */
static bool cmd_utf8(struct front *f, const struct pop3_command *c)
{
	if (c->count)
		return false;
	f->is_utf8 = true;
	say(f, "+OK UTF-8 from here on.");
	return true;
}

static bool cmd_lang(struct front *f, const struct pop3_command *c)
{
	if (c->count > 1)
		return false;
	pop3_lang_answer(conn_output(f->conn), c);
	conn_written(f->conn);
	return true;
}

/* can: what is asked for is offered on this connection. */
static bool refuses(struct front *f, bool can)
{
	if (can)
		return false;
	if (conn_is_secure(f->conn))
		say(f, "-ERR [AUTH] This way to log in is not offered.");
	else
		say(f, "-ERR [AUTH] Use TLS before you log in.");
	(void)dialogue_wrong_command(f);
	return true;
}

static bool cmd_user(struct front *f, const struct pop3_command *c)
{
	if (c->rest.len == 0)
		return false;
	if (refuses(f, dialogue_takes_passwords(f)))
		return true;
	arena_wipe(&f->arena);
	pop3_of(f)->user = arena_copy(&f->arena, c->rest);
	say(f, "+OK");
	return true;
}

/* The password is all after the blank, blanks included: RFC 1939 section 7. */
static bool cmd_pass(struct front *f, const struct pop3_command *c)
{
	struct front_credentials credentials = {.mechanism = "command", .authcid = pop3_of(f)->user};

	if (!credentials.authcid.p)
		return false;
	/* RFC 6856 section 2.2: what is no UTF-8 is no password; an empty one is none either. */
	if (slice_is_utf8(c->rest))
		credentials.password = arena_copy(&f->arena, c->rest);
	dialogue_login(f, &credentials);
	return true;
}

/* RFC 5034; without arguments a list of mechanisms, as many servers have it. */
static bool cmd_auth(struct front *f, const struct pop3_command *c)
{
	const char *offered[SASL_MECHANISM_COUNT + 1];
	struct slice initial = {0};

	if (c->count > 2)
		return false;
	if (refuses(f, dialogue_offered(f, offered) > 0))
		return true;
	if (c->count == 0) {
		say(f, "+OK");
		for (const char *const *m = offered; *m; m++)
			say(f, *m);
		say(f, ".");
		return true;
	}
	pop3_of(f)->user = (struct slice){0};
	arena_wipe(&f->arena);
	if (c->count == 2)
		initial = arena_copy(&f->arena, c->args[1]);
	dialogue_sasl_start(f, c->args[0], initial);
	return true;
}

/* One NAME=value of XCLIENT; names that we do not know are for others. */
static int told_word(struct front *f, struct slice word)
{
	static const struct {
		const char *name;
		int (*told)(struct front *f, struct slice value);
	} names[] = {
		{"ADDR=", dialogue_told_client_host},
		{"PORT=", dialogue_told_client_port},
		{"DESTADDR=", dialogue_told_local_host},
		{"DESTPORT=", dialogue_told_local_port},
		{"SESSION=", dialogue_told_session},
		{"CLIENT-TRANSPORT=", dialogue_told_transport},
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (slice_has_prefix_nocase(word, names[i].name))
			return names[i].told(f, slice_from(word, strlen(names[i].name)));
	}
	return slice_find(word, '=') > 0 ? 0 : ERR_SYNTAX;
}

/* From anybody: TTL and nothing else. */
static bool told_ttl_alone(struct front *f, const struct pop3_command *c)
{
	if (!f->service->counts_hops || c->count != 1 || !slice_has_prefix_nocase(c->args[0], "TTL="))
		return false;
	return dialogue_told_ttl(f, slice_from(c->args[0], 4)) == 0;
}

static bool cmd_xclient(struct front *f, const struct pop3_command *c)
{
	if (told_ttl_alone(f, c)) {
		say(f, "+OK Updated.");
		return true;
	}
	if (!dialogue_is_trusted(f)) {
		say(f, "-ERR You are not a trusted proxy.");
		(void)dialogue_wrong_command(f);
		return true;
	}
	if (c->count > POP3_ARGS_MOST)
		return false;
	for (unsigned i = 0; i < c->count; i++) {
		if (told_word(f, c->args[i]) < 0)
			return false;
	}
	say(f, "+OK Updated.");
	return true;
}

static const struct {
	const char *name;
	/* false: not now or wrong arguments, nothing was said */
	bool (*run)(struct front *f, const struct pop3_command *c);
} commands[] = {
	{"AUTH", cmd_auth},
	{"CAPA", cmd_capa},
	{"LANG", cmd_lang},
	{"NOOP", cmd_noop},
	{"PASS", cmd_pass},
	{"QUIT", cmd_quit},
	{"STLS", cmd_stls},
	{"USER", cmd_user},
	{"UTF8", cmd_utf8},
	{"XCLIENT", cmd_xclient},
};

/* The views of c are into the input, which is consumed before STLS looks whether octets wait: hence the copy. */
static void run_command(struct front *f, const struct pop3_command *c)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(c->name, commands[i].name) != 0)
			continue;
		if (commands[i].run(f, c))
			return;
		say(f, "-ERR Wrong arguments, or out of order.");
		(void)dialogue_wrong_command(f);
		return;
	}
	say(f, "-ERR This command is not known before login.");
	(void)dialogue_wrong_command(f);
}

static ssize_t take_sasl(struct front *f)
{
	struct secret copy = {0};
	struct slice line;
	ssize_t n = pop3_parse_line(conn_input(f->conn), dialogue_line_most(f), &line);

	if (n <= 0)
		return n;
	secret_set(&copy, line);
	dialogue_consume_secret(f, (size_t)n);
	dialogue_sasl_line(f, secret_view(&copy));
	secret_deinit(&copy);
	return n;
}

static ssize_t take(struct front *f)
{
	char copy[DIALOGUE_INPUT_MOST];
	struct slice in = conn_input(f->conn);
	struct pop3_command command;
	size_t len = 0;
	ssize_t n;

	if (f->state == FRONT_SASL)
		return take_sasl(f);
	if (dialogue_is_http(in)) {
		dialogue_drop(f, "HTTP on a mail port");
		return 1;
	}
	n = pop3_parse_line(in, sizeof(copy), &(struct slice){0});
	if (n <= 0)
		return n;
	len = (size_t)n;
	memcpy(copy, in.p, len);
	dialogue_consume_secret(f, len);
	if (pop3_parse_command(slice_of(copy, len), sizeof(copy), &command, &(size_t){0}) > 0) {
		run_command(f, &command);
	} else {
		say(f, "-ERR This is no command.");
		(void)dialogue_wrong_command(f);
	}
	secret_wipe(copy, len);
	return 1;
}

static const struct dialogue_protocol protocol = {
	.sasl_service = "pop",
	.greet = greet,
	.take = take,
	.say_result = say_result,
	.say_bye = say_bye,
	.say_challenge = say_challenge,
	.say_sasl_failed = say_sasl_failed,
	.reset = reset,
};

void pop3_front_start(struct front_service *service, struct conn *conn_take, unsigned flags)
{
	struct pop3_front *p = xcalloc(1, sizeof(*p));

	dialogue_start(&p->front, &protocol, service, conn_take, flags);
}
