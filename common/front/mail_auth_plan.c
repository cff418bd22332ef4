/*
 * Everything that a field shows by itself is judged in init; what needs a key, in key; what needs arithmetic, in run. A result that
 * is no longer UNKNOWN stays.
 */
#include "common/front/mail_auth_plan.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/crypto/digest.h"

/* ---- keys ---- */

static struct mail_auth_key *need_key(struct mail_auth_plan *plan, const struct dkim_signature *sig)
{
	struct buf name = {0};
	struct mail_auth_key *key = NULL;

	dkim_key_name(sig->selector, sig->domain, &name);
	for (unsigned i = 0; i < plan->key_count && !key; i++)
		if (strcmp(plan->keys[i].name, buf_str_view(&name)) == 0)
			key = &plan->keys[i];
	if (!key && plan->key_count < MAIL_AUTH_KEYS_MOST) {
		key = &plan->keys[plan->key_count];
		key->name = arena_copy_str(&plan->arena, buf_view(&name));
		plan->key_count += key->name != NULL;
		key = key->name ? key : NULL;
	}
	buf_deinit(&name);
	return key;
}

static void no_key(struct mail_auth_key *key, enum smtp_result result, const char *why)
{
	key->result = result;
	key->why = why;
}

/* A record that is a key: takes it, or says why not. */
static void take_record(struct mail_auth_plan *plan, struct mail_auth_key *key, int err)
{
	unsigned bits = 0;

	if (!err)
		err = signature_key_public(
			key->record.algorithm == DKIM_RSA_SHA256 ? SIGNATURE_RSA : SIGNATURE_ED25519,
			key->record.octets, &key->key, &bits);
	else if (err == ERR_DENIED) {
		no_key(key, SMTP_RESULT_PERMERROR, "key revoked");
		return;
	}
	if (!err && key->record.algorithm == DKIM_RSA_SHA256 && bits < plan->rsa_least)
		no_key(key, SMTP_RESULT_POLICY, "RSA key is too short for us");
	else if (!err)
		key->result = SMTP_RESULT_PASS;
	else if (err == ERR_DENIED)
		no_key(key, SMTP_RESULT_PERMERROR,
			bits < SIGNATURE_RSA_LEAST ? "RSA key is too short" : "RSA key is too long");
	else
		no_key(key, SMTP_RESULT_PERMERROR,
			err == ERR_UNSUPPORTED ? "key is for something else" : "key is malformed");
}

void mail_auth_plan_key(
	struct mail_auth_plan *plan, unsigned i, int error, const struct slice *texts, unsigned count)
{
	struct mail_auth_key *key = &plan->keys[i];
	int err = ERR_NOT_FOUND;

	if (error && error != ERR_NOT_FOUND) {
		no_key(key, SMTP_RESULT_TEMPERROR, "key cannot be asked for now");
		return;
	}
	/* The first that is a key record at all: what several of them mean is undefined (RFC 6376 section 3.6.2.2). */
	for (unsigned k = 0; !error && k < count && err == ERR_NOT_FOUND; k++)
		err = dkim_key_parse(&plan->arena, texts[k], &key->record);
	if (err == ERR_NOT_FOUND)
		no_key(key, SMTP_RESULT_PERMERROR, "no key for signature");
	else
		take_record(plan, key, err);
}

/* ---- signatures ---- */

static void judge(struct mail_auth_signature *s, enum smtp_result result, const char *why)
{
	if (s->result != SMTP_RESULT_UNKNOWN)
		return;
	s->result = result;
	s->why = why;
}

static void add_signature(struct mail_auth_plan *plan, const struct header_field *field)
{
	struct mail_auth_signature *s = &plan->signatures[plan->signature_count++];
	const char *why = NULL;

	s->field = field;
	if (dkim_signature_parse(&plan->arena, field->value, DKIM_FIELD_SIGNATURE, &s->sig, &why) != 0) {
		judge(s, SMTP_RESULT_PERMERROR, why);
		return;
	}
	why = dkim_signature_is_out_of_time(&s->sig, plan->now);
	if (why)
		judge(s, SMTP_RESULT_POLICY, why);
	if (s->result == SMTP_RESULT_UNKNOWN)
		s->key = need_key(plan, &s->sig);
	if (s->result == SMTP_RESULT_UNKNOWN && !s->key)
		judge(s, SMTP_RESULT_TEMPERROR, "out of memory for keys");
}

/* Is this the author's own signature, as far as d= shows? Then it decides about DMARC, and comes first. */
static bool is_of_author(struct mail_auth_plan *plan, const struct header_field *field)
{
	struct dkim_signature sig;
	int err = dkim_signature_parse(&plan->arena, field->value, DKIM_FIELD_SIGNATURE, &sig, NULL);

	return !err && plan->author_domain.len &&
	       (dkim_signature_is_under(sig.domain, plan->author_domain) ||
		       dkim_signature_is_under(plan->author_domain, sig.domain));
}

