/* One line a record, for a shell; what a level does not say is not said. */
#include "backend/admin/domain_dump.h"

#include "backend/admin/policy_options.h"
#include "backend/store/store_domain.h"

/* Between single quotes, unless it is plain. */
static void add_word(struct buf *out, struct slice word)
{
	bool is_plain = word.len > 0;

	for (size_t i = 0; i < word.len && is_plain; i++) {
		char c = word.p[i];

		is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
			   c == '.' || c == '@' || c == '+' || c == ',';
	}
	buf_add_str(out, is_plain ? "" : "'");
	for (size_t i = 0; i < word.len; i++) {
		if (word.p[i] == '\'')
			buf_add_str(out, "'\\''");
		else
			buf_add_char(out, word.p[i]);
	}
	buf_add_str(out, is_plain ? "" : "'");
}

static void add_option(struct buf *out, const char *option, struct slice value)
{
	if (!value.len)
		return;
	buf_printf(out, " --%s ", option);
	add_word(out, value);
}

static void add_limit(struct buf *out, const char *option, uint64_t limit)
{
	if (limit)
		buf_printf(out, " --%s %llu", option, (unsigned long long)limit);
	else
		buf_printf(out, " --%s none", option);
}

static void add_policy(struct buf *out, const struct store_policy *p)
{
	if (p->says & STORE_SAYS_BYTES)
		add_limit(out, "quota", p->bytes_limit);
	if (p->says & STORE_SAYS_COUNT)
		add_limit(out, "count", p->count_limit);
	if (p->says & STORE_SAYS_PROTOCOLS) {
		struct buf list = {0};

		policy_options_protocol_words(p->protocols, &list);
		add_option(out, "protocols", buf_view(&list));
		buf_deinit(&list);
	}
	if (p->says & STORE_SAYS_SUSPENDED_MAIL)
		add_option(out, "suspended-mail", slice_str(policy_options_mail_word(p->suspended_mail)));
	if (p->is_suspended)
		buf_add_str(out, " --suspend");
}

static void add_class(struct buf *out, const struct store_class *c)
{
	buf_add_str(out, "mailtierctl class add ");
	add_word(out, c->name);
	add_policy(out, &c->policy);
	buf_add_char(out, '\n');
}

static void add_domain(struct buf *out, const struct store_domain *d)
{
	struct slice rest = d->aliases;

	buf_add_str(out, "mailtierctl domain add ");
	add_word(out, d->name);
	add_policy(out, &d->policy);
	if (d->bytes_most)
		add_limit(out, "max-quota", d->bytes_most);
	if (d->count_most)
		add_limit(out, "max-count", d->count_most);
	if (d->accounts_most)
		add_limit(out, "max-accounts", d->accounts_most);
	add_option(out, "class", d->class);
	add_option(out, "catch-all", d->catch_all);
	add_option(out, "postmaster", d->postmaster);
	while (rest.len) {
		ptrdiff_t at = slice_find(rest, ' ');
		struct slice one = at < 0 ? rest : slice_sub(rest, 0, (size_t)at);

		add_option(out, "alias", one);
		rest = slice_from(rest, one.len + 1);
	}
	buf_add_char(out, '\n');
}

int domain_dump_commands(struct store *store, struct buf *out)
{
	struct store_class_status *classes;
	struct store_domain_status *domains;
	struct arena arena;
	size_t count;
	int err;

	arena_init(&arena, 0);
	err = store_class_list(store, &arena, &classes, &count);
	for (size_t i = 0; !err && i < count; i++)
		if (classes[i].has_record)
			add_class(out, &classes[i].class);
	if (!err)
		err = store_domain_list(store, &arena, &domains, &count);
	for (size_t i = 0; !err && i < count; i++)
		if (domains[i].has_record)
			add_domain(out, &domains[i].domain);
	arena_deinit(&arena);
	return err;
}

static void domain_dump(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct buf text = {0};
	int err = domain_dump_commands(admin->store, &text);

	if (err) {
		control_fail(r, err, "%s", error_text(err));
	} else {
		control_add_slice(r, "text", buf_view(&text));
		control_done(r);
	}
	buf_deinit(&text);
}

static const struct control_verb verbs[] = {
	{"domain dump", "", "All classes and domains, as the commands that make them", domain_dump, 0, 0,
		NULL, 0},
};

void domain_dump_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
