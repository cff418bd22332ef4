#include "backend/store/store_restore_others.h"

#include <stdlib.h>

#include "backend/store/import_body.h"
#include "backend/store/mailbox.h"
#include "backend/store/store_acl.h"
#include "backend/store/store_metadata.h"
#include "backend/store/transfer.h"
#include "common/base/mem.h"

struct store_restore_others {
	struct store *store;
	struct import_body body;
	store_write_fn *write;
	void *write_arg;
	struct store_account owner; /* id 0: not seen, or not here */
	struct arena arena;
	struct slice *names; /* of mailboxes, by their number in the stream - 1 */
	size_t count, room;
	/* at hand */
	uint32_t mailbox;
	struct store_account user;
	const struct transfer_acl *acl;
	const struct transfer_metadata *annotation;
};

struct store_restore_others *store_restore_others_new(
	struct store *store, store_write_fn *write, void *write_arg)
{
	struct store_restore_others *o = xcalloc(1, sizeof(*o));

	o->store = store;
	o->write = write;
	o->write_arg = write_arg;
	arena_init(&o->arena, 0);
	return o;
}

void store_restore_others_free(struct store_restore_others **others)
{
	struct store_restore_others *o = *others;

	if (!o)
		return;
	if (o->owner.id)
		import_body_deinit(&o->body);
	free(o->names);
	arena_deinit(&o->arena);
	free(o);
	*others = NULL;
}

static int take_account(struct store_restore_others *o, struct slice payload)
{
	struct transfer_account a;
	int err = transfer_unpack_account(payload, &a);

	if (err || store_find_account(o->store, a.record.address, &o->owner)) {
		o->owner.id = 0;
		return err;
	}
	import_body_init(&o->body, o->store, o->owner.slot, o->write, o->write_arg);
	return 0;
}

static int take_mailbox(struct store_restore_others *o, struct slice payload)
{
	struct transfer_mailbox m;
	int err = transfer_unpack_mailbox(payload, &m);

	if (err || m.number != o->count + 1)
		return ERR_CORRUPT;
	if (o->count == o->room)
		o->names = xreallocarray(o->names, o->room = o->room ? o->room * 2 : 16, sizeof(*o->names));
	o->names[o->count++] = arena_copy(&o->arena, m.folder.name);
	return 0;
}

/* 0: it is missing. ERR_EXISTS. ERR_NOT_FOUND: no such mailbox. */
static int look(struct store_restore_others *o, struct store_txn *txn, uint32_t number)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	struct store_mailbox m = {0};
	struct slice value;
	size_t count;
	int err = number ? store_mailbox_find(txn, o->owner.id, o->names[number - 1], &m) : 0;

	if (err)
		return err;
	o->mailbox = m.id;
	if (o->annotation) {
		err = store_metadata_get(txn, o->owner.id, m.id,
			store_metadata_user(o->user.slot, o->user.id), o->annotation->name, &value);
		return err == ERR_NOT_FOUND ? 0 : err ? err : ERR_EXISTS;
	}
	err = store_acl_get(txn, o->owner.id, m.id, entries, &count);
	for (size_t i = 0; !err && i < count; i++)
		if (entries[i].who.slot == o->user.slot && entries[i].who.account == o->user.id)
			err = ERR_EXISTS;
	return err;
}

static int give(struct store_txn *txn, void *arg)
{
	const struct store_restore_others *o = arg;
	const struct transfer_metadata *t = o->annotation;
	uint64_t modseq;

	if (t)
		return store_metadata_set(txn, o->owner.id, o->mailbox,
			store_metadata_user(o->user.slot, o->user.id), t->name, t->value, &modseq);

	const struct store_acl_entry entry = {{o->user.slot, o->user.id}, o->acl->rights, o->acl->denied};

	return store_acl_set(txn, o->owner.id, o->mailbox, &entry);
}

static int give_to(struct store_restore_others *o, const struct transfer_person *person, uint32_t number)
{
	struct store_txn *txn;
	int err = number > o->count ? ERR_CORRUPT : 0;

	if (err || !o->owner.id || transfer_find_person(o->store, person, &o->user))
		return err;
	err = store_begin_read(o->store, o->owner.slot, &txn);
	if (err)
		return err;
	err = look(o, txn, number);
	store_end_read(&txn);
	if (err)
		return err == ERR_EXISTS || err == ERR_NOT_FOUND ? 0 : err;
	return import_body_write(&o->body, give, o);
}

int store_restore_others_record(void *others, uint16_t tag, struct slice payload)
{
	struct store_restore_others *o = others;
	struct transfer_metadata annotation;
	struct transfer_acl acl;
	int err;

	o->acl = NULL;
	o->annotation = NULL;
	switch (tag) {
	case STREAM_ACCOUNT:
		return o->owner.id ? ERR_CORRUPT : take_account(o, payload);
	case STREAM_MAILBOX:
		return take_mailbox(o, payload);
	case STREAM_ACL:
		err = transfer_unpack_acl(payload, &acl);
		o->acl = &acl;
		return err || !acl.who.address.len ? err : give_to(o, &acl.who, acl.mailbox);
	case STREAM_METADATA:
		err = transfer_unpack_metadata(payload, &annotation);
		o->annotation = &annotation;
		return err || annotation.owner != TRANSFER_OTHER
			       ? err
			       : give_to(o, &annotation.other, annotation.mailbox);
	case STREAM_MESSAGE:
		return ERR_CANCELLED;
	default:
		return 0;
	}
}
