/* DKIM, DMARC and ARC of whole messages, with a DNS of the test's own: RFC vectors, our own signatures, attacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "common/base/mem.h"
#include "common/front/mail_auth.h"
#include "common/front/mail_auth_sign.h"
#include "tests/unit/common/dkim_keys.h"

#define NOW 1800000000

/* RFC 8463 section A.3. */
static const char rfc8463_header[] = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
				     " d=football.example.com; i=@football.example.com;\r\n"
				     " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
				     " subject : date : message-id : from : subject : date;\r\n"
				     " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
				     " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
				     " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
				     "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
				     " d=football.example.com; i=@football.example.com;\r\n"
				     " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
				     " date : message-id : from : subject : date;\r\n"
				     " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
				     " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
				     " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
				     " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
				     "From: Joe SixPack <joe@football.example.com>\r\n"
				     "To: Suzie Q <suzie@shopping.example.net>\r\n"
				     "Subject: Is dinner ready?\r\n"
				     "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
				     "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
				     "\r\n";
static const char rfc8463_body[] = "Hi.\r\n"
				   "\r\n"
				   "We lost the game.  Are you hungry yet?\r\n"
				   "\r\n"
				   "Joe.\r\n";

/* ---- a DNS ---- */

static struct {
	const char *name, *text; /* text NULL: no answer now; "": the name is there, without TXT */
} zone[64];
static unsigned zone_count, asked;
static struct loop *loop;

static void publish(const char *name, const char *text)
{
	require(zone_count < ARRAY_LEN(zone));
	zone[zone_count].name = name;
	zone[zone_count++].text = text;
}

struct dns_request {
	char name[300];
	dns_fn *fn;
	void *arg;
	bool is_cancelled;
};

static void answer(void *arg)
{
	struct dns_request *r = arg;
	struct dns_record records[8];
	struct dns_answer a = {.error = ERR_NOT_FOUND, .is_nxdomain = true, .canonical = "", .detail = ""};

	memset(records, 0, sizeof(records));
	for (unsigned i = 0; i < zone_count; i++) {
		if (strcmp(zone[i].name, r->name) != 0)
			continue;
		a.is_nxdomain = false;
		if (!zone[i].text) {
			a.error = ERR_NOT_NOW;
		} else if (*zone[i].text && a.count < ARRAY_LEN(records)) {
			a.error = 0;
			records[a.count].type = DNS_TXT;
			records[a.count++].text = slice_str(zone[i].text);
		}
	}
	a.records = records;
	if (!r->is_cancelled)
		r->fn(r->arg, &a);
	free(r);
}

static int fake_ask(struct loop *l, const char *name, enum dns_type type, uint64_t timeout_ms, dns_fn *fn,
	void *arg, struct dns_request **request_out)
{
	struct dns_request *r = xcalloc(1, sizeof(*r));

	(void)type;
	assert_int_equal(timeout_ms, 1000);
	require(snprintf(r->name, sizeof(r->name), "%s", name) < (int)sizeof(r->name));
	r->fn = fn;
	r->arg = arg;
	asked++;
	loop_post(l, answer, r);
	*request_out = r;
	return 0;
}

static void fake_cancel(struct dns_request **request)
{
	(*request)->is_cancelled = true;
	*request = NULL;
}

static const struct mail_auth_dns fake_dns = {.ask = fake_ask, .cancel = fake_cancel};

/* ---- checking ---- */

