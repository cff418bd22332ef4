/* The table of commands, and those that need no file of their own. A new command is a row and a function. */
#include "backend/session/imap_notify.h"

#include "common/proto/imap_write.h"

static const char capabilities[] =
	"IMAP4rev1 IMAP4rev2 LITERAL+ ID NAMESPACE UIDPLUS IDLE UNSELECT MOVE CHILDREN ENABLE SPECIAL-USE "
	"CREATE-SPECIAL-USE MULTIAPPEND REPLACE CATENATE "
	"ACL RIGHTS=kxte LIST-MYRIGHTS "
	"LIST-EXTENDED LIST-STATUS LIST-METADATA METADATA NOTIFY STATUS=SIZE "
	"ESEARCH MULTISEARCH SEARCHRES WITHIN PARTIAL INPROGRESS "
	"SAVEDATE OBJECTID PREVIEW BINARY "
	"SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES I18NLEVEL=1 "
	"QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE QUOTA=RES-MAILBOX CONDSTORE QRESYNC UTF8=ACCEPT UIDONLY";

void imap_write_capabilities(const struct imap_session *s, struct buf *out)
{
	buf_add_str(out, capabilities);
	if (!conn_is_deflated(s->conn))
		buf_add_str(out, " COMPRESS=DEFLATE");
	if (s->back.take)
		buf_add_str(out, " UNAUTHENTICATE SASL-IR");
	buf_printf(out, " APPENDLIMIT=%llu", (unsigned long long)s->limits.append_size);
}

static void cmd_capability(struct imap_session *s, const struct imap_command *command)
{
	if (command->count) {
		imap_bad(s, "CAPABILITY has no arguments");
		return;
	}
	conn_write_str(s->conn, "* CAPABILITY ");
	imap_write_capabilities(s, conn_output(s->conn));
	conn_write_str(s->conn, "\r\n");
	imap_ok(s);
}

static void cmd_noop(struct imap_session *s, const struct imap_command *command)
{
	if (command->count)
		imap_bad(s, "No arguments here");
	else
		imap_ok(s);
}

static void cmd_logout(struct imap_session *s, const struct imap_command *command)
{
	if (command->count) {
		imap_bad(s, "LOGOUT has no arguments");
		return;
	}
	conn_write_str(s->conn, "* BYE Logging out\r\n");
	s->is_logout = true;
	imap_ok(s);
}

static void cmd_after_login(struct imap_session *s, const struct imap_command *command)
{
	(void)command;
	imap_bad(s, "Logged in already");
}

/* RFC 8437: never NO. */
static void cmd_unauthenticate(struct imap_session *s, const struct imap_command *command)
{
	if (command->count || !s->back.take) {
		imap_bad(s, command->count ? "UNAUTHENTICATE has no arguments"
					   : "UNAUTHENTICATE is not offered here");
		return;
	}
	imap_select_leave(s);
	s->gives_back = true;
	imap_ok(s);
}

/* What a proxy tells of its client is believed before login alone; from here on the peer is the user. */
static bool is_proxy_field(const struct imap_arg *arg)
{
	return arg->type != IMAP_ARG_LIST && slice_has_prefix_nocase(arg->text, "x-");
}

/* RFC 2971 section 3.3: at most 30 pairs of a name of 30 octets and a value of 1,024. */
static const char *check_id(const struct imap_command *command)
{
	const struct imap_arg *arg = command->args;
	unsigned pairs = 0;
	struct slice text;

	if (command->count != 1)
		return "ID has one argument";
	if (imap_parse_is_word(arg, "NIL"))
		return NULL;
	if (arg->type != IMAP_ARG_LIST)
		return "ID wants a list or NIL";
	for (arg = arg->first; arg; arg = arg->next->next) {
		if (arg->type == IMAP_ARG_ATOM || imap_parse_astring(arg, &text) < 0 || text.len > 30 ||
			++pairs > 30)
			return "Bad field name in ID";
		if (!arg->next || imap_parse_nstring(arg->next, &text) < 0 || text.len > 1024)
			return "Bad value in ID";
	}
	return NULL;
}

