/* DKIM: tag lists, canonical forms, signatures, key records, the fields that are covered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/dkim_canon.h"
#include "common/proto/dkim_fields.h"
#include "common/proto/dkim_key.h"
#include "common/proto/dkim_signature.h"
#include "common/proto/dkim_tags.h"
#include "tests/unit/feed.h"

/* ---- tag lists ---- */

static void test_tag_lists(void **state)
{
	static const struct {
		const char *text;
		int want;
		size_t count;
	} rows[] = {
		{"a=1", 0, 1},
		{"a=1;", 0, 1},
		{" a = 1 ; b\r\n\t=\r\n 2 ; ", 0, 2},
		{"a=;b=x y", 0, 2},
		{"a=1=2", 0, 1},
		{"a_1=x", 0, 1},
		{"", ERR_SYNTAX, 0},
		{";", ERR_SYNTAX, 0},
		{"a", ERR_SYNTAX, 0},
		{"a=1;;b=2", ERR_SYNTAX, 0},
		{"a=1;a=1", ERR_SYNTAX, 0},
		{"a=1;A=1", 0, 2},
		{"=1", ERR_SYNTAX, 0},
		{"1a=1", ERR_SYNTAX, 0},
		{"a-b=1", ERR_SYNTAX, 0},
		{"a=\x01", ERR_SYNTAX, 0},
		{"a=\x7f", ERR_SYNTAX, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].text));
		struct dkim_tags tags;
		int got = dkim_tags_parse(page.text, &tags);

		if (got != rows[i].want || (!got && tags.count != rows[i].count))
			fail_msg("%s: %d, %zu", rows[i].text, got, tags.count);
		feed_page_free(&page);
	}
}

static void test_tags_have_a_limit(void **state)
{
	struct buf text = {0};
	struct dkim_tags tags;

	(void)state;
	for (unsigned i = 0; i <= DKIM_TAGS_MOST; i++)
		buf_printf(&text, "t%u=1;", i);
	assert_int_equal(dkim_tags_parse(buf_view(&text), &tags), ERR_TOO_BIG);
	buf_deinit(&text);
}

static void test_base64_in_tags(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"aGVsbG8=", "hello"}, {" aGV\r\n\tsbG8 = ", "hello"}, {"aGVsbG8", "hello"},
		{"aGVsbA==", "hell"}, {"aGVs", "hel"}, {"", ""}, {"a", NULL}, {"aGVsbG8==", NULL},
		{"aGV=sbG8", NULL}, {"aGVsbG8!", NULL}, {"aGVsbG8gd29ybGQ=", NULL}, /* more than ten */
	};
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice got;
		int err = dkim_tags_base64(&a, slice_str(rows[i].text), 10, &got);

		if (!rows[i].want)
			assert_int_not_equal(err, 0);
		else if (err || !slice_is_str(got, rows[i].want))
			fail_msg("%s: %d %.*s", rows[i].text, err, SLICE_ARG(got));
	}
	arena_deinit(&a);
}

/* ---- canonical forms ---- */

static void canon_at(const char *in, size_t cut, bool is_relaxed, bool is_mended, struct buf *out)
{
	struct slice s = slice_str(in);
	struct dkim_body b;

	dkim_canon_body_init(&b, is_relaxed, dkim_canon_to_buf, out);
	b.is_mended = is_mended;
	for (size_t at = 0; at < s.len; at += cut) {
		struct feed_page page = feed_page_copy(slice_sub(s, at, cut));

		dkim_canon_body(&b, page.text);
		feed_page_free(&page);
	}
	dkim_canon_body_end(&b);
	assert_int_equal(b.size, buf_len(out));
}

static void check_body(const char *in, bool is_relaxed, bool is_mended, const char *want)
{
	for (size_t cut = 1; cut <= strlen(in) + 1; cut++) {
		struct buf out = {0};

		canon_at(in, cut, is_relaxed, is_mended, &out);
		if (!slice_is_str(buf_view(&out), want))
			fail_msg("[%s] cut at %zu: [%s]", in, cut, buf_str_view(&out));
		buf_deinit(&out);
	}
}

