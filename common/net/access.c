/* Each rule is a range of addresses; they are sorted once, so that the first that fits is the one that decides. */
#include "common/net/access.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/num.h"

#define PRIORITY_MOST 1000000

enum kind {
	KIND_ANY,
	KIND_IP, /* from..to, `len` octets each */
	KIND_UNIX
};

struct rule {
	enum kind kind;
	enum access_answer answer;
	uint32_t priority;
	size_t len;
	unsigned width; /* log2 of how many addresses it names, rounded down; 128 and more for `any` */
	uint8_t from[16], to[16];
	size_t place; /* in the configuration */
};

struct access_rules {
	size_t count;
	struct rule rules[];
};

/* ---- reading ---- */

static struct slice next_word(struct slice *rest)
{
	struct slice s = slice_trim(*rest);
	size_t n = 0;

	while (n < s.len && s.p[n] != ' ' && s.p[n] != '\t')
		n++;
	*rest = slice_from(s, n);
	return slice_sub(s, 0, n);
}

/* Position of the highest bit in which they differ, plus one. */
static unsigned width_of(const struct rule *r)
{
	for (size_t i = 0; i < r->len; i++) {
		unsigned differ = r->from[i] ^ r->to[i];

		if (differ)
			return (unsigned)((r->len - i - 1) * 8) + 32 - (unsigned)__builtin_clz(differ);
	}
	return 0;
}

static int set_range(struct rule *r, const struct addr *from, const struct addr *to)
{
	struct slice a = addr_ip(from), b = addr_ip(to);

	if (a.len == 0 || a.len != b.len || memcmp(a.p, b.p, a.len) > 0)
		return ERR_SYNTAX;
	r->len = a.len;
	memcpy(r->from, a.p, a.len);
	memcpy(r->to, b.p, b.len);
	return 0;
}

static int set_network(struct rule *r, const struct addr_net *net)
{
	struct slice base = addr_ip(&net->base);
	int rc = set_range(r, &net->base, &net->base);

	for (unsigned bit = net->bits; rc == 0 && bit < base.len * 8; bit++)
		r->to[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
	return rc;
}

static int parse_what(struct slice what, struct rule *r)
{
	ptrdiff_t dash = slice_find(what, '-');
	struct addr_net net;
	struct addr from, to;
	int rc;

	r->kind = KIND_IP;
	if (slice_is_str(what, "any")) {
		r->kind = KIND_ANY;
		r->width = 200;
		return 0;
	}
	if (slice_is_str(what, "unix")) {
		r->kind = KIND_UNIX;
		return 0;
	}
	if (dash > 0) {
		if (addr_parse(slice_sub(what, 0, (size_t)dash), 0, &from) != 0 ||
			addr_parse(slice_from(what, (size_t)dash + 1), 0, &to) != 0)
			return ERR_SYNTAX;
		rc = set_range(r, &from, &to);
	} else {
		rc = addr_net_parse(what, &net);
		if (rc == 0)
			rc = set_network(r, &net);
	}
	r->width = width_of(r);
	return rc;
}

/* NULL, or what is wrong. */
static const char *parse_rule(struct slice text, struct rule *r)
{
	struct slice rest = text, word = next_word(&rest);

	*r = (struct rule){.priority = ACCESS_PRIORITY};
	if (word.len && word.p[0] >= '0' && word.p[0] <= '9') {
		if (num_parse_u32(word, &r->priority) != 0 || r->priority > PRIORITY_MOST)
			return "the priority is no number from 0 to 1000000";
		word = next_word(&rest);
	}
	if (slice_is_str(word, "allow"))
		r->answer = ACCESS_ALLOW;
	else if (slice_is_str(word, "deny"))
		r->answer = ACCESS_DENY;
	else
		return "`allow` or `deny` is asked for";
	if (parse_what(next_word(&rest), r) != 0)
		return "no address, range, network, `any` or `unix`";
	return slice_trim(rest).len ? "something stands after the rule" : NULL;
}

static int compare(const void *left, const void *right)
{
	const struct rule *a = left, *b = right;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->width != b->width)
		return a->width < b->width ? -1 : 1;
	if (a->answer != b->answer)
		return a->answer == ACCESS_DENY ? -1 : 1;
	return a->place < b->place ? -1 : 1;
}

int access_rules_new(const char *const *texts, size_t count, struct buf *why, struct access_rules **rules_out)
{
	struct access_rules *rules;

	if (count > ACCESS_RULES_MOST) {
		buf_printf(why, "%zu rules, more than %d", count, ACCESS_RULES_MOST);
		return ERR_TOO_BIG;
	}
	rules = xcalloc(1, sizeof(*rules) + count * sizeof(rules->rules[0]));
	for (size_t i = 0; i < count; i++) {
		const char *wrong = parse_rule(slice_str(texts[i]), &rules->rules[i]);

		if (wrong) {
			buf_printf(why, "\"%s\": %s", texts[i], wrong);
			free(rules);
			return ERR_SYNTAX;
		}
		rules->rules[i].place = i;
	}
	rules->count = count;
	qsort(rules->rules, count, sizeof(rules->rules[0]), compare);
	*rules_out = rules;
	return 0;
}

void access_rules_free(struct access_rules **rules)
{
	free(*rules);
	*rules = NULL;
}

/* ---- asking ---- */

static bool fits(const struct rule *r, const struct addr *peer, struct slice ip)
{
	switch (r->kind) {
	case KIND_ANY:
		return true;
	case KIND_UNIX:
		return ip.len == 0 && peer->len && peer->ss.ss_family == AF_UNIX;
	case KIND_IP:
		return ip.len == r->len && memcmp(ip.p, r->from, ip.len) >= 0 &&
		       memcmp(ip.p, r->to, ip.len) <= 0;
	}
	return false;
}

enum access_answer access_rules_ask(const struct access_rules *rules, const struct addr *peer)
{
	struct slice ip = addr_ip(peer);

	for (size_t i = 0; rules && i < rules->count; i++)
		if (fits(&rules->rules[i], peer, ip))
			return rules->rules[i].answer;
	return ACCESS_NONE;
}

bool access_is_allowed(const struct access_rules *const *levels, size_t count, const struct addr *peer)
{
	for (size_t i = 0; i < count; i++) {
		enum access_answer answer = access_rules_ask(levels[i], peer);

		if (answer != ACCESS_NONE)
			return answer == ACCESS_ALLOW;
	}
	return true;
}
