/*
 * Recursion goes along parentheses, NOT and OR; its depth is counted, and NOT NOT NOT ... is bounded by it
 * too.
 */
#include "common/proto/imap_search_key.h"

#include "common/proto/charset.h"
#include "common/proto/date.h"
#include "common/proto/imap_write.h"

#define DEPTH_MOST 60
#define TEXT_MOST 1000
#define ALL_CHILDREN UINT32_MAX

struct reader {
	struct arena *arena;
	const struct imap_arg *at;
	struct slice charset;
	struct imap_search search;
	unsigned depth;
};

enum takes {
	TAKES_NOTHING,
	TAKES_TEXT,
	TAKES_DATE,
	TAKES_NUMBER,
	TAKES_NZ_NUMBER,
	TAKES_KEYWORD
};

static const struct word {
	const char *word;
	enum imap_search_type type;
	enum imap_search_flag flag;
	bool is_not;
	enum takes takes;
	const char *name; /* of the header field */
} words[] = {
	{"ALL", IMAP_SEARCH_ALL, 0, false, TAKES_NOTHING, NULL},
	{"ANSWERED", IMAP_SEARCH_FLAG, IMAP_SEARCH_ANSWERED, false, TAKES_NOTHING, NULL},
	{"DELETED", IMAP_SEARCH_FLAG, IMAP_SEARCH_DELETED, false, TAKES_NOTHING, NULL},
	{"DRAFT", IMAP_SEARCH_FLAG, IMAP_SEARCH_DRAFT, false, TAKES_NOTHING, NULL},
	{"FLAGGED", IMAP_SEARCH_FLAG, IMAP_SEARCH_FLAGGED, false, TAKES_NOTHING, NULL},
	{"SEEN", IMAP_SEARCH_FLAG, IMAP_SEARCH_SEEN, false, TAKES_NOTHING, NULL},
	{"RECENT", IMAP_SEARCH_RECENT, 0, false, TAKES_NOTHING, NULL},
	{"OLD", IMAP_SEARCH_RECENT, 0, true, TAKES_NOTHING, NULL},
	{"UNANSWERED", IMAP_SEARCH_FLAG, IMAP_SEARCH_ANSWERED, true, TAKES_NOTHING, NULL},
	{"UNDELETED", IMAP_SEARCH_FLAG, IMAP_SEARCH_DELETED, true, TAKES_NOTHING, NULL},
	{"UNDRAFT", IMAP_SEARCH_FLAG, IMAP_SEARCH_DRAFT, true, TAKES_NOTHING, NULL},
	{"UNFLAGGED", IMAP_SEARCH_FLAG, IMAP_SEARCH_FLAGGED, true, TAKES_NOTHING, NULL},
	{"UNSEEN", IMAP_SEARCH_FLAG, IMAP_SEARCH_SEEN, true, TAKES_NOTHING, NULL},
	{"KEYWORD", IMAP_SEARCH_KEYWORD, 0, false, TAKES_KEYWORD, NULL},
	{"UNKEYWORD", IMAP_SEARCH_KEYWORD, 0, true, TAKES_KEYWORD, NULL},
	{"BEFORE", IMAP_SEARCH_BEFORE, 0, false, TAKES_DATE, NULL},
	{"ON", IMAP_SEARCH_ON, 0, false, TAKES_DATE, NULL},
	{"SINCE", IMAP_SEARCH_SINCE, 0, false, TAKES_DATE, NULL},
	{"SAVEDBEFORE", IMAP_SEARCH_SAVEDBEFORE, 0, false, TAKES_DATE, NULL},
	{"SAVEDON", IMAP_SEARCH_SAVEDON, 0, false, TAKES_DATE, NULL},
	{"SAVEDSINCE", IMAP_SEARCH_SAVEDSINCE, 0, false, TAKES_DATE, NULL},
	{"SAVEDATESUPPORTED", IMAP_SEARCH_ALL, 0, false, TAKES_NOTHING, NULL},
	{"EMAILID", IMAP_SEARCH_EMAILID, 0, false, TAKES_KEYWORD, NULL},
	{"THREADID", IMAP_SEARCH_THREADID, 0, false, TAKES_KEYWORD, NULL},
	{"SENTBEFORE", IMAP_SEARCH_SENTBEFORE, 0, false, TAKES_DATE, NULL},
	{"SENTON", IMAP_SEARCH_SENTON, 0, false, TAKES_DATE, NULL},
	{"SENTSINCE", IMAP_SEARCH_SENTSINCE, 0, false, TAKES_DATE, NULL},
	{"OLDER", IMAP_SEARCH_OLDER, 0, false, TAKES_NZ_NUMBER, NULL},
	{"YOUNGER", IMAP_SEARCH_YOUNGER, 0, false, TAKES_NZ_NUMBER, NULL},
	{"$", IMAP_SEARCH_SAVED, 0, false, TAKES_NOTHING, NULL},
	{"LARGER", IMAP_SEARCH_LARGER, 0, false, TAKES_NUMBER, NULL},
	{"SMALLER", IMAP_SEARCH_SMALLER, 0, false, TAKES_NUMBER, NULL},
	{"BCC", IMAP_SEARCH_HEADER, 0, false, TAKES_TEXT, "Bcc"},
	{"CC", IMAP_SEARCH_HEADER, 0, false, TAKES_TEXT, "Cc"},
	{"FROM", IMAP_SEARCH_HEADER, 0, false, TAKES_TEXT, "From"},
	{"SUBJECT", IMAP_SEARCH_HEADER, 0, false, TAKES_TEXT, "Subject"},
	{"TO", IMAP_SEARCH_HEADER, 0, false, TAKES_TEXT, "To"},
	{"BODY", IMAP_SEARCH_BODY, 0, false, TAKES_TEXT, NULL},
	{"TEXT", IMAP_SEARCH_TEXT, 0, false, TAKES_TEXT, NULL},
};

