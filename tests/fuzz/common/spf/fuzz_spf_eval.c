/*
 * The checker's input as a program may send it: records that have passed the grammar, answers of any kind. The input is lines: record,
 * sender, helo, then answers: a letter for the type (a, 6, m, t, p), the name, a blank, the data; data "!" is a failure, "-" none.
 * Whatever comes, there is a reply that can be read. Records that the grammar refuses are not sent: the library has a known overflow.
 */
#include "common/proto/spf_record.h"
#include "common/proto/spf_wire.h"
#include "common/spf/spf_eval.h"

#define ANSWERS 32

static struct slice next_line(struct slice *rest)
{
	ptrdiff_t end = slice_find(*rest, '\n');
	struct slice line = slice_sub(*rest, 0, end < 0 ? rest->len : (size_t)end);

	*rest = slice_from(*rest, line.len + 1);
	return line;
}

/* The record as the checker gets it; false: it is never sent. */
static bool write_record(struct slice text, const struct spf_record_values *values, struct buf *out)
{
	struct spf_record record;
	const char *why;

	if (!spf_record_is_one(text) || spf_record_parse(text, &record, &why, NULL) != 0)
		return false;
	spf_record_write(&record, values, out);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char letters[] = "a6mtp";
	static const unsigned types[] = {1, 28, 15, 16, 12};
	struct slice rest = slice_of(data, size), datas[ANSWERS];
	struct buf texts[ANSWERS + 1] = {0}, in = {0}, out = {0};
	struct spf_wire_answer answers[ANSWERS];
	struct spf_record_values values = {.domain = SLICE_LIT("y.test")};
	struct spf_wire_run run = {
		.ip = SLICE_LIT("\xc0\0\2\1"), .domain = values.domain, .answers = answers};
	struct spf_wire_reply reply;
	struct slice record = next_line(&rest);

	run.sender = values.sender = next_line(&rest);
	run.helo = values.helo = next_line(&rest);
	while (rest.len && run.count < ANSWERS) {
		struct slice line = next_line(&rest);
		const char *letter = line.len ? memchr(letters, line.p[0], 5) : NULL;
		ptrdiff_t blank = slice_find(line, ' ');
		struct spf_wire_answer *a = &answers[run.count];

		if (!letter || blank < 1)
			continue;
		datas[run.count] = slice_from(line, (size_t)blank + 1);
		*a = (struct spf_wire_answer){.type = types[letter - letters],
			.name = slice_sub(line, 1, (size_t)blank - 1),
			.state = slice_is_str(datas[run.count], "!")   ? SPF_WIRE_FAILED
				 : slice_is_str(datas[run.count], "-") ? SPF_WIRE_NONE
								       : SPF_WIRE_RECORDS};
		if (a->type == 16 && a->state == SPF_WIRE_RECORDS) {
			if (!write_record(datas[run.count], &values, &texts[run.count]))
				continue;
			datas[run.count] = buf_view(&texts[run.count]);
		}
		a->count = a->state == SPF_WIRE_RECORDS;
		a->data = &datas[run.count];
		run.count++;
	}
	if (write_record(record, &values, &texts[ANSWERS])) {
		run.record = buf_view(&texts[ANSWERS]);
		if (spf_wire_write_run(&run, &in) == 0 && spf_eval(buf_view(&in), &out) == 0)
			require(spf_wire_read_reply(buf_view(&out), run.count, &reply) == 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		buf_deinit(&texts[i]);
	buf_deinit(&in);
	buf_deinit(&out);
	return 0;
}
