/* Private to names*.c: what the name table is made of. All of it under the lock. */
#pragma once

#include <pthread.h>

#include "backend/store/names.h"
#include "backend/store/quota.h"
#include "backend/store/record.h"
#include "common/base/table.h"

struct account_entry {
	unsigned slot;
	uint32_t id;
	uint32_t flags; /* of the record */
	struct store_policy policy;
	struct class_entry *class; /* its own; NULL: none */
	struct domain_entry *domain;
	char *address;
	char *forwards; /* a line feed between two; NULL: none */
	int64_t created;
	uint64_t bytes_used;
	uint64_t count_used;
	uint64_t bytes_reserved;
	uint64_t unsized; /* promises of messages of unknown size */
	uint64_t count_reserved;
	uint64_t inbox_bytes, inbox_count; /* what INBOX can still take; UINT64_MAX: no limit of its own */
	uint64_t quiet_until;              /* monotonic ms: no warning of this level before */
	unsigned level;                    /* thresholds reached, when it was last looked at */
	struct list names;
	char id_key[8];
};

struct name_entry {
	struct list link; /* of its account */
	struct account_entry *account;
	struct domain_entry *domain;
	char *name;
	size_t len;
};

struct names {
	pthread_mutex_t lock;
	struct table *by_name;
	struct table *by_id;
	struct policies *policies;
	struct table *claims;   /* -> the name, owned */
	struct table *forwards; /* an address that accounts forward to -> struct forward_target */
	struct {
		unsigned thresholds[STORE_QUOTA_THRESHOLDS_MAX];
		size_t count;
		uint64_t interval_ms;
		store_quota_watch_fn *fn;
		void *arg;
	} watch;
};

struct account_entry *names_by_id(struct names *names, unsigned slot, uint32_t account);
/* The account of a normalised address. NULL: none. */
struct account_entry *names_by_name(struct names *names, struct slice name);
/* The same local part in another domain; false: that is too long. room holds STORE_ADDRESS_MAX. */
bool names_move_to(struct slice name, const struct domain_entry *domain, char *room, struct slice *name_out);
struct policy_levels names_levels(const struct account_entry *account);
/* The account forwards to these addresses now (a line feed between two). */
void names_set_forwards(struct names *names, struct account_entry *account, struct slice forwards);
/* Those that it named are counted no more; at the end all of the table goes. */
void names_drop_forwards(struct names *names, struct account_entry *account);
void names_free_forwards(struct names *names);
/* Uses have grown or shrunk; true: somebody is to be warned. */
bool names_set_used(struct names *names, struct account_entry *account, uint64_t bytes, uint64_t count);
