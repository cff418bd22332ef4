/* What a file says: columns, attributes, and every error with its line; nothing of the store changes. */
#include "tests/unit/backend/store/temp_store.h"

#include <time.h>

#include "backend/admin/import_rows.h"

static struct temp_store t;

static int setup(void **state)
{
	const struct store_class class = {.name = SLICE_LIT("gold")};
	const struct store_domain domain = {.name = SLICE_LIT("small.test"),
		.aliases = SLICE_LIT("alias.test"),
		.accounts_most = 1,
		.bytes_most = 1000};
	struct store_txn *txn;

	(void)state;
	temp_start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_class_put(txn, &class), 0);
	assert_int_equal(store_domain_put(txn, &domain), 0);
	assert_int_equal(store_account_add_alias(txn, t.account, SLICE_LIT("also@example.com")), 0);
	assert_int_equal(store_commit(&txn), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	temp_end(&t);
	return 0;
}

static void report(void *arg, unsigned line, struct slice address, const char *why)
{
	(void)address;
	assert_true(strlen(why) > 0);
	buf_printf(arg, "%u ", line);
}

static void report_nothing(void *arg, unsigned line, struct slice address, const char *why)
{
	(void)arg;
	(void)line;
	(void)address;
	(void)why;
}

static int read_text(
	const char *text, enum import_format format, struct import_rows *rows, struct buf *errors)
{
	const struct import_check check = {.store = t.store,
		.format = format,
		.domains_must_exist = false,
		.report = report,
		.arg = errors};
	const char *why = NULL;

	*rows = (struct import_rows){0};
	return import_rows_read(slice_str(text), &check, rows, &why);
}

static void test_values(void **state)
{
	struct import_rows rows;
	struct buf errors = {0};
	const struct import_row *r;

	(void)state;
	assert_int_equal(
		read_text("password,ADDRESS,class,quota,count,aliases,forward,keep,disabled,name\n"
			  "\" pass \",A@New.test,gold,2K,none,b@new.test;c@new.test "
			  "b@new.test,also@example.com d@new.test,no,yes,Ann\n"
			  ",d@new.test,,,,,,,,\n{PLAIN}x,alice@example.com,,,,also@example.com,,yes,no,\n",
			IMPORT_CSV, &rows, &errors),
		0);
	assert_string_equal(buf_str_view(&errors), "");
	assert_int_equal(rows.count, 3);
	assert_int_equal(rows.new_count, 2);
	assert_int_equal(rows.present_count, 1);
	assert_int_equal(rows.clear_count, 1);
	r = &rows.rows[0];
	assert_true(slice_is_str(r->address, "a@new.test"));
	assert_true(slice_is_str(r->password, " pass "));
	assert_true(r->is_clear);
	assert_int_equal(r->policy.says, STORE_SAYS_BYTES | STORE_SAYS_COUNT);
	assert_int_equal(r->policy.bytes_limit, 2048);
	assert_int_equal(r->alias_count, 2);
	assert_true(slice_is_str(r->forwards, "also@example.com\nd@new.test"));
	assert_int_equal(r->flags_set, STORE_ACCOUNT_DISABLED | STORE_ACCOUNT_FORWARDS_ONLY);
	assert_int_equal(rows.rows[1].policy.says, 0);
	assert_false(rows.rows[1].sets_forwards);
	r = &rows.rows[2];
	assert_false(r->is_clear);
	assert_int_equal(r->flags_cleared, STORE_ACCOUNT_DISABLED | STORE_ACCOUNT_FORWARDS_ONLY);
	import_rows_free(&rows);
	buf_deinit(&errors);
}

