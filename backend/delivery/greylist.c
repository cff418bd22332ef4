/* key = the first 16 octets of SHA-256( length, network, length, sender, length, recipient ), letters in lower case. */
#include "backend/delivery/greylist.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/crypto/digest.h"
#include "common/proto/address.h"

#define ARENA_MOST (8 * 1024)

const struct conf_key greylist_keys[] = {
	{"greylist", "delay", CONF_DURATION, CONF_RELOAD, "5m", 1000, 86400000, NULL,
		"How long a stranger has to wait before his second try", NULL},
	{"greylist", "retry", CONF_DURATION, CONF_RELOAD, "2d", 60000, 2592000000, NULL,
		"How long after the first try it may come; later it is a first one again", NULL},
	{"greylist", "lifetime", CONF_DURATION, CONF_RELOAD, "35d", 3600000, 31536000000, NULL,
		"How long who has come again is known after he was last seen", NULL},
	{"greylist", "entries", CONF_INT, CONF_RELOAD, "200000", 1000, 10000000, NULL,
		"Triplets of network, sender and recipient that are remembered; beyond it those go that "
		"would "
		"go first",
		NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

struct request {
	struct list link; /* of the session */
	struct store_job *job;
	struct store_greylist_terms terms;
	uint8_t key[STORE_GREYLIST_KEY_LEN];
	uint64_t wait_s;
	unsigned index;
	struct smtp_rcpt rcpt;
	char *texts; /* of rcpt */
	greylist_fn *fn;
	void *arg;
};

void greylist_terms(const struct conf *conf, struct store_greylist_terms *terms_out)
{
	*terms_out = (struct store_greylist_terms){
		.delay_s = conf_get_duration(conf, "greylist", NULL, "delay") / 1000,
		.retry_s = conf_get_duration(conf, "greylist", NULL, "retry") / 1000,
		.life_s = conf_get_duration(conf, "greylist", NULL, "lifetime") / 1000,
		.entries_max = conf_get_int(conf, "greylist", NULL, "entries"),
	};
}

void greylist_answer(uint64_t wait_s, int err, char room[GREYLIST_TEXT_MOST], unsigned *code_out,
	struct slice *enhanced_out, struct slice *text_out)
{
	*code_out = err ? 451 : 450;
	*enhanced_out = err ? SLICE_LIT("4.3.0") : SLICE_LIT("4.7.1");
	if (err)
		snprintf(room, GREYLIST_TEXT_MOST, "Cannot say now, try again later");
	else
		snprintf(room, GREYLIST_TEXT_MOST, "Not known here yet, try again in %llu seconds",
			(unsigned long long)wait_s);
	*text_out = slice_str(room);
}

/* ---- a question ---- */

static void add_part(struct digest *d, struct slice text)
{
	char length[4];

	bytes_put_u32(length, (uint32_t)text.len);
	digest_add(d, slice_of(length, sizeof(length)));
	for (size_t i = 0; i < text.len; i++) {
		char c = ascii_lower(text.p[i]);

		digest_add(d, slice_of(&c, 1));
	}
}

static void make_key(struct request *r, const struct greylist_question *q, struct slice recipient)
{
	struct digest *d = digest_new(DIGEST_SHA256);
	uint8_t whole[DIGEST_SHA256_LEN];

	add_part(d, q->network);
	add_part(d, q->sender);
	add_part(d, recipient);
	digest_finish(d, whole);
	digest_free(&d);
	memcpy(r->key, whole, sizeof(r->key));
}

static int run(struct store_txn *txn, void *arg)
{
	struct request *r = arg;

	return store_greylist_ask(txn, r->key, clock_wall_s(), &r->terms, &r->wait_s);
}

static void count(const char *result)
{
	char label[40];

	snprintf(label, sizeof(label), "result=\"%s\"", result);
	metric_add(
		metrics_counter("mailtier_delivery_greylist", label, "Answers of the greylist to RCPT"), 1);
}

static void done(void *arg, int err)
{
	struct request *r = arg;

	count(err ? "not-now" : r->wait_s ? "wait" : "pass");
	list_remove(&r->link);
	r->fn(r->arg, r->index, &r->rcpt, r->wait_s, err);
}

static void drop(void *arg)
{
	struct request *r = arg;

	free(r->texts);
	free(r);
}

static void copy_rcpt(struct request *r, const struct smtp_rcpt *rcpt)
{
	struct slice *const texts[] = {&r->rcpt.path.local, &r->rcpt.path.domain, &r->rcpt.path.address,
		&r->rcpt.orcpt, &r->rcpt.grey};
	char *at;

	r->rcpt = *rcpt;
	at = r->texts = xcalloc(1, rcpt->path.local.len + rcpt->path.domain.len + rcpt->path.address.len +
					   rcpt->orcpt.len + rcpt->grey.len + ARRAY_LEN(texts));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (texts[i]->len)
			memcpy(at, texts[i]->p, texts[i]->len);
		texts[i]->p = at;
		at += texts[i]->len + 1;
	}
}

/* The address as it is known here; false: nobody takes mail for it. */
static bool find(
	struct store *store, const struct smtp_path *path, struct arena *arena, struct slice *name_out)
{
	struct store_account account;
	struct address_name name;
	struct buf whole = {0};
	int err;

	buf_add_slice(&whole, path->local);
	if (path->domain.len) {
		buf_add_char(&whole, '@');
		buf_add_slice(&whole, path->domain);
	}
	err = address_normalise_whole(arena, buf_view(&whole), &name);
	buf_deinit(&whole);
	if (err || store_find_recipient(store, name.full, &account))
		return false;
	*name_out = name.full;
	return true;
}

bool greylist_ask(const struct greylist_question *q, greylist_fn *fn, void *arg)
{
	struct request *r;
	struct slice name;
	struct arena arena;

	arena_init(&arena, ARENA_MOST);
	if (!find(store_work_store(q->work), &q->rcpt->path, &arena, &name)) {
		arena_deinit(&arena);
		return false;
	}
	r = xcalloc(1, sizeof(*r));
	r->terms = q->terms;
	r->index = q->index;
	r->fn = fn;
	r->arg = arg;
	make_key(r, q, name);
	arena_deinit(&arena);
	copy_rcpt(r, q->rcpt);
	list_add_last(q->pending, &r->link);
	r->job = store_work_write(q->work, 0,
		&(struct store_work_call){.run = run,
			.done = done,
			.drop = drop,
			.arg = r,
			.loop = q->loop,
			.name = "greylist"});
	return true;
}

void greylist_cancel_all(struct list *pending)
{
	list_for_each_safe (at, pending) {
		struct request *r = container_of(at, struct request, link);

		list_remove(&r->link);
		store_work_cancel(&r->job);
	}
}
