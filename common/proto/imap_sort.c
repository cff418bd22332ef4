/* Tables of words. */
#include "common/proto/imap_sort.h"

static const char *const keys[IMAP_SORT_KEYS] = {
	[IMAP_SORT_ARRIVAL] = "ARRIVAL",
	[IMAP_SORT_CC] = "CC",
	[IMAP_SORT_DATE] = "DATE",
	[IMAP_SORT_FROM] = "FROM",
	[IMAP_SORT_SIZE] = "SIZE",
	[IMAP_SORT_SUBJECT] = "SUBJECT",
	[IMAP_SORT_TO] = "TO",
	[IMAP_SORT_DISPLAYFROM] = "DISPLAYFROM",
	[IMAP_SORT_DISPLAYTO] = "DISPLAYTO",
};

static const char *const algorithms[] = {
	[IMAP_THREAD_ORDEREDSUBJECT] = "ORDEREDSUBJECT",
	[IMAP_THREAD_REFERENCES] = "REFERENCES",
};

static bool has_key(const struct imap_sort *sort, enum imap_sort_key key)
{
	for (size_t i = 0; i < sort->count; i++) {
		if (sort->criteria[i].key == key)
			return true;
	}
	return false;
}

int imap_sort_parse(const struct imap_arg *arg, struct imap_sort *sort_out)
{
	struct imap_sort sort = {.count = 0};

	if (!arg || arg->type != IMAP_ARG_LIST || !arg->first)
		return ERR_SYNTAX;
	for (arg = arg->first; arg; arg = arg->next) {
		bool is_reverse = imap_parse_is_word(arg, "REVERSE");
		unsigned i = 0;

		if (is_reverse)
			arg = arg->next;
		while (i < IMAP_SORT_KEYS && !imap_parse_is_word(arg, keys[i]))
			i++;
		if (i == IMAP_SORT_KEYS)
			return ERR_SYNTAX;
		if (!has_key(&sort, (enum imap_sort_key)i))
			sort.criteria[sort.count++] =
				(struct imap_sort_criterion){(enum imap_sort_key)i, is_reverse};
	}
	*sort_out = sort;
	return 0;
}

int imap_sort_parse_algorithm(const struct imap_arg *arg, enum imap_thread_algorithm *algorithm_out)
{
	struct slice word;

	if (imap_parse_atom(arg, &word) < 0)
		return ERR_SYNTAX;
	for (unsigned i = 0; i < ARRAY_LEN(algorithms); i++) {
		if (imap_parse_is_word(arg, algorithms[i])) {
			*algorithm_out = (enum imap_thread_algorithm)i;
			return 0;
		}
	}
	return ERR_UNSUPPORTED;
}
