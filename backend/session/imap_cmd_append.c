/*
 * APPEND (RFC 3501 section 6.3.11, RFC 3502, RFC 4315) and REPLACE (RFC 8508), with CATENATE (RFC 4469) and UTF8 (RFC 6855). The messages go from the connection into one spool and from there to the
 * store; none is ever held whole in the parser. They are stored in one commit or not at all.
 *
 *	announced -> (mailbox looked up) -> "+ OK" -> streamed -> announced … -> end of the command -> added
 *
 * advance() reads what has come of the arguments and stops where something has to be done first: at a literal that is to be
 * streamed, at a URL whose octets are to be copied (a read job), at the end.
 *
 * While the second message of a command comes, workers already prepare the first, and so on (store_work_ahead()): they get pieces
 * of some messages, as long as the spool is in memory.
 *
 * Before a synchronising literal is asked for, mailbox, sizes and quota are checked. The mailbox found last is
 * remembered, so that a client that fills one mailbox pays for one look-up; the store says if it is gone.
 *
 * REPLACE is an APPEND of one message whose commit also expunges another of the selected mailbox. Which one is settled when
 * the literal is announced: until the command's end the view does not change.
 */
#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_catenate.h"
#include "backend/session/imap_name.h"
#include "common/base/clock.h"
#include "common/net/spool.h"
#include "common/proto/date.h"

#define HEADER_PIECE 4096
#define SPOOL_MEMORY (512u * 1024)
/* Given to the workers at once, whichever comes first. */
#define AHEAD_PIECE (32u * 1024)
#define AHEAD_PIECE_MESSAGES 32
/* Of the mailbox whose message is replaced: it goes. */
#define REPLACE_RIGHTS (IMAP_RIGHT_DELETE_MESSAGE | IMAP_RIGHT_EXPUNGE)
/* All messages of one command, in units of the size that one may have. */
#define TOTAL_SIZES 2

struct append_message {
	struct append_message *next;
	uint8_t flags;
	struct slice *keywords;
	size_t keyword_count;
	int64_t date;
	struct store_work_range range;
};

struct append_data {
	struct slice name, given; /* as it is kept, as the client wrote it */
	uint32_t mailbox;
	const struct imap_arg *seen; /* the last argument that was read */
	const struct imap_arg *list; /* of CATENATE, while its parts are read */
	const struct imap_arg *part; /* the last of them; NULL: none yet */
	const struct imap_arg *utf8; /* the list of UTF8 whose literal came last; it must have nothing else */
	struct append_message *open; /* the message that they make */
	struct imap_catenate catenate;
	unsigned slot;                  /* where the mailbox is, */
	uint32_t account;               /* whose it is, */
	unsigned rights;                /* and what this session may do with it */
	struct store_work_added result; /* of the first message */
	const char *url;                /* for BADURL */
	bool has_literal;               /* one is announced and waits for an answer */
	struct append_message *first, **end;
	unsigned count;
	struct store_ahead *ahead;        /* of the first messages */
	const struct append_message *new; /* first of those that it has not */
	unsigned new_count;
	bool is_ahead_over; /* it takes no more */
	uint32_t replaced;  /* REPLACE: the UID that goes; 0: APPEND */
	struct spool *spool;
	uint64_t left;
	int err;       /* of the spool, or what is wrong with the message */
	bool has_nul;  /* in a literal8 (RFC 3516 section 4.4) */
	bool is_fresh; /* the mailbox was looked up for this command */
};

static void free_append(struct imap_session *s)
{
	struct append_data *d = s->data;

	store_ahead_free(&d->ahead);
	spool_free(&d->spool);
}

static const char *read_name(struct imap_session *s, const struct imap_arg *arg, struct append_data *d)
{
	if (imap_parse_astring(arg, &d->given) < 0)
		return "A mailbox name is wanted";
	if (imap_name_read(s, arg, &s->arena, &d->name) < 0)
		d->name = SLICE_LIT(""); /* names nothing */
	d->seen = arg;
	return NULL;
}

