/* A range may be written from either end, as 500:400 or -500:-400. */
#include "common/proto/imap_partial.h"

#include "common/base/num.h"

/* nz-number, with the minus that all or none of the two has. */
static int read_number(struct slice text, bool is_last, uint32_t *n_out)
{
	if (is_last && (text.len == 0 || text.p[0] != '-'))
		return ERR_SYNTAX;
	return num_parse_u32(slice_from(text, is_last), n_out) < 0 || *n_out == 0 ? ERR_SYNTAX : 0;
}

int imap_partial_parse(const struct imap_arg *arg, struct imap_partial *partial_out)
{
	struct imap_partial p = {0};
	struct slice text;
	ptrdiff_t colon;

	if (imap_parse_atom(arg, &text) < 0)
		return ERR_SYNTAX;
	colon = slice_find(text, ':');
	p.is_last = text.len && text.p[0] == '-';
	if (colon < 0 || read_number(slice_sub(text, 0, (size_t)colon), p.is_last, &p.from) < 0 ||
		read_number(slice_from(text, (size_t)colon + 1), p.is_last, &p.to) < 0)
		return ERR_SYNTAX;
	if (p.from > p.to) {
		uint32_t from = p.from;

		p.from = p.to;
		p.to = from;
	}
	*partial_out = p;
	return 0;
}

void imap_partial_clip(const struct imap_partial *p, size_t count, size_t *first_out, size_t *count_out)
{
	size_t to = p->to < count ? p->to : count;
	size_t n = p->from <= to ? to - p->from + 1 : 0;

	*count_out = n;
	*first_out = n == 0 ? 0 : p->is_last ? count - to : p->from - 1;
}
