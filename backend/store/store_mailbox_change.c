/*
 * Mailboxes are made, deleted and renamed. Rows are as store_mailbox.c tells.
 */
#include "backend/store/mailbox.h"

#include "backend/store/acl.h"
#include "backend/store/chunk.h"
#include "backend/store/kept.h"
#include "backend/store/metadata.h"
#include "backend/store/quota.h"
#include "common/base/clock.h"

/* ---- creating ---- */

uint32_t mailbox_next_uidvalidity(struct account_state *s)
{
	uint32_t now = (uint32_t)clock_wall_s();

	s->uidvalidity = now > s->uidvalidity ? now : s->uidvalidity + 1;
	return s->uidvalidity;
}

/* Gives a folder its counters: it becomes (or is made) a real mailbox. */
static int start_state(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox,
	enum change_kind kind)
{
	struct mailbox_state m = {.uidvalidity = mailbox_next_uidvalidity(s), .uidnext = 1, .recent_from = 1};
	int err = change_log(txn, account, s, kind, mailbox, NULL, 0);

	m.modseq = s->modseq;
	return err ? err : state_put_mailbox(txn, account, mailbox, &m);
}

/* RFC 4314 section 4: the ACL of the nearest parent. */
static int inherit(struct store_txn *txn, uint32_t account, struct slice name, uint32_t mailbox)
{
	struct mailbox_name_row row;
	int err = ERR_NOT_FOUND;

	for (ptrdiff_t at = slice_find_last(name, STORE_SEPARATOR); err == ERR_NOT_FOUND && at > 0;
		at = slice_find_last(name, STORE_SEPARATOR)) {
		name.len = (size_t)at;
		err = mailbox_find_name(txn, account, name, &row);
	}
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	return acl_inherit(txn, account, row.mailbox, mailbox);
}

static int create_row(struct store_txn *txn, uint32_t account, struct account_state *s, struct slice name,
	enum store_use use, bool subscribed, uint32_t *mailbox_out)
{
	struct folder_record folder = {.name = name, .use = use};
	uint32_t id;
	int err;

	if (s->mailboxes >= STORE_MAILBOXES_MAX)
		return ERR_TOO_BIG;
	err = quota_check_mailbox(txn, account, s, name);
	if (!err)
		err = db_meta_next(txn, "last_mailbox", &id);
	if (!err)
		err = mailbox_put_folder(txn, account, id, &folder);
	if (!err)
		err = mailbox_put_name(txn, account, name, (struct mailbox_name_row){id, subscribed});
	if (!err)
		err = start_state(txn, account, s, id, CHANGE_CREATED);
	if (err)
		return err;
	s->mailboxes++;
	*mailbox_out = id;
	return inherit(txn, account, name, id);
}

int mailbox_create_default(struct store_txn *txn, uint32_t account, struct account_state *s,
	struct slice name, enum store_use use, uint32_t *mailbox_out)
{
	return create_row(txn, account, s, name, use, true, mailbox_out);
}

int mailbox_put_imported(struct store_txn *txn, uint32_t account, const struct folder_record *folder,
	bool subscribed, const struct mailbox_state *state, uint32_t *mailbox_out)
{
	uint32_t id;
	int err = db_meta_next(txn, "last_mailbox", &id);

	if (!err)
		err = mailbox_put_folder(txn, account, id, folder);
	if (!err)
		err = mailbox_put_name(txn, account, folder->name, (struct mailbox_name_row){id, subscribed});
	if (!err && !folder->noselect)
		err = state_put_mailbox(txn, account, id, state);
	if (!err)
		*mailbox_out = id;
	return err;
}

int mailbox_put_subscribed(struct store_txn *txn, uint32_t account, struct slice name)
{
	return mailbox_put_name(txn, account, name, (struct mailbox_name_row){0, true});
}

/* Makes what is missing of the name's parents. */
static int create_parents(struct store_txn *txn, uint32_t account, struct account_state *s, struct slice name)
{
	for (size_t i = 1; i < name.len; i++) {
		struct slice parent = slice_sub(name, 0, i);
		struct mailbox_name_row row = {0};
		uint32_t id;
		int err;

		if (name.p[i] != STORE_SEPARATOR)
			continue;
		err = mailbox_get_name(txn, account, parent, &row);
		if (err && err != ERR_NOT_FOUND)
			return err;
		if (row.mailbox)
			continue;
		err = create_row(txn, account, s, parent, STORE_USE_NONE, row.subscribed, &id);
		if (err)
			return err;
	}
	return 0;
}

