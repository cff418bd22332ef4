/*
 * Private: the payloads of an account's stream, one pack and one unpack side by side. Unpacking never trusts (ERR_CORRUPT) and
 * checks each field by itself; what fields must be to each other is store_import.c's. Unpacked slices are views.
 */
#pragma once

#include "backend/store/acl.h"
#include "backend/store/change.h"
#include "backend/store/metadata.h"
#include "backend/store/record.h"
#include "backend/store/store_quota.h"
#include "backend/store/store_stream.h"

/* Seconds since 1970 of the last moment that IMAP can write. */
#define TRANSFER_DATE_MAX INT64_C(253402300799)
/* RFC 7162: 63 bits; and room to go on. */
#define TRANSFER_MODSEQ_MAX (UINT64_C(1) << 62)

struct transfer_account {
	struct account_record record;
	uint64_t modseq, change_low;
	uint32_t uidvalidity; /* the last one given */
	uint32_t mailboxes;
	uint64_t messages, bytes;
};
void transfer_pack_account(const struct transfer_account *a, struct buf *out);
MUST_CHECK int transfer_unpack_account(struct slice payload, struct transfer_account *a_out);

struct transfer_mailbox {
	uint32_t number; /* within the stream, from 1 */
	bool subscribed;
	struct mailbox_state state; /* unseen and deleted are not carried: they follow from the messages */
	struct folder_record folder;
};
void transfer_pack_mailbox(const struct transfer_mailbox *m, struct buf *out);
MUST_CHECK int transfer_unpack_mailbox(struct slice payload, struct transfer_mailbox *m_out);

enum transfer_body {
	TRANSFER_FOLLOWS = 1, /* STREAM_BODY records follow, body_size bytes in all */
	TRANSFER_SAME,        /* of an earlier message with the same body number */
	TRANSFER_KEPT         /* stands in the backup under that number */
};

struct transfer_message {
	uint32_t mailbox; /* its number in the stream */
	struct store_entry entry;
	int64_t save_date;
	uint64_t email;
	enum transfer_body body_kind;
	bool is_shared; /* a later message may be TRANSFER_SAME */
	uint64_t body;  /* which bytes: the same number, the same bytes */
	uint64_t body_size;
	uint64_t body_sum; /* of TRANSFER_KEPT: hash of the blob's record of frames; else 0 */
	struct slice trace, uidl;
};
void transfer_pack_message(const struct transfer_message *m, struct buf *out);
MUST_CHECK int transfer_unpack_message(struct slice payload, struct transfer_message *m_out);

/* What a stream has of deleted messages that can be brought back. */
struct transfer_kept_sum {
	uint64_t messages, bytes;
};
void transfer_pack_kept_sum(const struct transfer_kept_sum *s, struct buf *out);
MUST_CHECK int transfer_unpack_kept_sum(struct slice payload, struct transfer_kept_sum *s_out);

/* A mailbox that is no more, of which messages are kept. */
struct transfer_gone {
	uint32_t number; /* goes on from those of the mailboxes */
	uint32_t time;   /* of its deletion; 0: its name is not known */
	struct folder_record folder;
};
void transfer_pack_gone(const struct transfer_gone *g, struct buf *out);
MUST_CHECK int transfer_unpack_gone(struct slice payload, struct transfer_gone *g_out);

/* A deleted message: its entry has the flags that it had, and the MODSEQ of its deletion. */
struct transfer_kept {
	uint32_t time;                   /* of its deletion */
	struct transfer_message message; /* mailbox: of a mailbox, or of one that is no more */
};
void transfer_pack_kept(const struct transfer_kept *k, struct buf *out);
MUST_CHECK int transfer_unpack_kept(struct slice payload, struct transfer_kept *k_out);

/* Whose an annotation is, in a form that another store understands. */
enum transfer_owner {
	TRANSFER_EVERYBODY,
	TRANSFER_OWN,  /* of the account's user */
	TRANSFER_OTHER /* of the user with this address */
};
/* An account other than the stream's own. */
struct transfer_person {
	struct slice address; /* empty: anyone */
	int64_t created;      /* when the account was made; 0: not known (older streams) */
};
/* The account that is meant, here. ERR_NOT_FOUND: there is none of that address, or it is another's by now. */
MUST_CHECK int transfer_find_person(
	struct store *store, const struct transfer_person *person, struct store_account *account_out);

struct transfer_metadata {
	uint32_t mailbox; /* its number in the stream; 0: of the account */
	enum transfer_owner owner;
	struct transfer_person other;
	struct slice name, value;
};
void transfer_pack_metadata(const struct transfer_metadata *m, struct buf *out);
MUST_CHECK int transfer_unpack_metadata(struct slice payload, struct transfer_metadata *m_out);

/* One entry of a mailbox's ACL. */
struct transfer_acl {
	uint32_t mailbox; /* its number in the stream */
	uint16_t rights, denied;
	struct transfer_person who;
};
void transfer_pack_acl(const struct transfer_acl *a, struct buf *out);
MUST_CHECK int transfer_unpack_acl(struct slice payload, struct transfer_acl *a_out);

/* What one of the others has seen of STORE_SEEN_BLOCK UIDs of a mailbox. */
struct transfer_seen {
	uint32_t mailbox; /* its number in the stream */
	uint32_t block;
	struct transfer_person who;
	struct slice row; /* as DB_SEEN has it; not checked here */
};
void transfer_pack_seen(const struct transfer_seen *s, struct buf *out);
MUST_CHECK int transfer_unpack_seen(struct slice payload, struct transfer_seen *s_out);

/* Limits of a folder, or (mailbox 0) of the account beside those in its record. */
struct transfer_quota {
	uint32_t mailbox; /* its number in the stream */
	struct store_quota limits;
};
void transfer_pack_quota(const struct transfer_quota *q, struct buf *out);
MUST_CHECK int transfer_unpack_quota(struct slice payload, struct transfer_quota *q_out);

struct transfer_change {
	uint64_t modseq;
	uint32_t mailbox; /* its number in the stream; 0: one that is no more, or none */
	enum change_kind kind;
	enum transfer_owner owner; /* of CHANGE_METADATA */
	struct slice rest; /* ranges of UIDs, a name, or an entry, as the log has them: see change.h */
};
void transfer_pack_change(const struct transfer_change *c, struct buf *out);
MUST_CHECK int transfer_unpack_change(struct slice payload, struct transfer_change *c_out);
