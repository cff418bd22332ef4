#include "common/front/domain_keys.h"

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
		else if (!slice_is_str(domain, list[i]))
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