/* An existing name: ERR_EXISTS, unless it is \Noselect. */
static int revive(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox)
{
	struct folder_record folder;
	char name[STORE_MAILBOX_NAME_MAX];
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (!err && !folder.noselect)
		err = ERR_EXISTS;
	if (err)
		return err;
	if (folder.name.len > sizeof(name))
		return ERR_CORRUPT;
	memcpy(name, folder.name.p, folder.name.len);
	folder.name.p = name;
	folder.noselect = false;
	folder.keywords.count = 0;
	err = mailbox_put_folder(txn, account, mailbox, &folder);
	return err ? err : start_state(txn, account, s, mailbox, CHANGE_CREATED);
}

int store_mailbox_create(
	struct store_txn *txn, uint32_t account, struct slice name, enum store_use use, uint32_t *mailbox_out)
{
	struct account_state s;
	struct mailbox_name_row row = {0};
	struct arena arena;
	struct slice stored;
	uint32_t id = 0;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(name, &arena, &stored);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err) {
		err = mailbox_get_name(txn, account, stored, &row);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	id = row.mailbox;
	if (!err && row.mailbox) {
		err = revive(txn, account, &s, row.mailbox);
	} else if (!err) {
		err = create_parents(txn, account, &s, stored);
		if (!err)
			err = create_row(txn, account, &s, stored, use, row.subscribed, &id);
		if (err == ERR_TOO_BIG)
			db_fail(txn, err); /* some parents may have been made */
	}
	if (!err)
		err = state_put_account(txn, account, &s);
	if (!err)
		*mailbox_out = id;
	arena_deinit(&arena);
	return err;
}

/* ---- deleting ---- */

int store_mailbox_has_children(struct store_txn *txn, uint32_t account, struct slice name, bool *has_out)
{
	char room[STORE_MAILBOX_NAME_MAX + 5];
	struct slice prefix = mailbox_name_key(account, name, room);
	struct db_cursor c;
	struct mailbox_name_row row;
	int err = db_cursor_open(txn, DB_FOLDER_NAMES, &c);

	if (err)
		return err;
	*has_out = false;
	room[prefix.len++] = STORE_SEPARATOR;
	err = db_cursor_seek(&c, prefix);
	while (!err && db_cursor_has_prefix(&c, prefix) && !*has_out) {
		err = mailbox_unpack_name(c.value, &row);
		if (err)
			break;
		*has_out = row.mailbox != 0;
		if (!*has_out)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* For the retention: the name and keywords, and the time, which the intent carries. Without a folder's row (the account
 * goes) nothing is kept. */
static int keep_folder(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t *time_out)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct slice value;
	struct buf copy = {0};
	int err = kept_retention(txn, account) ? db_get(txn, DB_FOLDERS, db_key_view(&key), &value)
					       : ERR_NOT_FOUND;

	*time_out = 0;
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	*time_out = (uint32_t)clock_wall_s();
	buf_add_slice(&copy, value);
	err = kept_put_folder(txn, account, mailbox, *time_out, buf_view(&copy));
	buf_deinit(&copy);
	return err;
}

int mailbox_bury(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct mailbox_state m;
	uint32_t time = 0;
	int err = state_get_mailbox(txn, account, mailbox, &m);

	if (err == ERR_NOT_FOUND) /* \Noselect: has no messages, but may have annotations */
		return mailbox_put_intent(txn, INTENT_DROP_MAILBOX, account, mailbox, 0);
	if (err)
		return err;
	if (s->bytes < m.size || s->count < m.messages)
		return ERR_CORRUPT;
	err = quota_changed(txn, account, mailbox, &m, NULL);
	if (err)
		return err;
	s->bytes -= m.size;
	s->count -= m.messages;
	err = db_drop(txn, DB_STATE, db_key_view(&key));
	if (!err)
		err = keep_folder(txn, account, mailbox, &time);
	if (!err)
		err = mailbox_put_intent(txn, INTENT_DROP_MAILBOX, account, mailbox, time);
	db_note(txn, account, mailbox, UINT64_MAX);
	return err;
}