static void find_signatures(struct mail_auth_plan *plan)
{
	size_t count = dkim_fields_count(&plan->fields, "DKIM-Signature");
	bool must_choose = count > MAIL_AUTH_SIGNATURES_MOST;

	for (int round = must_choose ? 0 : 1; round < 2; round++)
		for (size_t i = 0; i < plan->fields.count; i++) {
			const struct header_field *f = &plan->fields.list[i];

			if (plan->signature_count == MAIL_AUTH_SIGNATURES_MOST ||
				!slice_is_str_nocase(f->name, "DKIM-Signature"))
				continue;
			if (!must_choose || is_of_author(plan, f) == (round == 0))
				add_signature(plan, f);
		}
	plan->left_out = (unsigned)count - plan->signature_count;
}

/* ---- chains ---- */

static void judge_chain(struct mail_auth_chain *arc, enum smtp_result result, const char *why)
{
	if (arc->result != SMTP_RESULT_UNKNOWN)
		return;
	arc->result = result;
	arc->why = why;
}

static void find_chain(struct mail_auth_plan *plan)
{
	struct mail_auth_chain *arc = plan->arc;
	const char *why = NULL;
	const struct dkim_signature *ams;
	int err = arc_gather(&plan->arena, &plan->fields, &arc->chain, &why);

	if (arc->chain.count)
		arc->domain = arc->chain.sets[arc->chain.count - 1].seal_signature.domain;
	if (err) {
		judge_chain(arc, SMTP_RESULT_FAIL, why);
		return;
	}
	if (arc->chain.count == 0) {
		judge_chain(arc, SMTP_RESULT_NONE, NULL);
		return;
	}
	ams = &arc->chain.sets[arc->chain.count - 1].message_signature;
	why = dkim_signature_is_out_of_time(ams, plan->now);
	if (why)
		judge_chain(arc, SMTP_RESULT_FAIL, why);
	arc->message_key = need_key(plan, ams);
	for (unsigned i = 0; i < arc->chain.count; i++)
		arc->seal_keys[i] = need_key(plan, &arc->chain.sets[i].seal_signature);
}

/* ---- the plan ---- */

void mail_auth_plan_init(struct mail_auth_plan *plan, const struct mail_auth_wants *wants,
	struct slice header, const struct spool *spool, uint64_t body_at)
{
	memset(plan, 0, sizeof(*plan));
	arena_init(&plan->arena, MAIL_AUTH_PLAN_MOST);
	mail_auth_body_init(&plan->body, spool, body_at);
	plan->now = wants->now;
	plan->rsa_least = wants->rsa_least;
	plan->wants_dkim = wants->dkim;
	plan->author = DMARC_AUTHOR_MALFORMED;
	plan->keys = arena_calloc(&plan->arena, MAIL_AUTH_KEYS_MOST, sizeof(*plan->keys));
	plan->signatures = arena_calloc(&plan->arena, MAIL_AUTH_SIGNATURES_MOST, sizeof(*plan->signatures));
	if (wants->arc)
		plan->arc = arena_calloc(&plan->arena, 1, sizeof(*plan->arc));
	require(plan->keys && plan->signatures && (!wants->arc || plan->arc));
	if (header.len <= DKIM_HEADER_MOST)
		plan->header = arena_copy(&plan->arena, header);
	if (!plan->header.p || dkim_fields_index(&plan->arena, plan->header, &plan->fields) != 0) {
		plan->why_not = "the header is too long";
		if (plan->arc)
			judge_chain(plan->arc, SMTP_RESULT_FAIL, plan->why_not);
		return;
	}
	plan->author = dmarc_author_domain(&plan->arena, &plan->fields, &plan->author_domain);
	if (wants->dkim)
		find_signatures(plan);
	if (wants->arc)
		find_chain(plan);
}

void mail_auth_plan_deinit(struct mail_auth_plan *plan)
{
	for (unsigned i = 0; i < plan->key_count; i++)
		signature_key_unref(&plan->keys[i].key);
	mail_auth_body_deinit(&plan->body);
	arena_deinit(&plan->arena);
}

uint64_t mail_auth_plan_cost(const struct mail_auth_plan *plan)
{
	uint64_t rounds = plan->signature_count;

	if (plan->arc)
		rounds += 1 + (uint64_t)plan->arc->chain.count * plan->arc->chain.count / 2;
	return mail_auth_body_len(&plan->body) + rounds * plan->header.len;
}

/* ---- arithmetic ---- */

static void hash_piece(void *digest, struct slice piece)
{
	digest_add(digest, piece);
}

void mail_auth_plan_digest(struct dkim_fields *fields, struct slice names, bool is_relaxed,
	const struct header_field *own, uint8_t digest_out[DKIM_HASH_LEN])
{
	struct digest *d = digest_new(DIGEST_SHA256);

	dkim_fields_give(fields, names, is_relaxed, own, hash_piece, d);
	dkim_canon_signature(own->raw, is_relaxed, hash_piece, d);
	digest_finish(d, digest_out);
	digest_free(&d);
}