static void on_done(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static struct spool *spool_of(struct slice body)
{
	struct spool *spool = spool_new(1 << 20, 0);

	assert_int_equal(spool_add(spool, body), 0);
	return spool;
}

struct checked {
	struct spool *spool;
	struct mail_auth *check;
	const struct mail_auth_plan *plan;
	const struct mail_auth_dmarc *dmarc;
};

static struct checked check_spf(
	struct slice header, struct slice body, enum smtp_result spf, const char *spf_domain)
{
	struct checked c = {.spool = spool_of(body)};
	struct mail_auth_input input = {.header = header,
		.spool = c.spool,
		.wants = {.dkim = true, .arc = true, .rsa_least = 1024, .now = NOW},
		.dmarc = true,
		.dns_timeout_ms = 1000,
		.spf = spf,
		.spf_domain = slice_str(spf_domain)};

	c.check = mail_auth_start(loop, &fake_dns, &input, on_done, NULL);
	loop_run(loop);
	c.plan = mail_auth_results(c.check);
	c.dmarc = mail_auth_dmarc(c.check);
	return c;
}

static struct checked check(const char *header, const char *body)
{
	return check_spf(slice_str(header), slice_str(body), SMTP_RESULT_NONE, "");
}

static void checked_free(struct checked *c)
{
	mail_auth_free(&c->check);
	spool_free(&c->spool);
}

static int set_up(void **state)
{
	(void)state;
	zone_count = asked = 0;
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	/* What was freed for later goes now. */
	loop_post(loop, on_done, NULL);
	loop_run(loop);
	loop_free(&loop);
	return 0;
}

static void publish_8463(void)
{
	publish("brisbane._domainkey.football.example.com", "v=DKIM1; k=ed25519; p=" KEY_8463_ED25519_PUBLIC);
	publish("test._domainkey.football.example.com", "v=DKIM1; k=rsa; p=" KEY_8463_RSA_PUBLIC);
}

static void test_rfc8463(void **state)
{
	struct checked c;

	(void)state;
	publish_8463();
	c = check(rfc8463_header, rfc8463_body);
	assert_int_equal(c.plan->signature_count, 2);
	for (unsigned i = 0; i < 2; i++)
		if (c.plan->signatures[i].result != SMTP_RESULT_PASS)
			fail_msg("%u: %s", i, c.plan->signatures[i].why);
	assert_int_equal(c.plan->arc->result, SMTP_RESULT_NONE);
	assert_int_equal(c.dmarc->result, SMTP_RESULT_NONE);
	checked_free(&c);
}

/* Each octet of header and body that is signed, changed: both signatures fail. */
static void test_one_octet_changed(void **state)
{
	size_t header_len = strlen(rfc8463_header), body_len = strlen(rfc8463_body);
	char *header = xstrdup(rfc8463_header), *body = xstrdup(rfc8463_body);
	size_t from = (size_t)(strstr(header, "From: Joe") - header);

	(void)state;
	publish_8463();
	for (size_t i = from; i < header_len + body_len - 4; i += 3) {
		char *at = i < header_len - 2 ? &header[i] : &body[i - from < body_len ? i - from : 0];
		char was = *at;
		struct checked c;

		if (was == '\r' || was == '\n' || was == ' ' || was == ':')
			continue;
		*at = (char)(was ^ 2);
		c = check(header, body);
		for (unsigned k = 0; k < c.plan->signature_count; k++)
			assert_int_not_equal(c.plan->signatures[k].result, SMTP_RESULT_PASS);
		*at = was;
		checked_free(&c);
	}
	free(header);
	free(body);
}

/* ---- keys ---- */

static void test_what_the_dns_says_about_keys(void **state)
{
	static const struct {
		const char *text;
		bool is_absent;
		enum smtp_result want;
	} rows[] = {
		{"v=DKIM1; k=ed25519; p=" KEY_8463_ED25519_PUBLIC, false, SMTP_RESULT_PASS},
		{"v=DKIM1; k=ed25519; s=email; h=sha256; t=s; p=" KEY_8463_ED25519_PUBLIC, false,
			SMTP_RESULT_PASS},
		{"k=ed25519; t=y; p=" KEY_8463_ED25519_PUBLIC, false, SMTP_RESULT_PASS},
		{"v=DKIM1; k=rsa; p=" KEY_8463_RSA_PUBLIC, false, SMTP_RESULT_PERMERROR},
		{"v=DKIM1; k=ed25519; h=sha1; p=" KEY_8463_ED25519_PUBLIC, false, SMTP_RESULT_PERMERROR},
		{"v=DKIM1; k=ed25519; p=", false, SMTP_RESULT_PERMERROR},
		{"v=DKIM1; k=ed25519; p=AAAA", false, SMTP_RESULT_PERMERROR},
		{"v=DKIM1; k=ed25519; p=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", false,
			SMTP_RESULT_FAIL},
		{"v=DKIM1; k=ed25519; t=y; p=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", false,
			SMTP_RESULT_NEUTRAL},
		{"v=spf1 -all", false, SMTP_RESULT_PERMERROR},
		{"", false, SMTP_RESULT_PERMERROR},
		{NULL, true, SMTP_RESULT_PERMERROR},
		{NULL, false, SMTP_RESULT_TEMPERROR},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct checked c;

		zone_count = 0;
		if (!rows[i].is_absent)
			publish("brisbane._domainkey.football.example.com", rows[i].text);
		c = check(rfc8463_header, rfc8463_body);
		if (c.plan->signatures[0].result != rows[i].want)
			fail_msg("row %zu: %s (%s)", i, smtp_facts_word(c.plan->signatures[0].result),
				c.plan->signatures[0].why);
		checked_free(&c);
	}
}

static void test_short_keys_can_be_refused(void **state)
{
	struct spool *spool = spool_of(slice_str(rfc8463_body));
	struct mail_auth_wants wants = {.dkim = true, .rsa_least = 2048, .now = NOW};
	struct slice text = slice_str("p=" KEY_8463_RSA_PUBLIC);
	struct mail_auth_plan plan;

	(void)state;
	mail_auth_plan_init(&plan, &wants, slice_str(rfc8463_header), spool, 0);
	mail_auth_plan_key(&plan, 0, ERR_NOT_FOUND, NULL, 0);
	mail_auth_plan_key(&plan, 1, 0, &text, 1);
	assert_int_equal(mail_auth_plan_run(&plan), 0);
	assert_int_equal(plan.signatures[1].result, SMTP_RESULT_POLICY);
	mail_auth_plan_deinit(&plan);
	spool_free(&spool);
}

/* ---- what we sign ---- */

static struct slice signing_domain = {"example.com", 11};

/* rsa and ed25519 at example.com, relaxed or simple. */
static struct mail_auth_keys *keys_of(bool is_header_relaxed, bool is_body_relaxed)
{
	struct mail_auth_keys *keys = xcalloc(1, sizeof(*keys));

	keys->arena = xcalloc(1, sizeof(*keys->arena));
	keys->refs = 1;
	keys->list = xcalloc(3, sizeof(*keys->list));
	keys->count = 2;
	for (unsigned i = 0; i < 2; i++)
		keys->list[i] = (struct mail_auth_signing_key){.title = "t",
			.domains = &signing_domain,
			.domain_count = 1,
			.selector = slice_str(i ? "ed" : "rsa"),
			.covers_subdomains = true,
			.is_header_relaxed = is_header_relaxed,
			.is_body_relaxed = is_body_relaxed};
	assert_int_equal(signature_key_private(slice_str(key_rsa_pem), &keys->list[0].key), 0);
	assert_int_equal(signature_key_private(slice_str(key_ed25519_pem), &keys->list[1].key), 0);
	keys->seal_domain = signing_domain;
	return keys;
}

static char records[2][1024];

static void publish_ours(struct mail_auth_keys *keys)
{
	for (unsigned i = 0; i < 2; i++) {
		struct buf octets = {0}, text = {0};

		signature_key_write(keys->list[i].key, &octets);
		dkim_key_write(i ? DKIM_ED25519_SHA256 : DKIM_RSA_SHA256, buf_view(&octets), &text);
		snprintf(records[i], sizeof(records[i]), "%s", buf_str_view(&text));
		buf_deinit(&octets);
		buf_deinit(&text);
	}
	publish("rsa._domainkey.example.com", records[0]);
	publish("ed._domainkey.example.com", records[1]);
}

/* Appends what a job made, and the header behind it. */
static void put_before(const struct mail_auth_sign *job, const char *header, struct buf *out)
{
	for (unsigned i = job->count; i-- > 0;)
		buf_printf(
			out, "%.*s: %.*s\r\n", SLICE_ARG(job->made[i].name), SLICE_ARG(job->made[i].value));
	buf_add_str(out, header);
}

static void sign(struct mail_auth_keys *keys, const char *header, const char *body, struct buf *out)
{
	struct spool *spool = spool_of(slice_str(body));
	struct mail_auth_sign job;

	mail_auth_sign_init(&job, keys, slice_str(header), spool, 0, NOW);
	assert_null(job.why_not);
	assert_int_equal(mail_auth_sign_run(&job), 0);
	assert_int_equal(job.count, 2);
	put_before(&job, header, out);
	mail_auth_sign_deinit(&job);
	spool_free(&spool);
}

static const char plain_header[] =
	"Received: from x\r\nFrom: A <a@example.com>\r\nTo: b@example.org,\r\n  c@example.org\r\n"
	"Subject:  odd   blanks \r\n\there\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\n";

static void test_what_we_sign_verifies(void **state)
{
	static const char *const bodies[] = {"", "\r\n", "x", "x\r\n", "x \r\n\r\n\r\n", " \t\r\n \r\n",
		"a\tb  c \r\n.\r\n", "\xc3\xa4\xff\r\n", "\r\n\r\nlate\r\n"};

	(void)state;
	for (unsigned forms = 0; forms < 4; forms++) {
		struct mail_auth_keys *keys = keys_of(forms & 1, forms & 2);

		zone_count = 0;
		publish_ours(keys);
		for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
			struct buf header = {0};
			struct checked c;

			sign(keys, plain_header, bodies[i], &header);
			c = check(buf_str_view(&header), bodies[i]);
			assert_int_equal(c.plan->signature_count, 2);
			for (unsigned k = 0; k < 2; k++)
				if (c.plan->signatures[k].result != SMTP_RESULT_PASS)
					fail_msg("forms %u, body %zu: %s", forms, i,
						c.plan->signatures[k].why);
			checked_free(&c);
			buf_deinit(&header);
		}
		mail_auth_keys_unref(&keys);
	}
}