/* [flags] [date]: what stands before a message; *arg_out: what comes then. */
static const char *read_options(struct imap_session *s, struct append_data *d, struct append_message *m,
	const struct imap_arg **arg_out)
{
	const struct imap_arg *arg = d->seen->next;
	struct date date;

	if (arg && arg->type == IMAP_ARG_LIST) {
		if (imap_store_read_flags(arg->first, &s->arena, &m->flags, &m->keywords, &m->keyword_count) <
			0)
			return "Bad flags in APPEND";
		arg = arg->next;
	}
	m->date = clock_wall_s();
	if (arg && arg->type == IMAP_ARG_QUOTED) {
		if (date_parse_internal(arg->text, &date) < 0)
			return "Bad date in APPEND";
		m->date = date.unix_s;
		arg = arg->next;
	}
	*arg_out = arg;
	return arg ? NULL : "Wrong arguments for APPEND";
}

static bool is_guest(const struct imap_session *s, const struct append_data *d)
{
	return d->account != s->account || d->slot != s->slot;
}

/* size: of all messages so far, count of them. */
static bool is_over_quota(struct imap_session *s, uint64_t size, unsigned count)
{
	const struct append_data *d = s->data;
	struct store_account account;

	if (store_get_account(store_work_store(s->service->work), d->slot, d->account, &account) < 0)
		return false;
	return (account.bytes_limit && (account.bytes_used >= account.bytes_limit ||
					       size > account.bytes_limit - account.bytes_used)) ||
	       (account.count_limit && (account.count_used >= account.count_limit ||
					       count > account.count_limit - account.count_used));
}

/* The command cannot be done: what is announced is refused, or the answer goes out. Code and text live as long as the command. */
static void fail(struct imap_session *s, const char *status, const char *code, const char *text)
{
	struct append_data *d = s->data;

	if (d && !d->has_literal) {
		imap_answer(s, status, code, text);
		return;
	}
	imap_refuse_literal(s, status, code, text);
	if (s->state == IMAP_BUSY) {
		imap_enter(s, IMAP_LITERAL);
		imap_input(s);
	}
}

/* REPLACE: the message that goes. NULL, or what is wrong; *no_out: it is NO, not BAD. */
static const char *read_replaced(
	struct imap_session *s, const struct imap_arg *arg, struct append_data *d, const char **no_out)
{
	bool is_uid = slice_has_prefix(s->parse.command.name, "UID ");
	uint32_t n = 0;

	*no_out = NULL;
	if (!s->view.mailbox)
		return "No mailbox is selected";
	if (s->view.is_readonly) {
		*no_out = "NOPERM";
		return "The mailbox was opened read-only";
	}
	if ((s->view.rights & REPLACE_RIGHTS) != REPLACE_RIGHTS) {
		*no_out = "NOPERM";
		return "You have no right to that";
	}
	if (!imap_parse_is_word(arg, "*") && (imap_parse_u32(arg, &n) < 0 || n == 0))
		return "REPLACE wants one message";
	if (imap_parse_is_word(arg, "*"))
		d->replaced = s->view.uids.count ? imap_view_last_uid(&s->view) : 0;
	else if (is_uid)
		d->replaced = imap_view_seq(&s->view, n) ? n : 0;
	else
		d->replaced = n <= s->view.uids.count ? imap_uids_at(&s->view.uids, n - 1) : 0;
	if (!d->replaced && is_uid)
		*no_out = "NONEXISTENT";
	return d->replaced ? NULL : "No such message";
}

static int find_run(struct imap_session *s, struct store_txn *txn)
{
	struct append_data *d = s->data;
	struct store_mailbox mailbox;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_INSERT, &mailbox);

	if (err == 0)
		d->mailbox = mailbox.id;
	d->slot = s->at_slot;
	if (err == 0)
		d->account = mailbox.account;
	return err == 0 ? imap_access_rights(s, txn, &mailbox, &d->rights) : err;
}

