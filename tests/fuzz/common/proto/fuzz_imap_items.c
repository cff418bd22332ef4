/* FETCH items and SEARCH keys over whatever tree the command parser makes of the input. */
#include "common/base/attr.h"
#include "common/proto/imap_fetch_items.h"
#include "common/proto/imap_search_key.h"
#include "common/proto/imap_sort.h"
#include "common/proto/imap_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_label(struct slice label)
{
	/* Ready for a response: a line end stands within a literal alone. */
	if (slice_find(label, '{') < 0)
		require(!slice_has_control(label) || slice_find(label, '\n') < 0);
}

static void read_both(const struct imap_arg *args, struct arena *arena)
{
	struct imap_fetch_items items;
	struct imap_search search;
	struct imap_sort sort;

	if (imap_fetch_items_parse(args, arena, &items) == 0) {
		for (const struct imap_fetch_body *b = items.bodies; b; b = b->next)
			check_label(b->label);
	}
	if (imap_sort_parse(args, &sort) == 0)
		require(sort.count > 0 && sort.count <= IMAP_SORT_KEYS);
	if (imap_search_key_parse(args, arena, &search) == 0)
		require(search.key && search.key->type == IMAP_SEARCH_AND);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct imap_url url;
	struct imap_parse p;
	struct arena arena;
	enum imap_parse_event event = IMAP_PARSE_MORE;

	arena_init(&arena, IMAP_PARSE_ARENA_AFTER);
	if (imap_url_parse(in, &arena, &url) == 0)
		require(url.uid && url.length && slice_find(url.mailbox, '\0') < 0 &&
			slice_find(url.section, '\0') < 0);
	imap_parse_start(&p, &imap_parse_limits_after_login, &arena);
	do {
		ssize_t n = imap_parse_feed(&p, in, &event);

		if (n < 0 || (event == IMAP_PARSE_LITERAL && imap_parse_hold(&p) < 0))
			break;
		in = slice_from(in, (size_t)n);
	} while (event == IMAP_PARSE_LITERAL);
	if (event == IMAP_PARSE_COMMAND)
		read_both(p.command.args, &arena);
	arena_deinit(&arena);
	return 0;
}
