/*
 * Private: the records on disk, one pack and one unpack side by side, each with a version byte. Unpacked
 * slices are views of what was unpacked. Unpacking never trusts: ERR_CORRUPT.
 */
#pragma once

#include "backend/store/db.h"
#include "backend/store/store_domain.h"
#include "backend/store/store_message.h"
#include "common/base/squeeze.h"

/* ---- accounts ---- */
struct account_record {
	struct slice address;
	struct slice password;
	struct store_policy policy; /* what the account itself says */
	struct slice class;
	struct slice name;     /* of the human, for humans */
	struct slice forwards; /* addresses, a line feed between two */
	int64_t created;
	uint32_t flags;
};
void record_pack_account(const struct account_record *r, struct buf *out);
MUST_CHECK int record_unpack_account(struct slice value, struct account_record *r_out);

/* ---- domains and classes; the name is the key ---- */
/* At most RECORD_DOMAIN_MAX bytes, else ERR_TOO_BIG. */
#define RECORD_DOMAIN_MAX 32768
MUST_CHECK int record_pack_domain(const struct store_domain *d, struct buf *out);
MUST_CHECK int record_unpack_domain(struct slice name, struct slice value, struct store_domain *d_out);
void record_pack_class(const struct store_class *c, struct buf *out);
MUST_CHECK int record_unpack_class(struct slice name, struct slice value, struct store_class *c_out);

/* Counters of an account: what changes with every message. */
struct account_state {
	uint64_t modseq;
	uint64_t bytes;
	uint64_t count;
	uint64_t change_low; /* the change log is whole above this MODSEQ */
	uint32_t change_rows;
	uint32_t uidvalidity; /* the last one given */
	uint32_t mailboxes;
	uint32_t aliases;
};
MUST_CHECK int state_get_account(struct store_txn *txn, uint32_t account, struct account_state *state_out);
/* Also tells the name table the usage. */
MUST_CHECK int state_put_account(struct store_txn *txn, uint32_t account, const struct account_state *state);

/* Counters of a mailbox. A \Noselect name has none. */
struct mailbox_state {
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint32_t messages;
	uint32_t unseen;
	uint32_t deleted;
	uint32_t recent_from;
	uint64_t size;
	uint64_t modseq;
};
MUST_CHECK int state_get_mailbox(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct mailbox_state *state_out);
MUST_CHECK int state_put_mailbox(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct mailbox_state *state);

/* ---- folders: what seldom changes of a mailbox ---- */
struct folder_record {
	struct slice name;
	enum store_use use;
	bool noselect;
	struct store_keywords keywords;
};
void record_pack_folder(const struct folder_record *r, struct buf *out);
MUST_CHECK int record_unpack_folder(struct slice value, struct folder_record *r_out);

/* ---- messages ---- */
/* uid is not in the value. */
size_t record_message_size(const struct store_message *m);
void record_pack_message(const struct store_message *m, char *out);
/* Gives it a UIDL that it had elsewhere; its UID is known. */
void record_set_uidl(struct store_message *m, struct slice uidl);
/* What ENVELOPE and BODYSTRUCTURE are squeezed with, and doing it: squeezed's content goes. */
void record_text_dict(struct squeeze_dict *dict_out);
struct store_text record_text_squeeze(
	const struct squeeze_dict *dict, struct slice text, struct buf *squeezed);
MUST_CHECK int record_unpack_message(struct slice value, struct store_message *m_out);

/* ---- blobs ---- */
struct blob_frame {
	uint32_t len; /* compressed */
	uint64_t sum; /* xxh3 of the compressed bytes */
};
struct blob_record {
	uint32_t refs;
	uint64_t size;   /* message bytes */
	uint64_t stored; /* compressed bytes */
	uint32_t frame_count;
	const char *frames;       /* packed, frame_count of them */
	struct slice inline_data; /* the first bytes of the stream; the others are pieces */
};
#define RECORD_BLOB_HEAD 16
#define RECORD_FRAME 12
size_t record_blob_size(const struct blob_record *r);
/* frames: unpacked ones, or NULL to take r->frames as they are packed. */
void record_pack_blob(const struct blob_record *r, const struct blob_frame *frames, char *out);
MUST_CHECK int record_unpack_blob(struct slice value, struct blob_record *r_out);
struct blob_frame record_blob_frame(const struct blob_record *r, uint32_t i);