/* Takes away the name, its folder row, and a \Noselect parent that has no child left. */
static int remove_name(
	struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox, struct slice name)
{
	for (;;) {
		struct db_key key = db_key_u32_u32(account, mailbox);
		struct mailbox_name_row row;
		struct folder_record folder;
		ptrdiff_t up = slice_find_last(name, STORE_SEPARATOR);
		bool has = false;
		int err = mailbox_get_name(txn, account, name, &row);

		row.mailbox = 0;
		if (!err)
			err = mailbox_put_name(txn, account, name, row);
		if (!err)
			err = db_drop(txn, DB_FOLDERS, db_key_view(&key));
		if (!err)
			err = acl_drop(txn, account, mailbox);
		if (!err)
			err = quota_move(txn, account, mailbox, 0);
		if (!err)
			err = change_log_text(txn, account, s, CHANGE_DELETED, mailbox, 0, name);
		s->mailboxes -= s->mailboxes > 0;
		if (err || up <= 0)
			return err;
		name.len = (size_t)up;
		err = mailbox_find_name(txn, account, name, &row);
		if (err)
			return err == ERR_NOT_FOUND ? 0 : err;
		mailbox = row.mailbox;
		err = mailbox_get_folder(txn, account, mailbox, &folder);
		if (!err)
			err = store_mailbox_has_children(txn, account, name, &has);
		if (err || !folder.noselect || has)
			return err;
		/* Its annotations. */
		err = mailbox_put_intent(txn, INTENT_DROP_MAILBOX, account, mailbox, 0);
		if (err)
			return err;
	}
}

/* A name with children goes on as \Noselect, under an id of its own: the old id's rows are the reaper's. */
static int keep_name(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox,
	struct folder_record *left)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct mailbox_name_row row;
	uint32_t id;
	int err = mailbox_get_name(txn, account, left->name, &row);

	if (!err)
		err = db_meta_next(txn, "last_mailbox", &id);
	if (err)
		return err;
	left->noselect = true;
	row.mailbox = id;
	err = db_drop(txn, DB_FOLDERS, db_key_view(&key));
	if (!err)
		err = acl_drop(txn, account, mailbox);
	if (!err)
		err = mailbox_put_folder(txn, account, id, left);
	if (!err)
		err = mailbox_put_name(txn, account, left->name, row);
	if (!err)
		err = quota_move(txn, account, mailbox, id);
	if (!err)
		err = change_log_text(txn, account, s, CHANGE_DELETED, mailbox, 0, left->name);
	return err;
}

int store_mailbox_delete(struct store_txn *txn, uint32_t account, uint32_t mailbox)
{
	char name_room[STORE_MAILBOX_NAME_MAX];
	struct folder_record folder;
	struct account_state s;
	struct slice name;
	bool has = false;
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (!err && slice_is_str(folder.name, "INBOX"))
		err = ERR_DENIED;
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err)
		err = store_mailbox_has_children(txn, account, folder.name, &has);
	if (!err && has && folder.noselect)
		err = ERR_DENIED;
	if (err)
		return err;
	if (folder.name.len > sizeof(name_room))
		return ERR_CORRUPT;
	memcpy(name_room, folder.name.p, folder.name.len);
	name = slice_of(name_room, folder.name.len);
	err = mailbox_bury(txn, account, &s, mailbox);
	if (!err)
		err = has ? keep_name(txn, account, &s, mailbox,
				    &(struct folder_record){.name = name, .use = folder.use})
			  : remove_name(txn, account, &s, mailbox, name);
	return err ? err : state_put_account(txn, account, &s);
}

/* ---- renaming ---- */

/* Moves one name; keywords, use and id stay. The old name keeps its subscription. */
static int move_name(struct store_txn *txn, uint32_t account, struct account_state *s, struct slice old_name,
	struct slice new_name)
{
	struct folder_record folder;
	struct mailbox_name_row from, to = {0};
	uint32_t mailbox;
	int err = mailbox_find_name(txn, account, old_name, &from);

	if (err)
		return err;
	mailbox = from.mailbox;
	err = mailbox_get_name(txn, account, new_name, &to);
	if (err && err != ERR_NOT_FOUND)
		return err;
	to.mailbox = mailbox;
	from.mailbox = 0;
	err = mailbox_put_name(txn, account, old_name, from);
	if (!err)
		err = mailbox_put_name(txn, account, new_name, to);
	if (!err)
		err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (err)
		return err;
	/* mailbox_put_folder packs before it writes, so views of the old value may go in. */
	folder.name = new_name;
	err = mailbox_put_folder(txn, account, mailbox, &folder);
	return err ? err : change_log_text(txn, account, s, CHANGE_RENAMED, mailbox, 0, old_name);
}

