/*
 * LIST with all of RFC 5258 (options, several patterns, CHILDINFO), RFC 5819 (STATUS), RFC 6154
 * (SPECIAL-USE), RFC 9590 (METADATA); LSUB; STATUS. One read job lists the account's mailboxes (sorted so that children follow
 * their parent) and writes the answer. Bounded: STORE_MAILBOXES_MAX lines.
 */
#include <stdio.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_match.h"
#include "backend/session/imap_metadata.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_status.h"
#include "backend/session/imap_use.h"
#include "common/proto/imap_write.h"

#define PATTERNS_MOST 100
#define PATTERN_LENGTH 500
#define METADATA_MOST (16u << 20) /* an answer with annotations, which may be many in many mailboxes */

enum list_option {
	SELECT_SUBSCRIBED = 1,
	SELECT_SPECIAL = 2,
	SELECT_RECURSIVE = 4,
	SELECT_REMOTE = 8,
	RETURN_SUBSCRIBED = 16,
	RETURN_CHILDREN = 32,
	RETURN_SPECIAL = 64,
	RETURN_MYRIGHTS = 128
};

struct list_data {
	const char *word; /* LIST or LSUB */
	unsigned options;
	unsigned status;                      /* items of RETURN (STATUS ...); 0: none */
	struct imap_metadata_query *metadata; /* of RETURN (METADATA ...); NULL: none */
	struct slice patterns[PATTERNS_MOST];
	unsigned count;
	struct slice told; /* the last name of a parent that was told for its children's sake */
	/* Others' mailboxes come slot by slot; subscriptions to them stand in the own one. */
	struct slice *foreign; /* names, in the arena */
	bool *foreign_told;
	size_t foreign_count;
	unsigned slots; /* still to be asked */
	bool wants_foreign;
	bool told_others, told_public;
};

static bool is_match(const struct list_data *d, struct slice name)
{
	for (unsigned i = 0; i < d->count; i++) {
		if (imap_match(d->patterns[i], name))
			return true;
	}
	return false;
}

static bool is_selected(const struct list_data *d, const struct store_mailbox *m)
{
	if (d->options & SELECT_SUBSCRIBED && !m->subscribed)
		return false;
	if (d->options & SELECT_SPECIAL && m->use == STORE_USE_NONE)
		return false;
	return m->id || d->options & SELECT_SUBSCRIBED;
}

/* parent + "/" begins name. */
static bool is_below(struct slice name, struct slice parent)
{
	return name.len > parent.len && name.p[parent.len] == STORE_SEPARATOR &&
	       memcmp(name.p, parent.p, parent.len) == 0;
}

/*
 * The mailbox has a selected one below it that is worth CHILDINFO. If it is not selected itself: one that is not told by a line of its
 * own (RFC 5258 section 3.5).
 */
static bool has_child_info(
	const struct list_data *d, const struct store_mailbox *all, size_t count, size_t at, bool selected)
{
	for (size_t i = at + 1; i < count && is_below(all[i].name, all[at].name); i++) {
		if (is_selected(d, &all[i]) && (selected || !is_match(d, all[i].name)))
			return true;
	}
	return false;
}

static void write_line(struct imap_session *s, const struct list_data *d, const struct store_mailbox *m,
	struct slice name, bool child_info)
{
	struct buf *out = &s->out;
	bool exists = m && m->id;

	buf_printf(out, "* %s (", d->word);
	if (d->word[1] == 'S') { /* LSUB knows \Noselect alone */
		buf_add_str(out, m && (m->noselect || !m->id) ? "\\Noselect" : m ? "" : "\\Noselect");
	} else {
		if (!exists)
			buf_add_str(out, "\\NonExistent");
		else
			buf_add_str(out, m->has_children ? "\\HasChildren" : "\\HasNoChildren");
		if (exists && m->noselect)
			buf_add_str(out, " \\Noselect");
		if (m && m->subscribed && d->options & (RETURN_SUBSCRIBED | SELECT_SUBSCRIBED))
			buf_add_str(out, " \\Subscribed");
		if (exists && imap_use_word(m->use))
			buf_printf(out, " %s", imap_use_word(m->use));
	}
	buf_add_str(out, ") \"" IMAP_HIERARCHY "\" ");
	imap_name_write(s, out, name);
	if (child_info) {
		buf_printf(out, " (\"CHILDINFO\" (%s%s%s))",
			d->options & SELECT_SUBSCRIBED ? "\"SUBSCRIBED\"" : "",
			(d->options & SELECT_SUBSCRIBED && d->options & SELECT_SPECIAL) ? " " : "",
			d->options & SELECT_SPECIAL ? "\"SPECIAL-USE\"" : "");
	}
	buf_add_str(out, "\r\n");
}

