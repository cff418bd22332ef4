/* FETCH and UID FETCH (RFC 3501 section 6.4.5, RFC 7162 section 3.1.4, RFC 9394 section 3.3). */
#include "backend/session/imap_fetch.h"
#include "backend/session/imap_vanish.h"

struct fetch_data {
	struct imap_fetch fetch;
	struct imap_vanish vanish;   /* of VANISHED; without a view: not asked for */
	struct imap_partial partial; /* from 0: all */
};

static void free_fetch(struct imap_session *s)
{
	struct fetch_data *d = s->data;

	imap_fetch_free(&d->fetch);
}

static void fetched(struct imap_session *s, int err)
{
	const struct fetch_data *d = s->data;

	if (err < 0)
		imap_fail(s, err);
	else if (d->fetch.has_unknown_encoding)
		imap_answer(s, "NO", "UNKNOWN-CTE", "An encoding is not known here");
	else if (d->fetch.has_missing)
		imap_answer(s, "OK", "EXPUNGEISSUED", "Some of the messages are gone");
	else
		imap_ok(s);
}

/* SP "(" "CHANGEDSINCE" n / "PARTIAL" 1:9 / "VANISHED" … ")"; the latter two of UID FETCH alone. */
static int read_modifiers(struct imap_session *s, const struct imap_arg *arg, struct fetch_data *d)
{
	bool is_uid = s->cmd->flags & IMAP_CMD_UID, wants_vanished = false, has_since = false;
	struct imap_fetch *f = &d->fetch;

	if (!arg)
		return 0;
	if (arg->type != IMAP_ARG_LIST || arg->next || !arg->first)
		return ERR_SYNTAX;
	for (arg = arg->first; arg; arg = arg->next) {
		if (imap_parse_is_word(arg, "VANISHED") && is_uid && !wants_vanished) {
			wants_vanished = true;
		} else if (imap_parse_is_word(arg, "CHANGEDSINCE") && !has_since &&
			   imap_parse_u63(arg->next, &f->changed_since) == 0) {
			f->items.items |= IMAP_FETCH_MODSEQ;
			has_since = true;
			arg = arg->next;
		} else if (imap_parse_is_word(arg, "PARTIAL") && is_uid && !d->partial.from &&
			   imap_partial_parse(arg->next, &d->partial) == 0) {
			arg = arg->next;
		} else {
			return ERR_SYNTAX;
		}
	}
	/* RFC 7162 section 3.2.6 */
	if (wants_vanished && (!s->is_qresync || !has_since))
		return ERR_SYNTAX;
	if (wants_vanished)
		d->vanish = (struct imap_vanish){.view = &s->view, .since = f->changed_since};
	return 0;
}

/* Leaves those messages of an ordered set that the part names. */
static void keep_part(struct seqset *set, const struct imap_partial *partial)
{
	size_t first, count, kept = 0;

	imap_partial_clip(partial, (size_t)seqset_size(set), &first, &count);
	for (size_t i = 0; i < set->count; i++) {
		struct seqset_range r = set->ranges[i];
		size_t size = r.to - r.from + 1, skip = first < size ? first : size;
		size_t take = count < size - skip ? count : size - skip;

		first -= skip;
		count -= take;
		if (take)
			set->ranges[kept++] = (struct seqset_range){
				r.from + (uint32_t)skip, r.from + (uint32_t)(skip + take) - 1};
	}
	set->count = kept;
}

static int vanish_run(struct imap_session *s, struct store_txn *txn)
{
	struct fetch_data *d = s->data;

	return imap_vanish_earlier(s, txn, &d->vanish, &s->out);
}

static void vanish_done(struct imap_session *s, int err)
{
	struct fetch_data *d = s->data;

	if (err < 0)
		imap_fail(s, err);
	else
		imap_fetch_start(s, &d->fetch);
}

/* The argument behind the items: a section with field names takes three (an atom, a list, a glued atom). */
static const struct imap_arg *after_items(const struct imap_arg *arg)
{
	if (imap_parse_is_word(arg, "PREVIEW") && imap_fetch_items_is_lazy(arg->next))
		return arg->next->next;
	while (arg->next && (arg->next->is_glued || (arg->next->next && arg->next->next->is_glued)))
		arg = arg->next;
	return arg->next;
}

void imap_cmd_fetch(struct imap_session *s, const struct imap_command *command)
{
	bool is_uid = s->cmd->flags & IMAP_CMD_UID;
	struct fetch_data *d = imap_data(s, sizeof(*d));
	struct imap_fetch *f = d ? &d->fetch : NULL;
	struct slice set;

	if (!f)
		return;
	if (command->count < 2 || imap_parse_atom(command->args, &set) < 0 ||
		imap_fetch_items_parse(command->args->next, &s->arena, &f->items) < 0 ||
		read_modifiers(s, after_items(command->args->next), d) < 0) {
		imap_bad(s, "Wrong arguments for FETCH");
		return;
	}
	if (imap_view_set(&s->view, set, is_uid, &s->arena, &f->seqs) < 0 ||
		(d->vanish.view && seqset_parse(set, &s->arena, &d->vanish.known) < 0)) {
		imap_bad(s, "No such messages");
		return;
	}
	if (d->partial.from)
		keep_part(&f->seqs, &d->partial);
	if (f->items.items & IMAP_FETCH_MODSEQ)
		imap_enable_condstore(s);
	f->done = fetched;
	s->cleanup = free_fetch;
	if (d->vanish.view) {
		/* "*" reaches what went from the end, too. */
		seqset_resolve(&d->vanish.known, UINT32_MAX - 1);
		imap_read(s, vanish_run, vanish_done);
	} else {
		imap_fetch_start(s, f);
	}
}