static void test_what_a_proxy_signed_is_not_signed_again(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct spool *spool = spool_of(slice_str("x\r\n"));
	struct mail_auth_sign job;
	struct buf header = {0};

	(void)state;
	sign(keys, plain_header, "x\r\n", &header);
	mail_auth_sign_init(&job, keys, buf_view(&header), spool, 0, NOW);
	assert_int_equal(job.choice_count, 2);
	keys->list[1].selector = slice_str("other");
	mail_auth_sign_only_new(&job);
	assert_int_equal(job.choice_count, 1);
	assert_true(slice_is_str(job.choices[0].key->selector, "other"));
	keys->list[1].selector = slice_str("ed");
	mail_auth_sign_only_new(&job);
	assert_int_equal(job.choice_count, 0);
	assert_non_null(job.why_not);
	mail_auth_sign_deinit(&job);
	mail_auth_keys_unref(&keys);
	spool_free(&spool);
	buf_deinit(&header);
}

/* Class 20: a second From, Subject, To or Date above what was signed, or below. */
static void test_security_20_added_fields_break_signatures(void **state)
{
	static const char *const added[] = {"From: b@victim.example\r\n", "Subject: x\r\n", "To: x@y\r\n",
		"Date: x\r\n", "Reply-To: x@y\r\n", "Content-Type: text/html\r\n", "MIME-Version: 1.0\r\n",
		"Cc: x@y\r\n", "Message-ID: <x@y>\r\n", "Content-Transfer-Encoding: base64\r\n"};
	struct mail_auth_keys *keys = keys_of(true, true);
	struct buf header = {0};

	(void)state;
	publish_ours(keys);
	sign(keys, plain_header, "x\r\n", &header);
	for (size_t i = 0; i < 2 * ARRAY_LEN(added); i++) {
		struct slice head = slice_sub(buf_view(&header), 0, buf_len(&header) - 2);
		struct buf changed = {0};
		struct checked c;

		if (i < ARRAY_LEN(added))
			buf_add_str(&changed, added[i]);
		buf_add_slice(&changed, head);
		if (i >= ARRAY_LEN(added))
			buf_add_str(&changed, added[i - ARRAY_LEN(added)]);
		buf_add_str(&changed, "\r\n");
		c = check(buf_str_view(&changed), "x\r\n");
		assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_FAIL);
		checked_free(&c);
		buf_deinit(&changed);
	}
	buf_deinit(&header);
	mail_auth_keys_unref(&keys);
}