struct rename {
	uint32_t mailbox;
	struct slice old_name;
	struct slice new_name;
	struct arena *arena;
	struct slice *children; /* old names, children behind parents */
	size_t count;
};

static struct slice child_name(struct rename *r, struct slice child)
{
	char *p = arena_alloc(r->arena, r->new_name.len + child.len - r->old_name.len + 1);

	if (!p)
		return slice_of(NULL, 0);
	memcpy(p, r->new_name.p, r->new_name.len);
	memcpy(p + r->new_name.len, child.p + r->old_name.len, child.len - r->old_name.len);
	return slice_of(p, r->new_name.len + child.len - r->old_name.len);
}

/* Collects the children, and checks that every new name is free and short enough. */
static int plan_rename(struct store_txn *txn, uint32_t account, struct rename *r)
{
	struct store_mailbox *all;
	struct mailbox_name_row row;
	size_t count;
	int err = store_mailbox_list(txn, account, r->arena, &all, &count);

	if (err)
		return err;
	r->children = arena_calloc(r->arena, count + 1, sizeof(*r->children));
	if (!r->children)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < count; i++) {
		struct slice to;

		if (all[i].id == 0 || !mailbox_is_child(all[i].name, r->old_name))
			continue;
		to = child_name(r, all[i].name);
		if (!to.p || to.len > STORE_MAILBOX_NAME_MAX)
			return ERR_TOO_BIG;
		err = mailbox_find_name(txn, account, to, &row);
		if (err != ERR_NOT_FOUND)
			return err ? err : ERR_EXISTS;
		r->children[r->count++] = all[i].name;
	}
	return 0;
}

/* RFC 3501 6.3.5: INBOX hands its messages over and stays. */
static int rename_inbox(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox,
	struct slice new_name)
{
	struct mailbox_name_row row;
	uint32_t id;
	int err = move_name(txn, account, s, SLICE_LIT("INBOX"), new_name);

	if (!err) {
		err = mailbox_get_name(txn, account, SLICE_LIT("INBOX"), &row);
		if (err == ERR_NOT_FOUND) {
			row.subscribed = false;
			err = 0;
		}
	}
	if (!err)
		err = create_row(txn, account, s, SLICE_LIT("INBOX"), STORE_USE_NONE, row.subscribed, &id);
	if (!err)
		err = quota_move(txn, account, mailbox, id);
	/* RFC 5464 section 4.1: its annotations go along, and stay too. */
	return err ? err : metadata_copy(txn, account, mailbox, id);
}

static int rename_in(struct store_txn *txn, uint32_t account, struct account_state *s, struct rename *r,
	struct slice new_name)
{
	struct mailbox_name_row row;
	bool is_inbox = slice_is_str(r->old_name, "INBOX");
	int err = store_mailbox_normalise(new_name, r->arena, &r->new_name);

	if (!err && mailbox_is_child(r->new_name, r->old_name) && !is_inbox)
		err = ERR_DENIED;
	if (!err) {
		err = mailbox_find_name(txn, account, r->new_name, &row);
		err = err == ERR_NOT_FOUND ? 0 : err ? err : ERR_EXISTS;
	}
	if (!err && !is_inbox)
		err = plan_rename(txn, account, r);
	if (!err && s->mailboxes + STORE_MAILBOX_LEVELS_MAX > STORE_MAILBOXES_MAX)
		err = ERR_TOO_BIG;
	if (!err)
		err = create_parents(txn, account, s, r->new_name);
	if (!err && is_inbox)
		return rename_inbox(txn, account, s, r->mailbox, r->new_name);
	if (!err)
		err = move_name(txn, account, s, r->old_name, r->new_name);
	for (size_t i = 0; i < r->count && !err; i++)
		err = move_name(txn, account, s, r->children[i], child_name(r, r->children[i]));
	return err;
}

int store_mailbox_rename(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct slice new_name)
{
	struct rename r = {.mailbox = mailbox};
	struct folder_record folder;
	struct account_state s;
	struct arena arena;
	int err;

	arena_init(&arena, 0);
	r.arena = &arena;
	err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err) {
		r.old_name = arena_copy(&arena, folder.name);
		err = rename_in(txn, account, &s, &r, new_name);
	}
	if (!err)
		err = quota_renamed(txn, account);
	if (!err)
		err = state_put_account(txn, account, &s);
	arena_deinit(&arena);
	return err;
}
