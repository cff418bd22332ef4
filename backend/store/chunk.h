/*
 * Private: the index of a mailbox, in chunks of up to CHUNK_ENTRIES messages.
 *
 *	key    mailbox u32be | a UID not above its first u32be
 *	value  1 u8 | 0 u8 | n u16 | unseen u16 | deleted u16 | highest modseq u64 |
 *	       uid u32 [n] | size u32 [n] | modseq u64 [n] | date i64 [n] | keywords u64 [n] | flags u8 [n]
 *
 * A structure of arrays: SELECT reads the first array of those with gaps, FETCH FLAGS a few. A full
 * chunk is the most that fills one LMDB overflow page; up to 60 entries live in the leaf itself.
 */
#pragma once

#include "backend/store/db.h"
#include "backend/store/store_message.h"

#define CHUNK_HEAD 16
#define CHUNK_ENTRY 33
#define CHUNK_ENTRIES 123
#define CHUNK_BYTES (CHUNK_HEAD + CHUNK_ENTRIES * CHUNK_ENTRY)

/* A chunk unpacked for change. */
struct chunk {
	uint32_t mailbox;
	uint32_t key_uid;
	uint32_t count;
	struct store_entry entries[CHUNK_ENTRIES];
};

/* Checks the value and gives its number of entries. */
MUST_CHECK int chunk_count(struct slice value, uint32_t *count_out);
/* Entry i of a checked value with count entries. */
void chunk_entry(const char *value, uint32_t count, uint32_t i, struct store_entry *entry_out);
static inline uint32_t chunk_uid(const char *value, uint32_t i)
{
	return bytes_get_u32(value + CHUNK_HEAD + (size_t)i * 4);
}
static inline uint8_t chunk_flags(const char *value, uint32_t count, uint32_t i)
{
	return (uint8_t)value[CHUNK_HEAD + (size_t)count * 32 + i];
}
static inline uint32_t chunk_unseen(const char *value)
{
	return bytes_get_u16(value + 4);
}
static inline uint32_t chunk_deleted(const char *value)
{
	return bytes_get_u16(value + 6);
}
/* Position of the first entry with at least this uid; count when there is none. */
uint32_t chunk_find(const char *value, uint32_t count, uint32_t uid);

/* The chunk in which uid lies or would lie; ERR_NOT_FOUND: before the first chunk or in an empty mailbox. */
MUST_CHECK int chunk_seek(struct db_cursor *c, uint32_t mailbox, uint32_t uid);
MUST_CHECK int chunk_unpack(const struct db_cursor *c, struct chunk *chunk_out);
/* Writes it back; an empty one is deleted, a small one joined with the next. */
MUST_CHECK int chunk_store(struct store_txn *txn, struct chunk *chunk);
/* Adds entries, in their order, behind all others of the mailbox. */
MUST_CHECK int chunk_append(
	struct store_txn *txn, uint32_t mailbox, const struct store_entry *entries, size_t count);
