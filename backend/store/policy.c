/* Texts of a domain's record stay packed in the entry; aliases have rows of their own in a table. */
#include "backend/store/policy.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/table.h"

struct policies {
	struct table *domains; /* name -> struct domain_entry */
	struct table *aliases; /* name -> struct alias */
	struct table *classes;
	struct store_policy built_in;
};

struct alias {
	struct domain_entry *domain;
	char *name;
};

struct policies *policies_new(void)
{
	struct policies *p = xcalloc(1, sizeof(*p));

	p->domains = table_new();
	p->aliases = table_new();
	p->classes = table_new();
	p->built_in.says = STORE_SAYS_ALL;
	p->built_in.protocols = STORE_PROTOCOLS_ALL;
	p->built_in.suspended_mail = STORE_MAIL_KEPT;
	return p;
}

static void alias_free(struct alias *a)
{
	free(a->name);
	free(a);
}

static void domain_free(struct domain_entry *d)
{
	free(d->name);
	free(d->text);
	free(d);
}

static void class_free(struct class_entry *c)
{
	free(c->name);
	free(c);
}

void policies_free(struct policies **policies)
{
	struct policies *p = *policies;
	struct slice key;
	void *value;

	*policies = NULL;
	if (!p)
		return;
	for (size_t at = 0; table_next(p->aliases, &at, &key, &value);)
		alias_free(value);
	for (size_t at = 0; table_next(p->domains, &at, &key, &value);)
		domain_free(value);
	for (size_t at = 0; table_next(p->classes, &at, &key, &value);)
		class_free(value);
	table_free(&p->aliases);
	table_free(&p->domains);
	table_free(&p->classes);
	free(p);
}

void policies_set_built_in(struct policies *p, uint64_t bytes_limit, uint64_t count_limit)
{
	p->built_in.bytes_limit = bytes_limit;
	p->built_in.count_limit = count_limit;
}

struct slice policies_domain_of(struct slice address)
{
	ptrdiff_t at = slice_find_last(address, '@');

	return at < 0 ? SLICE_LIT("") : slice_from(address, (size_t)at + 1);
}

struct table *policies_domains(struct policies *p)
{
	return p->domains;
}

struct table *policies_classes(struct policies *p)
{
	return p->classes;
}

/* ---- classes ---- */

struct class_entry *policies_class(struct policies *p, struct slice name)
{
	return table_get(p->classes, name);
}

static struct class_entry *need_class(struct policies *p, struct slice name)
{
	struct class_entry *c = name.len ? table_get(p->classes, name) : NULL;

	if (c || !name.len)
		return c;
	c = xcalloc(1, sizeof(*c));
	c->name = slice_copy_str(name);
	table_put(p->classes, slice_str(c->name), c);
	return c;
}

static void tidy_class(struct policies *p, struct class_entry *c)
{
	if (!c || c->has_record || c->accounts || c->domains)
		return;
	table_remove(p->classes, slice_str(c->name));
	class_free(c);
}

struct class_entry *policies_hold_class(struct policies *p, struct slice name)
{
	struct class_entry *c = need_class(p, name);

	if (c)
		c->accounts++;
	return c;
}

void policies_let_class(struct policies *p, struct class_entry *c)
{
	if (c)
		c->accounts--;
	tidy_class(p, c);
}

int policies_put_class(struct policies *p, struct slice name, struct slice record)
{
	struct store_class class;
	struct class_entry *c;
	int err = record_unpack_class(name, record, &class);

	if (err)
		return err;
	c = need_class(p, name);
	c->has_record = true;
	c->policy = class.policy;
	return 0;
}

void policies_drop_class(struct policies *p, struct slice name)
{
	struct class_entry *c = policies_class(p, name);

	if (!c)
		return;
	c->has_record = false;
	c->policy = (struct store_policy){0};
	tidy_class(p, c);
}

/* ---- domains ---- */

struct domain_entry *policies_domain(struct policies *p, struct slice name)
{
	return table_get(p->domains, name);
}

struct domain_entry *policies_alias(struct policies *p, struct slice name)
{
	const struct alias *a = table_get(p->aliases, name);

	return a ? a->domain : NULL;
}

struct domain_entry *policies_hold_domain(struct policies *p, struct slice name)
{
	struct domain_entry *d = policies_domain(p, name);

	if (d)
		return d;
	d = xcalloc(1, sizeof(*d));
	d->name = slice_copy_str(name);
	d->domain.name = slice_str(d->name);
	table_put(p->domains, slice_str(d->name), d);
	return d;
}

void policies_let_domain(struct policies *p, struct domain_entry *d)
{
	if (!d || d->has_record || d->accounts || d->names || d->reserved)
		return;
	table_remove(p->domains, slice_str(d->name));
	domain_free(d);
}

/* The next name of a list; empty at its end. */
static struct slice next_alias(struct slice *rest)
{
	ptrdiff_t at = slice_find(*rest, ' ');
	struct slice name = at < 0 ? *rest : slice_sub(*rest, 0, (size_t)at);

	*rest = slice_from(*rest, name.len + (at >= 0));
	return name;
}

static void drop_aliases(struct policies *p, struct domain_entry *d)
{
	struct slice rest = d->domain.aliases;

	while (rest.len) {
		struct slice name = next_alias(&rest);
		struct alias *a = table_get(p->aliases, name);

		if (!a || a->domain != d)
			continue;
		table_remove(p->aliases, name);
		alias_free(a);
	}
}