/* Class 20: l= over a part, and text behind it. The signature of RFC 8463 with l= cannot be made without its key, so ours. */
static void sign_with_length(
	struct mail_auth_keys *keys, const char *body, const char *length, struct buf *out)
{
	static const char names[] = "From:To:Subject:Date";
	struct spool *spool = spool_of(slice_str(body));
	struct dkim_draft draft = {.algorithm = DKIM_ED25519_SHA256,
		.domain = signing_domain,
		.selector = SLICE_LIT("ed"),
		.fields = slice_str(names),
		.made = NOW};
	struct mail_auth_body b;
	struct header_field own = {0};
	struct dkim_fields fields;
	struct arena arena;
	struct buf text = {0}, signature = {0};
	uint8_t digest[DKIM_HASH_LEN];

	mail_auth_body_init(&b, spool, 0);
	b.is_wanted[MAIL_AUTH_SIMPLE] = true;
	assert_int_equal(mail_auth_body_run(&b), 0);
	draft.body_hash = b.hash[MAIL_AUTH_SIMPLE];
	dkim_signature_write(&draft, &text);
	buf_cut(&text, buf_len(&text) - 2);
	buf_printf(&text, "l=%s; b=", length);
	arena_init(&arena, 0);
	assert_int_equal(dkim_fields_index(&arena, slice_str(plain_header), &fields), 0);
	own.raw = buf_view(&text);
	mail_auth_plan_digest(&fields, draft.fields, false, &own, digest);
	assert_int_equal(signature_sign(keys->list[1].key, digest, &signature), 0);
	buf_add_slice(out, buf_view(&text));
	base64_encode(out, buf_view(&signature));
	buf_printf(out, "\r\n%s", plain_header);
	buf_deinit(&text);
	buf_deinit(&signature);
	arena_deinit(&arena);
	mail_auth_body_deinit(&b);
	spool_free(&spool);
}

static void test_security_20_length_is_not_obeyed(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct buf header = {0};
	struct checked c;

	(void)state;
	publish_ours(keys);
	sign_with_length(keys, "hello\r\n", "7", &header);
	c = check(buf_str_view(&header), "hello\r\n");
	assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_PASS); /* all is covered */
	checked_free(&c);
	c = check(buf_str_view(&header), "hello\r\nbuy this\r\n");
	assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_FAIL);
	assert_non_null(strstr(c.plan->signatures[0].why, "l="));
	checked_free(&c);
	buf_clear(&header);
	sign_with_length(keys, "", "0", &header);
	c = check(buf_str_view(&header), "anything\r\n");
	assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_FAIL);
	checked_free(&c);
	buf_deinit(&header);
	mail_auth_keys_unref(&keys);
}