static void test_bodies_in_canonical_form(void **state)
{
	static const struct {
		const char *in, *simple, *relaxed;
	} rows[] = {
		{"", "\r\n", ""},
		{"\r\n", "\r\n", ""},
		{"\r\n\r\n\r\n", "\r\n", ""},
		{"a", "a\r\n", "a\r\n"},
		{"a\r\n", "a\r\n", "a\r\n"},
		{"a\r\n\r\n\r\n", "a\r\n", "a\r\n"},
		{" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"}, /* section 3.4.5 */
		{" \t \r\n", " \t \r\n", ""},
		{"a\r\n \r\n\r\n", "a\r\n \r\n", "a\r\n"},
		{"a \r\n\r\n b\r\n", "a \r\n\r\n b\r\n", "a\r\n\r\n b\r\n"},
		{"\r\n\r\na", "\r\n\r\na\r\n", "\r\n\r\na\r\n"},
		{"a\tb  c ", "a\tb  c \r\n", "a b c\r\n"},
		{"a\rb\r\n", "a\rb\r\n", "a\rb\r\n"},
		{"a\r\r\n", "a\r\r\n", "a\r\r\n"},
		{"a\nb\r\n", "a\nb\r\n", "a\nb\r\n"},
		{"one two  six\r\nten\r\n\r\n.\x01 \xe4\t\r\n \r\n",
			"one two  six\r\nten\r\n\r\n.\x01 \xe4\t\r\n \r\n",
			"one two six\r\nten\r\n\r\n.\x01 \xe4\r\n"},
		{"a b\r c\r\n d\r\ne \n f", "a b\r c\r\n d\r\ne \n f\r\n", "a b\r c\r\n d\r\ne \n f\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		check_body(rows[i].in, false, false, rows[i].simple);
		check_body(rows[i].in, true, false, rows[i].relaxed);
	}
}

/* As the way out sends them: each bare CR or LF is a line end. */
static void test_security_03_bare_line_ends_are_signed_as_they_leave(void **state)
{
	(void)state;
	check_body("a\rb\nc\r\n\r", false, true, "a\r\nb\r\nc\r\n");
	check_body("a \r b\n\n\n", true, true, "a\r\n b\r\n");
	check_body("a\r", false, true, "a\r\n");
}

static void check_field(const char *raw, bool is_relaxed, const char *want)
{
	struct feed_page page = feed_page_copy(slice_str(raw));
	struct buf out = {0};

	dkim_canon_field(page.text, is_relaxed, false, dkim_canon_to_buf, &out);
	assert_string_equal(buf_str_view(&out), want);
	buf_deinit(&out);
	feed_page_free(&page);
}

static void test_fields_in_canonical_form(void **state)
{
	(void)state;
	check_field("A: X\r\n", true, "a:X\r\n"); /* section 3.4.5 */
	check_field("B : Y\t\r\n\tZ  \r\n", true, "b:Y Z\r\n");
	check_field("B : Y\t\r\n\tZ  \r\n", false, "B : Y\t\r\n\tZ  \r\n");
	check_field("Subject:", true, "subject:\r\n");
	check_field("Subject: \r\n \r\n\t\r\n", true, "subject:\r\n");
	check_field("SuBJect:a:b", true, "subject:a:b\r\n");
	check_field("no field", true, "no field\r\n");
	check_field("", true, "\r\n");
}

static void check_signature(const char *raw, bool is_relaxed, const char *want)
{
	struct feed_page page = feed_page_copy(slice_str(raw));
	struct buf out = {0};

	dkim_canon_signature(page.text, is_relaxed, dkim_canon_to_buf, &out);
	assert_string_equal(buf_str_view(&out), want);
	buf_deinit(&out);
	feed_page_free(&page);
}

static void test_signatures_leave_out_b(void **state)
{
	(void)state;
	check_signature(
		"DKIM-Signature: a=1; b=xx\r\n yy; bh=zz;\r\n", true, "dkim-signature:a=1; b=; bh=zz;");
	check_signature(
		"DKIM-Signature: a=1; b=xx\r\n yy; bh=zz;\r\n", false, "DKIM-Signature: a=1; b=; bh=zz;");
	check_signature("DKIM-Signature: bh=b=1;\r\n\tb = xx\r\n", true, "dkim-signature:bh=b=1; b =");
	check_signature("DKIM-Signature: b=", true, "dkim-signature:b=");
	check_signature("DKIM-Signature: a=1", true, "dkim-signature:a=1");
	check_signature("b=1", true, "b=1");
}

/* ---- signatures ---- */

#define HASH "bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
#define GOOD "v=1;a=rsa-sha256;d=Example.COM;s=Sel;h=from:to;b=AAAA;" HASH

static int parse_sig(const char *text, enum dkim_field field, struct arena *a, struct dkim_signature *sig)
{
	const char *why = NULL;
	int err = dkim_signature_parse(a, slice_str(text), field, sig, &why);

	assert_true(!err == !why);
	return err;
}

static void test_signatures(void **state)
{
	static const struct {
		const char *text;
		int want;
	} rows[] = {
		{GOOD, 0},
		{GOOD ";c=relaxed", 0},
		{GOOD ";c=relaxed/simple;q=dns/txt;l=10;z=x", 0},
		{GOOD ";i=@example.com", 0},
		{GOOD ";i=a@sub.example.com", 0},
		{GOOD ";t=1;x=2", 0},
		{GOOD ";v=1", ERR_SYNTAX},
		{GOOD ";i=a@notexample.com", ERR_SYNTAX},
		{GOOD ";i=a@com", ERR_SYNTAX},
		{GOOD ";i=example.com", ERR_SYNTAX},
		{GOOD ";i=a@.example.com", ERR_SYNTAX},
		{GOOD ";c=nowsp/simple", ERR_UNSUPPORTED},
		{GOOD ";c=relaxed/simple/x", ERR_UNSUPPORTED},
		{GOOD ";q=http", ERR_UNSUPPORTED},
		{GOOD ";t=2;x=2", ERR_SYNTAX},
		{GOOD ";t=-1", ERR_SYNTAX},
		{GOOD ";x=9999999999999", ERR_SYNTAX},
		{"a=rsa-sha256;d=example.com;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=2;a=rsa-sha256;d=example.com;s=s;h=from;b=AAAA;" HASH, ERR_UNSUPPORTED},
		{"v=1;a=rsa-sha1;d=example.com;s=s;h=from;b=AAAA;" HASH, ERR_UNSUPPORTED},
		{"v=1;a=none;d=example.com;s=s;h=from;b=AAAA;" HASH, ERR_UNSUPPORTED},
		{"v=1;a=rsa-sha256;d=;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=a..b;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=a b;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=a/b;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com.;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com;s=;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com;s=s;h=to;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com;s=s;h=;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com;s=s;h=from::to;b=AAAA;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com;s=s;h=from;b=;" HASH, ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com;s=s;h=from;b=AAAA;bh=AAAA", ERR_SYNTAX},
		{"v=1;a=rsa-sha256;d=example.com;s=s;h=from;b=AAAA", ERR_SYNTAX},
		{"rubbish", ERR_SYNTAX},
	};
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dkim_signature sig;
		int got = parse_sig(rows[i].text, DKIM_FIELD_SIGNATURE, &a, &sig);

		if (got != rows[i].want)
			fail_msg("%s: %d", rows[i].text, got);
		if (!got) {
			assert_true(slice_is_str(sig.domain, "example.com"));
			assert_true(slice_is_str(sig.selector, "sel"));
			assert_true(slice_is_str(sig.b_start, "AAAA"));
		}
	}
	arena_deinit(&a);
}

static void test_security_20_a_long_list_of_fields_is_refused(void **state)
{
	struct buf text = {0};
	struct dkim_signature sig;
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	buf_add_str(&text, "v=1;a=rsa-sha256;d=example.com;s=s;b=AAAA;" HASH ";h=from");
	for (unsigned i = 0; i < DKIM_SIGNED_FIELDS_MOST; i++)
		buf_add_str(&text, ":to");
	assert_int_equal(parse_sig(buf_str_view(&text), DKIM_FIELD_SIGNATURE, &a, &sig), ERR_TOO_BIG);
	arena_deinit(&a);
	buf_deinit(&text);
}

static void test_arc_signatures(void **state)
{
	static const struct {
		enum dkim_field field;
		const char *text;
		int want;
	} rows[] = {
		{DKIM_FIELD_AMS, "i=1;a=rsa-sha256;d=e.com;s=s;h=from;b=AAAA;" HASH, 0},
		{DKIM_FIELD_AMS, "v=9;i=50;a=rsa-sha256;d=e.com;s=s;h=to;b=AAAA;" HASH, 0},
		{DKIM_FIELD_AMS, "i=51;a=rsa-sha256;d=e.com;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{DKIM_FIELD_AMS, "i=0;a=rsa-sha256;d=e.com;s=s;h=from;b=AAAA;" HASH, ERR_SYNTAX},
		{DKIM_FIELD_AMS, "i=1;a=rsa-sha256;d=e.com;s=s;h=from:arc-seal;b=AAAA;" HASH, ERR_SYNTAX},
		{DKIM_FIELD_SEAL, "i=1;a=rsa-sha256;d=e.com;s=s;cv=none;b=AAAA", 0},
		{DKIM_FIELD_SEAL, "i=1;a=rsa-sha256;d=e.com;s=s;cv=maybe;b=AAAA", ERR_SYNTAX},
		{DKIM_FIELD_SEAL, "i=1;a=rsa-sha256;d=e.com;s=s;b=AAAA", ERR_SYNTAX},
		{DKIM_FIELD_SEAL, "i=1;a=rsa-sha256;d=e.com;s=s;cv=none;h=from;b=AAAA", ERR_SYNTAX},
	};
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dkim_signature sig;
		int got = parse_sig(rows[i].text, rows[i].field, &a, &sig);

		if (got != rows[i].want)
			fail_msg("%s: %d", rows[i].text, got);
	}
	arena_deinit(&a);
}

static void test_times(void **state)
{
	struct dkim_signature sig = {.made = 1000000, .until = 2000000};

	(void)state;
	assert_null(dkim_signature_is_out_of_time(&sig, 1000000));
	assert_null(dkim_signature_is_out_of_time(&sig, 1000000 - DKIM_CLOCK_SKEW));
	assert_non_null(dkim_signature_is_out_of_time(&sig, 1000000 - DKIM_CLOCK_SKEW - 1));
	assert_null(dkim_signature_is_out_of_time(&sig, 2000000));
	assert_non_null(dkim_signature_is_out_of_time(&sig, 2000001));
	sig.made = sig.until = 0;
	assert_null(dkim_signature_is_out_of_time(&sig, 5));
}

static void test_what_is_written_is_read(void **state)
{
	uint8_t hash[DKIM_HASH_LEN] = {1, 2, 3};
	struct dkim_draft draft = {.algorithm = DKIM_ED25519_SHA256,
		.is_header_relaxed = true,
		.domain = SLICE_LIT("example.com"),
		.selector = SLICE_LIT("s2026"),
		.fields = SLICE_LIT("From:From:To:Subject:Date:Message-ID:MIME-Version:Content-Type:Cc:Bcc"),
		.body_hash = hash,
		.made = 1234567890};
	struct buf out = {0};
	struct header_field field;
	struct dkim_signature sig;
	struct slice rest;
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	dkim_signature_write(&draft, &out);
	dkim_signature_write_b(slice_of(hash, sizeof(hash)), &out);
	buf_add_str(&out, "\r\n");
	for (rest = buf_view(&out); rest.len;) {
		ptrdiff_t end = slice_find(rest, '\n');

		assert_true(end >= 0 && end < 80);
		rest = slice_from(rest, (size_t)end + 1);
	}
	header_split(buf_view(&out), &field);
	assert_true(slice_is_str(field.name, "DKIM-Signature"));
	assert_int_equal(dkim_signature_parse(&a, field.value, DKIM_FIELD_SIGNATURE, &sig, NULL), 0);
	assert_int_equal(sig.algorithm, DKIM_ED25519_SHA256);
	assert_true(sig.is_header_relaxed && !sig.is_body_relaxed);
	assert_true(slice_is_str(sig.domain, "example.com") && slice_is_str(sig.selector, "s2026"));
	assert_memory_equal(sig.body_hash, hash, sizeof(hash));
	assert_true(slice_is_equal(sig.b, slice_of(hash, sizeof(hash))));
	assert_int_equal(sig.made, draft.made);
	buf_deinit(&out);
	arena_deinit(&a);
}

/* ---- keys ---- */

static void test_key_records(void **state)
{
	static const struct {
		const char *text;
		int want;
	} rows[] = {
		{"v=DKIM1; k=rsa; p=AAAA", 0},
		{"p=AAAA", 0},
		{"k=ed25519; p=AA\r\n AA;", 0},
		{"v=DKIM1; h=sha1:sha256; s=email; t=y:s; n=x; p=AAAA", 0},
		{"v=DKIM1; s=*; p=AAAA", 0},
		{"v=DKIM1; p=", ERR_DENIED},
		{"v=DKIM1; s=tlsrpt; p=AAAA", ERR_UNSUPPORTED},
		{"v=DKIM1; h=sha1; p=AAAA", ERR_UNSUPPORTED},
		{"v=DKIM1; k=dsa; p=AAAA", ERR_UNSUPPORTED},
		{"v=DKIM2; p=AAAA", ERR_NOT_FOUND},
		{"p=AAAA; v=DKIM1", ERR_NOT_FOUND},
		{"v=DKIM1; k=rsa", ERR_NOT_FOUND},
		{"v=spf1 -all", ERR_NOT_FOUND},
		{"hello", ERR_NOT_FOUND},
		{"v=DKIM1; p=AAAA; p=AAAA", ERR_SYNTAX},
		{"v=DKIM1; p=A", ERR_SYNTAX},
		{"v=DKIM1; p=!!!!", ERR_SYNTAX},
	};
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dkim_key key;
		int got = dkim_key_parse(&a, slice_str(rows[i].text), &key);

		if (got != rows[i].want)
			fail_msg("%s: %d", rows[i].text, got);
	}
	arena_deinit(&a);
}