static void add_aliases(struct policies *p, struct domain_entry *d)
{
	struct slice rest = d->domain.aliases;

	while (rest.len) {
		struct slice name = next_alias(&rest);
		struct alias *a;

		if (!name.len || table_get(p->aliases, name))
			continue;
		a = xcalloc(1, sizeof(*a));
		a->domain = d;
		a->name = slice_copy_str(name);
		table_put(p->aliases, slice_str(a->name), a);
	}
}

static void forget_record(struct policies *p, struct domain_entry *d)
{
	struct class_entry *c = d->class;

	drop_aliases(p, d);
	d->class = NULL;
	if (c)
		c->domains--;
	tidy_class(p, c);
	free(d->text);
	d->text = NULL;
	d->domain = (struct store_domain){.name = slice_str(d->name)};
	d->has_record = false;
}

int policies_put_domain(struct policies *p, struct slice name, struct slice record)
{
	char *text = xmemdup0(record.p, record.len);
	struct store_domain domain;
	struct domain_entry *d;
	int err = record_unpack_domain(name, slice_of(text, record.len), &domain);

	if (err) {
		free(text);
		return err;
	}
	d = policies_hold_domain(p, name);
	forget_record(p, d);
	d->text = text;
	d->domain = domain;
	d->domain.name = slice_str(d->name);
	d->has_record = true;
	d->class = need_class(p, domain.class);
	if (d->class)
		d->class->domains++;
	add_aliases(p, d);
	return 0;
}

void policies_drop_domain(struct policies *p, struct slice name)
{
	struct domain_entry *d = policies_domain(p, name);

	if (!d)
		return;
	forget_record(p, d);
	policies_let_domain(p, d);
}

/* ---- levels ---- */

struct policy_levels policy_levels(const struct store_policy *account, const struct class_entry *own_class,
	const struct domain_entry *domain)
{
	return (struct policy_levels){
		.account = account,
		.class = own_class ? own_class
			 : domain  ? domain->class
				   : NULL,
		.domain = domain,
	};
}

/* The first level that says this. */
static const struct store_policy *who_says(const struct policies *p, const struct policy_levels *l,
	enum store_says what, enum store_level *level_out)
{
	const struct store_policy *levels[] = {[STORE_LEVEL_ACCOUNT] = l->account,
		[STORE_LEVEL_CLASS] = l->class ? &l->class->policy : NULL,
		[STORE_LEVEL_DOMAIN] = l->domain ? &l->domain->domain.policy : NULL};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (levels[i] && (levels[i]->says & what)) {
			*level_out = (enum store_level)i;
			return levels[i];
		}
	}
	*level_out = STORE_LEVEL_BUILT_IN;
	return &p->built_in;
}

static uint64_t cap(uint64_t limit, uint64_t most, enum store_level *level)
{
	if (most == 0 || (limit != 0 && limit <= most))
		return limit;
	*level = STORE_LEVEL_CAP;
	return most;
}

struct store_policy policy_effective(
	const struct policies *p, const struct policy_levels *l, struct policy_origin *origin_out)
{
	struct policy_origin o;
	struct store_policy e = {.says = STORE_SAYS_ALL};

	e.bytes_limit = who_says(p, l, STORE_SAYS_BYTES, &o.bytes)->bytes_limit;
	e.count_limit = who_says(p, l, STORE_SAYS_COUNT, &o.count)->count_limit;
	e.protocols = who_says(p, l, STORE_SAYS_PROTOCOLS, &o.protocols)->protocols;
	e.suspended_mail = who_says(p, l, STORE_SAYS_SUSPENDED_MAIL, &o.suspended_mail)->suspended_mail;
	e.bytes_limit = cap(e.bytes_limit, l->domain ? l->domain->domain.bytes_most : 0, &o.bytes);
	e.count_limit = cap(e.count_limit, l->domain ? l->domain->domain.count_most : 0, &o.count);
	e.is_suspended = l->account->is_suspended || (l->class && l->class->policy.is_suspended) ||
			 (l->domain && l->domain->domain.policy.is_suspended);
	if (origin_out)
		*origin_out = o;
	return e;
}

uint32_t policy_flags(const struct store_policy *e, uint32_t own)
{
	static const uint32_t mail[] = {[STORE_MAIL_KEPT] = 0,
		[STORE_MAIL_DEFERRED] = STORE_ACCOUNT_MAIL_LATER,
		[STORE_MAIL_REFUSED] = STORE_ACCOUNT_NO_MAIL};
	uint32_t flags = own;

	if (e->is_suspended)
		flags |= STORE_ACCOUNT_SUSPENDED | STORE_ACCOUNT_DISABLED | mail[e->suspended_mail];
	if (!(e->protocols & STORE_PROTOCOL_IMAP))
		flags |= STORE_ACCOUNT_NO_IMAP;
	if (!(e->protocols & STORE_PROTOCOL_POP3))
		flags |= STORE_ACCOUNT_NO_POP3;
	if (!(e->protocols & STORE_PROTOCOL_LMTP))
		flags |= STORE_ACCOUNT_NO_MAIL;
	return flags;
}
