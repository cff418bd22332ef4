/*
 * Conditions and actions as an operator may write them, each line one, at the phase of the first octet. What is taken holds no control and
 * is taken again as it was written; what is not brings a reason with a place. A condition is held against a message made of the last line.
 */
#include <stdlib.h>

#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/front/smtp_rule.h"

static void check_text(const char *text)
{
	require(!text || (!slice_has_control(slice_str(text)) && slice_is_utf8(slice_str(text))));
}

static void check_reason(struct buf *why)
{
	require(slice_has_prefix(buf_view(why), "octet "));
}

static void test_condition(const struct smtp_condition *c, struct slice text)
{
	struct header_field field;
	struct smtp_facts facts;
	struct smtp_scene scene = {.facts = &facts, .fields = &field, .field_count = 1};
	struct smtp_need need;
	char *raw = xmemdup0(text.p, text.len);

	smtp_facts_init(&facts);
	header_split(text, &field);
	facts.helo = facts.user = raw;
	smtp_facts_set(&facts.sender, text);
	smtp_facts_set(&facts.recipient, text);
	(void)smtp_rule_test(c, &scene, &need);
	smtp_facts_deinit(&facts);
	free(raw);
}

static void fuzz_condition(struct slice line, enum smtp_phase phase, struct slice last)
{
	struct smtp_condition c, again;
	struct buf why = {0};

	if (smtp_rule_parse_condition(line, phase, &why, &c) == 0) {
		check_text(c.text);
		check_text(c.name);
		test_condition(&c, last);
		require(smtp_rule_parse_condition(slice_str(c.text), phase, &why, &again) == 0);
		require(again.subject == c.subject && again.is_not == c.is_not && again.count == c.count &&
			again.words == c.words && again.number == c.number);
		smtp_rule_condition_deinit(&again);
		smtp_rule_condition_deinit(&c);
	} else {
		check_reason(&why);
	}
	buf_deinit(&why);
}

static void fuzz_action(struct slice line, enum smtp_phase phase)
{
	struct smtp_action a;
	struct buf why = {0};

	if (smtp_rule_parse_action(line, phase, &why, &a) == 0) {
		check_text(a.text);
		check_text(a.name);
		check_text(a.value);
		check_text(a.enhanced);
		require(!a.code || (a.code >= 400 && a.code < 600));
		smtp_rule_action_deinit(&a);
	} else {
		check_reason(&why);
	}
	buf_deinit(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size), last;
	enum smtp_phase phase;
	ptrdiff_t end;

	if (size < 2 || size > 20000)
		return 0;
	phase = (enum smtp_phase)(data[0] % SMTP_PHASES);
	in = slice_from(in, 1);
	end = slice_find_last(in, '\n');
	last = slice_from(in, end < 0 ? 0 : (size_t)end + 1);
	while ((end = slice_find(in, '\n')) >= 0) {
		fuzz_condition(slice_sub(in, 0, (size_t)end), phase, last);
		fuzz_action(slice_sub(in, 0, (size_t)end), phase);
		in = slice_from(in, (size_t)end + 1);
	}
	fuzz_condition(in, phase, last);
	fuzz_action(in, phase);
	return 0;
}