static void test_security_20_only_so_many_signatures_are_checked(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct buf good = {0}, header = {0};
	struct checked c;

	(void)state;
	publish_ours(keys);
	sign(keys, plain_header, "x\r\n", &good);
	for (unsigned i = 0; i < 100; i++)
		buf_printf(&header,
			"DKIM-Signature: v=1; a=rsa-sha256; d=a%u.attacker.example; s=s; h=from; b=AAAA;\r\n"
			" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=\r\n",
			i);
	buf_add_slice(&header, buf_view(&good));
	asked = 0;
	c = check(buf_str_view(&header), "x\r\n");
	assert_int_equal(c.plan->signature_count, MAIL_AUTH_SIGNATURES_MOST);
	assert_int_equal(c.plan->left_out, 102 - MAIL_AUTH_SIGNATURES_MOST);
	assert_true(asked <= MAIL_AUTH_SIGNATURES_MOST + 2);
	/* The author's own are among those. */
	assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_PASS);
	checked_free(&c);
	buf_deinit(&good);
	buf_deinit(&header);
	mail_auth_keys_unref(&keys);
}

static void test_times_of_signatures(void **state)
{
	static const struct {
		const char *times;
		enum smtp_result want;
	} rows[] = {
		{"t=1700000000; x=1700000001;", SMTP_RESULT_POLICY}, {"t=1900000000;", SMTP_RESULT_POLICY},
		{"x=1900000000;", SMTP_RESULT_FAIL}, /* it is in force, and AAAA no signature */
	};

	(void)state;
	publish_8463();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf header = {0};
		struct checked c;

		buf_printf(&header,
			"DKIM-Signature: v=1; a=ed25519-sha256; d=football.example.com; s=brisbane; h=from; "
			"b=AAAA;\r\n"
			" c=relaxed/relaxed; %s bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=\r\nFrom: "
			"a@b.example\r\n\r\n",
			rows[i].times);
		c = check(buf_str_view(&header), rfc8463_body);
		if (c.plan->signatures[0].result != rows[i].want)
			fail_msg("%s: %s", rows[i].times, c.plan->signatures[0].why);
		checked_free(&c);
		buf_deinit(&header);
	}
}

static void test_security_20_headers_beyond_the_limits_are_not_looked_into(void **state)
{
	struct buf header = {0};
	struct checked c;

	(void)state;
	for (unsigned i = 0; i <= DKIM_FIELDS_MOST; i++)
		buf_add_str(&header, "X: y\r\n");
	buf_add_str(&header, rfc8463_header);
	c = check(buf_str_view(&header), rfc8463_body);
	assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_PERMERROR);
	assert_int_equal(c.dmarc->result, SMTP_RESULT_PERMERROR);
	assert_int_equal(c.plan->arc->result, SMTP_RESULT_FAIL);
	checked_free(&c);
	buf_deinit(&header);
}

/* ---- DMARC ---- */

