/*
 * What checkers have replied to the same questions before. A run is a function of its text, answers of the DNS included, so a reply
 * holds as long as the text is the same octet for octet; the DNS is asked each time. Bounded; everything belongs to one loop.
 */
#pragma once

#include <stdint.h>

#include "common/base/slice.h"

#define SPF_MEMORY_PLACES 1024
#define SPF_MEMORY_RUN_MOST 4096      /* longer runs are not remembered */
#define SPF_MEMORY_LIFETIME_MS 600000 /* a checker that lied is not believed for longer */

struct spf_memory;

struct spf_memory *spf_memory_new(void);
/* Accepts NULL, sets NULL. */
void spf_memory_free(struct spf_memory **memory);
/* The reply, a view until the next add; without octets: none. */
struct slice spf_memory_find(const struct spf_memory *memory, struct slice run, uint64_t now_ms);
/* Copies. What was at its place goes. */
void spf_memory_add(struct spf_memory *memory, struct slice run, struct slice reply, uint64_t now_ms);
