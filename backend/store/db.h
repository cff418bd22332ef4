/*
 * Private to backend/store: slots, transactions and typed access to their databases. The only header of the
 * room that sees lmdb.h. Errors of LMDB are translated here, in db_error(); a write that fails sticks to the
 * transaction.
 */
#pragma once

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "backend/store/store.h"
#include "common/base/bytes.h"
#include "common/base/list.h"

/* 2: message records with keys. 3: more databases, which are made when they are missing. Stores of older versions are opened and
 * become the newest: their records are read as they are. */
#define STORE_VERSION 3
#define STORE_VERSION_OLDEST 1

/* The databases of a slot; keys big-endian, values little-endian. docs/storage.md draws them. */
enum db_name {
	DB_META,         /* text -> number */
	DB_ACCOUNTS,     /* account -> record; account, address -> nothing (aliases) */
	DB_NAMES,        /* address -> account */
	DB_STATE,        /* account, mailbox -> counters; mailbox 0: the account's */
	DB_FOLDERS,      /* account, mailbox -> name, use, keywords */
	DB_FOLDER_NAMES, /* account, name -> mailbox, subscribed */
	DB_INDEX,        /* mailbox, first uid -> chunk of entries */
	DB_MESSAGES,     /* mailbox, uid -> record */
	DB_EXPUNGED,     /* mailbox, modseq, uid -> what retention needs to know; nothing: not to be kept */
	DB_KEPT,         /* account, time, mailbox, uid -> flags, size, modseq, keywords; see store_kept.h */
	DB_BLOBS,        /* blob -> record */
	DB_PIECES,       /* blob, number -> bytes */
	DB_ORPHANS,      /* blob -> kind */
	DB_COPIES,       /* blob -> references beyond those that its record counts */
	DB_CHANGES,      /* account, modseq -> kind, mailbox, uids */
	DB_MARKS,        /* digest -> time */
	DB_MARK_TIMES,   /* time, digest -> nothing */
	DB_INTENTS,      /* kind, account, mailbox -> nothing */
	DB_QUOTA,        /* account, mailbox -> limits and uses; mailbox 0: the account's */
	DB_QUOTA_WARNED, /* account -> thresholds, times */
	DB_METADATA,     /* account, mailbox, user, entry -> value; account -> octets in all */
	DB_DOMAINS,      /* domain -> record; in slot 0 alone */
	DB_CLASSES,      /* class -> record; in slot 0 alone */
	DB_ACL,          /* account, mailbox -> who may do what */
	DB_SHARED,       /* who, account, mailbox -> nothing: which ACLs name him */
	DB_SEEN,         /* mailbox, who, block of UIDs -> what he has seen */
	DB_QUEUE,        /* message -> record; see store_queue.h */
	DB_QUEUE_TO,     /* message, number -> record of a recipient */
	DB_QUEUE_DUE,    /* time, message, number -> destination: who waits */
	DB_QUEUE_OF,     /* destination, NUL, time, message, number -> nothing */
	DB_GREYLIST,     /* triplet -> first seen, last seen, when it goes, passes; see store_greylist.h */
	DB_GREYLIST_TIMES, /* when it goes, triplet -> nothing */
	DB_COUNT
};

struct names;

/* What is known of the last leaf page of a table that grows at its end. */
struct db_end {
	size_t pages; /* of the table, when the page was begun */
	size_t room;  /* left on it, as far as this program has filled it */
};

/* The slot's text index: see store_text.h. */
struct db_text {
	MDB_env *env; /* NULL: there is none */
	MDB_dbi dbi;
	uint64_t mark;            /* the slot's */
	_Atomic uint32_t damaged; /* a mailbox, or 0 */
};

/* Where the pages of commits lie: see db_place.c. */
struct db_place {
	MDB_txn *keeper; /* NULL: none yet */
	uint64_t end;    /* the last page, when the next turn begins */
	uint64_t rest_until_ms;
	unsigned commits; /* since the last look */
	bool has_turn;
	bool was_many;
};

