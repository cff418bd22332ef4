/* All that a search looks into, and nothing else: header, subject as the record has it, part headers, bodies. */
#include "backend/search/search_read.h"

struct taken {
	struct search_builder *builder;
	uint64_t text;
};

static bool take_text(void *arg, struct slice folded)
{
	struct taken *t = arg;

	search_builder_text(t->builder, folded);
	t->text += folded.len;
	return t->text <= SEARCH_DOC_TEXT_MAX;
}

int search_read_message(struct search_builder *builder, struct search_text *text, struct store_txn *txn,
	const struct store_message *message)
{
	struct taken t = {.builder = builder};
	struct slice piece;
	bool is_there = false;
	int err;

	search_text_begin(text, txn, message);
	err = search_text_header(text, &piece);
	if (err == 0)
		(void)take_text(&t, piece);
	if (err == 0)
		err = search_text_subject(text, &piece, &is_there);
	if (err == 0 && is_there)
		search_builder_text(builder, piece);
	if (err == 0)
		err = search_text_bodies(text, take_text, &t);
	if (err || t.text > SEARCH_DOC_TEXT_MAX) {
		search_builder_drop_doc(builder);
		return err == ERR_IO ? err : 0;
	}
	return search_builder_end_doc(builder, message->uid, (uint32_t)t.text);
}