/* "x/" is x (RFC 9051 section 6.3.4). */
static bool is_as_given(struct slice name, struct slice given)
{
	if (given.len > 1 && given.p[given.len - 1] == STORE_SEPARATOR)
		given.len--;
	return slice_is_equal(given, name);
}

static void end_line(const struct imap_session *s, struct slice name, struct slice given, struct buf *out)
{
	buf_add_str(out, ") \"" IMAP_HIERARCHY "\" ");
	imap_name_write(s, out, name);
	if (!is_as_given(name, given)) {
		buf_add_str(out, " (\"OLDNAME\" (");
		imap_name_write(s, out, given);
		buf_add_str(out, "))");
	}
	buf_add_str(out, "\r\n");
}

void imap_list_write(const struct imap_session *s, const struct store_mailbox *m, bool is_own,
	struct slice given, struct buf *out)
{
	/* What lies below another account's mailbox is told by LIST alone, which asks for rights. */
	buf_printf(out, "* LIST (%s", !is_own ? "" : m->has_children ? "\\HasChildren" : "\\HasNoChildren");
	if (m->subscribed)
		buf_add_str(out, " \\Subscribed");
	if (imap_use_word(m->use))
		buf_printf(out, " %s", imap_use_word(m->use));
	end_line(s, m->name, given, out);
}

void imap_list_write_oldname(const struct imap_session *s, const char *attribute, struct slice name,
	struct slice given, struct buf *out)
{
	if (!s->is_rev2 || is_as_given(name, given))
		return;
	buf_printf(out, "* LIST (%s", attribute);
	end_line(s, name, given, out);
}

static const struct store_mailbox *find_name(const struct store_mailbox *all, size_t count, struct slice name)
{
	for (size_t i = 0; i < count; i++) {
		if (slice_is_equal(all[i].name, name))
			return &all[i];
	}
	return NULL;
}

/* More than one slot leads to these: they are told once. NULL: another name. */
static bool *told_root(struct list_data *d, struct slice parent)
{
	return slice_is_str(parent, IMAP_ACCESS_OTHERS)   ? &d->told_others
	       : slice_is_str(parent, IMAP_ACCESS_PUBLIC) ? &d->told_public
							  : NULL;
}

/*
 * A selected name fits no pattern, but a parent of it does that is not selected itself and would not be told:
 * LSUB "%" (RFC 3501 section 6.3.9) and RECURSIVEMATCH (RFC 5258 section 3.5) show the parent. Parents that
 * exist are told by their own row in the RECURSIVEMATCH case.
 */
static void tell_parents(struct imap_session *s, struct list_data *d, const struct store_mailbox *all,
	size_t count, const struct store_mailbox *m)
{
	for (size_t i = 1; i < m->name.len; i++) {
		struct slice parent = slice_sub(m->name, 0, i);
		bool *root = told_root(d, parent);
		const struct store_mailbox *known;

		if (m->name.p[i] != STORE_SEPARATOR || !is_match(d, parent) ||
			slice_is_equal(d->told, parent) || (root && *root))
			continue;
		known = find_name(all, count, parent);
		if (known && (d->options & SELECT_RECURSIVE || is_selected(d, known)))
			continue;
		d->told = parent;
		if (root)
			*root = true;
		write_line(s, d, NULL, parent, d->options & SELECT_RECURSIVE);
	}
}

/* Of a mailbox whose annotations the session may not see there is no response (RFC 9590 section 3). */
static int list_metadata(
	struct imap_session *s, struct store_txn *txn, struct list_data *d, const struct store_mailbox *m)
{
	struct store_mailbox mailbox;
	int err = imap_metadata_find(s, txn, m->name, &mailbox);

