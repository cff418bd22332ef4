/*
 * Forwarding: where a message for an account really goes. Accounts of this back-end that forward are followed, each once, so that loops end; those
 * that keep a copy, or forward nothing, are where it goes, and addresses that are no account's here. A suspended account forwards nothing.
 */
#pragma once

#include "backend/store/store.h"

/* Accounts that one recipient may reach by forwarding, on the way and at the end. */
#define FORWARD_ACCOUNTS_MAX 200

struct forward_account {
	unsigned slot;
	uint32_t id;
	bool is_forwarded;  /* not the account that was addressed */
	bool is_on_the_way; /* forwards, and keeps nothing */
	bool is_remote;     /* no account here: id is 0, slot that of the account that forwards */
	char *address;      /* of the account, or where it goes; the arena's */
	char *from;         /* remote: the account that forwards */
};

/*
 * From this account on; the first that was addressed comes first, if it keeps a copy. All in the arena. ERR_DENIED: in circles, and
 * nobody keeps it. ERR_CLOSED: an account on the way takes no mail, or there are too many: an operator's to mend, nothing
 * is lost meanwhile. ERR_NOT_NOW: one takes no mail now.
 */
struct arena;
MUST_CHECK int forward_expand(struct store *store, const struct store_account *account, struct arena *arena,
	struct forward_account **list_out, size_t *count_out);
