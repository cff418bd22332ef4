#include "common/proto/received_spf.h"

#include "common/proto/field_text.h"

/* "domain", the domain, `says`, the address, `ends`. */
static const struct {
	const char *result, *says, *ends;
} results[] = {
	{"pass", "designates", " as permitted sender"},
	{"fail", "does not designate", " as permitted sender"},
	{"softfail", "discourages the use of", ""},
	{"neutral", "neither permits nor denies", ""},
	{"none", "says nothing of", ""},
	{"temperror", "could not be asked about", ""},
	{"permerror", "has a wrong record, asked about", ""},
};

static void add_comment(struct field_text *f, const struct received_spf *field)
{
	struct buf text = {0}, word = {0};

	buf_printf(&text, "%.*s: domain %.*s ", SLICE_ARG(field->receiver), SLICE_ARG(field->domain));
	for (size_t i = 0; i < ARRAY_LEN(results); i++)
		if (strcmp(results[i].result, field->result) == 0)
			buf_printf(&text, "%s %.*s%s", results[i].says, SLICE_ARG(field->client_ip),
				results[i].ends);
	field_text_comment(&word, buf_view(&text));
	field_text_word(f, buf_view(&word));
	buf_deinit(&text);
	buf_deinit(&word);
}

void received_spf_write(struct buf *out, const struct received_spf *field)
{
	const struct {
		const char *key;
		struct slice value;
	} pairs[] = {
		{"identity", slice_str(field->identity)},
		{"client-ip", field->client_ip},
		{"envelope-from", field->envelope_from},
		{"helo", field->helo},
		{"receiver", field->receiver},
		{"mechanism", field->mechanism.len ? field->mechanism : SLICE_LIT("default")},
		{"problem", field->problem},
	};
	struct field_text f;
	struct buf word = {0};

	field_text_begin(&f, out, "Received-SPF");
	field_text_word(&f, slice_str(field->result));
	add_comment(&f, field);
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		if (!pairs[i].value.len)
			continue;
		buf_clear(&word);
		buf_printf(&word, "%s=", pairs[i].key);
		field_text_value(&word, pairs[i].value, false);
		buf_add_char(&word, ';');
		field_text_word(&f, buf_view(&word));
	}
	field_text_end(&f);
	buf_deinit(&word);
}