static void cmd_id(struct imap_session *s, const struct imap_command *command)
{
	const char *wrong = check_id(command);

	if (wrong) {
		imap_bad(s, wrong);
		return;
	}
	for (const struct imap_arg *arg = command->args->first; arg; arg = arg->next->next) {
		if (is_proxy_field(arg)) {
			imap_answer(s, "NO", "NOPERM", "Fields of this kind are for proxies, before login");
			return;
		}
	}
	conn_write_str(s->conn, "* ID (\"name\" \"Mailtier\")\r\n");
	imap_ok(s);
}

/* RFC 4978. */
static void cmd_compress(struct imap_session *s, const struct imap_command *command)
{
	if (command->count != 1 || !imap_parse_is_word(command->args, "DEFLATE")) {
		imap_bad(s, "COMPRESS knows DEFLATE alone");
		return;
	}
	if (conn_is_deflated(s->conn)) {
		imap_answer(s, "BAD", "COMPRESSIONACTIVE", "DEFLATE is active already");
		return;
	}
	s->starts_deflate = true;
	imap_ok(s);
}

void imap_enable_condstore(struct imap_session *s)
{
	if (!s->is_condstore && s->view.mailbox)
		conn_printf(
			s->conn, "* OK [HIGHESTMODSEQ %llu] Highest\r\n", (unsigned long long)s->view.told);
	s->is_condstore = true;
}

static void enable_qresync(struct imap_session *s)
{
	imap_enable_condstore(s);
	s->is_qresync = true;
}

/* RFC 9051 appendix E: from here on no \Recent. */
static void enable_rev2(struct imap_session *s)
{
	s->is_rev2 = true;
	s->view.hides_recent = true;
}

static void enable_utf8(struct imap_session *s)
{
	s->is_utf8 = true;
}

static void enable_uidonly(struct imap_session *s)
{
	s->is_uidonly = true;
}

static const struct {
	const char *name;
	void (*fn)(struct imap_session *s);
} enables[] = {{"CONDSTORE", imap_enable_condstore}, {"QRESYNC", enable_qresync}, {"IMAP4rev2", enable_rev2},
	{"UTF8=ACCEPT", enable_utf8}, {"UIDONLY", enable_uidonly}, {"METADATA", imap_notify_enable_metadata}};

/* RFC 5161; unknown names are left out of the answer. */
static void cmd_enable(struct imap_session *s, const struct imap_command *command)
{
	unsigned wanted = 0;
	struct slice word;

	if (!command->count) {
		imap_bad(s, "ENABLE what?");
		return;
	}
	for (const struct imap_arg *arg = command->args; arg; arg = arg->next) {
		if (imap_parse_atom(arg, &word) < 0) {
			imap_bad(s, "ENABLE wants names of capabilities");
			return;
		}
		for (size_t i = 0; i < ARRAY_LEN(enables); i++)
			wanted |= slice_is_str_nocase(word, enables[i].name) ? 1u << i : 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(enables); i++) {
		if (wanted >> i & 1)
			enables[i].fn(s);
	}
	conn_write_str(s->conn, "* ENABLED");
	for (size_t i = 0; i < ARRAY_LEN(enables); i++) {
		if (wanted >> i & 1)
			conn_printf(s->conn, " %s", enables[i].name);
	}
	conn_write_str(s->conn, "\r\n");
	imap_ok(s);
}

