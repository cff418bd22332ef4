#include "backend/session/imap_notify.h"

#include <stdlib.h>

#include "backend/session/imap_metadata.h"
#include "backend/session/imap_name.h"
#include "backend/store/store_change.h"
#include "common/base/mem.h"
#include "common/proto/imap_write.h"

#define OWN_MAX 8

struct imap_notify {
	uint64_t told;           /* all changes up to here; 0: begins now */
	bool is_metadata_wanted; /* ENABLE METADATA */
	unsigned own_count;
	struct range {
		uint64_t from, to;
	} own[OWN_MAX]; /* since `told` */
	void (*done)(struct imap_session *s, int err);
};

static struct imap_notify *get(struct imap_session *s)
{
	if (!s->notify) {
		s->notify = xcalloc(1, sizeof(*s->notify));
		s->is_account_stale = true;
	}
	return s->notify;
}

void imap_notify_free(struct imap_session *s)
{
	free(s->notify);
	s->notify = NULL;
}

void imap_notify_enable_metadata(struct imap_session *s)
{
	get(s)->is_metadata_wanted = true;
}

void imap_notify_own(struct imap_session *s, uint64_t from, uint64_t to)
{
	struct imap_notify *n = s->notify;

	if (!n || !from)
		return;
	/* A full list joins the last two: what came between is not told, which is better than telling of all. */
	if (n->own_count == OWN_MAX)
		n->own[OWN_MAX - 1].to = to;
	else
		n->own[n->own_count++] = (struct range){from, to};
	s->is_account_stale = true;
}

bool imap_notify_is_due(const struct imap_session *s)
{
	return s->notify && s->is_account_stale;
}

static bool is_own(const struct imap_notify *n, uint64_t modseq)
{
	for (unsigned i = 0; i < n->own_count; i++) {
		if (modseq >= n->own[i].from && modseq <= n->own[i].to)
			return true;
	}
	return false;
}

/* ---- the job ---- */

struct tell {
	struct imap_session *s;
	struct store_txn *txn;
};

/* "* METADATA name entry": names alone (RFC 5464 section 4.4.2). */
static int tell_metadata(struct tell *t, const struct store_change *c)
{
	struct imap_session *s = t->s;
	struct store_mailbox mailbox = {0};
	int err = 0;

	if (c->user != STORE_METADATA_SHARED && c->user != imap_metadata_user(s))
		return 0;
	if (c->mailbox) {
		err = store_mailbox_get(t->txn, s->account, c->mailbox, &mailbox);
		if (err == ERR_NOT_FOUND) /* has gone since */
			return 0;
	}
	if (err < 0)
		return err;
	buf_add_str(&s->out, "* METADATA ");
	imap_name_write(s, &s->out, mailbox.name);
	buf_add_char(&s->out, ' ');
	imap_write_astring(&s->out, c->text);
	buf_add_str(&s->out, "\r\n");
	return 0;
}

static int tell_change(void *arg, const struct store_change *c)
{
	struct tell *t = arg;

	if (c->kind != STORE_CHANGE_METADATA || is_own(t->s->notify, c->modseq))
		return 0;
	return tell_metadata(t, c);
}

static int notify_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_notify *n = s->notify;
	struct tell t = {s, txn};
	uint64_t now = 0, since = n->told ? n->told : UINT64_MAX - 1;
	bool is_incomplete;
	int err = store_change_each(txn, s->account, since, tell_change, &t, &now, &is_incomplete);

	if (err < 0)
		return err;
	n->told = now;
	n->own_count = 0;
	return 0;
}

static void notify_done(struct imap_session *s, int err)
{
	s->notify->done(s, err);
}

void imap_notify_start(struct imap_session *s, void (*done)(struct imap_session *s, int err))
{
	s->is_account_stale = false;
	s->notify->done = done;
	s->at_slot = s->slot;
	imap_read(s, notify_run, notify_done);
}