/* Of the session's own alone: rights to others' are looked up each time. */
static void remember(struct imap_session *s, uint32_t mailbox, struct slice name)
{
	const struct append_data *d = s->data;

	if (is_guest(s, d))
		mailbox = 0;
	free(s->append_name);
	s->append_mailbox = mailbox;
	s->append_name = mailbox ? slice_copy_str(name) : NULL;
}

static void begin_stream(struct imap_session *s)
{
	struct append_data *d = s->data;
	bool was_busy = s->state == IMAP_BUSY;

	d->left = s->parse.literal.size;
	d->has_literal = false;
	if (s->parse.literal.is_sync)
		conn_write_str(s->conn, "+ OK\r\n");
	imap_parse_stream(&s->parse);
	imap_enter(s, IMAP_STREAM);
	if (was_busy)
		imap_input(s);
}

/* Size so far, once `more` octets have come. False: it is too much, and the command has failed. */
static bool has_room(struct imap_session *s, struct append_data *d, uint64_t more)
{
	const struct append_message *m = d->open;
	uint64_t before = spool_len(d->spool), total = before + more;

	if (total - m->range.offset > s->limits.append_size)
		fail(s, "NO", "TOOBIG", "Message too large");
	else if (total > s->limits.append_size * TOTAL_SIZES)
		fail(s, "NO", "TOOBIG", "Too much for one command");
	else if (!d->replaced && is_over_quota(s, total, d->count + 1))
		fail(s, "NO", "OVERQUOTA", "Quota exceeded");
	else
		return true;
	return false;
}

/* What stands open becomes one of the command's messages. */
static void end_message(struct append_data *d)
{
	d->open->range.size = spool_len(d->spool) - d->open->range.offset;
	*d->end = d->open;
	d->end = &d->open->next;
	if (!d->new_count++)
		d->new = d->open;
	d->open = NULL;
	d->list = NULL;
	d->part = NULL;
	d->count++;
}

static bool open_message(struct imap_session *s, struct append_data *d)
{
	if (d->replaced && d->count) {
		fail(s, "BAD", NULL, "REPLACE has one message");
		return false;
	}
	d->open = arena_calloc(&s->arena, 1, sizeof(*d->open));
	if (!d->open || d->count == STORE_WORK_RANGES_MAX) {
		fail(s, "NO", "LIMIT", "Too many messages in one command");
		return false;
	}
	d->open->range.offset = spool_len(d->spool);
	return true;
}

static void advance(struct imap_session *s);
static void store(struct imap_session *s);

/* RFC 4469 section 4.1: the URL itself is in the code, as far as it can stand there. */
static const char *badurl(struct imap_session *s, struct slice url)
{
	char *code = arena_alloc(&s->arena, url.len + 8);
	size_t n = 7;

	if (!code)
		return "BADURL";
	memcpy(code, "BADURL ", n);
	for (size_t i = 0; i < url.len; i++) {
		unsigned char c = (unsigned char)url.p[i];

		code[n++] = (char)(c < 0x20 || c > 0x7e || c == ']' || c == '\\' ? '?' : c);
	}
	code[n] = '\0';
	return code;
}

static void copied(struct imap_session *s, int err)
{
	struct append_data *d = s->data;

	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
		fail(s, "NO", d->url, "There is no such message or part");
	else if (err == ERR_TOO_BIG)
		fail(s, "NO", "TOOBIG", "Message too large");
	else if (err == ERR_SYNTAX)
		fail(s, "NO", d->url, "There is a NUL in it");
	else if (err < 0)
		fail(s, "NO", "UNAVAILABLE", "Try again later");
	else if (has_room(s, d, 0))
		advance(s);
}

static void copy_url(struct imap_session *s, struct append_data *d, struct slice url)
{
	d->url = badurl(s, url);
	d->catenate = (struct imap_catenate){.spool = d->spool,
		.most = s->limits.append_size - (spool_len(d->spool) - d->open->range.offset),
		.done = copied};
	if (imap_catenate_parse(s, url, &d->catenate) < 0)
		fail(s, "NO", d->url, "No URL of a message here");
	else
		imap_catenate_start(s, &d->catenate);
}

