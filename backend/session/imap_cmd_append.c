/*
 * APPEND (RFC 3501 section 6.3.11, RFC 3502, RFC 4315) and REPLACE (RFC 8508). The messages go from the connection into one spool and from there to the
 * store; none is ever held whole in the parser. They are stored in one commit or not at all.
 *
 *	announced -> (mailbox looked up) -> "+ OK" -> streamed -> announced … -> end of the command -> added
 *
 * Before a synchronising literal is asked for, mailbox, sizes and quota are checked. The mailbox found last is
 * remembered, so that a client that fills one mailbox pays for one look-up; the store says if it is gone.
 *
 * REPLACE is an APPEND of one message whose commit also expunges another of the selected mailbox. Which one is settled when
 * the literal is announced: until the command's end the view does not change.
 */
#include "backend/session/imap_core.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/net/spool.h"
#include "common/proto/date.h"

#define SPOOL_MEMORY (512u * 1024)
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
	struct slice name;
	uint32_t mailbox;
	const struct imap_arg *seen; /* the last argument that was read */
	struct append_message *first, **end;
	unsigned count;
	uint32_t replaced; /* REPLACE: the UID that goes; 0: APPEND */
	struct spool *spool;
	uint64_t left;
	int err;       /* of the spool, or what is wrong with the message */
	bool has_nul;  /* in a literal8 (RFC 3516 section 4.4) */
	bool is_fresh; /* the mailbox was looked up for this command */
};

static void free_append(struct imap_session *s)
{
	struct append_data *d = s->data;

	spool_free(&d->spool);
}

static const char *read_name(struct imap_session *s, const struct imap_arg *arg, struct append_data *d)
{
	struct slice text;

	if (imap_parse_astring(arg, &text) < 0)
		return "A mailbox name is wanted";
	if (imap_parse_mailbox(arg, &s->arena, &d->name) < 0)
		d->name = SLICE_LIT(""); /* names nothing */
	d->seen = arg;
	return NULL;
}

/* [flags] [date] literal: what stands between the last message and the end of what has come. */
static const char *read_message(struct imap_session *s, struct append_data *d, struct append_message *m)
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
	if (!arg || arg->type != IMAP_ARG_LITERAL || arg->next)
		return "Wrong arguments for APPEND";
	d->seen = arg;
	m->range.size = arg->size;
	return NULL;
}

/* size: of all messages so far, count of them. */
static bool is_over_quota(struct imap_session *s, uint64_t size, unsigned count)
{
	struct store_account account;

	if (store_get_account(store_work_store(s->service->work), s->slot, imap_access_account(s), &account) <
		0)
		return false;
	return (account.bytes_limit && (account.bytes_used >= account.bytes_limit ||
					       size > account.bytes_limit - account.bytes_used)) ||
	       (account.count_limit && (account.count_used >= account.count_limit ||
					       count > account.count_limit - account.count_used));
}

/* REPLACE: the message that goes. False: the literal was refused. */
static bool read_replaced(struct imap_session *s, const struct imap_arg *arg, struct append_data *d)
{
	bool is_uid = slice_has_prefix(s->parse.command.name, "UID ");
	uint32_t n = 0;

	if (!s->view.mailbox) {
		imap_refuse_literal(s, "BAD", NULL, "No mailbox is selected");
	} else if (s->view.is_readonly) {
		imap_refuse_literal(s, "NO", "NOPERM", "The mailbox was opened read-only");
	} else if (!imap_parse_is_word(arg, "*") && (imap_parse_u32(arg, &n) < 0 || n == 0)) {
		imap_refuse_literal(s, "BAD", NULL, "REPLACE wants one message");
	} else {
		if (imap_parse_is_word(arg, "*"))
			d->replaced = s->view.count ? imap_view_last_uid(&s->view) : 0;
		else if (is_uid)
			d->replaced = imap_view_seq(&s->view, n) ? n : 0;
		else
			d->replaced = n <= s->view.count ? s->view.uids[n - 1] : 0;
		if (d->replaced)
			return true;
		imap_refuse_literal(s, is_uid ? "NO" : "BAD", NULL, "No such message");
	}
	return false;
}

static int find_run(struct imap_session *s, struct store_txn *txn)
{
	struct append_data *d = s->data;
	struct store_mailbox mailbox;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_INSERT, &mailbox);

	if (err == 0)
		d->mailbox = mailbox.id;
	return err;
}

static void remember(struct imap_session *s, uint32_t mailbox, struct slice name)
{
	free(s->append_name);
	s->append_mailbox = mailbox;
	s->append_name = mailbox ? slice_copy_str(name) : NULL;
}

static void begin_stream(struct imap_session *s)
{
	struct append_data *d = s->data;

	d->left = s->parse.literal.size;
	if (!d->spool)
		d->spool = spool_new(SPOOL_MEMORY, 0);
	if (s->parse.literal.is_sync)
		conn_write_str(s->conn, "+ OK\r\n");
	imap_parse_stream(&s->parse);
	imap_enter(s, IMAP_STREAM);
}

static void refuse(struct imap_session *s, int err)
{
	if (err == ERR_NOT_FOUND || err == ERR_DENIED)
		imap_refuse_literal(s, "NO", "TRYCREATE", "No such mailbox");
	else
		imap_refuse_literal(s, "NO", "UNAVAILABLE", "Try again later");
}

static void found(struct imap_session *s, int err)
{
	struct append_data *d = s->data;

	if (err < 0) {
		refuse(s, err);
		imap_enter(s, IMAP_LITERAL);
	} else {
		d->is_fresh = true;
		remember(s, d->mailbox, d->name);
		begin_stream(s);
	}
	imap_input(s);
}