static int read_key(struct reader *r, struct imap_search_key **key_out);

static enum imap_search_cost own_cost(enum imap_search_type type)
{
	switch (type) {
	case IMAP_SEARCH_SAVEDBEFORE:
	case IMAP_SEARCH_SAVEDON:
	case IMAP_SEARCH_SAVEDSINCE:
	case IMAP_SEARCH_EMAILID:
	case IMAP_SEARCH_THREADID:
		return IMAP_SEARCH_COST_RECORD;
	case IMAP_SEARCH_SENTBEFORE:
	case IMAP_SEARCH_SENTON:
	case IMAP_SEARCH_SENTSINCE:
	case IMAP_SEARCH_HEADER:
		return IMAP_SEARCH_COST_HEADER;
	case IMAP_SEARCH_BODY:
	case IMAP_SEARCH_TEXT:
		return IMAP_SEARCH_COST_BODY;
	case IMAP_SEARCH_ALL:
	case IMAP_SEARCH_AND:
	case IMAP_SEARCH_OR:
	case IMAP_SEARCH_NOT:
	case IMAP_SEARCH_SEQ:
	case IMAP_SEARCH_UID:
	case IMAP_SEARCH_SAVED:
	case IMAP_SEARCH_FLAG:
	case IMAP_SEARCH_RECENT:
	case IMAP_SEARCH_KEYWORD:
	case IMAP_SEARCH_BEFORE:
	case IMAP_SEARCH_ON:
	case IMAP_SEARCH_SINCE:
	case IMAP_SEARCH_OLDER:
	case IMAP_SEARCH_YOUNGER:
	case IMAP_SEARCH_LARGER:
	case IMAP_SEARCH_SMALLER:
	case IMAP_SEARCH_MODSEQ:
		return IMAP_SEARCH_COST_INDEX;
	}
	return IMAP_SEARCH_COST_BODY;
}

static struct imap_search_key *new_key(struct reader *r, enum imap_search_type type)
{
	struct imap_search_key *key = arena_calloc(r->arena, 1, sizeof(*key));

	if (key) {
		key->type = type;
		key->cost = own_cost(type);
	}
	return key;
}

