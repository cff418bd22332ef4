/*
 * What SORT (RFC 5256, 5957), THREAD, PREVIEW and THREADID compare and show of a message, computed once when it
 * is stored: texts folded as RFC 5051 compares them, message ids as 64-bit numbers. Pure; any thread.
 */
#pragma once

#include "common/proto/mime.h"

/* Bytes kept of each text: beyond them two texts count as equal. */
#define MAIL_KEYS_TEXT_MAX 1000
/* References kept of a message: the first, and the last of the others. */
#define MAIL_KEYS_REFERENCES_MAX 200

enum mail_key {
	MAIL_KEY_SUBJECT, /* base subject */
	MAIL_KEY_FROM,    /* addr-mailbox of the first address */
	MAIL_KEY_TO,
	MAIL_KEY_CC,
	MAIL_KEY_DISPLAY_FROM, /* its display name, else its address */
	MAIL_KEY_DISPLAY_TO
};
#define MAIL_KEYS (MAIL_KEY_DISPLAY_TO + 1)

/* Views of what was unpacked. */
struct mail_keys {
	bool has_date;
	bool is_reply; /* the subject says that it is a reply or forward */
	int64_t sent;  /* of Date, UTC */
	uint64_t id;   /* of Message-ID; 0: none */
	size_t reference_count;
	const char *references; /* mail_keys_reference() */
	struct slice texts[MAIL_KEYS];
	struct slice preview;
};
uint64_t mail_keys_reference(const struct mail_keys *keys, size_t i);

/* Packs those of a message; preview: from preview_write(), or empty. The arena serves for the time of the call.
 * ERR_TOO_BIG: arena full. */
MUST_CHECK int mail_keys_pack(
	const struct envelope *e, struct slice preview, struct arena *arena, struct buf *out);
/* ERR_CORRUPT. */
MUST_CHECK int mail_keys_unpack(struct slice packed, struct mail_keys *keys_out);