#define SELECTED IMAP_CMD_SELECTED
#define WRITABLE (IMAP_CMD_SELECTED | IMAP_CMD_WRITABLE)
#define SEQ IMAP_CMD_SEQ
static const struct imap_cmd commands[] = {
	{"CAPABILITY", 0, cmd_capability},
	{"NOOP", IMAP_CMD_SYNC, cmd_noop},
	{"LOGOUT", 0, cmd_logout},
	{"ID", 0, cmd_id},
	{"LOGIN", 0, cmd_after_login},
	{"AUTHENTICATE", 0, cmd_after_login},
	{"STARTTLS", 0, cmd_after_login},
	{"UNAUTHENTICATE", 0, cmd_unauthenticate},
	{"ENABLE", 0, cmd_enable},
	{"COMPRESS", 0, cmd_compress},
	{"NAMESPACE", 0, imap_cmd_namespace},
	{"SELECT", IMAP_CMD_FRESH, imap_cmd_select},
	{"EXAMINE", IMAP_CMD_FRESH, imap_cmd_examine},
	{"CREATE", 0, imap_cmd_create},
	{"DELETE", 0, imap_cmd_delete},
	{"RENAME", 0, imap_cmd_rename},
	{"SUBSCRIBE", 0, imap_cmd_subscribe},
	{"UNSUBSCRIBE", 0, imap_cmd_unsubscribe},
	{"LIST", 0, imap_cmd_list},
	{"LSUB", 0, imap_cmd_lsub},
	{"STATUS", 0, imap_cmd_status},
	{"APPEND", 0, imap_cmd_append},
	{"IDLE", 0, imap_cmd_idle},
	{"NOTIFY", IMAP_CMD_SYNC, imap_cmd_notify},
	{"GETMETADATA", 0, imap_cmd_getmetadata},
	{"SETMETADATA", 0, imap_cmd_setmetadata},
	{"GETQUOTA", 0, imap_cmd_getquota},
	{"GETQUOTAROOT", 0, imap_cmd_getquotaroot},
	{"SETQUOTA", 0, imap_cmd_setquota},
	{"SETACL", 0, imap_cmd_setacl},
	{"DELETEACL", 0, imap_cmd_deleteacl},
	{"GETACL", 0, imap_cmd_getacl},
	{"LISTRIGHTS", 0, imap_cmd_listrights},
	{"MYRIGHTS", 0, imap_cmd_myrights},
	{"CHECK", SELECTED | IMAP_CMD_SYNC, cmd_noop},
	{"CLOSE", SELECTED, imap_cmd_close},
	{"UNSELECT", SELECTED, imap_cmd_unselect},
	{"EXPUNGE", WRITABLE | IMAP_CMD_SYNC, imap_cmd_expunge},
	{"UID EXPUNGE", WRITABLE | IMAP_CMD_SYNC | IMAP_CMD_UID, imap_cmd_uid_expunge},
	{"SEARCH", SELECTED | SEQ | IMAP_CMD_NO_EXPUNGE, imap_cmd_search},
	{"UID SEARCH", SELECTED | IMAP_CMD_UID | IMAP_CMD_NO_EXPUNGE, imap_cmd_search},
	{"ESEARCH", IMAP_CMD_UID | IMAP_CMD_NO_EXPUNGE, imap_cmd_esearch},
	{"SORT", SELECTED | SEQ | IMAP_CMD_NO_EXPUNGE, imap_cmd_sort},
	{"UID SORT", SELECTED | IMAP_CMD_UID | IMAP_CMD_NO_EXPUNGE, imap_cmd_sort},
	{"THREAD", SELECTED | SEQ | IMAP_CMD_NO_EXPUNGE, imap_cmd_thread},
	{"UID THREAD", SELECTED | IMAP_CMD_UID | IMAP_CMD_NO_EXPUNGE, imap_cmd_thread},
	{"FETCH", SELECTED | SEQ | IMAP_CMD_NO_EXPUNGE, imap_cmd_fetch},
	{"UID FETCH", SELECTED | IMAP_CMD_UID, imap_cmd_fetch},
	{"STORE", WRITABLE | SEQ | IMAP_CMD_NO_EXPUNGE, imap_cmd_store},
	{"UID STORE", WRITABLE | IMAP_CMD_UID, imap_cmd_store},
	{"REPLACE", WRITABLE | SEQ | IMAP_CMD_SYNC, imap_cmd_append},
	{"UID REPLACE", WRITABLE | IMAP_CMD_SYNC | IMAP_CMD_UID, imap_cmd_append},
	{"COPY", SELECTED | SEQ, imap_cmd_copy},
	{"UID COPY", SELECTED | IMAP_CMD_UID, imap_cmd_copy},
	{"MOVE", WRITABLE | SEQ | IMAP_CMD_SYNC, imap_cmd_copy},
	{"UID MOVE", WRITABLE | IMAP_CMD_SYNC | IMAP_CMD_UID, imap_cmd_copy},
};

const struct imap_cmd *imap_cmd_find(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (slice_is_str(name, commands[i].name))
			return &commands[i];
	}
	return NULL;
}