/* Cheap ones first, among equals as they came. last: of each cost, the last child so far. */
static void add_child(struct imap_search_key *parent, struct imap_search_key *child,
	struct imap_search_key *last[IMAP_SEARCH_COSTS])
{
	struct imap_search_key **place = &parent->first;

	for (size_t i = 0; i <= child->cost; i++) {
		if (last[i])
			place = &last[i]->next;
	}
	child->next = *place;
	*place = child;
	last[child->cost] = child;
	if (child->cost > parent->cost)
		parent->cost = child->cost;
}

static const struct imap_arg *take(struct reader *r)
{
	const struct imap_arg *arg = r->at;

	if (arg)
		r->at = arg->next;
	return arg;
}

/* An astring in the search's charset, out in UTF-8. */
static int read_text(struct reader *r, struct slice *text_out)
{
	struct buf utf8 = {0};
	struct slice text;
	int err = imap_parse_astring(take(r), &text);

	if (err < 0)
		return err;
	if (text.len > TEXT_MOST)
		return ERR_TOO_BIG;
	if (r->charset.len == 0 || slice_is_ascii(text)) {
		if (r->charset.len == 0 && !slice_is_utf8(text))
			return ERR_SYNTAX;
		*text_out = text;
		return 0;
	}
	err = charset_to_utf8(r->charset, text, &utf8);
	if (err == 0) {
		*text_out = arena_copy(r->arena, buf_view(&utf8));
		err = text_out->p ? 0 : ERR_TOO_BIG;
	}
	buf_deinit(&utf8);
	return err;
}

static int read_day(struct reader *r, int32_t *day_out)
{
	struct slice text;
	int err = imap_parse_astring(take(r), &text);

	return err < 0 ? err : date_parse_search(text, day_out);
}

/* MODSEQ ["entry" "type"] n (RFC 7162 section 3.1.5); the entry's kind does not matter here. */
static int read_modseq(struct reader *r, struct imap_search_key *key)
{
	const struct imap_arg *arg = take(r);

	if (arg && arg->type == IMAP_ARG_QUOTED) {
		arg = take(r);
		if (!imap_parse_is_word(arg, "all") && !imap_parse_is_word(arg, "priv") &&
			!imap_parse_is_word(arg, "shared"))
			return ERR_SYNTAX;
		arg = take(r);
	}
	r->search.has_modseq = true;
	return imap_parse_u63(arg, &key->number);
}

/* RFC 9051 section 9: sizes have 63 bits. */
static int read_number(struct reader *r, struct imap_search_key *key)
{
	return imap_parse_u63(take(r), &key->number);
}

static int read_word_value(struct reader *r, const struct word *word, struct imap_search_key *key)
{
	int err;

	switch (word->takes) {
	case TAKES_NOTHING:
		return 0;
	case TAKES_TEXT:
		return read_text(r, &key->text);
	case TAKES_DATE:
		return read_day(r, &key->day);
	case TAKES_NUMBER:
		return read_number(r, key);
	case TAKES_NZ_NUMBER:
		err = read_number(r, key);
		return err < 0 ? err : (key->number && key->number <= UINT32_MAX ? 0 : ERR_SYNTAX);
	case TAKES_KEYWORD:
		err = imap_parse_atom(take(r), &key->text);
		return err < 0 ? err : (imap_write_is_atom(key->text) ? 0 : ERR_SYNTAX);
	}
	return ERR_SYNTAX;
}

static int wrap_not(struct reader *r, struct imap_search_key *child, struct imap_search_key **key_out)
{
	struct imap_search_key *key = new_key(r, IMAP_SEARCH_NOT);

	if (!key)
		return ERR_TOO_BIG;
	key->first = child;
	key->cost = child->cost;
	*key_out = key;
	return 0;
}

static int read_word(struct reader *r, const struct word *word, struct imap_search_key **key_out)
{
	struct imap_search_key *key = new_key(r, word->type);
	int err;

	if (!key)
		return ERR_TOO_BIG;
	key->flag = word->flag;
	key->name = slice_str(word->name);
	key->is_of_envelope = word->name != NULL;
	err = read_word_value(r, word, key);
	if (err < 0)
		return err;
	if (word->is_not)
		return wrap_not(r, key, key_out);
	*key_out = key;
	return 0;
}

