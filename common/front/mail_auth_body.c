/*
 * A piece is copied under the lock and hashed outside of it: whoever cuts waits for a copy and never for a hash.
 */
#include "common/front/mail_auth_body.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/crypto/digest.h"
#include "common/proto/dkim_canon.h"

void mail_auth_body_init(struct mail_auth_body *body, const struct spool *spool, uint64_t at)
{
	memset(body, 0, sizeof(*body));
	pthread_mutex_init(&body->lock, NULL);
	body->spool = spool;
	body->at = at;
}

void mail_auth_body_deinit(struct mail_auth_body *body)
{
	pthread_mutex_destroy(&body->lock);
}

void mail_auth_body_cut(struct mail_auth_body *body)
{
	pthread_mutex_lock(&body->lock);
	body->spool = NULL;
	pthread_mutex_unlock(&body->lock);
}

uint64_t mail_auth_body_len(const struct mail_auth_body *body)
{
	return body->spool && spool_len(body->spool) > body->at ? spool_len(body->spool) - body->at : 0;
}

static void hash_piece(void *digest, struct slice piece)
{
	digest_add(digest, piece);
}

static ssize_t read_piece(struct mail_auth_body *body, uint64_t at, char *piece)
{
	ssize_t n;

	pthread_mutex_lock(&body->lock);
	n = body->spool ? spool_read(body->spool, at, piece, MAIL_AUTH_PIECE) : ERR_CANCELLED;
	pthread_mutex_unlock(&body->lock);
	return n;
}

int mail_auth_body_run(struct mail_auth_body *body)
{
	struct digest *digests[MAIL_AUTH_FORMS] = {NULL};
	struct dkim_body canons[MAIL_AUTH_FORMS];
	char *piece;
	uint64_t at = body->at;
	ssize_t n;

	if (!body->is_wanted[MAIL_AUTH_SIMPLE] && !body->is_wanted[MAIL_AUTH_RELAXED])
		return 0;
	piece = xmalloc(MAIL_AUTH_PIECE);
	for (unsigned f = 0; f < MAIL_AUTH_FORMS; f++) {
		if (!body->is_wanted[f])
			continue;
		digests[f] = digest_new(DIGEST_SHA256);
		dkim_canon_body_init(&canons[f], f == MAIL_AUTH_RELAXED, hash_piece, digests[f]);
		canons[f].is_mended = body->is_mended;
	}
	while ((n = read_piece(body, at, piece)) > 0) {
		for (unsigned f = 0; f < MAIL_AUTH_FORMS; f++)
			if (digests[f])
				dkim_canon_body(&canons[f], slice_of(piece, (size_t)n));
		at += (uint64_t)n;
	}
	for (unsigned f = 0; f < MAIL_AUTH_FORMS; f++) {
		if (!digests[f])
			continue;
		dkim_canon_body_end(&canons[f]);
		digest_finish(digests[f], body->hash[f]);
		digest_free(&digests[f]);
	}
	free(piece);
	return (int)n;
}
