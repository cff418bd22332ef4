/*
 * The answer is put together first, a row for each key and domain; with --check the DNS is asked for all of them at once, and the rows go
 * out when the last answer is there.
 */
#include "common/front/mail_auth_verbs.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/front/mail_auth_keys.h"
#include "common/net/dns.h"
#include "common/proto/dkim_key.h"

#define ASKED_MOST 500 /* domains and keys of one listing with --check */
#define CHECK_MS 5000

struct row {
	struct listing *listing;
	const struct mail_auth_signing_key *key;
	struct slice domain;
	struct buf name, record;
	const char *published; /* NULL: not asked */
	struct dns_request *request;
};

struct listing {
	struct control_request *request;
	struct mail_auth_keys *keys;
	struct row *rows;
	size_t count;
	unsigned pending;
};

static const char *state_of(const struct listing *l, const struct row *row)
{
	struct mail_auth_choice choices[MAIL_AUTH_KEYS_SIGN];
	int64_t now = clock_wall_s();
	unsigned count = mail_auth_keys_find(l->keys, row->domain, now, choices);

	if (row->key->from > now)
		return "later";
	for (unsigned i = 0; i < count; i++)
		if (choices[i].key == row->key)
			return "signs";
	return "replaced";
}

static void end(struct listing *l)
{
	struct control_request *r = l->request;

	for (size_t i = 0; i < l->count; i++) {
		struct row *row = &l->rows[i];

		control_row(r);
		control_add_slice(r, "domain", row->domain);
		control_add_slice(r, "selector", row->key->selector);
		control_add_str(r, "key", row->key->title);
		control_add_str(r, "algorithm",
			signature_key_kind(row->key->key) == SIGNATURE_RSA ? "rsa" : "ed25519");
		control_add_int(r, "bits", signature_key_bits(row->key->key));
		control_add_str(r, "state", state_of(l, row));
		if (row->published)
			control_add_str(r, "published", row->published);
		control_add_str(r, "name", buf_str_view(&row->name));
		control_add_str(r, "record", buf_str_view(&row->record));
		buf_deinit(&row->name);
		buf_deinit(&row->record);
	}
	control_result(r);
	control_add_int(r, "keys", (int64_t)l->count);
	control_done(r);
	mail_auth_keys_unref(&l->keys);
	free(l->rows);
	free(l);
}

/* Is there a key record with the same octets? */
static const char *compare(const struct row *row, const struct dns_answer *answer)
{
	const char *found = "no";
	struct dkim_key key, ours;
	struct arena arena;

	if (answer->error)
		return answer->error == ERR_NOT_FOUND ? "no" : "cannot say now";
	arena_init(&arena, 0);
	if (dkim_key_parse(&arena, slice_of(row->record.data, buf_len(&row->record)), &ours) == 0)
		for (unsigned i = 0; i < answer->count; i++) {
			int err = answer->records[i].type == DNS_TXT
					  ? dkim_key_parse(&arena, answer->records[i].text, &key)
					  : ERR_NOT_FOUND;

			if (err == ERR_DENIED)
				found = "revoked";
			else if (err != ERR_NOT_FOUND && (err || !slice_is_equal(key.octets, ours.octets)))
				found = "another key";
			else if (!err) {
				found = "yes";
				break;
			}
		}
	arena_deinit(&arena);
	return found;
}

static void on_answer(void *arg, const struct dns_answer *answer)
{
	struct row *row = arg;
	struct listing *l = row->listing;

	row->request = NULL;
	row->published = compare(row, answer);
	if (--l->pending == 0)
		end(l);
}

static void check(struct listing *l)
{
	struct loop *loop = control_request_loop(l->request);

	l->pending = 1;
	for (size_t i = 0; i < l->count; i++) {
		struct row *row = &l->rows[i];

		row->published = "cannot say now";
		if (i < ASKED_MOST && dns_ask(loop, buf_str_view(&row->name), DNS_TXT, CHECK_MS, on_answer,
					      row, &row->request) == 0)
			l->pending++;
	}
	if (--l->pending == 0)
		end(l);
}

static void add_row(struct listing *l, const struct mail_auth_signing_key *key, struct slice domain)
{
	struct row *row = &l->rows[l->count++];
	struct buf octets = {0};

	row->listing = l;
	row->key = key;
	row->domain = domain;
	dkim_key_name(key->selector, domain, &row->name);
	signature_key_write(key->key, &octets);
	dkim_key_write(signature_key_kind(key->key) == SIGNATURE_RSA ? DKIM_RSA_SHA256 : DKIM_ED25519_SHA256,
		buf_view(&octets), &row->record);
	buf_deinit(&octets);
}

static void list(void *arg, struct control_request *r)
{
	const struct mail_auth_verbs *v = arg;
	struct listing *l = xcalloc(1, sizeof(*l));
	struct buf why = {0};
	size_t total = 0;
	int err = mail_auth_keys_new(v->conf(v->arg), &why, &l->keys);

	if (err) {
		control_fail(r, err, "%s", buf_str_view(&why));
		buf_deinit(&why);
		free(l);
		return;
	}
	l->request = r;
	for (size_t i = 0; i < l->keys->count; i++)
		total += l->keys->list[i].domain_count;
	l->rows = xcalloc(total + 1, sizeof(*l->rows));
	for (size_t i = 0; i < l->keys->count; i++)
		for (size_t k = 0; k < l->keys->list[i].domain_count; k++) {
			struct slice domain = l->keys->list[i].domains[k];

			if (!control_arg_count(r) || slice_is_str_nocase(domain, control_arg(r, 0)))
				add_row(l, &l->keys->list[i], domain);
		}
	if (control_has_option(r, "check"))
		check(l);
	else
		end(l);
}

static const struct control_verb verbs[] = {
	{"dkim list", "[DOMAIN] [--check]",
		"Keys that sign mail, and the records to publish for them; --check asks the DNS for these",
		list, 0, 1, "check", 0},
};

void mail_auth_verbs_register(struct control *control, struct mail_auth_verbs *v)
{
	control_register(control, verbs, ARRAY_LEN(verbs), v);
}
