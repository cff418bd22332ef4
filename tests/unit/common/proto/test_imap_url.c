/* URLs of messages: what they say, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/imap_url.h"

static void test_urls_are_read(void **state)
{
	static const struct {
		const char *text, *mailbox;
		uint32_t uidvalidity, uid;
		const char *section;
		uint64_t from, length;
	} rows[] = {
		{"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER", "Drafts", 385759045, 20, "HEADER",
			0, UINT64_MAX},
		{"/Drafts;UIDVALIDITY=385759045/;UID=30", "Drafts", 385759045, 30, "", 0, UINT64_MAX},
		{"/a%20b/c%C3%A4/;uid=1/;SECTION=1.2.MIME/;PARTIAL=5.7", "a b/c\xc3\xa4", 0, 1, "1.2.MIME", 5,
			7},
		{"/;UID=4294967295/;PARTIAL=9", "", 0, UINT32_MAX, "", 9, UINT64_MAX},
		{";UID=7/;SECTION=HEADER.FIELDS%20(DATE%20FROM)", "", 0, 7, "HEADER.FIELDS (DATE FROM)", 0,
			UINT64_MAX},
		{"/%41%", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX", NULL, 0, 0, NULL, 0, 0},
		{"", NULL, 0, 0, NULL, 0, 0},
		{"/", NULL, 0, 0, NULL, 0, 0},
		{"imap://host/INBOX/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"//host/INBOX/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"INBOX/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=0", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=1x", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=99999999999", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX;UIDVALIDITY=0/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX;X=1/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"/IN%00BOX/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"/IN%4/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"/IN\x01/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"/IN\xc3\xa4/;UID=1", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=1/;SECTION=", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=1/;PARTIAL=1.0", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=1/;PARTIAL=x", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=1/;PARTIAL=1/;SECTION=1", NULL, 0, 0, NULL, 0, 0},
		{"/INBOX/;UID=1;URLAUTH=anonymous", NULL, 0, 0, NULL, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct imap_url url;
		struct arena arena;
		int err;

		arena_init(&arena, 4096);
		err = imap_url_parse(slice_str(rows[i].text), &arena, &url);
		if (!rows[i].mailbox) {
			if (err != ERR_SYNTAX)
				fail_msg("%s: %d", rows[i].text, err);
		} else if (err || !slice_is_str(url.mailbox, rows[i].mailbox) ||
			   url.uidvalidity != rows[i].uidvalidity || url.uid != rows[i].uid ||
			   !slice_is_str(url.section, rows[i].section) || url.from != rows[i].from ||
			   url.length != rows[i].length) {
			fail_msg("%s: %d %.*s %u %u", rows[i].text, err, (int)url.mailbox.len, url.mailbox.p,
				url.uidvalidity, url.uid);
		}
		arena_deinit(&arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_urls_are_read)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