static void test_security_20_key_records_have_limits(void **state)
{
	struct buf text = {0};
	struct dkim_key key;
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	buf_add_str(&text, "v=DKIM1; p=");
	while (buf_len(&text) < DKIM_KEY_MOST * 2)
		buf_add_str(&text, "AAAA");
	assert_int_equal(dkim_key_parse(&a, buf_view(&text), &key), ERR_TOO_BIG);
	while (buf_len(&text) <= DKIM_KEY_RECORD_MOST)
		buf_add_str(&text, "AAAA");
	assert_int_equal(dkim_key_parse(&a, buf_view(&text), &key), ERR_TOO_BIG);
	buf_deinit(&text);
	arena_deinit(&a);
}

static void test_keys_refuse_signatures(void **state)
{
	struct dkim_key key = {.algorithm = DKIM_RSA_SHA256};
	struct dkim_signature sig = {.algorithm = DKIM_RSA_SHA256,
		.domain = SLICE_LIT("e.com"),
		.identity_domain = SLICE_LIT("sub.e.com")};

	(void)state;
	assert_null(dkim_key_refuses(&key, &sig));
	key.is_strict = true;
	assert_non_null(dkim_key_refuses(&key, &sig));
	sig.identity_domain = sig.domain;
	assert_null(dkim_key_refuses(&key, &sig));
	sig.algorithm = DKIM_ED25519_SHA256;
	assert_non_null(dkim_key_refuses(&key, &sig));
}

