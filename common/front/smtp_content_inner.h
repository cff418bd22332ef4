/* The inside of smtp_content, for its two files: smtp_content.c (life, stages, the way to the tier) and smtp_content_edit.c. */
#pragma once

#include "common/base/arena.h"
#include "common/crypto/digest.h"
#include "common/front/smtp_content.h"

enum smtp_content_phase {
	SMTP_CONTENT_RECEIVES,
	SMTP_CONTENT_STAGES,
	SMTP_CONTENT_MAIL,    /* the tier is told the new MAIL */
	SMTP_CONTENT_RCPT,    /* ... and recipients */
	SMTP_CONTENT_DATA,    /* the tier's answer to the beginning of the body */
	SMTP_CONTENT_STREAMS, /* the body goes to the tier */
	SMTP_CONTENT_SENT,    /* the tier has all of it */
	SMTP_CONTENT_OVER     /* answered by us, or cancelled */
};

struct smtp_content_recipient {
	struct smtp_rcpt rcpt; /* texts in one heap block, `text` */
	char *text;
	const char *route; /* smtp_wish: view of the policy */
	unsigned index;    /* the tier's number of it */
	bool is_accepted;
	bool is_added;   /* by a stage, not told to the tier yet */
	bool is_removed; /* by a stage */
};

struct smtp_content {
	struct smtp_front *front;
	struct smtp_policy *policy; /* counted */
	enum smtp_content_phase phase;
	bool is_deferred; /* go_on() will be called at the turn's end, and frees what is over */
	bool is_freed;

	/* as it came */
	struct spool *spool;
	struct digest *digest;
	uint8_t client_digest[DIGEST_SHA256_LEN];
	struct buf header;
	size_t body_at; /* of the spool; 0 while the header is not whole */
	bool is_header_whole, has_empty_line;
	struct smtp_mail mail;
	char *mail_text;   /* its texts: one heap block */
	char *sender_text; /* of the path, where a stage has changed it */

	/* as edited */
	struct header_field *fields; /* views of header, or of texts */
	size_t field_count, field_room;
	struct arena texts; /* limit SMTP_CONTENT_EDITED_MOST */
	unsigned edits;
	uint64_t prefix; /* octets that were put before the first of the client's */
	bool is_edited;  /* more than that was changed */
	struct spool *body;
	struct smtp_content_recipient *recipients;
	size_t recipient_count, recipient_room, added;
	bool is_envelope_new; /* sender changed or a recipient away: the transaction is made anew */
	char *hold;

	/* stages */
	uint64_t began_ms; /* the beginning of the body */
	unsigned stage;
	bool is_in_stage, is_running;
	void *own;

	/* the way to the tier */
	bool is_held;
	unsigned answers_due;
	size_t next_field;
	uint64_t next_octet;
};

/* Splits the header into fields, once it is whole. ERR_TOO_BIG. */
MUST_CHECK int smtp_content_split(struct smtp_content *c);
/* Before the client's first field, behind i of ours. */
MUST_CHECK int smtp_content_insert_first(
	struct smtp_content *c, size_t i, struct slice name, struct slice value);
/* Copies texts to one heap block, each with a NUL; the slices point into it. */
char *smtp_content_copy_texts(struct slice *const *texts, size_t count);
/* local@domain on the wire to a path with texts of its own. ERR_SYNTAX. */
MUST_CHECK int smtp_content_parse_path(struct slice address, struct smtp_path *path_out, char **text_out);
struct smtp_content_recipient *smtp_content_new_recipient(struct smtp_content *c);
