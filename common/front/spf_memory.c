/* A table of places; a run has one, by its hash, and drives out who is there. */
#include "common/front/spf_memory.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/base/table.h"

struct place {
	char *text; /* run, then reply; NULL: nobody */
	uint32_t run_len, reply_len;
	uint64_t until_ms;
};

struct spf_memory {
	uint64_t seed;
	struct place places[SPF_MEMORY_PLACES];
};

struct spf_memory *spf_memory_new(void)
{
	struct spf_memory *m = xcalloc(1, sizeof(*m));

	random_bytes(&m->seed, sizeof(m->seed));
	return m;
}

void spf_memory_free(struct spf_memory **memory)
{
	struct spf_memory *m = *memory;

	if (!m)
		return;
	*memory = NULL;
	for (size_t i = 0; i < SPF_MEMORY_PLACES; i++)
		free(m->places[i].text);
	free(m);
}

static size_t place_of(const struct spf_memory *m, struct slice run)
{
	return (size_t)(hash_bytes(run, m->seed) % SPF_MEMORY_PLACES);
}

struct slice spf_memory_find(const struct spf_memory *memory, struct slice run, uint64_t now_ms)
{
	const struct place *p = &memory->places[place_of(memory, run)];

	if (!p->text || now_ms >= p->until_ms || !slice_is_equal(run, slice_of(p->text, p->run_len)))
		return slice_of(NULL, 0);
	return slice_of(p->text + p->run_len, p->reply_len);
}

void spf_memory_add(struct spf_memory *memory, struct slice run, struct slice reply, uint64_t now_ms)
{
	struct place *p = &memory->places[place_of(memory, run)];
	char *text;

	if (run.len > SPF_MEMORY_RUN_MOST || reply.len > SPF_MEMORY_RUN_MOST || !reply.len)
		return;
	text = xmalloc(run.len + reply.len);
	memcpy(text, run.p, run.len);
	memcpy(text + run.len, reply.p, reply.len);
	free(p->text);
	*p = (struct place){.text = text,
		.run_len = (uint32_t)run.len,
		.reply_len = (uint32_t)reply.len,
		.until_ms = now_ms + SPF_MEMORY_LIFETIME_MS};
}