/* ---- fields ---- */

static void test_fields_are_taken_from_below(void **state)
{
	static const char header[] = "A: 1\r\nB: 2\r\nA: 3\r\nC: 4\r\n 5\r\na: 6\r\n\r\n";
	static const struct {
		const char *names, *want;
	} rows[] = {
		{"a", "a:6\r\n"},
		{"a:a", "a:6\r\na:3\r\n"},
		{"a : b:a:a:a", "a:6\r\nb:2\r\na:3\r\na:1\r\n"},
		{"c:x", "c:4 5\r\n"},
		{"", ""},
	};
	struct dkim_fields fields;
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	assert_int_equal(dkim_fields_index(&a, slice_str(header), &fields), 0);
	assert_int_equal(fields.count, 5);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = {0};

		dkim_fields_give(&fields, slice_str(rows[i].names), true, NULL, dkim_canon_to_buf, &out);
		assert_string_equal(buf_str_view(&out), rows[i].want);
		buf_deinit(&out);
	}
	arena_deinit(&a);
}

static void test_security_20_headers_have_limits(void **state)
{
	struct buf text = {0};
	struct dkim_fields fields;
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	for (unsigned i = 0; i <= DKIM_FIELDS_MOST; i++)
		buf_add_str(&text, "A: 1\r\n");
	assert_int_equal(dkim_fields_index(&a, buf_view(&text), &fields), ERR_TOO_BIG);
	buf_deinit(&text);
	arena_deinit(&a);
}

