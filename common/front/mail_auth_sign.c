/*
 * A field is written up to "b=", hashed as it stands there, and completed: what a verifier hashes is the same text with the value
 * of b= left out.
 */
#include "common/front/mail_auth_sign.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/crypto/digest.h"

#define FIELDS_TEXT_MOST 16384
#define RESULTS_MOST 8192

static void hash_piece(void *digest, struct slice piece)
{
	digest_add(digest, piece);
}

static void init(struct mail_auth_sign *job, struct mail_auth_keys *keys, struct slice header,
	const struct spool *spool, uint64_t body_at, int64_t now)
{
	struct slice copy = {0};

	memset(job, 0, sizeof(*job));
	arena_init(&job->arena, 4 * DKIM_HEADER_MOST);
	mail_auth_body_init(&job->body, spool, body_at);
	job->body.is_mended = true;
	job->keys = mail_auth_keys_ref(keys);
	job->now = now;
	if (header.len <= DKIM_HEADER_MOST)
		copy = arena_copy(&job->arena, header);
	if (!copy.p || dkim_fields_index(&job->arena, copy, &job->fields) != 0)
		job->why_not = "the header is too long";
}

void mail_auth_sign_init(struct mail_auth_sign *job, struct mail_auth_keys *keys, struct slice header,
	const struct spool *spool, uint64_t body_at, int64_t now)
{
	struct slice domain;

	init(job, keys, header, spool, body_at, now);
	if (job->why_not)
		return;
	if (dmarc_author_domain(&job->arena, &job->fields, &domain) != DMARC_AUTHOR_ONE) {
		job->why_not = "there is not one author's domain";
		return;
	}
	job->choice_count = mail_auth_keys_find(keys, domain, now, job->choices);
	if (!job->choice_count)
		job->why_not = "no key for the author's domain";
	for (unsigned i = 0; i < job->choice_count; i++)
		job->body.is_wanted[job->choices[i].key->is_body_relaxed] = true;
}

static bool has_signed(struct mail_auth_sign *job, const struct mail_auth_choice *choice)
{
	for (size_t i = 0; i < job->fields.count; i++) {
		const struct header_field *f = &job->fields.list[i];
		struct dkim_signature sig;

		if (slice_is_str_nocase(f->name, "DKIM-Signature") &&
			dkim_signature_parse(&job->arena, f->value, DKIM_FIELD_SIGNATURE, &sig, NULL) == 0 &&
			slice_is_equal(sig.domain, choice->domain) &&
			slice_is_equal(sig.selector, choice->key->selector))
			return true;
	}
	return false;
}

void mail_auth_sign_only_new(struct mail_auth_sign *job)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < job->choice_count; i++)
		if (!has_signed(job, &job->choices[i]))
			job->choices[kept++] = job->choices[i];
	if (job->choice_count && !kept)
		job->why_not = "a proxy has signed it";
	job->choice_count = kept;
}

void mail_auth_sign_seal(struct mail_auth_sign *job, struct mail_auth_keys *keys, struct slice header,
	const struct spool *spool, uint64_t body_at, struct slice results, enum dkim_chain verdict,
	int64_t now)
{
	init(job, keys, header, spool, body_at, now);
	job->verdict = verdict;
	job->chain = arena_calloc(&job->arena, 1, sizeof(*job->chain));
	job->results = arena_copy(&job->arena, slice_sub(results, 0, RESULTS_MOST));
	if (!job->why_not && (!job->chain || !job->results.p))
		job->why_not = "the header is too long";
	if (job->why_not)
		return;
	/* A chain that is broken is one that failed: verdict says so. */
	if (arc_gather(&job->arena, &job->fields, job->chain, NULL) != 0 && verdict == DKIM_CHAIN_PASS)
		job->verdict = DKIM_CHAIN_FAIL;
	if (job->chain->is_marked_failed)
		job->why_not = "the chain failed before";
	else if (job->chain->count >= ARC_SETS_MOST)
		job->why_not = "the chain is full";
	if (job->why_not)
		return;
	job->choice_count = mail_auth_keys_find(keys, keys->seal_domain, now, job->choices);
	if (!job->choice_count)
		job->why_not = "no key is in force";
	else if (job->choice_count > 1) /* one set has one algorithm; RSA is what everybody reads */
		job->choice_count = 1;
	job->body.is_wanted[MAIL_AUTH_RELAXED] = job->choice_count > 0;
}

void mail_auth_sign_deinit(struct mail_auth_sign *job)
{
	mail_auth_keys_unref(&job->keys);
	mail_auth_body_deinit(&job->body);
	arena_deinit(&job->arena);
}

uint64_t mail_auth_sign_cost(const struct mail_auth_sign *job)
{
	return mail_auth_body_len(&job->body);
}

static enum dkim_algorithm algorithm_of(const struct mail_auth_choice *choice)
{
	return signature_key_kind(choice->key->key) == SIGNATURE_RSA ? DKIM_RSA_SHA256 : DKIM_ED25519_SHA256;
}