static void test_dmarc(void **state)
{
	static const struct {
		const char *from, *spf_domain;
		bool is_signed;     /* by example.com */
		const char *policy; /* at _dmarc.example.com */
		enum smtp_result want;
		enum dmarc_policy asks;
	} rows[] = {
		{"a@example.com", "", true, "v=DMARC1; p=reject", SMTP_RESULT_PASS, DMARC_POLICY_REJECT},
		{"a@example.com", "example.com", false, "v=DMARC1; p=reject", SMTP_RESULT_PASS,
			DMARC_POLICY_REJECT},
		{"a@example.com", "bounce.example.com", false, "v=DMARC1; p=reject", SMTP_RESULT_PASS,
			DMARC_POLICY_REJECT},
		{"a@example.com", "bounce.example.com", false, "v=DMARC1; p=reject; aspf=s", SMTP_RESULT_FAIL,
			DMARC_POLICY_REJECT},
		{"a@sub.example.com", "", true, "v=DMARC1; p=none; sp=quarantine", SMTP_RESULT_PASS,
			DMARC_POLICY_QUARANTINE},
		{"a@sub.example.com", "", true, "v=DMARC1; p=reject; adkim=s", SMTP_RESULT_FAIL,
			DMARC_POLICY_REJECT},
		{"a@example.com", "victim.example", false, "v=DMARC1; p=quarantine", SMTP_RESULT_FAIL,
			DMARC_POLICY_QUARANTINE},
		{"a@example.com", "notexample.com", false, "v=DMARC1; p=reject", SMTP_RESULT_FAIL,
			DMARC_POLICY_REJECT},
		{"a@example.com", "example.com.attacker.example", false, "v=DMARC1; p=reject",
			SMTP_RESULT_FAIL, DMARC_POLICY_REJECT},
		{"a@victim.example", "", true, "v=DMARC1; p=reject", SMTP_RESULT_NONE, DMARC_POLICY_NONE},
		{"a@example.com", "", false, "v=DMARC1; p=reject; t=y", SMTP_RESULT_FAIL,
			DMARC_POLICY_QUARANTINE},
		{"a@gone.example.com", "", false, "v=DMARC1; p=none; np=reject", SMTP_RESULT_FAIL,
			DMARC_POLICY_REJECT},
		{"a@sub.example.com", "", false, "v=DMARC1; p=none; np=reject", SMTP_RESULT_FAIL,
			DMARC_POLICY_NONE},
		{"a@example.com", "", true, NULL, SMTP_RESULT_TEMPERROR, DMARC_POLICY_NONE},
		{"a@example.com", "", true, "", SMTP_RESULT_NONE, DMARC_POLICY_NONE},
		{"a@example.com", "", true, "v=DMARC1; p=bad", SMTP_RESULT_NONE, DMARC_POLICY_NONE},
		/* Class 20, CVE-2019-16378. */
		{"a@example.com, b@victim.example", "example.com", true, "v=DMARC1; p=reject",
			SMTP_RESULT_PERMERROR, DMARC_POLICY_NONE},
		{"a@example.com\r\nFrom: b@victim.example", "example.com", true, "v=DMARC1; p=reject",
			SMTP_RESULT_PERMERROR, DMARC_POLICY_NONE},
		{"nobody", "example.com", true, "v=DMARC1; p=reject", SMTP_RESULT_PERMERROR,
			DMARC_POLICY_NONE},
	};
	struct mail_auth_keys *keys = keys_of(true, true);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf header = {0}, all = {0};
		struct checked c;

		zone_count = 0;
		publish_ours(keys);
		publish("_dmarc.example.com", rows[i].policy);
		publish("sub.example.com", "");
		buf_printf(&header, "From: %s\r\nTo: b@example.org\r\n\r\n", rows[i].from);
		if (rows[i].is_signed && !strpbrk(rows[i].from, ",\r") && strstr(rows[i].from, "example.com"))
			sign(keys, buf_str_view(&header), "x\r\n", &all);
		else
			buf_add_slice(&all, buf_view(&header));
		c = check_spf(buf_view(&all), slice_str("x\r\n"),
			*rows[i].spf_domain ? SMTP_RESULT_PASS : SMTP_RESULT_FAIL, rows[i].spf_domain);
		if (c.dmarc->result != rows[i].want || c.dmarc->policy != rows[i].asks)
			fail_msg("row %zu: %s, %s (%s)", i, smtp_facts_word(c.dmarc->result),
				dmarc_policy_name(c.dmarc->policy), c.dmarc->why);
		checked_free(&c);
		buf_deinit(&header);
		buf_deinit(&all);
	}
	mail_auth_keys_unref(&keys);
}

/* A department of its own: psd=n below the signing domain. */
static void test_security_20_alignment_ends_at_organisations(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct buf header = {0};
	struct checked c;

	(void)state;
	publish_ours(keys);
	publish("_dmarc.example.com", "v=DMARC1; p=reject");
	publish("_dmarc.dep.example.com", "v=DMARC1; p=reject; psd=n");
	sign(keys, "From: a@x.dep.example.com\r\n\r\n", "x\r\n", &header);
	c = check(buf_str_view(&header), "x\r\n");
	assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_PASS);
	assert_int_equal(c.dmarc->result, SMTP_RESULT_FAIL);
	checked_free(&c);
	/* And the other way: the parent's mail with the department's SPF. */
	c = check_spf(slice_str("From: a@example.com\r\n\r\n"), slice_str("x\r\n"), SMTP_RESULT_PASS,
		"x.dep.example.com");
	assert_int_equal(c.dmarc->result, SMTP_RESULT_FAIL);
	checked_free(&c);
	buf_deinit(&header);
	mail_auth_keys_unref(&keys);
}

/* ---- ARC ---- */

static void seal(struct mail_auth_keys *keys, struct slice header, const char *body, enum dkim_chain verdict,
	struct buf *out, const char **why_not_out)
{
	struct spool *spool = spool_of(slice_str(body));
	struct mail_auth_sign job;
	struct buf text = {0};

	mail_auth_sign_seal(
		&job, keys, header, spool, 0, slice_str("mx.example.com;\r\n\tdkim=none"), verdict, NOW);
	*why_not_out = job.why_not;
	assert_int_equal(mail_auth_sign_run(&job), 0);
	buf_add_slice(&text, header);
	put_before(&job, buf_str_view(&text), out);
	mail_auth_sign_deinit(&job);
	buf_deinit(&text);
	spool_free(&spool);
}