struct db_slot {
	struct store *store;
	unsigned number;
	MDB_env *env;
	MDB_dbi dbi[DB_COUNT];
	pthread_mutex_t lock; /* over what follows up to `growing` */
	pthread_cond_t calm;
	struct list idle;   /* read transactions to be renewed */
	struct list active; /* in use */
	unsigned active_count;
	bool growing;
	pthread_mutex_t write_lock; /* held by the write transaction; over what follows */
	_Atomic bool is_broken;     /* LMDB wants the environment closed */
	bool want_grow;
	uint64_t complained_ms; /* a full disk is worth one line a second, not one a commit */
	uint64_t next_blob;
	struct db_end ends[DB_COUNT];
	struct db_place place;
	uint32_t held[STORE_HELD_MAX]; /* accounts that take no changes; the first held_count */
	unsigned held_count;
	_Atomic size_t account_count;
	struct db_text text;
};

struct store {
	struct db_slot slots[STORE_SLOTS_MAX];
	unsigned slot_count;
	char *dir;
	int lock_fd;
	bool no_repair;
	_Atomic uint64_t retention_s; /* of what is expunged; 0: none */
	_Atomic uint64_t kept_max;    /* bytes an account; 0: no limit */
	struct names *names;
};

/* What the memory has to learn when the transaction commits. */
enum effect_kind {
	EFFECT_ACCOUNT, /* put: text is the record */
	EFFECT_ACCOUNT_GONE,
	EFFECT_NAME, /* alias */
	EFFECT_NAME_GONE,
	EFFECT_USED,
	EFFECT_DOMAIN, /* put: text is the name, a NUL, the record */
	EFFECT_DOMAIN_GONE,
	EFFECT_CLASS, /* the same */
	EFFECT_CLASS_GONE,
	EFFECT_INBOX_ROOM, /* bytes and count that INBOX can still take */
	EFFECT_ROOT_USED /* a folder's limits: bytes is the percent, count the mailbox, text what was warned of */
};
struct effect {
	enum effect_kind kind;
	uint32_t account;
	uint64_t bytes; /* used */
	uint64_t count;
	char *text; /* owned */
	size_t len;
};

struct db_frame_cache;

/* Where a reader looked last in a table. The cursor outlives the snapshot, what it points to does not. */
struct db_near {
	MDB_cursor *cursor;
	bool is_placed;
};

struct store_txn {
	struct list link; /* readers: in active or idle */
	struct db_slot *slot;
	MDB_txn *txn; /* the innermost */
	bool is_write;
	bool passes_holds; /* what goes is taken away, held or not */
	bool has_waste;
	int error;
	uint64_t writes;
	_Atomic size_t txn_id; /* of a reader's snapshot; 0 while it begins */
	const char *_Atomic name;
	_Atomic uint64_t began_ms;
	struct store_note *notes;
	size_t note_count, note_room;
	struct effect *effects;
	size_t effect_count, effect_room;
	uint64_t *fresh; /* blobs finished here */
	size_t fresh_count, fresh_room;
	struct db_frame_cache *cache; /* of blob reads; lives as long as the reader */
	struct db_near near[DB_COUNT];
};

/* Within a write transaction: changes of this account are held off. */
bool db_is_held(const struct store_txn *txn, uint32_t account);
/* Nothing is left of the account, nor of its hold. */
void db_end_hold(struct store_txn *txn, uint32_t account);
/* LMDB's code as ours. */
int db_error(int rc);
/* The same of a write or commit; remembers what the writer has to do about it. */
int db_write_error(struct db_slot *slot, int rc);
/* One line to the log, at most once a second. Under the write lock. */
void db_complain(struct db_slot *slot, const char *what, int rc);
/* Makes error stick to the transaction; returns it. */
int db_fail(struct store_txn *txn, int error);

