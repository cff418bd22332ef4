/*
 * APPEND (RFC 3501 section 6.3.11, RFC 4315). The message goes from the connection into a spool and from there to the
 * store; it is never held whole in the parser.
 *
 *	announced -> (mailbox looked up) -> "+ OK" -> streamed -> end of the command -> added
 *
 * Before a synchronising literal is asked for, mailbox, size and quota are checked. The mailbox found last is
 * remembered, so that a client that fills one mailbox pays for one look-up; the store says if it is gone.
 */
#include "backend/session/imap_core.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/net/spool.h"
#include "common/proto/date.h"

#define SPOOL_MEMORY (128u * 1024)

struct append_data {
	struct slice name;
	uint8_t flags;
	struct slice *keywords;
	size_t keyword_count;
	int64_t date;
	uint32_t mailbox;
	struct spool *spool;
	uint64_t left;
	int err;       /* of the spool, or what is wrong with the message */
	bool is_fresh; /* the mailbox was looked up for this command */
};

static void free_append(struct imap_session *s)
{
	struct append_data *d = s->data;

	spool_free(&d->spool);
}

/* mailbox [flags] [date] literal */
static const char *read_args(
	struct imap_session *s, const struct imap_command *command, struct append_data *d)
{
	const struct imap_arg *arg = command->args;
	struct date date;
	struct slice text;

	if (imap_parse_astring(arg, &text) < 0)
		return "APPEND wants a mailbox name";
	if (imap_parse_mailbox(arg, &s->arena, &d->name) < 0)
		d->name = SLICE_LIT(""); /* names nothing */
	arg = arg->next;
	if (arg->type == IMAP_ARG_LIST) {
		if (imap_store_read_flags(arg->first, &s->arena, &d->flags, &d->keywords, &d->keyword_count) <
			0)
			return "Bad flags in APPEND";
		arg = arg->next;
	}
	d->date = clock_wall_s();
	if (arg && arg->type == IMAP_ARG_QUOTED) {
		if (date_parse_internal(arg->text, &date) < 0)
			return "Bad date in APPEND";
		d->date = date.unix_s;
		arg = arg->next;
	}
	return arg && arg->type == IMAP_ARG_LITERAL && !arg->next ? NULL : "Wrong arguments for APPEND";
}

static bool is_over_quota(struct imap_session *s, uint64_t size)
{
	struct store_account account;

	if (store_get_account(store_work_store(s->service->work), s->slot, imap_access_account(s), &account) <
		0)
		return false;
	return (account.bytes_limit && (account.bytes_used >= account.bytes_limit ||
					       size > account.bytes_limit - account.bytes_used)) ||
	       (account.count_limit && account.count_used >= account.count_limit);
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

void imap_append_literal(struct imap_session *s)
{
	uint64_t size = s->parse.literal.size;
	struct append_data *d = arena_calloc(&s->arena, 1, sizeof(*d));
	const char *wrong;

	if (!d) {
		imap_refuse_literal(s, "NO", "LIMIT", "Command too large");
		return;
	}
	wrong = read_args(s, &s->parse.command, d);
	if (wrong) {
		imap_refuse_literal(s, "BAD", NULL, wrong);
	} else if (size == 0) {
		imap_refuse_literal(s, "NO", NULL, "A message cannot be empty");
	} else if (size > s->limits.append_size) {
		imap_refuse_literal(s, "NO", "TOOBIG", "Message too large");
	} else if (is_over_quota(s, size)) {
		imap_refuse_literal(s, "NO", "OVERQUOTA", "Quota exceeded");
	} else {
		s->data = d;
		s->cleanup = free_append;
		if (s->append_name && slice_is_str(d->name, s->append_name)) {
			d->mailbox = s->append_mailbox;
			begin_stream(s);
		} else {
			imap_read(s, find_run, found);
		}
	}
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
	if (d->err == 0 && piece.len && memchr(piece.p, '\0', piece.len))
		d->err = ERR_SYNTAX; /* no IMAP literal can hold it */
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
	struct store_work_target target = {.account = imap_access_account(s),
		.mailbox = d->mailbox,
		.flags = d->flags,
		.keywords = d->keywords,
		.keyword_count = d->keyword_count,
		.date = d->date};
	struct store_work_add add = {.targets = &target, .target_count = 1};

	if (!d->is_fresh) /* remembered from an earlier command; others may have renamed it since */
		target.name = d->name;
	add.memory = spool_view(d->spool);
	if (!add.memory.p)
		add.spool = d->spool;
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

	if (result)
		err = result->error;
	if (err == ERR_NOT_FOUND && !d->is_fresh) {
		remember(s, 0, d->name);
		imap_read(s, find_run, found_again);
	} else if (err == ERR_NOT_FOUND || err == ERR_DENIED) {
		remember(s, 0, d->name);
		imap_answer(s, "NO", "TRYCREATE", "No such mailbox");
	} else if (err == ERR_TOO_BIG) {
		imap_answer(s, "NO", "OVERQUOTA", "Quota exceeded");
	} else if (err < 0) {
		imap_fail(s, err);
	} else {
		s->must_sync = s->view.mailbox == d->mailbox;
		buf_printf(&code, "APPENDUID %u %u", result->uidvalidity, result->uid);
		imap_answer(s, "OK", buf_str_view(&code), "Appended");
		buf_deinit(&code);
	}
}

void imap_cmd_append(struct imap_session *s, const struct imap_command *command)
{
	struct append_data *d = s->data;
	const struct imap_arg *last = command->args;

	while (last && last->next)
		last = last->next;
	if (!d || !d->spool || last->type != IMAP_ARG_STREAM)
		imap_bad(s, "APPEND wants a mailbox and a literal");
	else if (d->err == ERR_SYNTAX)
		imap_bad(s, "NUL in a message");
	else if (d->err < 0)
		imap_fail(s, d->err);
	else
		start_add(s);
}
