/* Accounts that take no changes until they are released. The list is under the slot's write lock: when a hold returns, no change is under way. */
#include "backend/store/db.h"
#include "backend/store/store_account.h"

static unsigned place_of(const struct db_slot *slot, uint32_t account)
{
	unsigned i = 0;

	while (i < slot->held_count && slot->held[i] != account)
		i++;
	return i;
}

bool db_is_held(const struct store_txn *txn, uint32_t account)
{
	return !txn->passes_holds && txn->slot->held_count &&
	       place_of(txn->slot, account) < txn->slot->held_count;
}

static int end_hold(struct db_slot *slot, uint32_t account)
{
	unsigned at = place_of(slot, account);

	if (at == slot->held_count)
		return ERR_NOT_FOUND;
	slot->held[at] = slot->held[--slot->held_count];
	return 0;
}

void db_end_hold(struct store_txn *txn, uint32_t account)
{
	(void)!end_hold(txn->slot, account);
}

int store_account_hold(struct store *store, unsigned number, uint32_t account)
{
	struct db_slot *slot;
	int err = 0;

	if (number >= store->slot_count)
		return ERR_NOT_FOUND;
	slot = &store->slots[number];
	pthread_mutex_lock(&slot->write_lock);
	if (place_of(slot, account) < slot->held_count)
		err = ERR_EXISTS;
	else if (slot->held_count == STORE_HELD_MAX)
		err = ERR_TOO_BIG;
	else
		slot->held[slot->held_count++] = account;
	pthread_mutex_unlock(&slot->write_lock);
	return err;
}

int store_account_release(struct store *store, unsigned number, uint32_t account)
{
	struct db_slot *slot;
	int err;

	if (number >= store->slot_count)
		return ERR_NOT_FOUND;
	slot = &store->slots[number];
	pthread_mutex_lock(&slot->write_lock);
	err = end_hold(slot, account);
	pthread_mutex_unlock(&slot->write_lock);
	return err;
}
