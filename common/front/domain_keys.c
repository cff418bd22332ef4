#include "common/front/domain_keys.h"

#include <string.h>

#include "common/base/arena.h"
#include "common/proto/address.h"

#define ARENA_MOST 4096

void domain_keys_check(struct conf *conf, const char *section, const char *title, const char *key,
	const char *const *list, size_t count)
{
	struct arena arena;

	arena_init(&arena, ARENA_MOST);
	for (size_t i = 0; i < count; i++) {
		struct slice domain;

		arena_reset(&arena);
		if (address_normalise_domain(&arena, slice_str(list[i]), &domain))
			conf_error(conf, section, title, key, "\"%s\" is no domain, such as example.com",
				list[i]);
		else if (!slice_is_str_nocase(domain, list[i]))
			conf_error(conf, section, title, key,
				"\"%s\" is no domain in its normal form; write %.*s", list[i],
				SLICE_ARG(domain));
	}
	arena_deinit(&arena);
}

void domain_keys_check_one(struct conf *conf, const char *section, const char *title, const char *key)
{
	const char *text = conf_get_string(conf, section, title, key);

	if (text[0])
		domain_keys_check(conf, section, title, key, &text, 1);
}

void domain_keys_check_any(struct conf *conf, const char *section, const char *title, const char *key)
{
	size_t count;
	const char *const *list = conf_get_list(conf, section, title, key, &count);
	struct arena arena;

	arena_init(&arena, ARENA_MOST);
	for (size_t i = 0; i < count; i++) {
		struct slice domain;

		arena_reset(&arena);
		if (address_normalise_domain(&arena, slice_str(list[i]), &domain))
			conf_error(conf, section, title, key, "\"%s\" is no domain, such as example.com",
				list[i]);
	}
	arena_deinit(&arena);
}

static bool is_host(const char *text)
{
	struct arena arena;
	struct slice name;
	bool is;

	arena_init(&arena, ARENA_MOST);
	is = slice_is_ascii(slice_str(text)) && !address_normalise_domain(&arena, slice_str(text), &name);
	arena_deinit(&arena);
	return is;
}

void domain_keys_check_hosts(struct conf *conf, const char *section, const char *title, const char *key,
	const char *const *list, size_t count, bool is_pattern)
{
	for (size_t i = 0; i < count; i++) {
		const char *name = is_pattern && strncmp(list[i], "*.", 2) == 0 ? list[i] + 2 : list[i];

		if (!is_host(name))
			conf_error(conf, section, title, key, "\"%s\" is no name of a host, such as %s",
				list[i],
				is_pattern ? "mail.example.com or *.example.com" : "mail.example.com");
	}
}

void domain_keys_check_host(struct conf *conf, const char *section, const char *title, const char *key)
{
	const char *text = conf_get_string(conf, section, title, key);

	if (text[0])
		domain_keys_check_hosts(conf, section, title, key, &text, 1, false);
}