	if (err == ERR_NOT_FOUND || err == ERR_FORBIDDEN)
		return 0;
	if (err == 0)
		err = imap_metadata_write(s, txn, &mailbox, m->name, d->metadata);
	return err == 0 && buf_len(&s->out) > METADATA_MOST ? ERR_TOO_BIG : err;
}

static int list_one(struct imap_session *s, struct store_txn *txn, struct list_data *d,
	const struct store_mailbox *all, size_t count, size_t at)
{
	const struct store_mailbox *m = &all[at];
	bool selected = is_selected(d, m);
	bool below = d->options & SELECT_RECURSIVE && has_child_info(d, all, count, at, selected);
	unsigned rights = 0;
	int err;

	if (!is_match(d, m->name)) {
		if (selected && (d->options & SELECT_RECURSIVE || d->word[1] == 'S'))
			tell_parents(s, d, all, count, m);
		return 0;
	}
	if (!selected && !below)
		return 0;
	write_line(s, d, m, m->name, below);
	if (!m->id)
		return 0;
	err = d->options & RETURN_MYRIGHTS || d->status ? imap_access_rights(s, txn, m, &rights) : 0;
	if (err < 0)
		return err;
	if (d->options & RETURN_MYRIGHTS && selected) /* RFC 8440 section 3 */
		imap_acl_write_myrights(s, m->name, rights);
	/* Who may look a mailbox up need not be told what is in it (RFC 5819 section 2, RFC 4314 section 4). */
	if (d->status && !m->noselect && rights & IMAP_RIGHT_READ)
		err = imap_status_write(s, txn, m, m->name, d->status);
	if (err < 0)
		return err;
	return d->metadata ? list_metadata(s, txn, d, m) : 0;
}

static int list_all(struct imap_session *s, struct store_txn *txn, struct list_data *d,
	const struct store_mailbox *all, size_t count)
{
	int err = 0;

	for (size_t i = 0; i < count && err == 0; i++)
		err = list_one(s, txn, d, all, count, i);
	return err;
}

/* ---- what is others' ---- */

/* Puts the subscriptions to others' names aside; the rest of the list stays. */
static int split(struct imap_session *s, struct list_data *d, struct store_mailbox *all, size_t *count)
{
	size_t kept = 0, n = 0;

	for (size_t i = 0; i < *count; i++)
		n += imap_access_is_foreign(all[i].name);
	if (n == 0)
		return 0;
	d->foreign = arena_calloc(&s->arena, n, sizeof(*d->foreign));
	d->foreign_told = arena_calloc(&s->arena, n, sizeof(*d->foreign_told));
	if (!d->foreign || !d->foreign_told)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < *count; i++) {
		if (!imap_access_is_foreign(all[i].name)) {
			all[kept++] = all[i];
		} else if (all[i].subscribed) { /* one's own mailbox of such a name has no name here */
			struct slice name = arena_copy(&s->arena, all[i].name);

			if (!name.p)
				return ERR_TOO_BIG;
			d->foreign[d->foreign_count++] = name;
		}
	}
	*count = kept;
	return 0;
}

/* A pattern that can match a name of the namespace. */
static bool wants_foreign(const struct list_data *d)
{
	static const char *const words[] = {IMAP_ACCESS_OTHERS, IMAP_ACCESS_PUBLIC};

	for (unsigned i = 0; i < d->count; i++) {
		for (size_t w = 0; w < ARRAY_LEN(words); w++) {
			struct slice word = slice_str(words[w]), pattern = d->patterns[i];
			size_t n = 0;

			while (n < word.len && n < pattern.len && pattern.p[n] == word.p[n])
				n++;
			if (n == word.len || n == pattern.len || pattern.p[n] == '%' || pattern.p[n] == '*')
				return true;
		}
	}
	return false;
}

/* A pattern asks for the parent and not for the name itself. */
static bool leads(const struct list_data *d, struct slice parent, struct slice name)
{
	for (unsigned i = 0; i < d->count; i++) {
		if (imap_match(d->patterns[i], parent) && !imap_match(d->patterns[i], name))
			return true;
	}
	return false;
}

