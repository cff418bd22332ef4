/* Letters that no hexadecimal number has keep the second forms apart from the first. */
#include "backend/session/imap_object.h"

#include "common/base/table.h"

void imap_object_mailbox(uint32_t uidvalidity, struct buf *out)
{
	buf_printf(out, "F%x", uidvalidity);
}

/* Of a message stored before there were EMAILIDs: from its blob, which its copies share, hashed since blobs are
 * numbered for all accounts. */
void imap_object_email(const struct store_message *m, struct buf *out)
{
	if (m->email)
		buf_printf(out, "M%llx", (unsigned long long)m->email);
	else
		buf_printf(out, "Mv%llx",
			(unsigned long long)hash_bytes(slice_of(&m->blob, sizeof(m->blob)), 0));
}

void imap_object_thread(const struct store_message *m, const struct mail_keys *keys, struct buf *out)
{
	uint64_t root = keys->reference_count ? mail_keys_reference(keys, 0) : keys->id;

	if (root) {
		buf_printf(out, "T%llx", (unsigned long long)root);
	} else {
		buf_add_str(out, "Tx");
		imap_object_email(m, out);
	}
}