static void test_chains_that_we_seal_verify(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct buf header = {0}, next = {0};
	const char *why_not;
	struct checked c;

	(void)state;
	publish_ours(keys);
	buf_add_str(&header, plain_header);
	for (unsigned i = 0; i < 4; i++) {
		seal(keys, buf_view(&header), "x\r\n", i ? DKIM_CHAIN_PASS : DKIM_CHAIN_NONE, &next,
			&why_not);
		assert_null(why_not);
		buf_clear(&header);
		buf_add_slice(&header, buf_view(&next));
		buf_clear(&next);
		c = check(buf_str_view(&header), "x\r\n");
		if (c.plan->arc->result != SMTP_RESULT_PASS)
			fail_msg("%u: %s\n%s", i, c.plan->arc->why, buf_str_view(&header));
		assert_int_equal(c.plan->arc->chain.count, i + 1);
		assert_true(slice_is_str(c.plan->arc->domain, "example.com"));
		checked_free(&c);
	}
	/* Another body: the chain fails, is sealed as failed, and then nobody goes on with it. */
	c = check(buf_str_view(&header), "y\r\n");
	assert_int_equal(c.plan->arc->result, SMTP_RESULT_FAIL);
	checked_free(&c);
	seal(keys, buf_view(&header), "y\r\n", DKIM_CHAIN_FAIL, &next, &why_not);
	assert_null(why_not);
	assert_non_null(strstr(buf_str_view(&next), "cv=fail"));
	c = check(buf_str_view(&next), "y\r\n");
	assert_int_equal(c.plan->arc->result, SMTP_RESULT_FAIL);
	checked_free(&c);
	buf_clear(&header);
	seal(keys, buf_view(&next), "y\r\n", DKIM_CHAIN_FAIL, &header, &why_not);
	assert_non_null(why_not);
	assert_int_equal(buf_len(&header), buf_len(&next));
	buf_deinit(&header);
	buf_deinit(&next);
	mail_auth_keys_unref(&keys);
}

/* A set gone, twice, its results changed, a new seal over it: all fail. */
static void test_security_20_forged_chains_fail(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct buf one = {0}, two = {0};
	const char *why_not;
	static const struct {
		const char *find, *put;
	} rows[] = {
		{"ARC-Authentication-Results: i=1; mx.example.com;\r\n\tdkim=none",
			"ARC-Authentication-Results: i=1; mx.example.com;\r\n\tdkim=pass"},
		{"ARC-Authentication-Results: i=1;", "X-Gone: i=1;"},
		{"ARC-Seal: i=1;", "X-Gone: i=1;"},
		{"ARC-Seal: i=1;", "ARC-Seal: i=3;"},
		{"cv=none;", "cv=pass;"},
		{"Received: from x\r\n", "ARC-Authentication-Results: i=2; x; dkim=none\r\n"},
		{"From: A <a@example.com>", "From: A <b@example.com>"},
	};

	(void)state;
	publish_ours(keys);
	seal(keys, slice_str(plain_header), "x\r\n", DKIM_CHAIN_NONE, &one, &why_not);
	seal(keys, buf_view(&one), "x\r\n", DKIM_CHAIN_PASS, &two, &why_not);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *text = buf_str_view(&two), *at = strstr(text, rows[i].find);
		struct buf changed = {0};
		struct checked c;

		assert_non_null(at);
		buf_add(&changed, text, (size_t)(at - text));
		buf_add_str(&changed, rows[i].put);
		buf_add_str(&changed, at + strlen(rows[i].find));
		c = check(buf_str_view(&changed), "x\r\n");
		if (c.plan->arc->result != SMTP_RESULT_FAIL)
			fail_msg("row %zu passes", i);
		checked_free(&c);
		buf_deinit(&changed);
	}
	buf_deinit(&one);
	buf_deinit(&two);
	mail_auth_keys_unref(&keys);
}

/* ---- ends ---- */

static void never(void *arg)
{
	(void)arg;
	fail_msg("a check that was freed has answered");
}

static void test_a_check_can_be_ended_at_any_time(void **state)
{
	struct spool *spool = spool_of(slice_str(rfc8463_body));
	struct mail_auth_input input = {.header = slice_str(rfc8463_header),
		.spool = spool,
		.wants = {.dkim = true, .arc = true, .rsa_least = 1024, .now = NOW},
		.dmarc = true,
		.dns_timeout_ms = 1000};
	struct mail_auth *c = mail_auth_start(loop, &fake_dns, &input, never, NULL);

	(void)state;
	mail_auth_free(&c);
	assert_null(c);
	loop_post(loop, on_done, NULL);
	loop_run(loop);
	spool_free(&spool);
}