/* count of them, or as many as there are. */
static int read_children(struct reader *r, struct imap_search_key *parent, unsigned count)
{
	struct imap_search_key *last[IMAP_SEARCH_COSTS] = {NULL};

	for (unsigned i = 0; i < count && (r->at || count != ALL_CHILDREN); i++) {
		struct imap_search_key *child;
		int err = read_key(r, &child);

		if (err < 0)
			return err;
		add_child(parent, child, last);
	}
	return 0;
}

/* All keys up to the list's end. */
static int read_and(struct reader *r, struct imap_search_key **key_out)
{
	struct imap_search_key *key = new_key(r, IMAP_SEARCH_AND);
	int err;

	if (!key)
		return ERR_TOO_BIG;
	if (!r->at)
		return ERR_SYNTAX;
	err = read_children(r, key, ALL_CHILDREN);
	if (err < 0)
		return err;
	*key_out = key;
	return 0;
}

static int read_list(struct reader *r, const struct imap_arg *list, struct imap_search_key **key_out)
{
	const struct imap_arg *after = r->at;
	int err;

	r->at = list->first;
	err = read_and(r, key_out);
	r->at = after;
	return err;
}

/* NOT, OR, UID, HEADER, MODSEQ, NEW: what takes more than one value, or keys. */
static int read_special(struct reader *r, const struct imap_arg *arg, struct imap_search_key **key_out)
{
	static const struct {
		const char *word;
		enum imap_search_type type;
	} specials[] = {{"NOT", IMAP_SEARCH_NOT}, {"OR", IMAP_SEARCH_OR}, {"UID", IMAP_SEARCH_UID},
		{"HEADER", IMAP_SEARCH_HEADER}, {"MODSEQ", IMAP_SEARCH_MODSEQ}};
	struct imap_search_key *key = NULL;
	struct slice text;
	int err;

	for (size_t i = 0; i < ARRAY_LEN(specials) && !key; i++) {
		if (!imap_parse_is_word(arg, specials[i].word))
			continue;
		key = new_key(r, specials[i].type);
		if (!key)
			return ERR_TOO_BIG;
	}
	if (!key) {
		/* A sequence set has no word before it. */
		err = imap_parse_atom(arg, &text);
		if (err < 0)
			return err;
		key = new_key(r, IMAP_SEARCH_SEQ);
		if (!key)
			return ERR_TOO_BIG;
		err = seqset_parse(text, r->arena, &key->set);
		r->search.has_seq = true;
	} else if (key->type == IMAP_SEARCH_NOT || key->type == IMAP_SEARCH_OR) {
		err = read_children(r, key, key->type == IMAP_SEARCH_OR ? 2 : 1);
	} else if (key->type == IMAP_SEARCH_MODSEQ) {
		err = read_modseq(r, key);
	} else if (key->type == IMAP_SEARCH_HEADER) {
		err = imap_parse_astring(take(r), &key->name);
		if (err == 0)
			err = read_text(r, &key->text);
	} else if (imap_parse_is_word(r->at, "$")) {
		take(r);
		key->type = IMAP_SEARCH_SAVED;
		err = 0;
	} else {
		err = imap_parse_atom(take(r), &text);
		if (err == 0)
			err = seqset_parse(text, r->arena, &key->set);
	}
	if (err < 0)
		return err;
	*key_out = key;
	return 0;
}

/* NEW is RECENT UNSEEN. */
static int read_new(struct reader *r, struct imap_search_key **key_out)
{
	static const struct imap_arg unseen = {.type = IMAP_ARG_ATOM, .text = {"UNSEEN", 6}};
	static const struct imap_arg recent = {
		.type = IMAP_ARG_ATOM, .text = {"RECENT", 6}, .next = (struct imap_arg *)(uintptr_t)&unseen};
	struct imap_arg list = {.type = IMAP_ARG_LIST, .first = (struct imap_arg *)(uintptr_t)&recent};

	return read_list(r, &list, key_out);
}