/* value_out: a view. ERR_NOT_FOUND. */
MUST_CHECK int db_get(struct store_txn *txn, enum db_name db, struct slice key, struct slice *value_out);
/* The same for rows that are read one after the other: looks first where the reader found the last one. */
MUST_CHECK int db_get_near(struct store_txn *txn, enum db_name db, struct slice key, struct slice *value_out);
/* The snapshot is another one; the reader is gone. */
void db_near_lose(struct store_txn *txn);
void db_near_close(struct store_txn *txn);
/* Writes stick when they fail. */
MUST_CHECK int db_put(struct store_txn *txn, enum db_name db, struct slice key, struct slice value);
/* Room of `size` bytes for the caller to fill at once. */
MUST_CHECK int db_reserve(
	struct store_txn *txn, enum db_name db, struct slice key, size_t size, void **room_out);
/* The largest value, with a key of so many octets, that shares a page with other rows. */
size_t db_value_shared_max(size_t key_len);
/* The largest value that a row behind all others may have and still go onto the last page; an estimate: what it is wrong by is
 * room that stays empty. 0: nothing is known. For DB_BLOBS, DB_PIECES. */
size_t db_room_at_end(struct store_txn *txn, enum db_name db, size_t key_len);
/* Not there: ERR_NOT_FOUND, which does not stick. */
MUST_CHECK int db_delete(struct store_txn *txn, enum db_name db, struct slice key);
/* The same, absence being no error. */
MUST_CHECK int db_drop(struct store_txn *txn, enum db_name db, struct slice key);
MUST_CHECK int db_count(struct store_txn *txn, enum db_name db, uint64_t *count_out);

/* A cursor: open, seek, next, close. Views in key and value until the next move or write. */
struct db_cursor {
	struct store_txn *txn;
	MDB_cursor *cursor;
	struct slice key;
	struct slice value;
};
MUST_CHECK int db_cursor_open(struct store_txn *txn, enum db_name db, struct db_cursor *c);
void db_cursor_close(struct db_cursor *c);
/* The first key not below; ERR_NOT_FOUND at the end. */
MUST_CHECK int db_cursor_seek(struct db_cursor *c, struct slice key);
MUST_CHECK int db_cursor_next(struct db_cursor *c);
/* The greatest key not above. */
MUST_CHECK int db_cursor_floor(struct db_cursor *c, struct slice key);
/* Deletes the present one; db_cursor_next() then goes to the one after it. */
MUST_CHECK int db_cursor_delete(struct db_cursor *c);
bool db_cursor_has_prefix(const struct db_cursor *c, struct slice prefix);

/* Keys of two and three numbers. */
struct db_key {
	char bytes[16];
	size_t len;
};
static inline struct slice db_key_view(const struct db_key *k)
{
	return slice_of(k->bytes, k->len);
}
struct db_key db_key_u32(uint32_t a);
struct db_key db_key_u32_u32(uint32_t a, uint32_t b);
struct db_key db_key_u64(uint64_t a);
struct db_key db_key_u64_u32(uint64_t a, uint32_t b);
struct db_key db_key_u32_u64(uint32_t a, uint64_t b);
struct db_key db_key_u32_u64_u32(uint32_t a, uint64_t b, uint32_t c);

/* Numbers of DB_META. Absent: 0. */
MUST_CHECK int db_meta_get(struct store_txn *txn, const char *name, uint64_t *value_out);
MUST_CHECK int db_meta_put(struct store_txn *txn, const char *name, uint64_t value);
/* Adds one to a counter and gives it. */
MUST_CHECK int db_meta_next(struct store_txn *txn, const char *name, uint32_t *value_out);

void db_note(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t modseq);
/* One for whom an ACL names, in any slot; account 0: anyone. */
void db_note_shared(struct store_txn *txn, unsigned slot, uint32_t account);
/* text is copied; may be empty. */
void db_effect(struct store_txn *txn, const struct effect *effect, struct slice text);

/* Opens and closes one environment. */
MUST_CHECK int db_slot_open(
	struct store *store, unsigned number, const struct store_options *options, struct buf *why);
void db_slot_close(struct db_slot *slot);