/* \Noselect: what leads to a mailbox of others and is none itself, each once (RFC 3501 section 6.3.8). */
static void tell_way(struct imap_session *s, struct list_data *d, struct slice name, struct slice *last)
{
	struct store_mailbox way = {.id = UINT32_MAX, .noselect = true, .has_children = true};

	for (size_t i = 1; i < name.len; i++) {
		struct slice parent = slice_sub(name, 0, i);
		bool *root = told_root(d, parent);

		if (name.p[i] != STORE_SEPARATOR)
			continue;
		if ((root && *root) ||
			(last->len >= parent.len && slice_is_equal(slice_sub(*last, 0, parent.len), parent) &&
				(last->len == parent.len || last->p[parent.len] == STORE_SEPARATOR)))
			continue;
		if (!leads(d, parent, name))
			continue;
		if (root)
			*root = true;
		write_line(s, d, &way, parent, false);
	}
	*last = name;
}

/*
 * Names that are subscribed and not there, or not for this session, which is told alike: among the others, as parents have to tell of
 * them (RFC 5258 section 3.5). Each in one slot: that of the owner whom it names.
 */
static int add_missing(struct imap_session *s, const struct list_data *d, unsigned slot, struct arena *arena,
	struct store_mailbox **all, size_t *count)
{
	struct store_mailbox *with = arena_calloc(arena, *count + d->foreign_count + 1, sizeof(*with));
	size_t n = *count;

	if (!with)
		return ERR_TOO_BIG;
	if (n)
		memcpy(with, *all, n * sizeof(*with));
	for (size_t i = 0; i < d->foreign_count; i++) {
		struct imap_place place;

		if (d->foreign_told[i])
			continue;
		imap_access_resolve(s, d->foreign[i], &place);
		if (place.slot == slot)
			with[n++] = (struct store_mailbox){.name = d->foreign[i], .subscribed = true};
	}
	if (n > *count)
		imap_access_sort(with, n);
	*all = with;
	*count = n;
	return 0;
}

static int foreign_run(struct imap_session *s, struct store_txn *txn)
{
	struct list_data *d = s->data;
	struct store_mailbox *all;
	struct slice last = SLICE_LIT("");
	struct arena arena;
	size_t count = 0;
	int err;

	arena_init(&arena, 0);
	err = imap_access_list(s, txn, &arena, &all, &count);
	for (size_t i = 0; i < count && err == 0; i++) {
		for (size_t k = 0; k < d->foreign_count && !all[i].subscribed; k++) {
			all[i].subscribed = slice_is_equal_nocase(d->foreign[k], all[i].name);
			d->foreign_told[k] |= all[i].subscribed;
		}
		if (!(d->options & (SELECT_SUBSCRIBED | SELECT_SPECIAL)))
			tell_way(s, d, all[i].name, &last);
	}
	if (err == 0 && d->options & SELECT_SUBSCRIBED)
		err = add_missing(s, d, store_txn_slot(txn), &arena, &all, &count);
	d->told = SLICE_LIT("");
	if (err == 0)
		err = list_all(s, txn, d, all, count);
	d->told = SLICE_LIT("");
	arena_deinit(&arena);
	return err;
}

/* RFC 5464 section 4.2.1, for MAXSIZE among the options of METADATA. */
static void answer_list(struct imap_session *s)
{
	const struct list_data *d = s->data;
	char code[60];

	if (!d->metadata || !d->metadata->longest) {
		imap_ok(s);
		return;
	}
	snprintf(code, sizeof(code), "METADATA LONGENTRIES %llu", (unsigned long long)d->metadata->longest);
	imap_answer(s, "OK", code, "Some were longer");
}

static void foreign_done(struct imap_session *s, int err)
{
	struct list_data *d = s->data;

	if (err < 0) {
		imap_fail(s, err);
	} else if (d->wants_foreign && d->slots) {
		s->at_slot = --d->slots;
		imap_read(s, foreign_run, foreign_done);
	} else {
		answer_list(s);
	}
}

static int list_run(struct imap_session *s, struct store_txn *txn)
{
	struct list_data *d = s->data;
	struct store_account account;
	struct store_mailbox *all;
	struct arena arena;
	size_t count = 0;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_list(txn, imap_access_account(s), &arena, &all, &count);
	/* An account that is removed, replaced or moved under its sessions: an empty list would tell a client to forget all it has. */
	if (err == 0 &&
		store_get_account(store_work_store(s->service->work), s->slot, s->account, &account) < 0)
		err = ERR_NOT_NOW;
	if (err == 0)
		err = split(s, d, all, &count);
	if (err == 0)
		err = list_all(s, txn, d, all, count);
	d->told = SLICE_LIT("");
	arena_deinit(&arena);
	return err;
}