static int read_one(struct reader *r, struct imap_search_key **key_out)
{
	const struct imap_arg *arg = take(r);

	if (!arg)
		return ERR_SYNTAX;
	if (arg->type == IMAP_ARG_LIST)
		return read_list(r, arg, key_out);
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (imap_parse_is_word(arg, words[i].word))
			return read_word(r, &words[i], key_out);
	}
	if (imap_parse_is_word(arg, "NEW"))
		return read_new(r, key_out);
	return read_special(r, arg, key_out);
}

static int read_key(struct reader *r, struct imap_search_key **key_out)
{
	int err;

	if (++r->depth > DEPTH_MOST)
		return ERR_TOO_BIG;
	err = read_one(r, key_out);
	r->depth--;
	return err;
}

/* RETURN (MIN MAX ALL COUNT SAVE PARTIAL 1:9); () is ALL (RFC 4731 section 3.1); ALL and PARTIAL exclude each
 * other (RFC 9394 section 3.1). */
static int read_returns(struct reader *r)
{
	static const struct {
		const char *word;
		enum imap_search_return bit;
	} bits[] = {{"MIN", IMAP_SEARCH_RETURN_MIN}, {"MAX", IMAP_SEARCH_RETURN_MAX},
		{"ALL", IMAP_SEARCH_RETURN_ALL}, {"COUNT", IMAP_SEARCH_RETURN_COUNT},
		{"PARTIAL", IMAP_SEARCH_RETURN_PARTIAL}, {"SAVE", IMAP_SEARCH_RETURN_SAVE}};
	const unsigned exclusive = IMAP_SEARCH_RETURN_ALL | IMAP_SEARCH_RETURN_PARTIAL;
	const struct imap_arg *list;

	if (!imap_parse_is_word(r->at, "RETURN"))
		return 0;
	take(r);
	list = take(r);
	if (!list || list->type != IMAP_ARG_LIST)
		return ERR_SYNTAX;
	if (!list->first)
		r->search.returns = IMAP_SEARCH_RETURN_ALL;
	for (const struct imap_arg *a = list->first; a; a = a->next) {
		unsigned bit = 0;

		for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
			if (imap_parse_is_word(a, bits[i].word))
				bit = bits[i].bit;
		}
		if (!bit)
			return ERR_SYNTAX;
		if (bit == IMAP_SEARCH_RETURN_PARTIAL) {
			a = a->next;
			if (r->search.partial.from || imap_partial_parse(a, &r->search.partial) < 0)
				return ERR_SYNTAX;
		}
		r->search.returns |= bit;
	}
	return (r->search.returns & exclusive) == exclusive ? ERR_SYNTAX : 0;
}

static int read_charset(struct reader *r)
{
	r->search.has_charset = true;
	if (imap_parse_astring(take(r), &r->charset) < 0)
		return ERR_SYNTAX;
	return charset_is_known(r->charset) ? 0 : ERR_UNSUPPORTED;
}

int imap_search_key_parse_returns(const struct imap_arg **args, struct imap_search *search_out)
{
	struct reader r = {.at = *args};
	int err = read_returns(&r);

	if (err < 0)
		return err;
	*args = r.at;
	*search_out = r.search;
	return 0;
}

int imap_search_key_parse_program(
	const struct imap_arg *args, struct arena *arena, struct imap_search *search_out)
{
	struct reader r = {.arena = arena, .at = args, .search = *search_out};
	int err = read_charset(&r);

	if (err == 0)
		err = read_and(&r, &r.search.key);
	if (err == 0)
		*search_out = r.search;
	return err;
}

int imap_search_key_parse(const struct imap_arg *args, struct arena *arena, struct imap_search *search_out)
{
	struct reader r = {.arena = arena, .at = args};
	int err = read_returns(&r);

	if (err == 0 && imap_parse_is_word(r.at, "CHARSET")) {
		take(&r);
		err = read_charset(&r);
	}
	if (err == 0)
		err = read_and(&r, &r.search.key);
	if (err == 0 || err == ERR_UNSUPPORTED)
		*search_out = r.search;
	return err;
}
