/* DMARC records, the tree walk, authors (RFC 9989). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/dkim_tags.h"
#include "common/proto/dmarc.h"

#define N DMARC_POLICY_NONE
#define Q DMARC_POLICY_QUARANTINE
#define R DMARC_POLICY_REJECT

static void test_records(void **state)
{
	static const struct {
		const char *text;
		bool is_record, is_applied;
		enum dmarc_policy p, sp, np;
	} rows[] = {
		{"v=DMARC1; p=reject", true, true, R, R, R},
		{"v=DMARC1;p=reject;sp=quarantine", true, true, R, Q, Q},
		{"v=DMARC1;sp=none;np=reject;p=quarantine;", true, true, Q, N, R},
		{"v = DMARC1 ; P = Reject", true, true, R, R, R},
		{"v=DMARC1", true, false, N, N, N},
		{"v=DMARC1; rua=mailto:a@b", true, true, N, N, N},
		{"v=DMARC1; p=bad; rua=mailto:a@b", true, true, N, N, N},
		{"v=DMARC1; p=bad; rua=nothing", true, false, N, N, N},
		{"v=DMARC1; p=reject; sp=bad", true, false, N, N, N},
		{"v=DMARC1; p=reject; what; =; x=1", true, true, R, R, R},
		{"v=DMARC1; p=reject; x=\x01", true, true, R, R, R},
		{"p=reject; v=DMARC1", false, false, N, N, N},
		{"v=dmarc1; p=reject", false, false, N, N, N},
		{"v=DMARC12; p=reject", false, false, N, N, N},
		{"v=spf1 -all", false, false, N, N, N},
		{"", false, false, N, N, N},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dmarc_record r;
		int err = dmarc_parse(slice_str(rows[i].text), &r);

		if (!err != rows[i].is_record)
			fail_msg("%s: %d", rows[i].text, err);
		if (!err && (r.is_applied != rows[i].is_applied || r.policy != rows[i].p ||
				    r.subdomains != rows[i].sp || r.absent != rows[i].np))
			fail_msg("%s: %d %d %d %d", rows[i].text, r.is_applied, r.policy, r.subdomains,
				r.absent);
	}
}

/* zone: "domain=record|domain=record". */
static void answer(struct dmarc_walk *walk, const char *zone)
{
	for (size_t i = 0; i < walk->count; i++) {
		struct slice rest = slice_str(zone), one, name;
		unsigned count = 0;

		while (dkim_tags_next(&rest, '|', &one))
			if (dkim_tags_next(&one, '=', &name) && slice_is_equal(name, walk->steps[i].domain))
				dmarc_walk_take(walk, i, one, &count);
	}
}

static void test_walks(void **state)
{
	static const struct {
		const char *domain, *zone, *organisation, *policy_at;
		bool exists;
		enum dmarc_policy policy;
	} rows[] = {
		/* RFC 9989 section 4.10.2's three examples. */
		{"a.mail.example.com", "mail.example.com=v=DMARC1;p=none|example.com=v=DMARC1;p=reject",
			"example.com", "example.com", true, R},
		{"a.mail.example.com",
			"mail.example.com=v=DMARC1;p=quarantine;psd=n|example.com=v=DMARC1;p=reject",
			"mail.example.com", "mail.example.com", true, Q},
		{"a.mail.example.com", "com=v=DMARC1;psd=y;p=reject", "example.com", "com", true, R},
		/* Nothing published; only by the author; twice. */
		{"a.example.com", "", "a.example.com", NULL, true, N},
		{"example.com", "example.com=v=DMARC1;p=reject", "example.com", "example.com", true, R},
		{"example.com", "example.com=v=DMARC1;p=reject|example.com=v=DMARC1;p=none", "example.com",
			NULL, true, N},
		{"example.com", "example.com=v=spf1 -all|example.com=v=DMARC1;p=reject", "example.com",
			"example.com", true, R},
		/* The author's own record, whatever its parents say. */
		{"a.example.com", "a.example.com=v=DMARC1;p=none|example.com=v=DMARC1;p=reject;sp=reject",
			"example.com", "a.example.com", true, N},
		/* sp and np. */
		{"a.example.com", "example.com=v=DMARC1;p=none;sp=quarantine;np=reject", "example.com",
			"example.com", true, Q},
		{"a.example.com", "example.com=v=DMARC1;p=none;sp=quarantine;np=reject", "example.com",
			"example.com", false, R},
		/* t, and pct of RFC 7489. */
		{"example.com", "example.com=v=DMARC1;p=reject;t=y", "example.com", "example.com", true, Q},
		{"example.com", "example.com=v=DMARC1;p=quarantine;pct=0", "example.com", "example.com", true,
			N},
		{"example.com", "example.com=v=DMARC1;p=reject;pct=50", "example.com", "example.com", true,
			R},
		{"example.com", "example.com=v=DMARC1;p=none;t=y", "example.com", "example.com", true, N},
		/* A suffix that sends mail itself; one below the other. */
		{"com", "com=v=DMARC1;psd=y;p=reject", "com", "com", true, R},
		{"a.b.co.uk", "co.uk=v=DMARC1;psd=y;p=none|uk=v=DMARC1;psd=y;p=reject", "b.co.uk", "co.uk",
			true, N},
		{"a.b.co.uk", "b.co.uk=v=DMARC1;p=quarantine|co.uk=v=DMARC1;psd=y;p=none", "b.co.uk",
			"b.co.uk", true, Q},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct dmarc_step *found;
		struct dmarc_walk walk;
		bool is_inherited;

		dmarc_walk_init(slice_str(rows[i].domain), &walk);
		answer(&walk, rows[i].zone);
		if (!slice_is_str(dmarc_walk_organisation(&walk), rows[i].organisation))
			fail_msg("row %zu: %.*s", i, SLICE_ARG(dmarc_walk_organisation(&walk)));
		found = dmarc_walk_policy(&walk);
		if (!found != !rows[i].policy_at ||
			(found && !slice_is_str(found->domain, rows[i].policy_at)))
			fail_msg("row %zu: policy of %.*s", i,
				SLICE_ARG(found ? found->domain : slice_of("-", 1)));
		if (found)
			assert_int_equal(dmarc_walk_wants(&walk, found, rows[i].exists, &is_inherited),
				rows[i].policy);
	}
}