/* The literal announced, if it is this one, is the next of the message. */
static void take_text(struct imap_session *s, struct append_data *d, const struct imap_arg *arg)
{
	if (!arg || arg->type != IMAP_ARG_LITERAL || !d->has_literal)
		fail(s, "BAD", NULL, "Wrong arguments for APPEND");
	else if (has_room(s, d, arg->size))
		begin_stream(s);
}

/* UTF8 (literal8): arg is the list. */
static void take_utf8(struct imap_session *s, struct append_data *d, const struct imap_arg *list)
{
	d->utf8 = list;
	if (list && list->type == IMAP_ARG_LIST && s->parse.literal.is_binary)
		take_text(s, d, list->first);
	else
		fail(s, "BAD", NULL, "UTF8 wants a literal8 in parentheses");
}

/* The next part: TEXT literal, UTF8 (literal8), or URL string. */
static void read_part(struct imap_session *s, struct append_data *d, const struct imap_arg *word)
{
	struct slice url;

	d->part = word->next;
	if (imap_parse_is_word(word, "TEXT"))
		take_text(s, d, word->next);
	else if (imap_parse_is_word(word, "UTF8"))
		take_utf8(s, d, word->next);
	else if (imap_parse_is_word(word, "URL") && imap_parse_astring(word->next, &url) == 0)
		copy_url(s, d, url);
	else
		fail(s, "BAD", NULL, "CATENATE wants TEXT, UTF8 or URL");
}

/* A literal that is a whole message. */
static void read_literal(struct imap_session *s, struct append_data *d, const struct imap_arg *arg)
{
	d->seen = arg;
	if (arg->size == 0)
		fail(s, "NO", NULL, "A message cannot be empty");
	else
		take_text(s, d, arg);
}

static void read_message(struct imap_session *s, struct append_data *d)
{
	const struct imap_arg *arg;
	const char *wrong;

	if (!open_message(s, d))
		return;
	wrong = read_options(s, d, d->open, &arg);
	if (wrong) {
		fail(s, "BAD", NULL, wrong);
	} else if (imap_parse_is_word(arg, "CATENATE") && arg->next && arg->next->type == IMAP_ARG_LIST) {
		d->list = d->seen = arg->next;
		advance(s);
	} else if (imap_parse_is_word(arg, "UTF8") && arg->next && arg->next->type == IMAP_ARG_LIST) {
		d->seen = arg->next;
		take_utf8(s, d, arg->next);
	} else if (arg->type == IMAP_ARG_LITERAL && !arg->next) {
		read_literal(s, d, arg);
	} else {
		fail(s, "BAD", NULL, "Wrong arguments for APPEND");
	}
}

/* More will come: what is here can be prepared meanwhile. */
static void give_ahead(struct imap_session *s, struct append_data *d)
{
	struct store_work_range ranges[AHEAD_PIECE_MESSAGES];
	struct slice bytes = spool_view(d->spool);
	const struct append_message *m = d->new;
	unsigned n = 0;

	if (d->is_ahead_over || d->err ||
		(bytes.p && d->new_count < AHEAD_PIECE_MESSAGES && bytes.len - m->range.offset < AHEAD_PIECE))
		return;
	if (bytes.p) {
		bytes = slice_from(bytes, (size_t)m->range.offset);
		for (; m; m = m->next, n++)
			ranges[n] = (struct store_work_range){
				m->range.offset - d->new->range.offset, m->range.size};
	}
	d->is_ahead_over = !bytes.p || !store_work_ahead(s->service->work, &d->ahead, bytes, ranges, n);
	d->new_count = 0;
}

