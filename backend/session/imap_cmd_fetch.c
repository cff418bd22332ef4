/* FETCH and UID FETCH (RFC 3501 section 6.4.5, RFC 7162 section 3.1.4, RFC 9394 section 3.3). */
#include "backend/session/imap_fetch.h"

static void free_fetch(struct imap_session *s)
{
	imap_fetch_free(s->data);
}

static void fetched(struct imap_session *s, int err)
{
	const struct imap_fetch *f = s->data;

	if (err < 0)
		imap_fail(s, err);
	else if (f->has_missing)
		imap_answer(s, "OK", "EXPUNGEISSUED", "Some of the messages are gone");
	else
		imap_ok(s);
}

/* SP "(" "CHANGEDSINCE" n / "PARTIAL" 1:9 ")"; PARTIAL of UID FETCH alone. */
static int read_modifiers(
	const struct imap_arg *arg, bool is_uid, struct imap_fetch *f, struct imap_partial *partial)
{
	if (!arg)
		return 0;
	if (arg->type != IMAP_ARG_LIST || arg->next || !arg->first)
		return ERR_SYNTAX;
	for (arg = arg->first; arg; arg = arg->next->next) {
		if (imap_parse_is_word(arg, "CHANGEDSINCE")) {
			if (imap_parse_u63(arg->next, &f->changed_since) < 0)
				return ERR_SYNTAX;
			f->items.items |= IMAP_FETCH_MODSEQ;
		} else if (!is_uid || partial->from || !imap_parse_is_word(arg, "PARTIAL") ||
			   imap_partial_parse(arg->next, partial) < 0) {
			return ERR_SYNTAX;
		}
	}
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

/* The argument behind the items: a section with field names takes three (an atom, a list, a glued atom). */
static const struct imap_arg *after_items(const struct imap_arg *arg)
{
	while (arg->next && (arg->next->is_glued || (arg->next->next && arg->next->next->is_glued)))
		arg = arg->next;
	return arg->next;
}

void imap_cmd_fetch(struct imap_session *s, const struct imap_command *command)
{
	bool is_uid = s->cmd->flags & IMAP_CMD_UID;
	struct imap_fetch *f = imap_data(s, sizeof(*f));
	struct imap_partial partial = {0};
	struct slice set;

	if (!f)
		return;
	if (command->count < 2 || imap_parse_atom(command->args, &set) < 0 ||
		imap_fetch_items_parse(command->args->next, &s->arena, &f->items) < 0 ||
		read_modifiers(after_items(command->args->next), is_uid, f, &partial) < 0) {
		imap_bad(s, "Wrong arguments for FETCH");
		return;
	}
	if (imap_view_set(&s->view, set, is_uid, &s->arena, &f->seqs) < 0) {
		imap_bad(s, "No such messages");
		return;
	}
	if (partial.from)
		keep_part(&f->seqs, &partial);
	if (f->items.items & IMAP_FETCH_MODSEQ)
		imap_enable_condstore(s);
	f->done = fetched;
	s->cleanup = free_fetch;
	imap_fetch_start(s, f);
}