static void start_list(struct imap_session *s, struct list_data *d)
{
	d->wants_foreign = wants_foreign(d);
	d->slots = store_slots(store_work_store(s->service->work));
	imap_read(s, list_run, foreign_done);
}

/* ---- arguments ---- */

struct option_word {
	const char *word;
	enum list_option option;
};
static const struct option_word select_words[] = {
	{"SUBSCRIBED", SELECT_SUBSCRIBED},
	{"SPECIAL-USE", SELECT_SPECIAL},
	{"RECURSIVEMATCH", SELECT_RECURSIVE},
	{"REMOTE", SELECT_REMOTE},
};
static const struct option_word return_words[] = {
	{"SUBSCRIBED", RETURN_SUBSCRIBED},
	{"CHILDREN", RETURN_CHILDREN},
	{"SPECIAL-USE", RETURN_SPECIAL},
	{"MYRIGHTS", RETURN_MYRIGHTS},
};

static int read_option(
	const struct imap_arg *arg, const struct option_word *words, size_t count, unsigned *options)
{
	for (size_t i = 0; i < count; i++) {
		if (imap_parse_is_word(arg, words[i].word)) {
			*options |= words[i].option;
			return 0;
		}
	}
	return ERR_SYNTAX;
}

static int read_select_options(struct list_data *d, const struct imap_arg *list)
{
	for (const struct imap_arg *arg = list->first; arg; arg = arg->next) {
		if (read_option(arg, select_words, ARRAY_LEN(select_words), &d->options) < 0)
			return ERR_SYNTAX;
	}
	if (d->options & SELECT_RECURSIVE && !(d->options & (SELECT_SUBSCRIBED | SELECT_SPECIAL)))
		return ERR_SYNTAX;
	return 0;
}

/* "METADATA" [options] entries; arg becomes the last of it. */
static int read_metadata(struct imap_session *s, struct list_data *d, const struct imap_arg **arg)
{
	const struct imap_arg *at = (*arg)->next;
	int err = 0;

	if (d->metadata)
		return ERR_SYNTAX;
	d->metadata = arena_calloc(&s->arena, 1, sizeof(*d->metadata));
	if (!d->metadata)
		return ERR_TOO_BIG;
	if (imap_metadata_is_options(at)) {
		err = imap_metadata_read_options(at, d->metadata);
		at = at->next;
	}
	*arg = at;
	return err < 0 ? err : imap_metadata_read_entries(at, &s->arena, d->metadata);
}

static int read_return_options(struct imap_session *s, struct list_data *d, const struct imap_arg *list)
{
	if (!list || list->type != IMAP_ARG_LIST || list->next)
		return ERR_SYNTAX;
	for (const struct imap_arg *arg = list->first; arg; arg = arg->next) {
		if (imap_parse_is_word(arg, "STATUS")) {
			arg = arg->next;
			if (imap_status_parse(arg, &d->status) < 0)
				return ERR_SYNTAX;
		} else if (imap_parse_is_word(arg, "METADATA")) {
			int err = read_metadata(s, d, &arg);

			if (err < 0)
				return err;
		} else if (read_option(arg, return_words, ARRAY_LEN(return_words), &d->options) < 0) {
			return ERR_SYNTAX;
		}
	}
	return 0;
}

/* Reference and pattern are one text (RFC 3501 section 6.3.8), decoded to UTF-8. */
static int add_pattern(
	struct imap_session *s, struct list_data *d, struct slice reference, const struct imap_arg *arg)
{
	struct slice text, utf8;
	struct buf whole = {0};
	int err = imap_parse_list_mailbox(arg, &text);

	if (err < 0)
		return err;
	if (d->count == PATTERNS_MOST || reference.len + text.len > PATTERN_LENGTH)
		return ERR_TOO_BIG;
	if (text.len == 0) /* asks for the separator: nothing matches */
		return 0;
	buf_add_slice(&whole, reference);
	buf_add_slice(&whole, text);
	err = imap_name_decode(s, buf_view(&whole), &s->arena, &utf8);
	buf_deinit(&whole);
	if (err == ERR_SYNTAX) /* no mailbox has such a name */
		return 0;
	if (err == 0)
		d->patterns[d->count++] = utf8;
	return err;
}