static void advance(struct imap_session *s)
{
	struct append_data *d = s->data;
	const struct imap_arg *next = d->list && d->part ? d->part->next : d->list ? d->list->first : NULL;

	if (d->utf8 && d->utf8->first->next) {
		fail(s, "BAD", NULL, "UTF8 wants one literal8 in parentheses");
		return;
	}
	d->utf8 = NULL;
	if (next) {
		read_part(s, d, next);
		return;
	}
	if (d->open) { /* a literal has been streamed, or a list has ended */
		if (d->err == 0 && spool_len(d->spool) == d->open->range.offset) {
			fail(s, "NO", NULL, "A message cannot be empty");
			return;
		}
		end_message(d);
	}
	if (!d->seen->next) {
		store(s);
		return;
	}
	if (d->new_count)
		give_ahead(s, d);
	read_message(s, d);
}

static void found(struct imap_session *s, int err)
{
	struct append_data *d = s->data;

	if (err == ERR_NOT_FOUND || err == ERR_DENIED) {
		fail(s, "NO", "TRYCREATE", "No such mailbox");
	} else if (err == ERR_FORBIDDEN) {
		fail(s, "NO", "NOPERM", "You have no right to that");
	} else if (err < 0) {
		fail(s, "NO", "UNAVAILABLE", "Try again later");
	} else {
		d->is_fresh = true;
		remember(s, d->mailbox, d->name);
		advance(s);
	}
}

/* The first literal of the command, or its end if it has none. */
static void begin(struct imap_session *s, bool has_literal)
{
	struct append_data *d = arena_calloc(&s->arena, 1, sizeof(*d));
	const struct imap_arg *args = s->parse.command.args;
	bool is_replace = !slice_is_str(s->parse.command.name, "APPEND");
	const char *wrong = NULL, *no = NULL;

	if (!d) {
		if (has_literal)
			imap_refuse_literal(s, "NO", "LIMIT", "Command too large");
		else
			imap_answer(s, "NO", "LIMIT", "Command too large");
		return;
	}
	d->end = &d->first;
	d->has_literal = has_literal;
	d->spool = spool_new(SPOOL_MEMORY, 0);
	s->data = d;
	s->cleanup = free_append;
	if (s->is_uidonly && slice_is_str(s->parse.command.name, "REPLACE")) {
		fail(s, "BAD", "UIDREQUIRED", "Only UIDs may be used, as was enabled");
		return;
	}
	if (is_replace)
		wrong = read_replaced(s, args, d, &no);
	if (!wrong)
		wrong = read_name(s, is_replace && args ? args->next : args, d);
	if (!wrong && !d->seen->next)
		wrong = "A message is wanted";
	if (wrong) {
		fail(s, no ? "NO" : "BAD", no, wrong);
		return;
	}
	if (s->append_name && slice_is_str(d->name, s->append_name)) {
		d->mailbox = s->append_mailbox;
		d->slot = s->slot;
		d->account = s->account;
		d->rights = IMAP_RIGHTS_ALL;
		advance(s);
	} else {
		imap_access_go(s, d->name);
		imap_read(s, find_run, found);
	}
}

/* The URL of a part comes as a literal: it is held, and read with what comes after it. */
static bool is_url_literal(const struct append_data *d, const struct imap_command *command)
{
	const struct imap_arg *arg = d && d->list ? d->list : command->args, *before = NULL;

	if (!d || !d->list) {
		while (arg && !(arg->type == IMAP_ARG_LIST && !arg->next))
			arg = arg->next;
	}
	for (arg = arg ? arg->first : NULL; arg && arg->next; arg = arg->next)
		before = arg;
	return before && arg->type == IMAP_ARG_LITERAL && imap_parse_is_word(before, "URL");
}

bool imap_append_takes(const struct imap_command *command)
{
	/* Behind the mailbox name; for REPLACE behind the message number too. */
	if (slice_is_str(command->name, "APPEND"))
		return command->count >= 2;
	return command->count >= 3 &&
	       (slice_is_str(command->name, "REPLACE") || slice_is_str(command->name, "UID REPLACE"));
}