/* NULL: good; else what failed. */
static const char *verify_covered(struct mail_auth_plan *plan, const struct dkim_signature *sig,
	const struct header_field *field, const struct mail_auth_key *key)
{
	uint8_t digest[DKIM_HASH_LEN];

	if (memcmp(plan->body.hash[sig->is_body_relaxed], sig->body_hash, DKIM_HASH_LEN) != 0)
		return sig->has_length ? "body hash did not verify; l= is not obeyed"
				       : "body hash did not verify";
	mail_auth_plan_digest(&plan->fields, sig->fields, sig->is_header_relaxed, field, digest);
	return signature_verify(key->key, digest, sig->b) == 0 ? NULL : "signature did not verify";
}

static void run_signature(struct mail_auth_plan *plan, struct mail_auth_signature *s)
{
	const char *why;

	if (s->result != SMTP_RESULT_UNKNOWN)
		return;
	if (s->key->result != SMTP_RESULT_PASS) {
		judge(s, s->key->result, s->key->why);
		return;
	}
	why = dkim_key_refuses(&s->key->record, &s->sig);
	if (why) {
		judge(s, SMTP_RESULT_PERMERROR, why);
		return;
	}
	why = verify_covered(plan, &s->sig, s->field, s->key);
	/* RFC 6376 section 3.6.1, t=y: a failure while testing means no more than no signature. */
	judge(s,
		!why                        ? SMTP_RESULT_PASS
		: s->key->record.is_testing ? SMTP_RESULT_NEUTRAL
					    : SMTP_RESULT_FAIL,
		why);
}

static const char *key_fault(const struct mail_auth_key *key, const struct dkim_signature *sig)
{
	if (!key)
		return "too many keys";
	if (key->result != SMTP_RESULT_PASS)
		return key->why;
	return key->record.algorithm != sig->algorithm ? "key is of another algorithm" : NULL;
}

static const char *verify_seal(const struct mail_auth_chain *arc, unsigned instance)
{
	const struct dkim_signature *sig = &arc->chain.sets[instance - 1].seal_signature;
	const struct mail_auth_key *key = arc->seal_keys[instance - 1];
	const char *why = key_fault(key, sig);
	struct digest *d;
	uint8_t digest[DKIM_HASH_LEN];

	if (why)
		return why;
	d = digest_new(DIGEST_SHA256);
	arc_give_seal(&arc->chain, 1, instance, hash_piece, d);
	digest_finish(d, digest);
	digest_free(&d);
	return signature_verify(key->key, digest, sig->b) == 0 ? NULL : "a seal did not verify";
}

/* RFC 8617 section 5.2, steps 4 and 6. */
static void run_chain(struct mail_auth_plan *plan)
{
	struct mail_auth_chain *arc = plan->arc;
	const struct arc_set *newest;
	const char *why;

	if (!arc || arc->result != SMTP_RESULT_UNKNOWN)
		return;
	newest = &arc->chain.sets[arc->chain.count - 1];
	why = key_fault(arc->message_key, &newest->message_signature);
	if (!why)
		why = verify_covered(plan, &newest->message_signature, newest->message, arc->message_key);
	for (unsigned i = arc->chain.count; !why && i >= 1; i--)
		why = verify_seal(arc, i);
	judge_chain(arc, why ? SMTP_RESULT_FAIL : SMTP_RESULT_PASS, why);
}

/* The forms of the body for which there is still something to be found out. */
static void want_hashes(struct mail_auth_plan *plan)
{
	const struct mail_auth_chain *arc = plan->arc;

	for (unsigned i = 0; i < plan->signature_count; i++) {
		const struct mail_auth_signature *s = &plan->signatures[i];

		if (s->result == SMTP_RESULT_UNKNOWN && s->key->result == SMTP_RESULT_PASS)
			plan->body.is_wanted[s->sig.is_body_relaxed] = true;
	}
	if (arc && arc->result == SMTP_RESULT_UNKNOWN && arc->message_key &&
		arc->message_key->result == SMTP_RESULT_PASS)
		plan->body
			.is_wanted[arc->chain.sets[arc->chain.count - 1].message_signature.is_body_relaxed] =
			true;
}

int mail_auth_plan_run(struct mail_auth_plan *plan)
{
	int err;

	want_hashes(plan);
	err = mail_auth_body_run(&plan->body);

	for (unsigned i = 0; i < plan->signature_count; i++) {
		if (err)
			judge(&plan->signatures[i], SMTP_RESULT_TEMPERROR, "the message cannot be read now");
		run_signature(plan, &plan->signatures[i]);
	}
	if (err && plan->arc)
		judge_chain(plan->arc, SMTP_RESULT_FAIL, "the message cannot be read now");
	run_chain(plan);
	return err;
}