/* The first literal of the command; NULL: it was refused. */
static struct append_data *begin(struct imap_session *s)
{
	struct append_data *d = arena_calloc(&s->arena, 1, sizeof(*d));
	const struct imap_arg *args = s->parse.command.args;
	bool is_replace = !slice_is_str(s->parse.command.name, "APPEND");
	const char *wrong;

	if (!d) {
		imap_refuse_literal(s, "NO", "LIMIT", "Command too large");
		return NULL;
	}
	d->end = &d->first;
	if (is_replace && !read_replaced(s, args, d))
		return NULL;
	wrong = read_name(s, is_replace ? args->next : args, d);
	if (wrong) {
		imap_refuse_literal(s, "BAD", NULL, wrong);
		return NULL;
	}
	s->data = d;
	s->cleanup = free_append;
	return d;
}

static bool take_message(struct imap_session *s, struct append_data *d)
{
	struct append_message *m = arena_calloc(&s->arena, 1, sizeof(*m));
	const char *wrong = m ? read_message(s, d, m) : NULL;
	uint64_t size = s->parse.literal.size, before = d->spool ? spool_len(d->spool) : 0,
		 total = before + size;

	if (m && d->replaced && d->count) {
		imap_refuse_literal(s, "BAD", NULL, "REPLACE has one message");
	} else if (!m || d->count == STORE_WORK_RANGES_MAX) {
		imap_refuse_literal(s, "NO", "LIMIT", "Too many messages in one command");
	} else if (wrong) {
		imap_refuse_literal(s, "BAD", NULL, wrong);
	} else if (size == 0) {
		imap_refuse_literal(s, "NO", NULL, "A message cannot be empty");
	} else if (size > s->limits.append_size) {
		imap_refuse_literal(s, "NO", "TOOBIG", "Message too large");
	} else if (total > s->limits.append_size * TOTAL_SIZES) {
		imap_refuse_literal(s, "NO", "TOOBIG", "Too much for one command");
	} else if (!d->replaced && is_over_quota(s, total, d->count + 1)) {
		imap_refuse_literal(s, "NO", "OVERQUOTA", "Quota exceeded");
	} else {
		m->range.offset = before;
		*d->end = m;
		d->end = &m->next;
		d->count++;
		return true;
	}
	return false;
}

bool imap_append_takes(const struct imap_command *command)
{
	/* Behind the mailbox name; for REPLACE behind the message number too. */
	if (slice_is_str(command->name, "APPEND"))
		return command->count >= 2;
	return command->count >= 3 &&
	       (slice_is_str(command->name, "REPLACE") || slice_is_str(command->name, "UID REPLACE"));
}

void imap_append_literal(struct imap_session *s)
{
	struct append_data *d = s->data ? s->data : begin(s);

	if (!d || !take_message(s, d))
		return;
	if (!d->mailbox && s->append_name && slice_is_str(d->name, s->append_name))
		d->mailbox = s->append_mailbox;
	if (d->mailbox)
		begin_stream(s);
	else
		imap_read(s, find_run, found);
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

static void start_add(struct imap_session *s)
{
	struct append_data *d = s->data;
	struct store_work_target *targets = arena_calloc(&s->arena, d->count, sizeof(*targets));
	struct store_work_range *ranges = arena_calloc(&s->arena, d->count, sizeof(*ranges));
	struct store_work_add add = {.spool = d->spool,
		.targets = targets,
		.ranges = ranges,
		.target_count = d->count,
		.replaced_mailbox = s->view.mailbox,
		.replaced_uid = d->replaced};
	unsigned i = 0;

	if (!targets || !ranges) {
		imap_fail(s, ERR_TOO_BIG);
		return;
	}
	for (const struct append_message *m = d->first; m; m = m->next, i++) {
		targets[i] = (struct store_work_target){.account = imap_access_account(s),
			.mailbox = d->mailbox,
			.flags = m->flags,
			.keywords = m->keywords,
			.keyword_count = m->keyword_count,
			.date = m->date};
		if (!d->is_fresh) /* remembered from an earlier command; others may have renamed it since */
			targets[i].name = d->name;
		ranges[i] = m->range;
	}
	imap_add(s, &add, added);
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
	struct buf code = {0};

	if (err == ERR_NOT_FOUND && !d->is_fresh) {
		remember(s, 0, d->name);
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
		s->must_sync = s->view.mailbox == d->mailbox;
		/* One transaction gave them all: without a gap. */
		buf_printf(&code, "APPENDUID %u %u", result->uidvalidity, result->uid);
		if (d->count > 1)
			buf_printf(&code, ":%u", result->uid + d->count - 1);
		if (d->replaced) { /* RFC 8508 section 4.3: before the EXPUNGE */
			conn_printf(s->conn, "* OK [%s] Replacement ready\r\n", buf_str_view(&code));
			s->tells_modseq = s->is_qresync;
			imap_ok(s);
		} else {
			imap_answer(s, "OK", buf_str_view(&code), "Appended");
		}
		buf_deinit(&code);
	}
}

void imap_cmd_append(struct imap_session *s, const struct imap_command *command)
{
	struct append_data *d = s->data;

	(void)command;
	if (!d || !d->spool || d->seen->type != IMAP_ARG_STREAM || d->seen->next)
		imap_bad(s, "A mailbox and a literal are wanted");
	else if (d->has_nul)
		imap_answer(s, "NO", "UNKNOWN-CTE", "Messages with NULs are not kept here");
	else if (d->err == ERR_SYNTAX)
		imap_bad(s, "NUL in a message");
	else if (d->err < 0)
		imap_fail(s, d->err);
	else
		start_add(s);
}