bool imap_append_literal(struct imap_session *s)
{
	struct append_data *d = s->data;

	if (s->parse.literal.depth && is_url_literal(d, &s->parse.command))
		return false;
	if (!d) {
		begin(s, true);
	} else {
		d->has_literal = true;
		advance(s);
	}
	return true;
}

bool imap_append_stream(struct imap_session *s)
{
	struct append_data *d = s->data;
	struct slice in = conn_input(s->conn);
	struct slice piece = slice_sub(in, 0, d->left < in.len ? (size_t)d->left : in.len);

	if (d->left && piece.len == 0) {
		if (s->is_eof)
			imap_close(s, NULL);
		return false;
	}
	if (d->err == 0 && piece.len && memchr(piece.p, '\0', piece.len)) {
		d->err = ERR_SYNTAX; /* no literal of FETCH BODY[] could give it back */
		d->has_nul |= s->parse.literal.is_binary;
	}
	if (d->err == 0)
		d->err = spool_add(d->spool, piece);
	d->left -= piece.len;
	conn_consume(s->conn, piece.len);
	imap_enter(s, d->left ? IMAP_STREAM : IMAP_LITERAL);
	return true;
}

/* ---- storing ---- */

static void added(struct imap_session *s, int err, const struct store_work_added *result);

/* REPLACE out of or into another's mailbox: not in one transaction, but after the new message is there. */
static bool is_across(const struct imap_session *s, const struct append_data *d)
{
	return d->replaced && (s->view.is_guest || s->view.slot != d->slot || s->view.account != d->account);
}

static void start_add(struct imap_session *s)
{
	struct append_data *d = s->data;
	struct store_work_target *targets = arena_calloc(&s->arena, d->count, sizeof(*targets));
	struct store_work_range *ranges = arena_calloc(&s->arena, d->count, sizeof(*ranges));
	struct store_work_add add = {.spool = d->spool,
		.targets = targets,
		.ranges = ranges,
		.target_count = d->count,
		.ahead = d->ahead,
		.replaced_mailbox = s->view.mailbox,
		.replaced_uid = is_across(s, d) ? 0 : d->replaced};
	unsigned i = 0;

	if (!targets || !ranges) {
		imap_fail(s, ERR_TOO_BIG);
		return;
	}
	for (const struct append_message *m = d->first; m; m = m->next, i++) {
		targets[i] = (struct store_work_target){.account = d->account,
			.mailbox = d->mailbox,
			.flags = imap_access_flags(d->rights, m->flags),
			.keywords = m->keywords,
			.keyword_count = d->rights & IMAP_RIGHT_WRITE ? m->keyword_count : 0,
			.date = m->date};
		if (is_guest(s, d))
			targets[i].who = imap_access_who(s);
		if (!d->is_fresh) /* remembered from an earlier command; others may have renamed it since */
			targets[i].name = d->name;
		ranges[i] = m->range;
	}
	d->ahead = NULL;
	s->at_slot = d->slot;
	imap_add(s, &add, added);
}

static int expunge_run(struct imap_session *s, struct store_txn *txn)
{
	const struct append_data *d = s->data;
	uint64_t modseq;
	int err = imap_access_check(s, txn, REPLACE_RIGHTS);

	return err < 0 ? err
		       : store_message_expunge(
				 txn, s->view.account, s->view.mailbox, &d->replaced, 1, true, NULL, &modseq);
}

/* err: of expunging what is replaced. */
static void finish(struct imap_session *s, int err)
{
	struct append_data *d = s->data;
	struct buf code = {0};

	if (err < 0) {
		imap_fail(s, err);
		return;
	}
	imap_list_write_oldname(s, "", d->name, d->given, &code);
	conn_write(s->conn, buf_view(&code));
	buf_clear(&code);
	/* One transaction gave them all: without a gap. */
	buf_printf(&code, "APPENDUID %u %u", d->result.uidvalidity, d->result.uid);
	if (d->count > 1)
		buf_printf(&code, ":%u", d->result.uid + d->count - 1);
	if (d->replaced) { /* RFC 8508 section 4.3: before the EXPUNGE */
		conn_printf(s->conn, "* OK [%s] Replacement ready\r\n", buf_str_view(&code));
		s->tells_modseq = s->is_qresync;
		imap_ok(s);
	} else {
		imap_answer(s, "OK", buf_str_view(&code), "Appended");
	}
	buf_deinit(&code);
}