/* A large message goes to a worker; its owner goes while it is there. */
static void test_large_messages_run_on_workers(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct buf body = {0}, header = {0};
	struct checked c;

	(void)state;
	publish_ours(keys);
	assert_int_equal(mail_auth_workers_start(2), 0);
	while (buf_len(&body) < 4 << 20)
		buf_add_str(&body, "A line of some text, and more of it,  with  blanks \r\n");
	sign(keys, plain_header, buf_str_view(&body), &header);
	c = check(buf_str_view(&header), buf_str_view(&body));
	assert_int_equal(mail_auth_best(c.plan), SMTP_RESULT_PASS);
	checked_free(&c);
	for (unsigned i = 0; i < 20; i++) {
		struct spool *spool = spool_of(buf_view(&body));
		struct mail_auth_input input = {.header = buf_view(&header),
			.spool = spool,
			.wants = {.dkim = true, .rsa_least = 1024, .now = NOW},
			.dns_timeout_ms = 1000};
		struct mail_auth *gone = mail_auth_start(loop, &fake_dns, &input, never, NULL);

		for (unsigned turn = 0; turn < 4; turn++) { /* answers come, the work begins */
			loop_post(loop, on_done, NULL);
			loop_run(loop);
		}
		mail_auth_free(&gone);
		spool_free(&spool);
	}
	mail_auth_workers_end();
	loop_post(loop, on_done, NULL);
	loop_run(loop);
	mail_auth_workers_free();
	buf_deinit(&body);
	buf_deinit(&header);
	mail_auth_keys_unref(&keys);
}

/* ---- choosing keys ---- */

static void test_times_in_the_configuration(void **state)
{
	static const struct {
		const char *text;
		int64_t want; /* -1: none */
	} rows[] = {
		{"1970-01-01", 0},
		{"2026-12-01", 1796083200},
		{"2026-12-01T12:30", 1796083200 + 45000},
		{"2024-02-29", 1709164800},
		{"2026-02-29", -1},
		{"2026-13-01", -1},
		{"2026-1-1", -1},
		{"2026-12-01T", -1},
		{"2026-12-01 12:30", -1},
		{"2026-12-01T24:00", -1},
		{"", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t got = -1;

		if (mail_auth_keys_time(slice_str(rows[i].text), &got) != 0)
			got = -1;
		if (got != rows[i].want)
			fail_msg("%s: %lld", rows[i].text, (long long)got);
	}
}

static void test_keys_are_rotated(void **state)
{
	struct mail_auth_keys *keys = keys_of(true, true);
	struct mail_auth_choice choices[MAIL_AUTH_KEYS_SIGN];

	(void)state;
	keys->list[2] = keys->list[0];
	signature_key_ref(keys->list[2].key);
	keys->list[2].selector = slice_str("new");
	keys->list[2].from = NOW;
	keys->count = 3;
	assert_int_equal(mail_auth_keys_find(keys, signing_domain, NOW - 1, choices), 2);
	assert_true(slice_is_str(choices[0].key->selector, "rsa"));
	assert_int_equal(mail_auth_keys_find(keys, signing_domain, NOW, choices), 2);
	assert_true(slice_is_str(choices[0].key->selector, "new"));
	assert_true(slice_is_str(choices[1].key->selector, "ed"));
	assert_int_equal(mail_auth_keys_find(keys, slice_str("a.b.example.com"), NOW, choices), 2);
	assert_true(slice_is_str(choices[0].domain, "example.com"));
	assert_int_equal(mail_auth_keys_find(keys, slice_str("notexample.com"), NOW, choices), 0);
	keys->list[0].covers_subdomains = keys->list[1].covers_subdomains = keys->list[2].covers_subdomains =
		false;
	assert_int_equal(mail_auth_keys_find(keys, slice_str("a.example.com"), NOW, choices), 0);
	mail_auth_keys_unref(&keys);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_rfc8463),
		TEST(test_one_octet_changed),
		TEST(test_what_the_dns_says_about_keys),
		TEST(test_short_keys_can_be_refused),
		TEST(test_what_we_sign_verifies),
		TEST(test_what_a_proxy_signed_is_not_signed_again),
		TEST(test_security_20_added_fields_break_signatures),
		TEST(test_security_20_length_is_not_obeyed),
		TEST(test_security_20_only_so_many_signatures_are_checked),
		TEST(test_times_of_signatures),
		TEST(test_security_20_headers_beyond_the_limits_are_not_looked_into),
		TEST(test_dmarc),
		TEST(test_security_20_alignment_ends_at_organisations),
		TEST(test_chains_that_we_seal_verify),
		TEST(test_security_20_forged_chains_fail),
		TEST(test_a_check_can_be_ended_at_any_time),
		TEST(test_large_messages_run_on_workers),
		TEST(test_times_in_the_configuration),
		TEST(test_keys_are_rotated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