static void test_security_20_what_readers_see_is_signed_twice(void **state)
{
	static const char header[] = "From: a\r\nSubject: b\r\nX: c\r\nList-Id: d\r\nTo: e\r\nTo: f\r\n\r\n";
	struct dkim_fields fields;
	struct buf out = {0};
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	assert_int_equal(dkim_fields_index(&a, slice_str(header), &fields), 0);
	dkim_fields_write(&fields, false, &out);
	assert_string_equal(buf_str_view(&out),
		"From:From:Reply-To:Subject:Subject:Date:Message-ID:To:To:To:Cc:MIME-Version:Content-Type:"
		"Content-Transfer-Encoding:List-Id");
	buf_deinit(&out);
	arena_deinit(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tag_lists),
		cmocka_unit_test(test_tags_have_a_limit),
		cmocka_unit_test(test_base64_in_tags),
		cmocka_unit_test(test_bodies_in_canonical_form),
		cmocka_unit_test(test_security_03_bare_line_ends_are_signed_as_they_leave),
		cmocka_unit_test(test_fields_in_canonical_form),
		cmocka_unit_test(test_signatures_leave_out_b),
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_security_20_a_long_list_of_fields_is_refused),
		cmocka_unit_test(test_arc_signatures),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_key_records),
		cmocka_unit_test(test_security_20_key_records_have_limits),
		cmocka_unit_test(test_keys_refuse_signatures),
		cmocka_unit_test(test_fields_are_taken_from_below),
		cmocka_unit_test(test_security_20_headers_have_limits),
		cmocka_unit_test(test_security_20_what_readers_see_is_signed_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