static void test_security_20_long_names_cost_eight_questions(void **state)
{
	/* RFC 9989 section 4.10's example. */
	static const char *const want[] = {"a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com",
		"h.i.j.mail.example.com", "i.j.mail.example.com", "j.mail.example.com", "mail.example.com",
		"example.com", "com"};
	struct dmarc_walk walk;

	(void)state;
	dmarc_walk_init(slice_str(want[0]), &walk);
	assert_int_equal(walk.count, ARRAY_LEN(want));
	for (size_t i = 0; i < walk.count; i++)
		assert_true(slice_is_str(walk.steps[i].domain, want[i]));
}

static void test_security_20_several_authors_are_none(void **state)
{
	static const struct {
		const char *header;
		enum dmarc_author want;
		const char *domain;
	} rows[] = {
		{"From: a@example.com\r\n", DMARC_AUTHOR_ONE, "example.com"},
		{"From: \"a@victim.com\" <b@Example.COM>\r\n", DMARC_AUTHOR_ONE, "example.com"},
		{"From : a@example.com\r\n", DMARC_AUTHOR_ONE, "example.com"},
		{"From\t: a@example.com\r\n", DMARC_AUTHOR_ONE, "example.com"},
		{"From:\r\n a@example.com\r\n", DMARC_AUTHOR_ONE, "example.com"},
		{"From: a@example.com, b@example.com\r\n", DMARC_AUTHOR_ONE, "example.com"},
		{"From: a@b\xc3\xbc"
		 "cher.example\r\n",
			DMARC_AUTHOR_ONE, "xn--bcher-kva.example"},
		/* Class 20, CVE-2019-16378: two fields, two addresses, and the ways to write them. */
		{"From: a@example.com\r\nFrom: b@victim.com\r\n", DMARC_AUTHOR_SEVERAL, NULL},
		{"From: a@example.com\r\nfrom : a@example.com\r\n", DMARC_AUTHOR_SEVERAL, NULL},
		{"From: a@example.com\r\nSubject: x\r\nFROM: b@victim.com\r\n", DMARC_AUTHOR_SEVERAL, NULL},
		{"From: a@example.com, b@victim.com\r\n", DMARC_AUTHOR_SEVERAL, NULL},
		{"From: <a@victim.com>, <b@example.com>\r\n", DMARC_AUTHOR_SEVERAL, NULL},
		{"From: g: a@victim.com, b@example.com;\r\n", DMARC_AUTHOR_SEVERAL, NULL},
		{"From: a@victim.com <b@example.com>\r\n", DMARC_AUTHOR_ONE, "example.com"},
		{"From: nobody\r\n", DMARC_AUTHOR_MALFORMED, NULL},
		{"From: a@\r\n", DMARC_AUTHOR_MALFORMED, NULL},
		{"From: a@b..c\r\n", DMARC_AUTHOR_MALFORMED, NULL},
		{"From: =?utf-8?B?YUBleGFtcGxlLmNvbQ==?=\r\n", DMARC_AUTHOR_MALFORMED, NULL},
		{"To: a@example.com\r\n", DMARC_AUTHOR_NONE, NULL},
		{" From: a@example.com\r\n", DMARC_AUTHOR_NONE, NULL},
	};
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dkim_fields fields;
		struct slice domain = {0};
		enum dmarc_author got;

		assert_int_equal(dkim_fields_index(&a, slice_str(rows[i].header), &fields), 0);
		got = dmarc_author_domain(&a, &fields, &domain);
		if (got != rows[i].want || (rows[i].domain && !slice_is_str(domain, rows[i].domain)))
			fail_msg("%s: %d %.*s", rows[i].header, got, SLICE_ARG(domain));
	}
	arena_deinit(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_walks),
		cmocka_unit_test(test_security_20_long_names_cost_eight_questions),
		cmocka_unit_test(test_security_20_several_authors_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
