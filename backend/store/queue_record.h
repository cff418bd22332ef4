/* Private: the rows of the queue on disk, and what check and repair need of them. */
#pragma once

#include "backend/store/db.h"
#include "backend/store/store_queue.h"

void queue_record_pack_message(const struct store_queue_message *m, struct buf *out);
/* Without the id, which is the key's. ERR_CORRUPT. */
MUST_CHECK int queue_record_unpack_message(struct slice value, struct store_queue_message *m_out);
void queue_record_pack_recipient(const struct store_queue_recipient *r, struct buf *out);
/* Without message and number. ERR_CORRUPT. */
MUST_CHECK int queue_record_unpack_recipient(struct slice value, struct store_queue_recipient *r_out);

/* Keys of the two indexes. */
#define QUEUE_RECORD_PLACE 20
struct queue_record_key {
	char bytes[STORE_QUEUE_DESTINATION_MAX + 1 + QUEUE_RECORD_PLACE];
	size_t len;
};
struct queue_record_key queue_record_due(const struct store_queue_place *place);
/* The destination, a NUL, the place. */
struct queue_record_key queue_record_of(struct slice destination, const struct store_queue_place *place);
/* From the last octets of a key. False: it is too short. */
bool queue_record_place(struct slice key, struct store_queue_place *place_out);