static void test_errors_have_their_lines(void **state)
{
	static const struct {
		const char *text, *lines;
		enum import_format format;
	} rows[] = {
		{"address\nno\n@x\na b\x01@x\nok@x.test\n", "2 3 4 ", IMPORT_CSV},
		{"address,password\na@x.test,{NO}x\nb@x.test,$9$x\nc@x.test,fine\n", "2 3 ", IMPORT_CSV},
		{"address,quota,count\na@x.test,-1,\nb@x.test,1Q,\nc@x.test,,1K\nd@small.test,1001,\ne@small."
		 "test,none,\n",
			"2 3 4 5 6 ", IMPORT_CSV},
		{"address,aliases\na@x.test,also@example.com\nb@x.test,c@x.test\nc@x.test,\nd@x.test,e@alias."
		 "test\nf@x.test,g@x.test,h\n",
			"6 2 4 5 ", IMPORT_CSV},
		{"address\nalso@example.com\na@small.test\nb@small.test\nc@alias.test\n", "2 4 5 ",
			IMPORT_CSV},
		{"address,forward\na@x.test,a@x.test\nb@x.test,nobody@x.test\nc@x.test,a@x.test\nd@x.test,c@"
		 "x.test\n",
			"2 4 5 ", IMPORT_CSV},
		{"address,disabled,keep,class\na@x.test,perhaps,,\nb@x.test,,x,\nc@x.test,,,nosuch\n",
			"2 3 4 ", IMPORT_CSV},
		{"dn: a\nmail: a@x.test\nuserPassword: {NO}x\n\ndn: b\nmail: b@x.test\nchangetype: "
		 "modify\n\ndn: c\ncn: x\n\ndn: d\nmail: a\n",
			"3 7 12 ", IMPORT_LDIF},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct import_rows got;
		struct buf errors = {0};

		assert_int_equal(read_text(rows[i].text, rows[i].format, &got, &errors), 0);
		assert_string_equal(buf_str_view(&errors), rows[i].lines);
		import_rows_free(&got);
		buf_deinit(&errors);
	}
}

static void test_no_header_is_no_file(void **state)
{
	static const char *const texts[] = {"", "\n", "a@x.test\n", "address,address\n", "password\nx\n",
		"address,shoe size\n", "\"address"};
	struct import_rows rows;
	struct buf errors = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(read_text(texts[i], IMPORT_CSV, &rows, &errors), ERR_SYNTAX);
		import_rows_free(&rows);
	}
	assert_int_equal(read_text("", IMPORT_LDIF, &rows, &errors), 0);
	assert_int_equal(rows.count, 0);
	import_rows_free(&rows);
	buf_deinit(&errors);
}

static uint64_t spent_on(struct slice text, enum import_format format)
{
	const struct import_check check = {.store = t.store, .format = format, .report = report_nothing};
	struct import_rows rows = {0};
	struct timespec a, b;
	const char *why;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	(void)!import_rows_read(text, &check, &rows, &why);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	import_rows_free(&rows);
	return (uint64_t)(b.tv_sec - a.tv_sec) * 1000000 + (uint64_t)(b.tv_nsec / 1000) -
	       (uint64_t)(a.tv_nsec / 1000);
}

/* Time grows with the size alone, whatever the file is made of; the limits of one row hold. */
static void test_security_files_of_accounts_are_hostile(void **state)
{
	static const struct {
		const char *head, *piece;
		enum import_format format;
	} rows[] = {
		{"address,aliases\n", "\"", IMPORT_CSV},
		{"address,aliases\n", "\"x\n", IMPORT_CSV},
		{"address,aliases\n\"a\n", "\"\"\n", IMPORT_CSV},
		{"address,aliases\n", "\n", IMPORT_CSV},
		{"address,aliases\na@x.test,\"", "b@x.test ", IMPORT_CSV},
		{"address,aliases\n", "a@x.test,b@x.test\n", IMPORT_CSV},
		{"", " \n", IMPORT_LDIF},
		{"dn: a\nmail: a@x.test\n", "mail: b@x.test\n", IMPORT_LDIF},
		{"dn: a\ncn: x\n", " y\n", IMPORT_LDIF},
		{"", "#\n \n", IMPORT_LDIF},
		{"", "dn: a\n\n", IMPORT_LDIF},
		{"dn: a\nmail: a@x.test\n", "mailForwardingAddress: b@x.test\n", IMPORT_LDIF},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf text = {0};
		uint64_t once, more;

		buf_add_str(&text, rows[i].head);
		for (int k = 0; k < 30000; k++)
			buf_add_str(&text, rows[i].piece);
		once = spent_on(buf_view(&text), rows[i].format);
		for (int k = 0; k < 210000; k++)
			buf_add_str(&text, rows[i].piece);
		more = spent_on(buf_view(&text), rows[i].format);
		if (more > 50000 && more > 40 * (once + 1000))
			fail_msg("row %zu: %llu us, and %llu us for eight times as much", i,
				(unsigned long long)once, (unsigned long long)more);
		buf_deinit(&text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_errors_have_their_lines),
		cmocka_unit_test(test_no_header_is_no_file),
		cmocka_unit_test(test_security_files_of_accounts_are_hostile),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