static void found_again(struct imap_session *s, int err)
{
	struct append_data *d = s->data;

	d->is_fresh = true;
	if (err == ERR_NOT_FOUND || err == ERR_DENIED) {
		imap_answer(s, "NO", "TRYCREATE", "No such mailbox");
	} else if (err < 0) {
		imap_fail(s, err);
	} else {
		remember(s, d->mailbox, d->name);
		start_add(s);
	}
}

static void added(struct imap_session *s, int err, const struct store_work_added *result)
{
	struct append_data *d = s->data;

	if (err == ERR_NOT_FOUND && !d->is_fresh) {
		remember(s, 0, d->name);
		imap_access_go(s, d->name);
		imap_read(s, find_run, found_again);
	} else if (err == ERR_NOT_FOUND || err == ERR_DENIED) {
		remember(s, 0, d->name);
		imap_answer(s, "NO", "TRYCREATE", "No such mailbox");
	} else if (err == ERR_TOO_BIG) {
		imap_answer(s, "NO", "OVERQUOTA", "Quota exceeded");
	} else if (err == ERR_CLOSED) {
		imap_answer(s, "NO", "EXPUNGEISSUED", "The message to be replaced is gone");
	} else if (err < 0) {
		imap_fail(s, err);
	} else {
		s->must_sync = s->view.mailbox == d->mailbox && s->view.slot == d->slot;
		d->result = *result;
		if (is_across(s, d)) {
			s->at_slot = s->view.slot;
			imap_write_job(s, expunge_run, finish);
		} else {
			finish(s, 0);
		}
	}
}

/* A header with 8-bit octets: of the message as it is, without looking into its parts. */
static bool has_8bit_header(struct spool *spool, const struct store_work_range *range)
{
	char piece[HEADER_PIECE];
	uint64_t at = 0;
	bool is_line_empty = true;

	while (at < range->size) {
		size_t want = range->size - at < sizeof(piece) ? (size_t)(range->size - at) : sizeof(piece);
		ssize_t n = spool_read(spool, range->offset + at, piece, want);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++) {
			if (piece[i] == '\n' && is_line_empty)
				return false;
			if ((unsigned char)piece[i] >= 0x80)
				return true;
			is_line_empty = piece[i] == '\n' || (piece[i] == '\r' && is_line_empty);
		}
		at += (uint64_t)n;
	}
	return false;
}

/* RFC 6855 section 4, for those who want it so; RFC 9051 has UTF-8 in headers. */
static bool wants_utf8(const struct imap_session *s, const struct append_data *d)
{
	if (!s->limits.is_strict_utf8 || imap_name_is_utf8(s))
		return false;
	for (const struct append_message *m = d->first; m; m = m->next) {
		if (has_8bit_header(d->spool, &m->range))
			return true;
	}
	return false;
}

/* All has been read. */
static void store(struct imap_session *s)
{
	struct append_data *d = s->data;

	if (d->has_literal || !d->count)
		fail(s, "BAD", NULL, "A mailbox and a message are wanted");
	else if (d->has_nul)
		imap_answer(s, "NO", "UNKNOWN-CTE", "Messages with NULs are not kept here");
	else if (d->err == ERR_SYNTAX)
		imap_bad(s, "NUL in a message");
	else if (d->err < 0)
		imap_fail(s, d->err);
	else if (wants_utf8(s, d))
		imap_answer(s, "NO", "CANNOT", "8-bit headers want ENABLE UTF8=ACCEPT");
	else
		start_add(s);
}

void imap_cmd_append(struct imap_session *s, const struct imap_command *command)
{
	(void)command;
	if (s->data)
		advance(s);
	else
		begin(s, false);
}