/* Signs the digest into text, which ends with "b=". */
static int complete(const struct mail_auth_choice *choice, const uint8_t *digest, struct buf *text)
{
	struct buf signature = {0};
	int err = signature_sign(choice->key->key, digest, &signature);

	if (!err)
		dkim_signature_write_b(buf_view(&signature), text);
	buf_deinit(&signature);
	return err;
}

/* A finished field becomes one of those made: name and value are copied. */
static int keep(struct mail_auth_sign *job, struct slice text)
{
	ptrdiff_t colon = slice_find(text, ':');
	struct slice copy = arena_copy(&job->arena, text);

	if (!copy.p || colon < 0 || job->count == MAIL_AUTH_SIGN_FIELDS)
		return ERR_TOO_BIG;
	job->made[job->count].name = slice_sub(copy, 0, (size_t)colon);
	job->made[job->count].value = slice_from(copy, (size_t)colon + 2);
	job->count++;
	return 0;
}

/* DKIM-Signature or ARC-Message-Signature into text. */
static int write_covered(struct mail_auth_sign *job, const struct mail_auth_choice *choice,
	struct dkim_draft *draft, struct buf *text)
{
	struct buf names;
	struct digest *d = digest_new(DIGEST_SHA256);
	uint8_t digest[DKIM_HASH_LEN];
	int err;

	buf_init(&names, FIELDS_TEXT_MOST);
	dkim_fields_write(&job->fields, draft->field == DKIM_FIELD_AMS, &names);
	draft->fields = buf_view(&names);
	draft->body_hash = job->body.hash[draft->is_body_relaxed];
	dkim_signature_write(draft, text);
	dkim_fields_give(&job->fields, buf_view(&names), draft->is_header_relaxed, NULL, hash_piece, d);
	dkim_canon_signature(buf_view(text), draft->is_header_relaxed, hash_piece, d);
	digest_finish(d, digest);
	digest_free(&d);
	err = names.failed ? ERR_TOO_BIG : complete(choice, digest, text);
	buf_deinit(&names);
	return err;
}

static struct dkim_draft draft_of(
	const struct mail_auth_sign *job, const struct mail_auth_choice *choice, enum dkim_field field)
{
	return (struct dkim_draft){.field = field,
		.algorithm = algorithm_of(choice),
		.is_header_relaxed = true,
		.is_body_relaxed = true,
		.domain = choice->domain,
		.selector = choice->key->selector,
		.made = (uint64_t)job->now};
}

static int sign(struct mail_auth_sign *job)
{
	int err = 0;

	for (unsigned i = job->choice_count; !err && i-- > 0;) {
		const struct mail_auth_choice *choice = &job->choices[i];
		struct dkim_draft draft = draft_of(job, choice, DKIM_FIELD_SIGNATURE);
		struct buf text = {0};

		draft.is_header_relaxed = choice->key->is_header_relaxed;
		draft.is_body_relaxed = choice->key->is_body_relaxed;
		err = write_covered(job, choice, &draft, &text);
		if (!err)
			err = keep(job, buf_view(&text));
		buf_deinit(&text);
	}
	return err;
}

static int seal(struct mail_auth_sign *job)
{
	const struct mail_auth_choice *choice = &job->choices[0];
	unsigned instance = job->chain->count + 1;
	struct dkim_draft ams = draft_of(job, choice, DKIM_FIELD_AMS);
	struct dkim_draft as = draft_of(job, choice, DKIM_FIELD_SEAL);
	struct buf results = {0}, message = {0}, seal_text = {0};
	struct header_field fields[3] = {0};
	struct arc_set *set = &job->chain->sets[instance - 1];
	struct digest *d;
	uint8_t digest[DKIM_HASH_LEN];
	int err;

	ams.instance = as.instance = instance;
	as.chain = job->verdict;
	buf_printf(&results, "ARC-Authentication-Results: i=%u; %.*s", instance, SLICE_ARG(job->results));
	err = write_covered(job, choice, &ams, &message);
	dkim_signature_write(&as, &seal_text);
	fields[0].raw = buf_view(&results);
	fields[1].raw = buf_view(&message);
	fields[2].raw = buf_view(&seal_text);
	*set = (struct arc_set){.results = &fields[0], .message = &fields[1], .seal = &fields[2]};
	d = digest_new(DIGEST_SHA256);
	arc_give_seal(job->chain, as.chain == DKIM_CHAIN_FAIL ? instance : 1, instance, hash_piece, d);
	digest_finish(d, digest);
	digest_free(&d);
	if (!err)
		err = complete(choice, digest, &seal_text);
	if (!err)
		err = keep(job, buf_view(&results));
	if (!err)
		err = keep(job, buf_view(&message));
	if (!err)
		err = keep(job, buf_view(&seal_text));
	*set = (struct arc_set){0};
	buf_deinit(&results);
	buf_deinit(&message);
	buf_deinit(&seal_text);
	return err;
}

int mail_auth_sign_run(struct mail_auth_sign *job)
{
	int err;

	if (!job->choice_count)
		return 0;
	err = mail_auth_body_run(&job->body);
	if (!err)
		err = job->chain ? seal(job) : sign(job);
	if (err)
		job->count = 0;
	return err;
}
