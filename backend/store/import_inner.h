/* Private to the import of accounts: its state, which store_import.c fills, import_apply.c writes, store_import_end.c ends. */
#pragma once

#include "backend/store/account.h"
#include "backend/store/import_body.h"
#include "backend/store/store_import.h"
#include "backend/store/transfer.h"
#include "common/base/table.h"

#define IMPORT_STEP_ITEMS 64

struct item {
	uint16_t tag;
	char *payload; /* owned */
	size_t len;
	struct store_draft *draft; /* of a message whose body came with it */
};

struct imported {
	uint32_t id; /* once its row is written */
	struct mailbox_state state;
	uint64_t modseq; /* of the stream; state.modseq is ours */
	uint32_t messages;
	uint64_t size;
	uint32_t last_uid;
	uint32_t keyword_count;
	bool noselect;
	bool is_touched;
};

/* A body that later messages may share: the message of ours that has it. */
struct shared {
	struct db_key key;
	uint64_t blob; /* 0: queued, not written */
	uint64_t size;
	uint32_t mailbox, uid;
};

/* A mailbox that is no more, of which deleted messages come. */
struct import_gone {
	uint32_t id; /* once its row is written */
	uint32_t keyword_count;
};

struct store_import {
	struct store_import_options o;
	struct import_body body;
	struct arena arena; /* names, shared */
	struct buf why;
	bool has_account, is_finished, is_claimed;
	bool replaces; /* this one: */
	unsigned old_slot;
	uint32_t old_account;
	uint32_t account; /* of ours; 0: none made */
	struct transfer_account header;
	struct account_state state;
	char address[STORE_ADDRESS_MAX];
	struct slice *aliases;
	size_t alias_count;
	struct table *names; /* of mailboxes -> struct imported, or only_subscribed */
	char only_subscribed;
	struct imported **mailboxes;
	uint32_t mailbox_count, mailbox_room;
	struct table *shared;
	struct item items[IMPORT_STEP_ITEMS];
	size_t item_count, waiting;
	bool has_open; /* the last item waits for its body */
	uint64_t next_change;
	struct transfer_quota quota; /* the last one */
	uint32_t quotas;
	struct transfer_kept_sum kept_said, kept; /* the most that comes; what came */
	struct import_gone *gone;                 /* their numbers go on from those of the mailboxes */
	uint32_t gone_count, gone_room;
	uint32_t kept_number, kept_uid; /* of the last deleted message */
};

/* ---- import_apply.c: what is queued, and the step that puts it in one transaction ---- */

/* Queues a copy of the payload, after a step if there is no room. The item is the last one. */
MUST_CHECK int import_apply_queue(struct store_import *m, uint16_t tag, struct slice payload);
MUST_CHECK int import_apply_step(struct store_import *m);
/* Forgets what is queued. */
void import_apply_clear(struct store_import *m);
/* Puts limits of a folder or of a mailbox. */
MUST_CHECK int import_apply_limits(
	struct store_txn *txn, struct store_import *m, const struct transfer_quota *t);

/* ---- import_kept.c: deleted messages ---- */

/* Take records as they come: sums, a mailbox that is no more, a deleted message (but for its body; *skips_out: it is left out). */
MUST_CHECK int import_kept_take_sum(struct store_import *m, struct slice payload);
MUST_CHECK int import_kept_take_gone(struct store_import *m, struct slice payload);
MUST_CHECK int import_kept_check(
	struct store_import *m, struct slice payload, struct transfer_message *message_out, bool *skips_out);
/* Counts in what import_kept_check() saw, after it was queued. */
void import_kept_count(struct store_import *m, const struct transfer_message *t);
/* In a step: the row that owns a deleted message, whose record the caller puts into *mailbox_out. */
MUST_CHECK int import_kept_apply_gone(struct store_txn *txn, struct store_import *m, struct slice payload);
MUST_CHECK int import_kept_apply_row(
	struct store_txn *txn, struct store_import *m, const struct transfer_kept *k, uint32_t *mailbox_out);

/* ---- store_import.c ---- */

/* One that a program of ours can have given in an account with these MODSEQs. */
bool store_import_is_email_good(const struct store_import *m, uint64_t email);

/* Remembers the first reason; gives err. */
int store_import_wrong(struct store_import *m, int err, const char *what);