static int read_patterns(
	struct imap_session *s, struct list_data *d, struct slice reference, const struct imap_arg *arg)
{
	int err = 0;

	if (!arg)
		return ERR_SYNTAX;
	if (arg->type != IMAP_ARG_LIST)
		return add_pattern(s, d, reference, arg);
	if (!arg->first)
		return ERR_SYNTAX;
	for (const struct imap_arg *a = arg->first; a && err == 0; a = a->next)
		err = add_pattern(s, d, reference, a);
	return err;
}

static int read_list(struct imap_session *s, struct list_data *d, const struct imap_arg *arg)
{
	struct slice reference;
	int err;

	if (arg && arg->type == IMAP_ARG_LIST) {
		err = read_select_options(d, arg);
		if (err < 0)
			return err;
		arg = arg->next;
	}
	err = imap_parse_astring(arg, &reference);
	if (err == 0)
		err = read_patterns(s, d, reference, arg->next);
	if (err < 0)
		return err;
	arg = arg->next->next;
	if (!arg)
		return 0;
	return imap_parse_is_word(arg, "RETURN") ? read_return_options(s, d, arg->next) : ERR_SYNTAX;
}

static bool asks_for_separator(const struct imap_command *command)
{
	struct slice text;

	return command->count == 2 && imap_parse_list_mailbox(command->args->next, &text) == 0 &&
	       text.len == 0;
}

void imap_cmd_list(struct imap_session *s, const struct imap_command *command)
{
	struct list_data *d = imap_data(s, sizeof(*d));
	int err;

	if (!d)
		return;
	d->word = "LIST";
	err = read_list(s, d, command->args);
	if (err == ERR_TOO_BIG) {
		imap_fail(s, err);
	} else if (err < 0) {
		imap_bad(s, "Wrong arguments for LIST");
	} else if (asks_for_separator(command)) {
		conn_write_str(s->conn, "* LIST (\\Noselect) \"" IMAP_HIERARCHY "\" \"\"\r\n");
		imap_ok(s);
	} else {
		if (imap_status_has_modseq(d->status))
			imap_enable_condstore(s);
		start_list(s, d);
	}
}

void imap_cmd_lsub(struct imap_session *s, const struct imap_command *command)
{
	struct list_data *d = imap_data(s, sizeof(*d));
	struct slice reference;

	if (!d)
		return;
	d->word = "LSUB";
	d->options = SELECT_SUBSCRIBED;
	if (command->count != 2 || imap_parse_astring(command->args, &reference) < 0 ||
		command->args->next->type == IMAP_ARG_LIST ||
		read_patterns(s, d, reference, command->args->next) < 0) {
		imap_bad(s, "Wrong arguments for LSUB");
		return;
	}
	start_list(s, d);
}

/* ---- STATUS ---- */

static void status_done(struct imap_session *s, int err)
{
	if (err < 0)
		imap_fail(s, err);
	else
		imap_ok(s);
}

struct status_data {
	struct slice name;
	unsigned items;
};

static int status_run(struct imap_session *s, struct store_txn *txn)
{
	struct status_data *d = s->data;
	struct store_mailbox mailbox;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_READ, &mailbox);

	return err < 0 ? err : imap_status_write(s, txn, &mailbox, mailbox.name, d->items);
}

void imap_cmd_status(struct imap_session *s, const struct imap_command *command)
{
	struct status_data *d = imap_data(s, sizeof(*d));
	struct slice word;
	int err;

	if (!d)
		return;
	if (command->count != 2 || imap_parse_astring(command->args, &word) < 0 ||
		imap_status_parse(command->args->next, &d->items) < 0) {
		imap_bad(s, "STATUS wants a mailbox and a list of items");
		return;
	}
	err = imap_name_read(s, command->args, &s->arena, &d->name);
	if (err < 0) {
		imap_fail(s, ERR_NOT_FOUND);
		return;
	}
	if (imap_status_has_modseq(d->items))
		imap_enable_condstore(s);
	imap_access_go(s, d->name);
	imap_read(s, status_run, status_done);
}
